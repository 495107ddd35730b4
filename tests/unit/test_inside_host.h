/*
 * test_inside_host - a small host for tests of the guest: starts the program, sends what it is
 * told, and sorts what comes back by channel.  Whatever takes longer than HOST_DEADLINE_MS fails
 * the test.
 */
#pragma once

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "kernel/computer/wire.h"
#include "tests/support/check.h"

#define HOST_DEADLINE_MS 30000
#define HOST_CHANNELS    512
#define HOST_LOG         256

struct host_bytes {
    char *data; /* always followed by a NUL */
    size_t len;
};

struct host_channel {
    uint32_t number;
    bool replied, exited, closed, opened;
    bool sent_close;
    uint32_t status;
    uint8_t result[64];
    size_t result_len;
    unsigned eof; /* 1 << stream */
    struct host_bytes out[WIRE_STREAM_COUNT];
    uint32_t credit[WIRE_STREAM_COUNT]; /* granted to us */
    struct wire_exit end;
    struct host_bytes events; /* "KINDS PATH\n" … */
    char log[HOST_LOG];       /* in order: R reply, 0 to 3 data, E eof, X exit, C close */
    size_t log_len;
};

struct host {
    int fd;
    pid_t pid;
    uint32_t next;
    bool hello, over;
    bool no_credit; /* what is received is not granted again */
    struct wire_reader reader;
    struct host_channel channels[HOST_CHANNELS];
};

/* ---- bytes ---- */

static inline void host_append(struct host_bytes *b, const void *data, size_t len)
{
    b->data = realloc(b->data, b->len + len + 1);
    assert_non_null(b->data);
    if (len > 0)
        memcpy(b->data + b->len, data, len);
    b->len += len;
    b->data[b->len] = '\0';
}

static inline const char *host_text(const struct host_bytes *b)
{
    return b->data ? b->data : "";
}

static inline int64_t host_now_ms(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

/* ---- the connection ---- */

static inline void host_init(struct host *h, int fd, pid_t pid)
{
    memset(h, 0, sizeof *h);
    h->fd = fd;
    h->pid = pid;
    h->next = 1;
    h->reader.cap = 4 * WIRE_PAYLOAD_MAX;
    h->reader.data = malloc(h->reader.cap);
    assert_non_null(h->reader.data);
}

/** Runs @argv with the guest's end of a new stream as descriptor 3. */
static inline void host_exec(struct host *h, const char *const *argv)
{
    int fds[2];
    pid_t pid;

    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
    pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        int null = open("/dev/null", O_RDWR | O_CLOEXEC);
        char *args[16] = { NULL };

        for (size_t i = 0; argv[i] && i + 1 < ARRAY_LEN(args); i++)
            memcpy(&args[i], &argv[i], sizeof args[i]);

        for (int i = 0; i < 3; i++)
            (void)dup2(null, i);
        if (fds[1] == 3)
            (void)fcntl(3, F_SETFD, 0);
        else
            (void)dup2(fds[1], 3);
        execv(args[0], args);
        _exit(127);
    }
    close(fds[1]);
    host_init(h, fds[0], pid);
}

static inline void host_start(struct host *h, const char *program)
{
    const char *argv[] = { program, "--port", "0", NULL };

    host_exec(h, argv);
}

/** Hangs up and collects the guest, which must end by itself; its wait status. */
static inline int host_stop(struct host *h)
{
    int64_t end = host_now_ms() + HOST_DEADLINE_MS;
    int status = 0;

    if (h->fd >= 0)
        close(h->fd);
    h->fd = -1;
    while (h->pid > 0) {
        const struct timespec moment = { .tv_nsec = 2000000 };
        sigset_t child;
        pid_t got = waitpid(h->pid, &status, WNOHANG);

        if (got == h->pid)
            break;
        if (host_now_ms() > end) {
            kill(h->pid, SIGKILL);
            waitpid(h->pid, &status, 0);
            fail_msg("the guest did not end with its stream");
        }
        sigemptyset(&child);
        sigaddset(&child, SIGCHLD);
        sigprocmask(SIG_BLOCK, &child, NULL);
        (void)sigtimedwait(&child, NULL, &moment);
    }
    for (size_t i = 0; i < HOST_CHANNELS; i++) {
        for (size_t s = 0; s < WIRE_STREAM_COUNT; s++)
            free(h->channels[i].out[s].data);
        free(h->channels[i].events.data);
    }
    free(h->reader.data);
    h->reader.data = NULL;
    return status;
}

/** Raw bytes, however long the guest takes to read them; false when it has hung up. */
static inline bool host_write(struct host *h, const void *data, size_t len)
{
    const uint8_t *at = data;
    int64_t end = host_now_ms() + HOST_DEADLINE_MS;

    while (len > 0) {
        ssize_t n = send(h->fd, at, len, MSG_NOSIGNAL | MSG_DONTWAIT);
        struct pollfd p = { .fd = h->fd, .events = POLLOUT };

        if (n > 0) {
            at += n;
            len -= (size_t)n;
            continue;
        }
        if (n < 0 && errno != EAGAIN && errno != EINTR)
            return false;
        if (host_now_ms() > end)
            fail_msg("the guest does not read");
        (void)poll(&p, 1, 100);
    }
    return true;
}

static inline bool host_send(struct host *h, uint32_t channel, uint8_t type, uint8_t stream,
                             const void *payload, size_t len)
{
    struct wire_header head = {
        .length = (uint32_t)len, .channel = channel, .type = type, .stream = stream
    };
    uint8_t bytes[WIRE_HEADER_BYTES + WIRE_PAYLOAD_MAX];

    wire_header_put(bytes, &head);
    if (len > 0)
        memcpy(bytes + WIRE_HEADER_BYTES, payload, len);
    return host_write(h, bytes, WIRE_HEADER_BYTES + len);
}

static inline struct host_channel *host_find(struct host *h, uint32_t number)
{
    for (size_t i = 0; i < HOST_CHANNELS; i++) {
        if (h->channels[i].number == number)
            return &h->channels[i];
    }
    return NULL;
}

/** A fresh channel of @number, over one that nobody needs any more. */
static inline struct host_channel *host_add(struct host *h, uint32_t number)
{
    struct host_channel *ch = host_find(h, 0);

    for (size_t i = 0; !ch && i < HOST_CHANNELS; i++) {
        if (h->channels[i].closed)
            ch = &h->channels[i];
    }
    assert_non_null(ch);
    for (size_t s = 0; s < WIRE_STREAM_COUNT; s++)
        free(ch->out[s].data);
    free(ch->events.data);
    memset(ch, 0, sizeof *ch);
    ch->number = number;
    return ch;
}

/** Send a request on a fresh channel. */
static inline struct host_channel *host_ask(struct host *h, uint8_t type, const void *payload,
                                            size_t len)
{
    struct host_channel *ch = host_add(h, h->next);

    h->next += 2;
    (void)host_send(h, ch->number, type, 0, payload, len);
    return ch;
}

static inline void host_grant(struct host *h, struct host_channel *ch, uint8_t stream,
                              uint32_t amount)
{
    uint8_t bytes[4];
    struct wire_out o = { .data = bytes, .cap = sizeof bytes };

    wire_put_u32(&o, amount);
    (void)host_send(h, ch->number, WIRE_CREDIT, stream, bytes, o.len);
}

static inline void host_close(struct host *h, struct host_channel *ch)
{
    if (!ch->sent_close)
        (void)host_send(h, ch->number, WIRE_CLOSE, 0, NULL, 0);
    ch->sent_close = true;
}

static inline void host_log(struct host_channel *ch, char what)
{
    /* A run of data on one stream is one entry. */
    if (ch->log_len > 0 && ch->log[ch->log_len - 1] == what && what >= '0' && what <= '9')
        return;
    if (ch->log_len + 1 < HOST_LOG)
        ch->log[ch->log_len++] = what;
}

static inline void host_take(struct host *h, const struct wire_header *head, const uint8_t *payload)
{
    struct wire_in in = { .data = payload, .len = head->length };
    struct host_channel *ch;

    if (!h->hello) {
        assert_int_equal(head->type, WIRE_HELLO);
        assert_int_equal(head->channel, 0);
        assert_int_equal(wire_get_u32(&in), WIRE_MAGIC);
        assert_int_equal(wire_get_u32(&in), WIRE_VERSION);
        assert_true(wire_in_done(&in));
        h->hello = true;
        return;
    }
    if (head->type == WIRE_OPEN) {
        assert_int_equal(head->channel % 2, 0);
        assert_int_equal(wire_get_u8(&in), WIRE_OPEN_EGRESS);
        host_add(h, head->channel)->opened = true;
        return;
    }
    ch = host_find(h, head->channel);
    if (!ch)
        fail_msg("a frame of type %d on channel %u, which is not open", head->type, head->channel);
    if (ch->closed)
        fail_msg("a frame of type %d after CLOSE", head->type);
    switch (head->type) {
    case WIRE_REPLY:
        assert_false(ch->replied);
        ch->replied = true;
        ch->status = wire_get_u32(&in);
        ch->result_len = MIN(in.len - in.at, sizeof ch->result);
        memcpy(ch->result, payload + in.at, ch->result_len);
        host_log(ch, 'R');
        break;
    case WIRE_DATA:
        assert_false(ch->eof & 1u << head->stream);
        host_append(&ch->out[head->stream], payload, head->length);
        host_log(ch, (char)('0' + head->stream));
        if (!h->no_credit)
            host_grant(h, ch, head->stream, head->length);
        break;
    case WIRE_EOF:
        ch->eof |= 1u << head->stream;
        host_log(ch, 'E');
        break;
    case WIRE_CREDIT:
        ch->credit[head->stream] += wire_get_u32(&in);
        break;
    case WIRE_EXIT:
        assert_false(ch->exited);
        wire_get_exit(&in, &ch->end);
        assert_true(wire_in_done(&in));
        ch->exited = true;
        host_log(ch, 'X');
        break;
    case WIRE_EVENT: {
        char line[64 + WIRE_PATH_MAX], path[WIRE_PATH_MAX];
        uint32_t kinds = wire_get_u32(&in);

        assert_true(wire_get_str_into(&in, path, sizeof path));
        (void)snprintf(line, sizeof line, "%u %s\n", kinds, path);
        host_append(&ch->events, line, strlen(line));
        break;
    }
    case WIRE_CLOSE:
        ch->closed = true;
        host_log(ch, 'C');
        host_close(h, ch);
        break;
    default:
        fail_msg("a frame of type %d from the guest", head->type);
    }
}

/** Read once, waiting at most @wait_ms; false when nothing came. */
static inline bool host_pump(struct host *h, int wait_ms)
{
    struct pollfd p = { .fd = h->fd, .events = POLLIN };
    struct wire_header head;
    const uint8_t *payload;
    enum wire_status status;
    size_t room;
    uint8_t *at;
    ssize_t n;

    if (h->over || poll(&p, 1, wait_ms) <= 0)
        return false;
    at = wire_reader_space(&h->reader, &room);
    n = recv(h->fd, at, room, MSG_DONTWAIT);
    if (n <= 0) {
        h->over = n == 0 || errno != EAGAIN;
        return !h->over;
    }
    wire_reader_filled(&h->reader, (size_t)n);
    while ((status = wire_reader_next(&h->reader, &head, &payload)) == WIRE_OK)
        host_take(h, &head, payload);
    assert_int_equal(status, WIRE_MORE);
    return true;
}

/** Read until @cond holds. */
#define HOST_UNTIL(h, cond)                                      \
    do {                                                         \
        int64_t end_ = host_now_ms() + HOST_DEADLINE_MS;         \
        while (!(cond)) {                                        \
            if ((h)->over)                                       \
                fail_msg("the guest hung up before: %s", #cond); \
            if (host_now_ms() > end_)                            \
                fail_msg("this did not come to be: %s", #cond);  \
            (void)host_pump((h), 100);                           \
        }                                                        \
    } while (0)

/** Read until the guest has hung up. */
static inline void host_until_over(struct host *h)
{
    int64_t end = host_now_ms() + HOST_DEADLINE_MS;

    while (!h->over) {
        if (host_now_ms() > end)
            fail_msg("the guest goes on with a broken connection");
        (void)host_pump(h, 100);
    }
}

/** A ping there and back: everything sent before has been taken up. */
static inline void host_sync(struct host *h)
{
    struct host_channel *ch = host_ask(h, WIRE_PING, "x", 1);

    HOST_UNTIL(h, ch->replied);
    assert_int_equal(ch->status, 0);
    ch->closed = true;
}

/* ---- programs ---- */

static inline size_t host_put_spawn(uint8_t *buf, size_t size, uint32_t flags, const char *cwd,
                                    const char *const *argv, const char *const *env)
{
    struct wire_out o = { .data = buf, .cap = size };
    uint32_t argc = 0, envc = 0;

    while (argv[argc])
        argc++;
    while (env[envc])
        envc++;
    wire_put_u32(&o, flags);
    wire_put_u16(&o, 24);
    wire_put_u16(&o, 80);
    wire_put_str(&o, cwd);
    wire_put_u32(&o, argc);
    for (uint32_t i = 0; i < argc; i++)
        wire_put_str(&o, argv[i]);
    wire_put_u32(&o, envc);
    for (uint32_t i = 0; i < envc; i++)
        wire_put_str(&o, env[i]);
    assert_false(o.failed);
    return o.len;
}

static inline struct host_channel *host_spawn(struct host *h, uint32_t flags, const char *cwd,
                                              const char *const *argv)
{
    static const char *const env[] = { "PATH=/usr/local/bin:/usr/bin:/bin", "LANG=C", NULL };
    uint8_t buf[WIRE_PAYLOAD_MAX];
    size_t len = host_put_spawn(buf, sizeof buf, flags, cwd, argv, env);

    return host_ask(h, WIRE_SPAWN, buf, len);
}

/** A shell command, started. */
static inline struct host_channel *host_shell(struct host *h, uint32_t flags, const char *command)
{
    const char *argv[] = { "sh", "-c", command, NULL };
    struct host_channel *ch = host_spawn(h, flags, "/", argv);

    HOST_UNTIL(h, ch->replied);
    assert_int_equal(ch->status, 0);
    return ch;
}

/** A shell command, run to its end. */
static inline struct host_channel *host_run(struct host *h, uint32_t flags, const char *command)
{
    struct host_channel *ch = host_shell(h, flags, command);

    HOST_UNTIL(h, ch->closed);
    return ch;
}

static inline void host_signal(struct host *h, struct host_channel *ch, int signal, bool tree)
{
    uint8_t bytes[5];
    struct wire_out o = { .data = bytes, .cap = sizeof bytes };

    wire_put_u32(&o, (uint32_t)signal);
    wire_put_u8(&o, tree);
    (void)host_send(h, ch->number, WIRE_SIGNAL, 0, bytes, o.len);
}

static inline pid_t host_pid(const struct host_channel *ch)
{
    struct wire_in in = { .data = ch->result, .len = ch->result_len };

    return (pid_t)wire_get_u32(&in);
}

/** Wait until no process @pid exists, or it is a zombie that another parent has not collected. */
static inline void host_until_dead(struct host *h, pid_t pid)
{
    int64_t end = host_now_ms() + HOST_DEADLINE_MS;

    while (kill(pid, 0) == 0) {
        if (host_now_ms() > end)
            fail_msg("process %d lives on", (int)pid);
        (void)host_pump(h, 5);
    }
}

/* ---- files ---- */

/** Composes str root, str path. */
static inline struct wire_out host_path(uint8_t *buf, size_t size, const char *root,
                                        const char *path)
{
    struct wire_out o = { .data = buf, .cap = size };

    wire_put_str(&o, root);
    wire_put_str(&o, path);
    assert_false(o.failed);
    return o;
}

/** Sends a one-shot request and returns its status. */
static inline uint32_t host_call(struct host *h, uint8_t type, const struct wire_out *o)
{
    struct host_channel *ch = host_ask(h, type, o->data, o->len);

    HOST_UNTIL(h, ch->replied);
    ch->closed = true; /* its number may be forgotten */
    return ch->status;
}

/** A folder of its own for a test, removed with everything in it by host_rmtree(). */
static inline void host_mktree(char *buf, size_t size)
{
    (void)snprintf(buf, size, "/tmp/aios-inside-XXXXXX");
    assert_non_null(mkdtemp(buf));
}

static inline void host_rmtree(const char *path)
{
    pid_t pid = fork();

    if (pid == 0) {
        execl("/bin/rm", "rm", "-rf", "--", path, (char *)NULL);
        _exit(127);
    }
    (void)waitpid(pid, NULL, 0);
}
