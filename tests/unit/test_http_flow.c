/* HTTP over time: silence, deadlines, streams, connections that stay, and TLS. */
#include <pthread.h>
#include <stdio.h>

#include "kernel/base/fd.h"
#include "tests/support/server.h"
#include "tests/unit/http_place.h"

/* ---- time ---- */

static void silence_is_bounded(void **state)
{
    static const char *const paths[] = { "/silent", "/stall" };
    (void)state;

    for (size_t i = 0; i < ARRAY_LEN(paths); i++) {
        struct http_request request = { .method = "GET", .idle_ns = 50 * CLOCK_NS_PER_MS };
        struct error err = ERROR_INIT;
        struct http_reply reply;
        struct wait w = soon();

        request.url = http_script_url(server, paths[i]);
        assert_false(http_send(http, &request, &w, &reply, &err));
        assert_code(err, ERR_TIMEOUT);
        assert_contains(err.text, "nothing came for 50 ms");
        assert_int_equal(reply.status, i == 0 ? 0 : 200);
        http_reply_fini(&reply);
    }
}

static void slow_pieces_are_not_silence(void **state)
{
    struct http_request request = { .method = "GET", .idle_ns = 10 * CLOCK_NS_PER_S };
    struct error err = ERROR_INIT;
    struct http_reply reply;
    struct wait w = soon();

    (void)state;
    request.url = http_script_url(server, "/drip");
    assert_ok(http_send(http, &request, &w, &reply, &err), err);
    assert_int_equal(reply.body.len, 40);
    http_reply_fini(&reply);
}

static void the_deadline_holds(void **state)
{
    struct http_request request = { .method = "GET" };
    struct error err = ERROR_INIT;
    struct http_reply reply;
    /* Long enough for the request to arrive, on a busy machine too. */
    struct wait w = { .deadline_ns = clock_now_ns() + 2 * CLOCK_NS_PER_S };

    (void)state;
    request.url = http_script_url(server, "/stall");
    assert_false(http_send(http, &request, &w, &reply, &err));
    assert_code(err, ERR_TIMEOUT);
    http_reply_fini(&reply);
    error_clear(&err);
    w.deadline_ns = clock_now_ns();
    assert_false(http_send(http, &request, &w, &reply, &err));
    assert_code(err, ERR_TIMEOUT);
    assert_int_equal(http_script_count(server), 1); /* the second was not even sent */
    http_reply_fini(&reply);
}

struct canceller {
    struct cancel token;
    int64_t at_ns;
};

static void *raise_when_asked(void *arg)
{
    struct canceller *c = arg;

    if (http_script_wait(server, 1)) {
        c->at_ns = clock_now_ns();
        cancel_raise(&c->token);
    }
    return NULL;
}

static void cancelling_ends_it_at_once(void **state)
{
    struct http_request request = { .method = "GET" };
    struct error err = ERROR_INIT;
    struct http_reply reply;
    struct canceller c = { .at_ns = 0 };
    struct wait w = soon();
    pthread_t thread;
    int64_t took;

    (void)state;
    cancel_init(&c.token);
    w.cancel = &c.token;
    request.url = http_script_url(server, "/silent");
    assert_int_equal(pthread_create(&thread, NULL, raise_when_asked, &c), 0);
    assert_false(http_send(http, &request, &w, &reply, &err));
    took = clock_now_ns() - c.at_ns;
    pthread_join(thread, NULL);
    assert_code(err, ERR_CANCELLED);
    print_message("cancelled after %lld us\n", (long long)(took / 1000));
    http_reply_fini(&reply);
    error_clear(&err);
    assert_false(http_send(http, &request, &w, &reply, &err)); /* raised before */
    assert_code(err, ERR_CANCELLED);
    http_reply_fini(&reply);
    cancel_fini(&c.token);
}

/* ---- streaming ---- */

struct taken {
    size_t bytes, pieces, stop_after;
};

static bool take(void *arg, const char *data, size_t len)
{
    struct taken *t = arg;

    (void)data;
    t->bytes += len;
    t->pieces++;
    return t->pieces != t->stop_after;
}

static void a_body_is_handed_over_in_pieces(void **state)
{
    struct taken taken = { .bytes = 0 };
    struct http_request request = { .method = "GET", .on_data = take, .arg = &taken };
    struct error err = ERROR_INIT;
    struct http_reply reply;
    struct wait w = soon();

    (void)state;
    request.url = http_script_url(server, "/drip");
    assert_ok(http_send(http, &request, &w, &reply, &err), err);
    assert_int_equal(taken.bytes, 40);
    assert_true(taken.pieces > 1);
    assert_false(reply.stopped);
    assert_int_equal(reply.body.len, 0);
    http_reply_fini(&reply);

    taken = (struct taken){ .stop_after = 2 };
    assert_ok(http_send(http, &request, &w, &reply, &err), err);
    assert_true(reply.stopped);
    assert_int_equal(taken.pieces, 2);
    http_reply_fini(&reply);

    taken = (struct taken){ .bytes = 0 };
    request.url = http_script_url(server, "/busy"); /* an error's body goes elsewhere */
    assert_ok(http_send(http, &request, &w, &reply, &err), err);
    assert_int_equal(taken.pieces, 0);
    assert_true(reply.body.len > 0);
    http_reply_fini(&reply);
}

/* ---- connections ---- */

static void a_connection_is_used_again(void **state)
{
    struct error err = ERROR_INIT;
    struct http_reply reply;

    (void)state;
    for (int i = 0; i < 10; i++) {
        assert_ok(get("/echo", &reply, &err), err);
        http_reply_fini(&reply);
    }
    assert_int_equal(http_script_connections(server), 1);
}

static void a_connection_that_the_server_ended_is_replaced(void **state)
{
    struct error err = ERROR_INIT;
    struct http_reply reply;
    unsigned port = http_script_port(server);

    (void)state;
    assert_ok(get("/echo", &reply, &err), err);
    http_reply_fini(&reply);
    http_script_stop(server);
    server = http_script_start_on(port, answer, NULL);
    assert_non_null(server);
    assert_ok(get("/echo", &reply, &err), err);
    http_reply_fini(&reply);
}

struct crowd {
    pthread_t thread;
    char url[256];
    bool ok;
};

static void *ask_often(void *arg)
{
    struct crowd *c = arg;
    const struct http_request request = {
        .method = "PUT", .url = c->url, .body = c->url, .body_len = strlen(c->url)
    };

    c->ok = true;
    for (int i = 0; i < 30; i++) {
        struct http_reply reply;
        struct wait w = soon();

        if (!http_send(http, &request, &w, &reply, NULL) || reply.status != 200 ||
            strcmp(buf_str(&reply.body), c->url) != 0)
            c->ok = false;
        http_reply_fini(&reply);
    }
    return NULL;
}

static void many_threads_share_the_connections(void **state)
{
    struct crowd crowd[24];

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(crowd); i++) {
        (void)snprintf(crowd[i].url, sizeof crowd[i].url, "%s", http_script_url(server, "/echo"));
        assert_int_equal(pthread_create(&crowd[i].thread, NULL, ask_often, &crowd[i]), 0);
    }
    for (size_t i = 0; i < ARRAY_LEN(crowd); i++) {
        pthread_join(crowd[i].thread, NULL);
        assert_true(crowd[i].ok);
    }
    assert_int_equal(http_script_count(server), 24 * 30);
    /* Only as many as were asked for at once, and some beyond the sixteen that are kept. */
    assert_true(http_script_connections(server) <= 24 * 8);
}

static void a_proxy_of_the_environment_is_not_asked_for_loopback(void **state)
{
    struct error err = ERROR_INIT;
    struct http_reply reply;
    bool ok;

    (void)state;
    setenv("http_proxy", "http://127.0.0.1:1", 1);
    setenv("all_proxy", "http://127.0.0.1:1", 1);
    ok = get("/echo", &reply, &err);
    unsetenv("http_proxy");
    unsetenv("all_proxy");
    assert_ok(ok, err);
    http_reply_fini(&reply);
}

/* ---- TLS ---- */

#define OPENSSL "/usr/bin/openssl"

/* openssl as a server, with a certificate that it signed itself. */
static bool run_openssl(const char *const *argv)
{
    struct server made;

    if (!server_start(&made, argv, 0))
        return false;
    (void)server_said(&made, "\1"); /* to its end */
    return server_end(&made, 0) == 0;
}

static void a_server_is_believed_by_its_certificate_alone(void **state)
{
    static const char listening[] = "ACCEPT 127.0.0.1:";
    char dir[] = "/tmp/aios-tls-XXXXXX", key[64], cert[64], url[64];
    struct http_request request = { .method = "GET", .url = url };
    struct error err = ERROR_INIT;
    struct http_reply reply;
    struct wait w = soon();
    struct server tls;
    const char *said;

    (void)state;
    if (access(OPENSSL, X_OK) != 0)
        skip_because("no openssl");
    assert_non_null(mkdtemp(dir));
    (void)snprintf(key, sizeof key, "%s/key.pem", dir);
    (void)snprintf(cert, sizeof cert, "%s/cert.pem", dir);
    {
        const char *const make[] = { OPENSSL,
                                     "req",
                                     "-x509",
                                     "-newkey",
                                     "ec",
                                     "-pkeyopt",
                                     "ec_paramgen_curve:prime256v1",
                                     "-nodes",
                                     "-keyout",
                                     key,
                                     "-out",
                                     cert,
                                     "-days",
                                     "2",
                                     "-subj",
                                     "/CN=127.0.0.1",
                                     "-addext",
                                     "subjectAltName=IP:127.0.0.1",
                                     NULL };
        const char *const serve[] = { OPENSSL, "s_server", "-accept", "127.0.0.1:0", "-key",
                                      key,     "-cert",    cert,      "-www",        NULL };

        assert_true(run_openssl(make));
        assert_true(server_start(&tls, serve, 0));
    }
    said = server_said(&tls, listening);
    assert_non_null(said);
    (void)snprintf(url, sizeof url, "https://127.0.0.1:%lu/",
                   strtoul(said + strlen(listening), NULL, 10));

    assert_false(http_send(http, &request, &w, &reply, &err));
    assert_code(err, ERR_LOST);
    assert_contains(err.text, "certificate");
    http_reply_fini(&reply);
    error_clear(&err);

    request.ca_file = cert;
    assert_ok(http_send(http, &request, &w, &reply, &err), err);
    assert_int_equal(reply.status, 200);
    http_reply_fini(&reply);

    request.ca_file = "/nowhere/ca.pem";
    assert_false(http_send(http, &request, &w, &reply, &err));
    http_reply_fini(&reply);

    (void)server_end(&tls, SIGKILL);
    assert_true(fd_remove_tree(AT_FDCWD, dir, NULL));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(silence_is_bounded),
        TEST(slow_pieces_are_not_silence),
        TEST(the_deadline_holds),
        TEST(cancelling_ends_it_at_once),
        TEST(a_body_is_handed_over_in_pieces),
        TEST(a_connection_is_used_again),
        TEST(a_connection_that_the_server_ended_is_replaced),
        TEST(many_threads_share_the_connections),
        TEST(a_proxy_of_the_environment_is_not_asked_for_loopback),
        TEST(a_server_is_believed_by_its_certificate_alone),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
