#include "tools/cli/relay.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "kernel/base/buf.h"
#include "kernel/base/clock.h"
#include "kernel/base/fd.h"
#include "kernel/base/json.h"

#define PIECE_BYTES (64u << 10)
#define GREETING_NS (10 * CLOCK_NS_PER_S)
#define REPLY_MAX   4096u

/* One direction. */
struct way {
    int from, to;
    char data[PIECE_BYTES];
    size_t len, sent;
    bool ended;  /* nothing more comes */
    bool closed; /* and that has been handed on */
};

/* ---- the greeting ---- */

/* Byte by byte, since what follows the line is the host's. */
static bool read_line(int sock, char *line, size_t size, struct error *err)
{
    int64_t deadline_ns = clock_add_ns(clock_now_ns(), GREETING_NS);
    size_t len = 0;

    while (len + 1 < size) {
        struct pollfd p = { .fd = sock, .events = POLLIN };
        ssize_t n;

        if (poll(&p, 1, clock_left_ms(deadline_ns, (int)(GREETING_NS / CLOCK_NS_PER_MS))) == 0)
            return error_set(err, ERR_TIMEOUT, "the server did not answer the greeting");
        n = recv(sock, line + len, 1, MSG_DONTWAIT);
        if (n == 0)
            return error_set(err, ERR_LOST, "the server closed the connection at once");
        if (n < 0 && errno != EAGAIN && errno != EINTR)
            return error_set_errno(err, errno, "read from the server");
        if (n < 0)
            continue;
        if (line[len] == '\n') {
            line[len] = '\0';
            return true;
        }
        len++;
    }
    return error_set(err, ERR_PROTOCOL, "what listens there is no aios server");
}

static bool greet(int sock, const char *agent, struct error *err)
{
    CLEANUP(buf_fini) struct buf out = BUF_INIT;
    json_t *hello = json_pack("{s:{s:s}}", "aios", "agent", agent ? agent : "");
    bool ok = hello && json_write(hello, &out) && buf_append_char(&out, '\n');
    struct error broken = ERROR_INIT;
    char line[REPLY_MAX];
    const char *why;
    json_t *reply;

    json_decref(hello);
    if (!ok)
        return error_set(err, ERR_NOMEM, "a greeting");
    /* A server that refuses has said why, and may be gone before it is greeted. */
    if (!fd_write_all(sock, out.data, out.len, &broken) && broken.os_errno != EPIPE &&
        broken.os_errno != ECONNRESET)
        return error_set(err, broken.code, "%s", broken.text);
    if (!read_line(sock, line, sizeof line, err))
        return false;
    reply = json_parse(line, strlen(line), NULL);
    why = json_string_value(json_object_get(json_object_get(reply, "aios"), "error"));
    ok = json_object_get(reply, "aios") && !why;
    if (why)
        error_set(err, ERR_DENIED, "the server refused: %s", why);
    else if (!ok)
        error_set(err, ERR_PROTOCOL, "what listens there is no aios server");
    json_decref(reply);
    return ok;
}

/* ---- carrying ---- */

/* False: that end is broken. */
static bool fill(struct way *w)
{
    ssize_t n = read(w->from, w->data, sizeof w->data);

    if (n < 0)
        return errno == EAGAIN || errno == EINTR;
    w->ended = n == 0;
    w->len = (size_t)n;
    w->sent = 0;
    return true;
}

static bool drain(struct way *w)
{
    /* A pipe that is ready takes this much without waiting, whatever its other mode. */
    ssize_t n = write(w->to, w->data + w->sent, MIN(w->len - w->sent, (size_t)PIPE_BUF));

    if (n < 0)
        return errno == EAGAIN || errno == EINTR;
    w->sent += (size_t)n;
    if (w->sent == w->len)
        w->len = w->sent = 0;
    return true;
}

static void look(const struct way *w, struct pollfd fds[2])
{
    fds[0] = (struct pollfd){ .fd = !w->len && !w->ended ? w->from : -1, .events = POLLIN };
    fds[1] = (struct pollfd){ .fd = w->len ? w->to : -1, .events = POLLOUT };
}

static bool turn(struct way *w, const struct pollfd fds[2])
{
    if (fds[0].revents && !fill(w))
        return false;
    return !fds[1].revents || drain(w);
}

bool relay_run(int in_fd, int out_fd, int sock, const char *agent, struct error *err)
{
    static struct way up, down;

    up = (struct way){ .from = in_fd, .to = sock };
    down = (struct way){ .from = sock, .to = out_fd };
    if (!greet(sock, agent, err) || !fd_set_nonblock(sock, true, err))
        return false;
    while (!down.ended) {
        struct pollfd fds[4];

        look(&up, fds);
        look(&down, fds + 2);
        if (poll(fds, 4, -1) < 0 && errno != EINTR)
            return error_set_errno(err, errno, "wait");
        if (!turn(&down, fds + 2))
            return true; /* nobody reads our output any more */
        if (!turn(&up, fds))
            return error_set(err, ERR_LOST, "the server has ended");
        if (up.ended && !up.len && !up.closed) {
            up.closed = true;
            (void)shutdown(sock, SHUT_WR);
        }
    }
    return up.ended || error_set(err, ERR_LOST, "the server has ended");
}
