/*
 * The broker and a real client: curl, whose connections become channels as the guest would make
 * them, and openssl as a server.
 */
#include "tests/unit/egress_world.h"

#include <fcntl.h>
#include <signal.h>

#include "kernel/base/fd.h"

#define WINDOW (256u << 10)

static const struct world_name names[] = {
    { "a.test", { "127.0.0.1" }, { NULL } },
    { "b.test", { "127.0.0.1" }, { NULL } },
    { NULL },
};

/* ---- a TCP connection as a channel ---- */

struct tap {
    struct channel ch;
    uv_tcp_t tcp;
    uv_shutdown_t shutdown;
    const struct channel_events *events;
    void *arg;
    size_t owed; /* given to the broker and not consumed yet */
    bool reading, closing, ended, starved;
};

struct tap_write {
    uv_write_t req;
    struct tap *tap;
    char data[];
};

static char scratch[65536];

static struct tap *tap_of(struct channel *ch)
{
    return CONTAINER_OF(ch, struct tap, ch);
}

static void on_alloc(uv_handle_t *handle, size_t size, uv_buf_t *buf)
{
    (void)handle;
    (void)size;
    *buf = uv_buf_init(scratch, sizeof scratch);
}

static void on_read(uv_stream_t *stream, ssize_t n, const uv_buf_t *buf)
{
    struct tap *t = CONTAINER_OF(stream, struct tap, tcp);

    if (n == 0 || t->closing)
        return;
    if (n < 0) {
        uv_read_stop(stream);
        t->reading = false;
        t->ended = true;
        if (n == UV_EOF)
            t->events->on_data(t->arg, NULL, 0);
        else
            t->events->on_close(t->arg);
        return;
    }
    t->owed += (size_t)n;
    if (t->owed + sizeof scratch > WINDOW) {
        uv_read_stop(stream);
        t->reading = false;
    }
    t->events->on_data(t->arg, (const uint8_t *)buf->base, (size_t)n);
}

static void read_on(struct tap *t)
{
    if (t->reading || t->ended || t->closing || t->owed + sizeof scratch > WINDOW)
        return;
    t->reading = true;
    uv_read_start((uv_stream_t *)&t->tcp, on_alloc, on_read);
}

static void tap_listen(struct channel *ch, const struct channel_events *events, void *arg)
{
    tap_of(ch)->events = events;
    tap_of(ch)->arg = arg;
    read_on(tap_of(ch));
}

static void on_tap_closed(uv_handle_t *handle)
{
    free(CONTAINER_OF(handle, struct tap, tcp));
}

static void on_tap_written(uv_write_t *req, int status)
{
    struct tap_write *w = CONTAINER_OF(req, struct tap_write, req);
    struct tap *t = w->tap;

    free(w);
    if (t->closing) {
        if (!uv_stream_get_write_queue_size((uv_stream_t *)&t->tcp) &&
            !uv_is_closing((uv_handle_t *)&t->tcp))
            uv_close((uv_handle_t *)&t->tcp, on_tap_closed);
    } else if (status) {
        t->events->on_close(t->arg);
    } else if (t->starved) {
        t->starved = false;
        t->events->on_writable(t->arg);
    }
}

static size_t tap_send(struct channel *ch, const void *data, size_t len)
{
    struct tap *t = tap_of(ch);
    size_t queued = uv_stream_get_write_queue_size((uv_stream_t *)&t->tcp);
    size_t n = queued < WINDOW ? MIN(len, WINDOW - queued) : 0;
    struct tap_write *w = malloc(sizeof *w + n);
    uv_buf_t buf;

    assert_non_null(w);
    t->starved = n < len;
    w->tap = t;
    memcpy(w->data, data, n);
    buf = uv_buf_init(w->data, (unsigned)n);
    assert_int_equal(uv_write(&w->req, (uv_stream_t *)&t->tcp, &buf, 1, on_tap_written), 0);
    return n;
}

static void tap_send_eof(struct channel *ch)
{
    (void)uv_shutdown(&tap_of(ch)->shutdown, (uv_stream_t *)&tap_of(ch)->tcp, NULL);
}

static void tap_consume(struct channel *ch, size_t len)
{
    assert_true(len <= tap_of(ch)->owed);
    tap_of(ch)->owed -= len;
    read_on(tap_of(ch));
}

static void tap_close(struct channel *ch)
{
    struct tap *t = tap_of(ch);

    t->closing = true;
    if (!uv_stream_get_write_queue_size((uv_stream_t *)&t->tcp))
        uv_close((uv_handle_t *)&t->tcp, on_tap_closed);
}

struct front {
    uv_tcp_t tcp;
    struct world *world;
    uint16_t port;
};

static void on_front(uv_stream_t *listener, int status)
{
    static const struct channel_ops ops = { tap_listen, tap_send, tap_send_eof, tap_consume,
                                            tap_close };
    struct front *front = CONTAINER_OF(listener, struct front, tcp);
    struct tap *t = calloc(1, sizeof *t);

    assert_int_equal(status, 0);
    assert_non_null(t);
    t->ch.ops = &ops;
    uv_tcp_init(listener->loop, &t->tcp);
    assert_int_equal(uv_accept(listener, (uv_stream_t *)&t->tcp), 0);
    egress_accept(front->world->egress, &t->ch);
}

/* ---- programs ---- */

struct program {
    uv_process_t process;
    uv_pipe_t out;
    struct buf text;
    bool exited, drained;
    int64_t code;
};

/* Only then may the memory of a struct program be used again. */
static void on_process_closed(uv_handle_t *handle)
{
    CONTAINER_OF(handle, struct program, process)->exited = true;
}

static void on_out_closed(uv_handle_t *handle)
{
    CONTAINER_OF(handle, struct program, out)->drained = true;
}

static void on_exit_of(uv_process_t *process, int64_t code, int sig)
{
    struct program *p = CONTAINER_OF(process, struct program, process);

    p->code = sig ? 128 + sig : code;
    uv_close((uv_handle_t *)process, on_process_closed);
}

static void on_output(uv_stream_t *stream, ssize_t n, const uv_buf_t *buf)
{
    struct program *p = CONTAINER_OF(stream, struct program, out);

    if (n > 0) {
        sure_append(&p->text, buf->base, (size_t)n);
    } else if (n < 0) {
        uv_close((uv_handle_t *)stream, on_out_closed);
    }
}

static void start(struct world *w, struct program *p, const char *const *argv)
{
    static char path[] = "PATH=/usr/bin:/bin", language[] = "LC_ALL=C"; /* no proxy variables */
    static char *env[] = { path, language, NULL };
    uv_stdio_container_t stdio[3];
    uv_process_options_t options;
    int rc;

    memset(&options, 0, sizeof options);
    memset(p, 0, sizeof *p);
    uv_pipe_init(loop_uv(w->loop), &p->out, 0);
    stdio[0].flags = UV_IGNORE;
    stdio[1].flags = UV_CREATE_PIPE | UV_WRITABLE_PIPE;
    stdio[1].data.stream = (uv_stream_t *)&p->out;
    stdio[2].flags = UV_INHERIT_FD;
    stdio[2].data.fd = 2;
    options.file = argv[0];
    memcpy(&options.args, &argv, sizeof argv); /* libuv takes no const */
    options.env = env;
    options.stdio = stdio;
    options.stdio_count = 3;
    options.exit_cb = on_exit_of;
    rc = uv_spawn(loop_uv(w->loop), &p->process, &options);
    if (rc == UV_ENOENT) {
        p->code = 127;
        uv_close((uv_handle_t *)&p->process, on_process_closed);
        uv_close((uv_handle_t *)&p->out, on_out_closed);
        return;
    }
    assert_int_equal(rc, 0);
    uv_read_start((uv_stream_t *)&p->out, on_alloc, on_output);
}

#define RUN(w, p, ...)                                     \
    do {                                                   \
        const char *const argv_[] = { __VA_ARGS__, NULL }; \
        start((w), (p), argv_);                            \
        WORLD_UNTIL((w), (p)->exited && (p)->drained);     \
    } while (0)

#define CURL(w, p, ...) RUN(w, p, "curl", "-q", "-s", "--max-time", "20", __VA_ARGS__)

static void open_world(struct world *w, struct front *front)
{
    static const char *const rules[] = { "a.test:*", "b.test:*", "127.0.0.1:*" };
    struct sockaddr_in in;
    struct program probe;
    int len = sizeof in;

    world_init(w, rules, ARRAY_LEN(rules), names);
    front->world = w;
    uv_ip4_addr("127.0.0.1", 0, &in);
    uv_tcp_init(loop_uv(w->loop), &front->tcp);
    assert_int_equal(uv_tcp_bind(&front->tcp, (struct sockaddr *)&in, 0), 0);
    assert_int_equal(uv_listen((uv_stream_t *)&front->tcp, 16, on_front), 0);
    assert_int_equal(uv_tcp_getsockname(&front->tcp, (struct sockaddr *)&in, &len), 0);
    front->port = ntohs(in.sin_port);
    RUN(w, &probe, "curl", "--version");
    buf_fini(&probe.text);
    if (probe.code) {
        world_fini(w);
        skip_because("curl is not installed");
    }
}

static void curl_fetches_what_is_allowed_and_is_told_what_is_not(void **state)
{
    struct server s = { .await = "\r\n\r\n",
                        .reply = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
                        .close = true };
    char proxy[64], socks[64], url[64];
    struct program curl;
    struct front front;
    struct world w;
    (void)state;

    open_world(&w, &front);
    server_start(&s, &w);
    snprintf(proxy, sizeof proxy, "http://127.0.0.1:%u", front.port);
    snprintf(socks, sizeof socks, "socks5h://127.0.0.1:%u", front.port);
    snprintf(url, sizeof url, "http://a.test:%u/x", s.port);

    CURL(&w, &curl, "-x", proxy, url);
    assert_int_equal(curl.code, 0);
    assert_string_equal(buf_str(&curl.text), "hello");
    buf_fini(&curl.text);
    buf_clear(&s.got);

    CURL(&w, &curl, "-x", proxy, "-p", url); /* CONNECT for http:// too */
    assert_int_equal(curl.code, 0);
    assert_string_equal(buf_str(&curl.text), "hello");
    buf_fini(&curl.text);
    buf_clear(&s.got);

    CURL(&w, &curl, "-x", socks, url);
    assert_int_equal(curl.code, 0);
    assert_string_equal(buf_str(&curl.text), "hello");
    buf_fini(&curl.text);

    CURL(&w, &curl, "-x", proxy, "http://denied.test/");
    assert_int_equal(curl.code, 0);
    assert_contains(curl.text.data, "no network rule allows denied.test:80");
    assert_contains(curl.text.data, "{\"allow\": [\"denied.test:80\"]}");
    buf_fini(&curl.text);

    CURL(&w, &curl, "-x", proxy, "https://denied.test/");
    assert_int_equal(curl.code, 56);
    buf_fini(&curl.text);
    CURL(&w, &curl, "-x", socks, "https://denied.test/");
    assert_int_equal(curl.code, 97);
    buf_fini(&curl.text);
    assert_int_equal(w.asked, 3);
    world_fini(&w);
    server_fini(&s);
}

static void curl_uploads_and_downloads_much(void **state)
{
    enum { SIZE = 24 << 20 };
    static const char head[] = "HTTP/1.1 200 OK\r\nContent-Length: 25165824\r\n\r\n";
    char *reply = malloc(SIZE + sizeof head);
    struct server s = { .await = "\r\n\r\n", .reply = reply, .close = true };
    char proxy[64], url[64], dir[] = "/tmp/aios-egress-XXXXXX", path[64];
    struct error err = ERROR_INIT;
    struct program curl;
    struct front front;
    struct world w;
    int64_t began_ns;
    (void)state;

    assert_non_null(reply);
    memcpy(reply, head, sizeof head - 1);
    for (size_t i = 0; i < SIZE; i++)
        reply[sizeof head - 1 + i] = (char)('a' + i % 23);
    s.reply_len = SIZE + sizeof head - 1;
    open_world(&w, &front);
    server_start(&s, &w);
    snprintf(proxy, sizeof proxy, "http://127.0.0.1:%u", front.port);
    snprintf(url, sizeof url, "http://a.test:%u/x", s.port);

    began_ns = clock_now_ns();
    CURL(&w, &curl, "-x", proxy, "-p", url);
    print_message("24 MiB to curl in %lld ms\n",
                  (long long)((clock_now_ns() - began_ns) / CLOCK_NS_PER_MS));
    assert_int_equal(curl.code, 0);
    assert_int_equal(curl.text.len, SIZE);
    assert_memory_equal(curl.text.data, reply + sizeof head - 1, SIZE);
    buf_fini(&curl.text);
    buf_clear(&s.got);

    assert_non_null(mkdtemp(dir));
    snprintf(path, sizeof path, "%s/file", dir);
    assert_ok(fd_replace_file(path, reply + sizeof head - 1, SIZE, 0600, &err), err);
    s.await = "\r\n0\r\n\r\n"; /* the last chunk */
    s.reply = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
    s.reply_len = 0;
    CURL(&w, &curl, "-x", proxy, "-H", "Transfer-Encoding: chunked", "-T", path, url);
    assert_int_equal(curl.code, 0);
    assert_string_equal(buf_str(&curl.text), "ok");
    assert_true(s.got.len > SIZE);
    buf_fini(&curl.text);
    assert_ok(fd_remove_tree(AT_FDCWD, dir, &err), err);
    world_fini(&w);
    server_fini(&s);
    free(reply);
}

static void curl_speaks_tls_to_the_host_it_named(void **state)
{
    char proxy[64], socks[64], url[64], redirect[64], dir[] = "/tmp/aios-egress-XXXXXX";
    char key[64], certificate[64];
    struct error err = ERROR_INIT;
    struct program curl, server;
    struct front front;
    unsigned long port = 0;
    struct world w;
    (void)state;

    open_world(&w, &front);
    assert_non_null(mkdtemp(dir));
    snprintf(key, sizeof key, "%s/key", dir);
    snprintf(certificate, sizeof certificate, "%s/certificate", dir);
    RUN(&w, &curl, "openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt",
        "ec_paramgen_curve:prime256v1", "-nodes", "-batch", "-keyout", key, "-out", certificate,
        "-days", "2", "-subj", "/CN=a.test");
    buf_fini(&curl.text);
    if (curl.code == 127) {
        assert_ok(fd_remove_tree(AT_FDCWD, dir, &err), err);
        world_fini(&w);
        skip_because("openssl is not installed");
    }
    assert_int_equal(curl.code, 0);
    {
        const char *const argv[] = { "openssl", "s_server",  "-accept", "127.0.0.1:0", "-www",
                                     "-cert",   certificate, "-key",    key,           NULL };

        start(&w, &server, argv);
    }
    WORLD_UNTIL(&w, server.exited || (server.text.len && strstr(server.text.data, "ACCEPT 127") &&
                                      strchr(strstr(server.text.data, "ACCEPT 127"), '\n')));
    assert_contains(buf_str(&server.text), "ACCEPT 127.0.0.1:");
    port = strtoul(strstr(server.text.data, "ACCEPT 127.0.0.1:") + 17, NULL, 10);
    snprintf(proxy, sizeof proxy, "http://127.0.0.1:%u", front.port);
    snprintf(socks, sizeof socks, "socks5h://127.0.0.1:%u", front.port);
    snprintf(url, sizeof url, "https://a.test:%lu/", port);

    CURL(&w, &curl, "-k", "-x", proxy, url);
    assert_int_equal(curl.code, 0);
    assert_contains(buf_str(&curl.text), "s_server");
    buf_fini(&curl.text);
    CURL(&w, &curl, "-k", "-x", socks, url);
    assert_int_equal(curl.code, 0);
    assert_contains(buf_str(&curl.text), "s_server");
    buf_fini(&curl.text);
    snprintf(url, sizeof url, "https://127.0.0.1:%lu/", port); /* an address sends no name */
    CURL(&w, &curl, "-k", "-x", proxy, url);
    assert_int_equal(curl.code, 0);
    buf_fini(&curl.text);

    /* It asks for a.test and then says b.test, which is allowed too: refused all the same. */
    snprintf(url, sizeof url, "https://b.test:%lu/", port);
    snprintf(redirect, sizeof redirect, "b.test:%lu:a.test:%lu", port, port);
    CURL(&w, &curl, "-k", "-x", proxy, "--connect-to", redirect, url);
    assert_int_equal(curl.code, 35);
    assert_contains(w.events.data, "its TLS server name is not the host");
    buf_fini(&curl.text);

    uv_process_kill(&server.process, SIGKILL);
    WORLD_UNTIL(&w, server.exited && server.drained);
    buf_fini(&server.text);
    assert_ok(fd_remove_tree(AT_FDCWD, dir, &err), err);
    world_fini(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(curl_fetches_what_is_allowed_and_is_told_what_is_not),
        cmocka_unit_test(curl_uploads_and_downloads_much),
        cmocka_unit_test(curl_speaks_tls_to_the_host_it_named),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
