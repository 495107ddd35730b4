#include "tools/cli/call_client.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "kernel/base/clock.h"
#include "kernel/base/json.h"
#include "kernel/base/limits.h"
#include "tools/cli/child.h"

#define REVISION    "2025-11-25"
#define GRACE_NS    (3 * CLOCK_NS_PER_S)
#define MESSAGE_MAX LIMIT_MCP_OUT_BYTES
#define PIECE       (64u << 10)
#define PAGES_MAX   1000u
#define ALL_TOOLS   "aios/all" /* in _meta: our own server lists those too that are for programs */
#define NO_METHOD   (-32601)
#define BAD_PARAMS  (-32602)

struct call_client {
    struct child server;
    struct buf out;  /* not sent yet */
    struct buf in;   /* not looked at yet */
    size_t searched; /* of `in`: no end of line before it */
    json_int_t last_id;
};

/* ---- bytes ---- */

/* Takes @message. */
static bool queue(struct call_client *c, json_t *message, struct error *err)
{
    bool ok = json_write(message, &c->out) && buf_append_char(&c->out, '\n');

    json_decref(message);
    return ok || error_set(err, ERR_NOMEM, "a message");
}

static bool send_some(struct call_client *c, struct error *err)
{
    ssize_t n = write(c->server.in, c->out.data, c->out.len);

    if (n > 0)
        buf_consume(&c->out, (size_t)n);
    else if (n < 0 && errno != EAGAIN && errno != EINTR)
        return errno == EPIPE ? error_set(err, ERR_LOST, "the server has ended")
                              : error_set_errno(err, errno, "write to the server");
    return true;
}

static bool receive_some(struct call_client *c, struct error *err)
{
    ssize_t n;

    if (c->in.len > MESSAGE_MAX)
        return error_set(err, ERR_PROTOCOL, "the server sent a line of over %u bytes", MESSAGE_MAX);
    if (!buf_reserve(&c->in, PIECE))
        return error_set(err, ERR_NOMEM, "an answer");
    n = read(c->server.out, c->in.data + c->in.len, PIECE);
    if (n == 0)
        return error_set(err, ERR_LOST, "the server ended without an answer");
    if (n < 0)
        return errno == EAGAIN || errno == EINTR ||
               error_set_errno(err, errno, "read from the server");
    c->in.len += (size_t)n;
    c->in.data[c->in.len] = '\0';
    return true;
}

/* Send what is queued and receive something. */
static bool exchange(struct call_client *c, int64_t deadline_ns, struct error *err)
{
    struct pollfd fds[] = {
        { .fd = c->server.out, .events = POLLIN },
        { .fd = c->out.len > 0 ? c->server.in : -1, .events = POLLOUT },
    };
    int left_ms = clock_left_ms(deadline_ns, 60000);

    if (left_ms == 0)
        return error_set(err, ERR_TIMEOUT, "the server did not answer in time");
    if (poll(fds, ARRAY_LEN(fds), left_ms) < 0)
        return errno == EINTR || error_set_errno(err, errno, "wait for the server");
    if (fds[0].revents && !receive_some(c, err))
        return false;
    return !fds[1].revents || send_some(c, err);
}

/* ---- messages ---- */

/* The next whole line as JSON; NULL when there is none yet (*ret_bad false). */
static json_t *next_message(struct call_client *c, bool *ret_bad, struct error *err)
{
    *ret_bad = false;
    while (c->in.len > c->searched) {
        const char *end = memchr(c->in.data + c->searched, '\n', c->in.len - c->searched);
        struct error why = ERROR_INIT;
        size_t len;
        json_t *message;

        if (!end) {
            c->searched = c->in.len;
            break;
        }
        len = (size_t)(end - c->in.data);
        c->searched = 0;
        if (len == 0 || (len == 1 && c->in.data[0] == '\r')) {
            buf_consume(&c->in, len + 1);
            continue;
        }
        message = json_parse(c->in.data, len, &why);
        buf_consume(&c->in, len + 1);
        if (!json_is_object(message)) {
            *ret_bad = true;
            error_set(err, ERR_PROTOCOL, "the server sent a line that is no message: %s",
                      message ? "it is not an object" : why.text);
            json_decref(message);
            return NULL;
        }
        return message;
    }
    return NULL;
}

static bool answer(struct call_client *c, json_t *id, const char *method, struct error *err)
{
    json_t *reply = strcmp(method, "ping") == 0
                        ? json_pack("{s:s, s:O, s:{}}", "jsonrpc", "2.0", "id", id, "result")
                        : json_pack("{s:s, s:O, s:{s:i, s:s}}", "jsonrpc", "2.0", "id", id, "error",
                                    "code", NO_METHOD, "message", "this client offers nothing");

    return queue(c, reply, err);
}

static bool set_rpc_error(const json_t *error, struct error *err)
{
    const char *text = json_string_value(json_object_get(error, "message"));
    json_int_t code = json_integer_value(json_object_get(error, "code"));

    return error_set(err, code == BAD_PARAMS || code == NO_METHOD ? ERR_INVALID : ERR_IO, "%s",
                     text ? text : "the server answered with an error that says nothing");
}

/* True when @message answers our request: *ret_result, or NULL with @err. */
static bool take(struct call_client *c, json_t *message, json_t **ret_result, bool *ret_failed,
                 struct error *err)
{
    json_t *id = json_object_get(message, "id");
    const char *method = json_string_value(json_object_get(message, "method"));
    json_t *result;

    if (method) {
        *ret_failed = id && !answer(c, id, method, err);
        return *ret_failed;
    }
    if (!json_is_integer(id) || json_integer_value(id) != c->last_id)
        return false; /* a late answer to what timed out */
    result = json_object_get(message, "result");
    if (json_is_object(result)) {
        *ret_result = json_incref(result);
    } else {
        *ret_failed = true;
        (void)set_rpc_error(json_object_get(message, "error"), err);
    }
    return true;
}

static json_t *await_answer(struct call_client *c, int64_t deadline_ns, struct error *err)
{
    json_t *result = NULL;
    bool failed = false;

    for (;;) {
        json_t *message = next_message(c, &failed, err);
        bool done;

        if (failed)
            return NULL;
        if (!message) {
            if (!exchange(c, deadline_ns, err))
                return NULL;
            continue;
        }
        done = take(c, message, &result, &failed, err);
        json_decref(message);
        if (done)
            return result;
    }
}

json_t *call_client_request(struct call_client *c, const char *method, json_t *params,
                            int64_t deadline_ns, struct error *err)
{
    json_t *message =
        json_pack("{s:s, s:I, s:s}", "jsonrpc", "2.0", "id", ++c->last_id, "method", method);

    if (params && json_object_set_new(message, "params", params) != 0) {
        json_decref(message);
        error_set(err, ERR_NOMEM, "a request");
        return NULL;
    }
    return queue(c, message, err) ? await_answer(c, deadline_ns, err) : NULL;
}

/* ---- a server ---- */

static bool shake_hands(struct call_client *c, int64_t deadline_ns, struct error *err)
{
    json_t *hello =
        json_pack("{s:s, s:{}, s:{s:s, s:s}}", "protocolVersion", REVISION, "capabilities",
                  "clientInfo", "name", "aios-call", "version", AIOS_VERSION);
    json_t *result;

    if (!hello)
        return error_set(err, ERR_NOMEM, "a request");
    result = call_client_request(c, "initialize", hello, deadline_ns, err);
    if (!result)
        return error_prefix(err, "start the server");
    json_decref(result);
    return queue(
        c, json_pack("{s:s, s:s}", "jsonrpc", "2.0", "method", "notifications/initialized"), err);
}

struct call_client *call_client_new(const char *const *argv, int64_t deadline_ns, struct error *err)
{
    CLEANUP(call_client_freep) struct call_client *c = calloc(1, sizeof *c);

    if (!c) {
        error_set(err, ERR_NOMEM, "a client");
        return NULL;
    }
    if (!child_start(&c->server, argv, true, false, err) || !shake_hands(c, deadline_ns, err))
        return NULL;
    return STEAL(c);
}

void call_client_free(struct call_client *c)
{
    if (!c)
        return;
    (void)child_stop(&c->server, GRACE_NS);
    buf_fini(&c->in);
    buf_fini(&c->out);
    free(c);
}

json_t *call_client_tools(struct call_client *c, int64_t deadline_ns, struct error *err)
{
    json_t *all = json_array();
    json_t *params = json_pack("{s:{s:b}}", "_meta", ALL_TOOLS, 1);

    for (unsigned page = 0; all && params && page < PAGES_MAX; page++) {
        json_t *result = call_client_request(c, "tools/list", params, deadline_ns, err);
        const char *cursor = json_string_value(json_object_get(result, "nextCursor"));
        bool ok = result && json_array_extend(all, json_object_get(result, "tools")) == 0;
        bool last = !cursor;

        params = ok && cursor ? json_pack("{s:s, s:{s:b}}", "cursor", cursor, "_meta", ALL_TOOLS, 1)
                              : NULL;
        if (result && !ok)
            error_set(err, ERR_PROTOCOL, "the server's list of tools is no list");
        json_decref(result);
        if (ok && last)
            return all;
        if (!ok)
            break;
        if (!params) {
            error_set(err, ERR_NOMEM, "a request");
            break;
        }
        if (page + 1 == PAGES_MAX) {
            json_decref(params);
            error_set(err, ERR_PROTOCOL, "the server's list of tools has no end");
        }
    }
    if (!all)
        error_set(err, ERR_NOMEM, "a list");
    json_decref(all);
    return NULL;
}
