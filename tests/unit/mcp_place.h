/*
 * mcp_place - an MCP server with a kernel, a few fake tools and a client's end, for the tests of
 * the server.  Nothing here blocks: the client turns the server's loop until what it waits for has
 * come.
 *
 * Threads: the test's own, but for the handlers.
 */
#pragma once

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdio.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "kernel/base/clock.h"
#include "kernel/base/fd.h"
#include "kernel/base/limits.h"
#include "mcp/frame.h"
#include "mcp/jsonrpc.h"
#include "mcp/server.h"
#include "tests/support/check.h"

#define UNUSED      __attribute__((unused))
#define PATIENCE_NS (60 * CLOCK_NS_PER_S) /* only a bug makes anyone wait that long */
#define META_OF(capabilities)                                                \
    "\"_meta\":{\"io.modelcontextprotocol/protocolVersion\":\"2026-07-28\"," \
    "\"io.modelcontextprotocol/clientCapabilities\":{" capabilities "}}"
#define META META_OF("")

/* ---- tools ---- */

struct echo_args {
    struct json_text text;
    int64_t times;
};

struct data_out {
    int64_t number;
};

static sem_t arrived; /* a handler that waits has begun */
static sem_t gate;    /* and may go on */

static const struct json_field echo_fields[] = {
    { .name = "text",
      .description = "What to say",
      .kind = JSON_KIND_TEXT,
      .required = true,
      .offset = offsetof(struct echo_args, text) },
    { .name = "times",
      .description = "How often",
      .kind = JSON_KIND_INT,
      .offset = offsetof(struct echo_args, times),
      .min = 1,
      .max = 100000,
      .fallback = 1 },
    { .name = NULL },
};

static const struct json_field data_out_fields[] = {
    { .name = "number",
      .description = "A number",
      .kind = JSON_KIND_INT,
      .required = true,
      .offset = offsetof(struct data_out, number) },
    { .name = NULL },
};

static const struct json_field no_fields[] = { { .name = NULL } };

static inline bool tool_echo(struct tool_call *call, const void *arguments, struct error *err)
{
    const struct echo_args *args = arguments;
    CLEANUP(buf_fini) struct buf text = BUF_INIT;

    for (int64_t i = 0; i < args->times; i++)
        buf_append(&text, args->text.data, args->text.len);
    if (text.failed)
        return error_set(err, ERR_NOMEM, "an echo");
    return result_text(call->result, buf_str(&text), text.len, NULL, err);
}

static inline bool tool_data(struct tool_call *call, const void *args, struct error *err)
{
    (void)args;
    return result_data(call->result, json_pack("{s:i}", "number", 42), err);
}

static inline bool tool_fail(struct tool_call *call, const void *args, struct error *err)
{
    (void)call;
    (void)args;
    return error_set(err, ERR_NOT_FOUND, "there is no such thing; make one first");
}

static inline bool tool_image(struct tool_call *call, const void *args, struct error *err)
{
    (void)args;
    return result_image(call->result, "\x89PNG", 4, "image/png", err);
}

static inline void wake_up(void *arg)
{
    sem_post(arg);
}

/* Until the gate opens, or it is cancelled. */
static inline bool tool_wait(struct tool_call *call, const void *args, struct error *err)
{
    struct cancel_hook hook;

    (void)args;
    tool_call_note(call, "at the \"gate\"");
    cancel_attach(call->wait.cancel, &hook, wake_up, &gate);
    sem_post(&arrived);
    while (sem_wait(&gate))
        continue;
    cancel_detach(call->wait.cancel, &hook);
    if (cancel_raised(call->wait.cancel))
        return error_set(err, ERR_CANCELLED, "cancelled");
    return result_printf(call->result, err, "passed");
}

static inline bool tool_roots(struct tool_call *call, const void *args, struct error *err)
{
    json_t *roots;

    (void)args;
    if (!call->peer)
        return result_printf(call->result, err, "nobody to ask");
    roots = call->peer->roots(call->peer_arg, &call->wait, err);
    if (!roots)
        return false;
    return result_data(call->result, json_pack("{s:o}", "roots", roots), err);
}

static inline bool tool_sample(struct tool_call *call, const void *args, struct error *err)
{
    json_t *params = json_pack("{s:i, s:[{s:s, s:{s:s, s:s}}]}", "maxTokens", 10, "messages",
                               "role", "user", "content", "type", "text", "text", "2+2?");
    json_t *reply;

    (void)args;
    reply = call->peer->sample(call->peer_arg, params, &call->wait, err);
    json_decref(params);
    if (!reply)
        return false;
    return result_data(call->result, json_pack("{s:o}", "reply", reply), err);
}

/* Asks twice, so that a call has more than one question. */
static inline bool tool_confirm(struct tool_call *call, const void *args, struct error *err)
{
    json_t *schema =
        json_pack("{s:s, s:{s:{s:s}}}", "type", "object", "properties", "name", "type", "string");
    json_t *first = NULL, *second = NULL;
    bool ok;

    (void)args;
    ok = call->peer->elicit(call->peer_arg, "One?", schema, &first, &call->wait, err) &&
         call->peer->elicit(call->peer_arg, "Two?", schema, &second, &call->wait, err) &&
         result_data(call->result, json_pack("{s:O, s:O}", "first", first, "second", second), err);
    json_decref(schema);
    json_decref(first);
    json_decref(second);
    return ok;
}

/* Says what the kernel says when a rule refuses a connection, and then waits at the gate. */
static inline bool tool_event(struct tool_call *call, const void *args, struct error *err)
{
    struct event_bus *bus = kernel_events(call->kernel);

    event_publish(bus, "egress.ended", agent_name(call->agent), "c_1", "closed");
    event_publish(bus, "egress.denied", "somebody_else", "c_2", "not yours");
    event_publish(bus, "egress.denied", agent_name(call->agent), "c_1", "to \"example.org\"");
    return tool_wait(call, args, err);
}

#define TOOL(tool_name, table, type, handle, bits)                            \
    {                                                                         \
        .name = tool_name, .title = "T", .description = "D", .fields = table, \
        .args_size = sizeof(type), .handler = handle, .flags = bits           \
    }

static const struct tool fake_tools[] = {
    TOOL("echo", echo_fields, struct echo_args, tool_echo, TOOL_INLINE | TOOL_READS),
    { .name = "data",
      .title = "T",
      .description = "D",
      .fields = no_fields,
      .args_size = 1,
      .output = data_out_fields,
      .flags = TOOL_INLINE | TOOL_HOST,
      .handler = tool_data },
    TOOL("fail", no_fields, char, tool_fail, TOOL_INLINE | TOOL_DESTROYS),
    TOOL("image", no_fields, char, tool_image, TOOL_INLINE),
    TOOL("wait", no_fields, char, tool_wait, 0),
    TOOL("roots", no_fields, char, tool_roots, 0),
    TOOL("event", no_fields, char, tool_event, 0),
    TOOL("sample", no_fields, char, tool_sample, 0),
    TOOL("confirm", no_fields, char, tool_confirm, 0),
};

static const struct toolset fake_set UNUSED = { .name = "fake",
                                                .tools = fake_tools,
                                                .count = ARRAY_LEN(fake_tools) };
/* What the recorded conversations know of. */
static const struct toolset few_set UNUSED = { .name = "fake", .tools = fake_tools, .count = 3 };

/* ---- a place ---- */

static json_t *place_rules UNUSED; /* access rules of the next place; borrowed */

struct place {
    struct config config;
    struct loop *loop;
    struct kernel *k;
    struct agent *agent;
    struct mcp_server *server;
    int in, out; /* the client's ends: the server's output and its input; -1 when closed */
    struct frame frame;
    int ends, firsts;
    bool first_after_answer; /* when it was told, an answer could be read already */
};

static inline bool readable(int fd)
{
    char c;

    return recv(fd, &c, 1, MSG_PEEK | MSG_DONTWAIT) > 0;
}

static inline void on_end(void *arg)
{
    ((struct place *)arg)->ends++;
}

static inline void on_first_answer(void *arg)
{
    struct place *p = arg;

    p->firsts++;
    p->first_after_answer = readable(p->in);
}

/* A kernel without a server yet. */
static inline void place_begin(struct place *p, int64_t workers, const struct toolset *set)
{
    struct error err = ERROR_INIT;

    *p = (struct place){ .in = -1,
                         .out = -1,
                         .config = {
                             .agent = { .name = "default", .group = "" },
                             .computer = { .kind = "sandbox", .max_per_agent = 2 },
                             .sandbox = { .cgroup = "none" },
                             .tool = { .calls = { .policy = "fifo",
                                                  .queue = 4096,
                                                  .workers = workers },
                                       .call_timeout_ms = 600000 },
                             .access = { .rules = place_rules },
                             .audit = { .dir = "" },
                             .log = { .level = "error" },
                             .source = "",
                         } };
    p->loop = loop_new(&err);
    assert_ok(p->loop, err);
    p->k = kernel_new(p->loop, &p->config, &err);
    assert_ok(p->k, err);
    assert_ok(toolmgr_add(kernel_tools(p->k), set, &err), err);
    p->agent = kernel_agent(p->k, "default", NULL, &err);
    assert_ok(p->agent, err);
    frame_init(&p->frame, 64u << 20);
    sem_init(&arrived, 0, 0);
    sem_init(&gate, 0, 0);
}

static inline struct mcp_options place_options(struct place *p, int in_fd, int out_fd)
{
    return (struct mcp_options){ .kernel = p->k,
                                 .agent = p->agent,
                                 .in_fd = in_fd,
                                 .out_fd = out_fd,
                                 .instructions = "Be \"brief\".",
                                 .on_end = on_end,
                                 .on_first_answer = on_first_answer,
                                 .arg = p };
}

static inline void place_serve(struct place *p, int in_fd, int out_fd)
{
    const struct mcp_options options = place_options(p, in_fd, out_fd);
    struct error err = ERROR_INIT;

    p->server = mcp_server_new(p->loop, &options, &err);
    assert_ok(p->server, err);
}

/* One socket for both directions. */
static inline void place_new(struct place *p, int64_t workers)
{
    int pair[2];

    place_begin(p, workers, &fake_set);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
    p->in = p->out = pair[0];
    assert_int_equal(fcntl(p->in, F_SETFL, O_NONBLOCK), 0);
    place_serve(p, pair[1], pair[1]);
}

static inline void place_close(struct place *p)
{
    if (p->in != p->out)
        fd_close(p->in);
    fd_close(p->out);
    p->in = p->out = -1;
}

static inline void place_free(struct place *p)
{
    mcp_server_free(p->server);
    place_close(p);
    agent_unref(p->agent);
    kernel_free(p->k);
    loop_free(p->loop);
    frame_fini(&p->frame);
    sem_destroy(&arrived);
    sem_destroy(&gate);
    clock_real();
}

/* ---- the client ---- */

static inline int64_t real_now_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * CLOCK_NS_PER_S + now.tv_nsec;
}

/* One turn of the loop, and the end of a test that waits for what never comes. */
static inline void turn(struct place *p, int64_t since_ns, const char *for_what)
{
    loop_turn(p->loop, 10);
    if (real_now_ns() - since_ns > PATIENCE_NS)
        fail_msg("waited in vain for %s", for_what);
}

#define TURN_UNTIL(p, cond)             \
    do {                                \
        int64_t since_ = real_now_ns(); \
        while (!(cond))                 \
            turn(p, since_, #cond);     \
    } while (0)

static inline void put_bytes(struct place *p, const char *text, size_t len)
{
    int64_t since_ns = real_now_ns();

    while (len > 0) {
        ssize_t n = write(p->out, text, len);

        if (n < 0) {
            assert_int_equal(errno, EAGAIN);
            turn(p, since_ns, "room to write");
            continue;
        }
        text += n;
        len -= (size_t)n;
    }
}

static inline void put_text(struct place *p, const char *text)
{
    put_bytes(p, text, strlen(text));
}

static inline void put(struct place *p, const char *line)
{
    put_text(p, line);
    put_text(p, "\n");
}

/* A request: @method, and its params without the braces. */
static inline void ask(struct place *p, const char *id, const char *method, const char *params)
{
    CLEANUP(buf_fini) struct buf line = BUF_INIT;

    assert_true(buf_printf(&line,
                           "{\"jsonrpc\":\"2.0\",\"id\":%s,\"method\":\"%s\",\"params\":{%s}}", id,
                           method, params));
    put(p, buf_str(&line));
}

static inline void call(struct place *p, const char *id, const char *tool, const char *more)
{
    CLEANUP(buf_fini) struct buf params = BUF_INIT;

    assert_true(buf_printf(&params, "\"name\":\"%s\"%s%s", tool, more[0] ? "," : "", more));
    ask(p, id, "tools/call", buf_str(&params));
}

/* What has come, if a whole message has; NULL otherwise and at the end. */
static inline json_t *take_now(struct place *p)
{
    struct error err = ERROR_INIT;
    char *line;
    size_t len;
    json_t *message;

    while (frame_next(&p->frame, &line, &len) != FRAME_LINE) {
        char *space = frame_space(&p->frame, 65536);
        ssize_t n;

        assert_non_null(space);
        n = read(p->in, space, 65536);
        if (n <= 0)
            return NULL;
        frame_filled(&p->frame, (size_t)n);
    }
    message = json_parse(line, len, &err);
    if (!message)
        fail_msg("the server said %.*s: %s", (int)MIN(len, 500u), line, err.text);
    assert_string_equal(json_string_value(json_object_get(message, "jsonrpc")), "2.0");
    return message;
}

/* The server's next message; a reference. */
static inline json_t *take(struct place *p)
{
    int64_t since_ns = real_now_ns();
    json_t *message;

    while (!(message = take_now(p)))
        turn(p, since_ns, "a message");
    return message;
}

static inline void json_freep(json_t **value)
{
    json_decref(*value);
}

#define MESSAGE CLEANUP(json_freep) json_t *

/* By path: "result.tools.0.name". */
static inline const json_t *at(const json_t *value, const char *path)
{
    char key[64];

    while (value && *path) {
        size_t n = strcspn(path, ".");

        (void)snprintf(key, sizeof key, "%.*s", (int)n, path);
        path += n + (path[n] == '.');
        value = json_is_array(value) ? json_array_get(value, (size_t)strtoul(key, NULL, 10))
                                     : json_object_get(value, key);
    }
    return value;
}

static inline const char *text_at(const json_t *value, const char *path)
{
    const char *text = json_string_value(at(value, path));

    return text ? text : "(no text)";
}

static inline json_int_t int_at(const json_t *value, const char *path)
{
    const json_t *found = at(value, path);

    if (!json_is_integer(found)) {
        CLEANUP(buf_fini) struct buf shown = BUF_INIT;

        UNCHECKED(json_write(value, &shown));
        fail_msg("no %s in %s", path, buf_str(&shown));
    }
    return json_integer_value(found);
}

/* The next message answers @id with a result, or with the error @code. */
static inline json_t *take_answer(struct place *p, int id, int code)
{
    json_t *message = take(p);
    CLEANUP(buf_fini) struct buf shown = BUF_INIT;

    UNCHECKED(json_write(message, &shown));
    if (json_integer_value(json_object_get(message, "id")) != id ||
        json_integer_value(at(message, "error.code")) != code ||
        !json_object_get(message, "result") != (code != 0))
        fail_msg("wanted an answer to %d with code %d, got %.1000s", id, code, buf_str(&shown));
    return message;
}

static inline void assert_answer(struct place *p, int id, int code)
{
    MESSAGE message = take_answer(p, id, code);

    (void)message;
}

/* Nothing is on its way: the answer to a ping comes next. */
static inline void assert_silence(struct place *p)
{
    static int id = 900000;
    char text[16];

    (void)snprintf(text, sizeof text, "%d", ++id);
    ask(p, text, "ping", "");
    assert_answer(p, id, 0);
}

static inline void initialize(struct place *p, const char *version, const char *capabilities)
{
    CLEANUP(buf_fini) struct buf params = BUF_INIT;
    MESSAGE message = NULL;

    assert_true(buf_printf(&params, "\"protocolVersion\":\"%s\",\"capabilities\":{%s}", version,
                           capabilities));
    ask(p, "1", "initialize", buf_str(&params));
    message = take_answer(p, 1, 0);
    put(p, "{\"jsonrpc\":\"2.0\",\"method\":\"notifications/initialized\"}");
}

static inline bool sem_get(sem_t *sem)
{
    struct timespec until;

    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += 60;
    while (sem_timedwait(sem, &until))
        if (errno != EINTR)
            return false;
    return true;
}

/* Turn until a handler is at the gate: the loop has to hand it over first. */
static inline void await_handler(struct place *p)
{
    TURN_UNTIL(p, sem_trywait(&arrived) == 0);
}
