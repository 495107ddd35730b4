/* The connection: one line of JSON for each message, as the Model Context Protocol has it. */
#include <errno.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "kernel/sdk/sdk.h"

#define REVISION    "2026-07-28"
#define META        "io.modelcontextprotocol/"
#define PIECE       ((size_t)64 << 10)
#define AGENT_BYTES 65
#define LONGEST_MS  (INT64_C(366) * 86400 * 1000) /* so that sums with it fit */

struct aios {
    int fd;
    char agent[AGENT_BYTES];
    int64_t timeout_ms;
    json_int_t last_id;
    bool broken;
    char *in; /* received, not looked at yet */
    size_t in_len, in_cap, searched;
};

const char *aios_version(void)
{
    return AIOS_VERSION;
}

bool sdk_fail(struct aios_error *err, enum aios_code code, const char *fmt, ...)
{
    va_list ap;

    if (!err)
        return false;
    err->code = code;
    err->kind[0] = '\0';
    va_start(ap, fmt);
    (void)vsnprintf(err->text, sizeof err->text, fmt, ap);
    va_end(ap);
    return false;
}

static int64_t now_ms(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static int64_t in_ms(int64_t timeout_ms)
{
    return now_ms() + (timeout_ms < LONGEST_MS ? timeout_ms : LONGEST_MS);
}

int64_t sdk_deadline_ms(const struct aios *a, int64_t timeout_ms)
{
    return in_ms(timeout_ms > 0 ? timeout_ms : a->timeout_ms);
}

int64_t sdk_left_ms(int64_t deadline_ms)
{
    return deadline_ms - now_ms();
}

/* ---- bytes ---- */

static bool lost(struct aios *a, struct aios_error *err, const char *why)
{
    a->broken = true;
    return sdk_fail(err, AIOS_LOST, "the connection to the kernel is lost: %s", why);
}

/* Wait for @events until @deadline_ms. */
static bool wait_for(struct aios *a, short events, int64_t deadline_ms, struct aios_error *err)
{
    for (;;) {
        struct pollfd p = { .fd = a->fd, .events = events };
        int64_t left_ms = deadline_ms - now_ms();
        int rc = left_ms > 0 ? poll(&p, 1, left_ms > 60000 ? 60000 : (int)left_ms) : 0;

        if (rc > 0)
            return true;
        if (rc < 0 && errno != EINTR)
            return lost(a, err, strerror(errno));
        if (left_ms <= 0)
            return sdk_fail(err, AIOS_TIMEOUT, "no answer from the kernel in time");
    }
}

/* A request that was sent in part leaves the connection useless. */
static bool send_all(struct aios *a, const char *data, size_t len, int64_t deadline_ms,
                     struct aios_error *err)
{
    while (len > 0) {
        ssize_t n = send(a->fd, data, len, MSG_NOSIGNAL | MSG_DONTWAIT);

        if (n > 0) {
            data += n;
            len -= (size_t)n;
        } else if (n < 0 && errno != EAGAIN && errno != EINTR) {
            return lost(a, err, strerror(errno));
        } else if (!wait_for(a, POLLOUT, deadline_ms, err)) {
            a->broken = true;
            return false;
        }
    }
    return true;
}

static bool receive(struct aios *a, int64_t deadline_ms, struct aios_error *err)
{
    ssize_t n;

    if (a->in_len > SDK_ANSWER_MAX)
        return lost(a, err, "an answer is too long");
    if (a->in_cap - a->in_len < PIECE) {
        size_t cap = a->in_cap ? a->in_cap * 2 : 2 * PIECE;
        char *in = realloc(a->in, cap);

        if (!in)
            return sdk_fail(err, AIOS_NOMEM, "out of memory for an answer");
        a->in = in;
        a->in_cap = cap;
    }
    if (!wait_for(a, POLLIN, deadline_ms, err))
        return false;
    n = recv(a->fd, a->in + a->in_len, PIECE, MSG_DONTWAIT);
    if (n == 0)
        return lost(a, err, "the kernel has closed it");
    if (n < 0)
        return errno == EAGAIN || errno == EINTR || lost(a, err, strerror(errno));
    a->in_len += (size_t)n;
    return true;
}

/* @line as JSON.  After one that is none, nothing that comes there is to be trusted. */
static json_t *read_line(struct aios *a, const char *line, size_t len, struct aios_error *err)
{
    json_t *message;

    errno = 0; /* without memory jansson may fail for another reason, or leave something out */
    message = json_loadb(line, len, JSON_ALLOW_NUL, NULL);
    if (json_is_object(message) && errno != ENOMEM)
        return message;
    if (errno == ENOMEM) {
        sdk_fail(err, AIOS_NOMEM, "out of memory for an answer");
    } else {
        a->broken = true;
        sdk_fail(err, AIOS_PROTOCOL, "the kernel sent a line that is no message");
    }
    json_decref(message);
    return NULL;
}

/* The next whole line as JSON; NULL with *err. */
static json_t *next_message(struct aios *a, int64_t deadline_ms, struct aios_error *err)
{
    for (;;) {
        char *end = a->in_len > a->searched
                        ? memchr(a->in + a->searched, '\n', a->in_len - a->searched)
                        : NULL;
        json_t *message;
        size_t len;

        if (!end) {
            a->searched = a->in_len;
            if (!receive(a, deadline_ms, err))
                return NULL;
            continue;
        }
        len = (size_t)(end - a->in);
        message = read_line(a, a->in, len, err);
        a->in_len -= len + 1;
        a->searched = 0;
        memmove(a->in, end + 1, a->in_len);
        return message;
    }
}

static bool send_message(struct aios *a, json_t *message, int64_t deadline_ms,
                         struct aios_error *err)
{
    char *text = message ? sdk_dump(message) : NULL;
    size_t len = text ? strlen(text) : 0;
    bool ok;

    json_decref(message);
    if (!text)
        return sdk_fail(err, AIOS_NOMEM, "out of memory for a question");
    if (len >= SDK_QUESTION_MAX) {
        free(text);
        return sdk_fail(err, AIOS_INVALID, "the question is %zu bytes long and may have %zu", len,
                        SDK_QUESTION_MAX);
    }
    text[len] = '\n'; /* in the place of the NUL, which nobody needs any more */
    ok = send_all(a, text, len + 1, deadline_ms, err);
    free(text);
    return ok;
}

/* ---- requests ---- */

/* @params (taken) with what every request carries beside its own _meta; NULL without memory. */
static json_t *with_meta(json_t *params)
{
    json_t *meta = json_pack("{s:s, s:{}, s:{s:s, s:s}}", META "protocolVersion", REVISION,
                             META "clientCapabilities", META "clientInfo", "name", "libaios",
                             "version", AIOS_VERSION);
    json_t *own = json_object_get(params, "_meta");
    bool ok = meta && params && (!own || json_object_update(meta, own) == 0) &&
              json_object_set(params, "_meta", meta) == 0;

    json_decref(meta);
    if (ok)
        return params;
    json_decref(params);
    return NULL;
}

/* Nobody waits for it any more: the kernel may stop. */
static void give_up(struct aios *a, json_int_t id)
{
    (void)send_message(a,
                       json_pack("{s:s, s:s, s:{s:I, s:s}}", "jsonrpc", "2.0", "method",
                                 "notifications/cancelled", "params", "requestId", id, "reason",
                                 "the time limit has passed"),
                       now_ms() + 100, NULL);
}

/* Is it the answer to @id?  Without an id it is an error about what could not be read: ours, since
 * nobody else asks. */
static bool answers(const json_t *message, json_int_t id)
{
    const json_t *of = json_object_get(message, "id");

    return !json_object_get(message, "method") &&
           (json_integer_value(of) == id ||
            (json_is_null(of) && json_object_get(message, "error")));
}

/* Answers of questions that were given up, and notifications, are passed over. */
static json_t *await(struct aios *a, json_int_t id, int64_t deadline_ms, struct aios_error *err)
{
    for (;;) {
        json_t *message = next_message(a, deadline_ms, err);

        if (!message || answers(message, id))
            return message;
        json_decref(message);
    }
}

/* The result in @message (taken). */
static json_t *result_of(json_t *message, struct aios_error *err)
{
    json_t *result = json_object_get(message, "result");
    const char *kind = json_string_value(json_object_get(result, "resultType"));
    const char *why =
        json_string_value(json_object_get(json_object_get(message, "error"), "message"));

    if (json_is_object(result) && (!kind || strcmp(kind, "complete") == 0)) {
        json_incref(result);
        json_decref(message);
        return result;
    }
    if (why)
        sdk_fail(err, AIOS_REFUSED, "%s", *why ? why : "no reason is given");
    else
        sdk_fail(err, AIOS_PROTOCOL, "the kernel's answer has neither a result nor an error");
    json_decref(message);
    return NULL;
}

json_t *sdk_request(struct aios *a, const char *method, json_t *params, int64_t timeout_ms,
                    struct aios_error *err)
{
    int64_t deadline_ms = sdk_deadline_ms(a, timeout_ms);
    struct aios_error why = { .code = AIOS_OK };
    json_int_t id = ++a->last_id;
    json_t *message = NULL;

    if (a->broken) {
        json_decref(params);
        (void)lost(a, err, "an earlier question failed");
        return NULL;
    }
    params = with_meta(params);
    /* Not "o": json_pack() may fail without having taken it. */
    if (params)
        message = json_pack("{s:s, s:I, s:s, s:O}", "jsonrpc", "2.0", "id", id, "method", method,
                            "params", params);
    json_decref(params);
    if (!send_message(a, message, deadline_ms, err))
        return NULL;
    message = await(a, id, deadline_ms, &why);
    if (message)
        return result_of(message, err);
    if (why.code == AIOS_TIMEOUT)
        give_up(a, id);
    if (err)
        *err = why;
    return NULL;
}

json_t *sdk_call_tool(struct aios *a, const char *name, json_t *arguments, int64_t timeout_ms,
                      struct aios_error *err)
{
    json_t *params;

    errno = 0;
    params = arguments ? json_pack("{s:s, s:O}", "name", name, "arguments", arguments) : NULL;
    if (!params && arguments && errno != ENOMEM) {
        json_decref(arguments);
        sdk_fail(err, AIOS_INVALID, "the tool's name is not UTF-8");
        return NULL;
    }
    json_decref(arguments);
    return sdk_request(a, "tools/call", params, timeout_ms, err);
}

/* ---- connecting ---- */

/* The socket, or -1. */
static int connect_to(const char *path, int64_t timeout_ms, struct aios_error *err)
{
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    struct timeval most = { .tv_sec = timeout_ms / 1000, .tv_usec = timeout_ms % 1000 * 1000 };
    int fd, rc;

    if (strlen(path) >= sizeof address.sun_path) {
        sdk_fail(err, AIOS_INVALID, "the socket's path is too long: %s", path);
        return -1;
    }
    memcpy(address.sun_path, path, strlen(path) + 1);
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0) {
        sdk_fail(err, AIOS_LOST, "a socket: %s", strerror(errno));
        return -1;
    }
    /* Waits only where more programs connect than the kernel lets in at once. */
    (void)setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &most, sizeof most);
    do
        rc = connect(fd, (const struct sockaddr *)&address, sizeof address);
    while (rc < 0 && errno == EINTR);
    if (rc == 0)
        return fd;
    if (errno == EACCES || errno == EPERM)
        sdk_fail(err, AIOS_DENIED, "the kernel at %s does not let this user in", path);
    else if (errno == EAGAIN)
        sdk_fail(err, AIOS_TIMEOUT, "the kernel at %s is too busy to let anybody in", path);
    else
        sdk_fail(err, AIOS_NO_SERVER, "no kernel listens at %s (%s); start one with `aios serve`",
                 path, strerror(errno));
    close(fd);
    return -1;
}

/* As kernel/base/paths.c has it: a path that is not absolute counts as not set. */
static const char *absolute(const char *variable)
{
    const char *value = getenv(variable);

    return value && value[0] == '/' ? value : NULL;
}

/* Where `aios serve` listens when nobody says otherwise. */
static bool usual_path(char *path, size_t size, struct aios_error *err)
{
    const char *named = getenv("AIOS_SOCKET"), *aios_home = getenv("AIOS_HOME");
    const char *runtime = absolute("XDG_RUNTIME_DIR"), *home = absolute("HOME");
    int len;

    if (named && *named)
        len = snprintf(path, size, "%s", named);
    else if (aios_home && *aios_home && *aios_home != '/')
        return sdk_fail(err, AIOS_INVALID, "AIOS_HOME must be an absolute path, but is \"%s\"",
                        aios_home);
    else if (aios_home && *aios_home)
        len = snprintf(path, size, "%s/run/aios.sock", aios_home);
    else if (runtime)
        len = snprintf(path, size, "%s/aios/aios.sock", runtime);
    else if (geteuid() == 0)
        len = snprintf(path, size, "/run/aios/aios.sock");
    else if (home)
        len = snprintf(path, size, "%s/.local/state/aios/run/aios.sock", home);
    else
        return sdk_fail(err, AIOS_INVALID,
                        "name the kernel's socket, or set AIOS_SOCKET, HOME or AIOS_HOME");
    return (size_t)len < size || sdk_fail(err, AIOS_INVALID, "the socket's path is too long");
}

static bool greet(struct aios *a, const char *agent, struct aios_error *err)
{
    int64_t deadline_ms = in_ms(a->timeout_ms);
    json_t *greeting, *answer;
    const char *name, *why;

    errno = 0;
    greeting = json_pack("{s:{s:s}}", "aios", "agent", agent ? agent : "");
    if (!greeting && errno != ENOMEM)
        return sdk_fail(err, AIOS_INVALID, "the agent's name is not UTF-8");
    if (!send_message(a, greeting, deadline_ms, err))
        return false;
    answer = next_message(a, deadline_ms, err);
    if (!answer)
        return false;
    name = json_string_value(json_object_get(json_object_get(answer, "aios"), "agent"));
    why = json_string_value(json_object_get(json_object_get(answer, "aios"), "error"));
    if (name)
        (void)snprintf(a->agent, sizeof a->agent, "%s", name);
    else if (why)
        sdk_fail(err, AIOS_DENIED, "the kernel refused: %s", why);
    else
        sdk_fail(err, AIOS_PROTOCOL, "what listens there is no kernel");
    json_decref(answer);
    return name != NULL;
}

static int64_t timeout_of(const struct aios_options *options)
{
    return options && options->timeout_ms > 0 ? options->timeout_ms : SDK_TIMEOUT_MS;
}

struct aios *sdk_attach(int fd, const struct aios_options *options, struct aios_error *err)
{
    struct aios *a = calloc(1, sizeof *a);

    if (!a) {
        close(fd);
        sdk_fail(err, AIOS_NOMEM, "out of memory for a connection");
        return NULL;
    }
    a->fd = fd;
    a->timeout_ms = timeout_of(options);
    if (greet(a, options ? options->agent : NULL, err))
        return a;
    aios_close(a);
    return NULL;
}

struct aios *aios_connect(const struct aios_options *options, struct aios_error *err)
{
    const char *named = options ? options->socket : NULL;
    char path[sizeof((struct sockaddr_un *)NULL)->sun_path];
    int fd;

    if (!named && !usual_path(path, sizeof path, err))
        return NULL;
    fd = connect_to(named ? named : path, timeout_of(options), err);
    return fd >= 0 ? sdk_attach(fd, options, err) : NULL;
}

void aios_close(struct aios *a)
{
    if (!a)
        return;
    close(a->fd);
    free(a->in);
    free(a);
}

const char *aios_agent(const struct aios *a)
{
    return a->agent;
}
