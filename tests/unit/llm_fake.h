/*
 * llm_fake - a world for tests of the LLM service without a network: http_send() plays the next
 * step of a script, a pause turns the clock.  For programs that wrap both (--wrap); one thread.
 */
#pragma once

#include <stdio.h>

#include "kernel/base/clock.h"
#include "kernel/base/json.h"
#include "kernel/config.h"
#include "kernel/event.h"
#include "kernel/llm_service.h"
#include "tests/support/check.h"

#define FAKE_KEY   "Zx9-secret-Q7w8e9r0t1"
#define FAKE_STEPS 16

/* One answer.  @pieces are joined; with @cut each byte is a piece of its own. */
struct fake_step {
    int status; /* 0: no answer at all, @broken says why */
    const char *body;
    enum error_code broken; /* ERR_NONE, or how it breaks off after the body */
    int64_t retry_after_ns; /* 0: not said */
    const char *content_type;
    int64_t takes_ns; /* the clock moves so far */
    bool hold;        /* waits for fake_release() before it answers */
};

static struct {
    struct fake_step steps[FAKE_STEPS];
    unsigned step_count, sent;
    char bodies[FAKE_STEPS][4000]; /* cut */
    json_t *sent_json;             /* what fake_sent() looked at last */
    char urls[FAKE_STEPS][200], headers[FAKE_STEPS][400];
    int64_t pauses[FAKE_STEPS];
    unsigned pause_count;
    struct config *config;
    struct event_bus *bus;
    struct event_sub *sub;
    struct llm *llm;
    struct buf heard;     /* what on_text was given */
    size_t preempt_after; /* bytes; 0: never */
    size_t preempt_from;
} fake;

bool __wrap_http_send(struct http *h, const struct http_request *request, const struct wait *w,
                      struct http_reply *ret, struct error *err);
bool __wrap_llm_retry_pause(const struct wait *w, int64_t ns, struct error *err);

/* What holds an answer back; for tests that ask on several threads. */
static pthread_mutex_t fake_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t fake_changed = PTHREAD_COND_INITIALIZER;
static bool fake_released;

static inline void fake_release(void *unused)
{
    (void)unused;
    pthread_mutex_lock(&fake_lock);
    fake_released = true;
    pthread_cond_broadcast(&fake_changed);
    pthread_mutex_unlock(&fake_lock);
}

static inline void fake_wake(void *unused)
{
    (void)unused;
    pthread_mutex_lock(&fake_lock);
    pthread_cond_broadcast(&fake_changed);
    pthread_mutex_unlock(&fake_lock);
}

/* Cancelling ends it, as it would end a transfer. */
static inline void fake_hold(const struct wait *w)
{
    struct cancel_hook hook;

    cancel_attach(w->cancel, &hook, fake_wake, NULL);
    pthread_mutex_lock(&fake_lock);
    while (!fake_released && !(w->cancel && cancel_raised(w->cancel)))
        pthread_cond_wait(&fake_changed, &fake_lock);
    pthread_mutex_unlock(&fake_lock);
    cancel_detach(w->cancel, &hook);
}

static inline bool fake_deliver(const struct http_request *request, const struct fake_step *step,
                                struct http_reply *ret)
{
    size_t len = strlen(step->body ? step->body : "");

    if (step->status >= 300 || !request->on_data)
        return buf_append(&ret->body, step->body, len);
    for (size_t at = 0; at < len; at++) /* every byte is a piece of its own */
        if (!request->on_data(request->arg, step->body + at, 1)) {
            ret->stopped = true;
            break;
        }
    return true;
}

bool __wrap_http_send(struct http *h, const struct http_request *request, const struct wait *w,
                      struct http_reply *ret, struct error *err)
{
    const struct fake_step *step;
    unsigned n;

    (void)h;
    pthread_mutex_lock(&fake_lock);
    n = fake.sent++;
    pthread_cond_broadcast(&fake_changed);
    pthread_mutex_unlock(&fake_lock);
    *ret = (struct http_reply){ .retry_after_ns = -1 };
    if (n >= fake.step_count)
        return error_set(err, ERR_LOST, "the script is over");
    step = &fake.steps[n];
    (void)snprintf(fake.urls[n], sizeof fake.urls[n], "%s %s", request->method, request->url);
    for (const char *const *line = request->headers; *line; line++)
        (void)snprintf(fake.headers[n] + strlen(fake.headers[n]),
                       sizeof fake.headers[n] - strlen(fake.headers[n]), "%s\n", *line);
    (void)snprintf(fake.bodies[n], sizeof fake.bodies[n], "%s", (const char *)request->body);
    if (step->hold)
        fake_hold(w);
    if (step->hold && w->cancel && cancel_raised(w->cancel))
        return error_set(err, ERR_CANCELLED, "api.example: cancelled");
    if (step->takes_ns)
        clock_fake(clock_now_ns() + step->takes_ns);
    ret->status = step->status;
    if (step->retry_after_ns)
        ret->retry_after_ns = step->retry_after_ns;
    (void)snprintf(ret->content_type, sizeof ret->content_type, "%s",
                   step->content_type ? step->content_type : "text/event-stream");
    if (step->status > 0 && !fake_deliver(request, step, ret))
        return error_set(err, ERR_NOMEM, "a body");
    if (ret->stopped || step->broken == ERR_NONE)
        return true;
    return wait_check(w, err) ? error_set(err, step->broken, "api.example: it broke") : false;
}

bool __wrap_llm_retry_pause(const struct wait *w, int64_t ns, struct error *err)
{
    fake.pauses[fake.pause_count++ % FAKE_STEPS] = ns;
    clock_fake(clock_now_ns() + ns);
    return wait_check(w, err);
}

static inline void fake_on_text(void *arg, const char *text, size_t len)
{
    (void)arg;
    (void)buf_append(&fake.heard, text, len);
}

static inline bool fake_preempt(void *arg)
{
    (void)arg;
    return fake.preempt_after > 0 && fake.heard.len - fake.preempt_from >= fake.preempt_after;
}

/** @llm: the section "llm" of a configuration, in JSON. */
static inline void fake_start(const char *llm)
{
    struct error err = ERROR_INIT;
    char text[4096];

    memset(&fake, 0, sizeof fake);
    fake_released = false;
    setenv("AIOS_TEST_KEY", FAKE_KEY, 1);
    (void)snprintf(text, sizeof text, "{\"llm\": %s}", llm);
    clock_fake(1000 * CLOCK_NS_PER_S);
    fake.config = config_parse(text, strlen(text), "test", NULL, &err);
    assert_ok(fake.config, err);
    fake.bus = event_bus_new(&err);
    assert_ok(fake.bus, err);
    fake.sub = event_subscribe(fake.bus, "llm.*", NULL, NULL, &err);
    assert_ok(fake.sub, err);
    fake.llm = llm_new(fake.config, fake.bus, &err);
    assert_ok(fake.llm, err);
}

#define FAKE_ONE(kind, more)                                                            \
    "{\"providers\": [{\"name\": \"main\", \"kind\": \"" kind "\", \"model\": \"m1\", " \
    "\"base_url\": \"https://api.example/v1/\", \"key_env\": \"AIOS_TEST_KEY\"" more "}]}"

static inline void fake_step(struct fake_step step)
{
    assert_true(fake.step_count < FAKE_STEPS);
    fake.steps[fake.step_count++] = step;
}

/** Forget what was sent, for the next question. */
static inline void fake_rewind(void)
{
    for (unsigned i = 0; i < FAKE_STEPS; i++) {
        *fake.bodies[i] = '\0';
        *fake.headers[i] = '\0';
    }
    fake.sent = fake.step_count = fake.pause_count = 0;
    buf_clear(&fake.heard);
}

static inline int fake_end(void **state)
{
    (void)state;
    llm_free(fake.llm); /* with every job */
    fake_rewind();
    event_unsubscribe(fake.sub);
    event_bus_free(fake.bus);
    config_free(fake.config);
    buf_fini(&fake.heard);
    json_decref(fake.sent_json);
    memset(&fake, 0, sizeof fake);
    clock_real();
    return 0;
}

#define WITH_FAKE(test) cmocka_unit_test_teardown(test, fake_end)

/** A request with one user's message; @more: members beside it, in JSON, or NULL.  Free the result
 *  after what borrows from it. */
static inline json_t *fake_request(struct llm_request *ret, const char *json)
{
    json_t *all = json_loads(json, 0, NULL);

    assert_non_null(all);
    *ret = (struct llm_request){
        .agent = "tester",
        .messages = json_object_get(all, "messages"),
        .system = json_string_value(json_object_get(all, "system")),
        .tools = json_object_get(all, "tools"),
        .tool_choice = json_object_get(all, "tool_choice"),
        .schema = json_object_get(all, "schema"),
        .stop = json_object_get(all, "stop"),
        .max_tokens = json_integer_value(json_object_get(all, "max_tokens")),
        .temperature = json_is_number(json_object_get(all, "temperature"))
                           ? json_number_value(json_object_get(all, "temperature"))
                           : -1,
        .so_far = json_string_value(json_object_get(all, "so_far")),
        .provider = json_string_value(json_object_get(all, "provider")),
        .model = json_string_value(json_object_get(all, "model")),
        .on_text = fake_on_text,
        .preempt = fake_preempt,
    };
    return all;
}

#define FAKE_HI "{\"messages\": [{\"role\": \"user\", \"content\": \"Hi\"}]}"

static inline struct wait fake_wait(int64_t seconds)
{
    return (struct wait){ .deadline_ns = clock_now_ns() + seconds * CLOCK_NS_PER_S };
}

/** Asks; the reply is the caller's to fini. */
static inline bool fake_ask(const char *json, struct llm_reply *ret, struct error *err)
{
    struct llm_request request;
    json_t *all = fake_request(&request, json);
    struct wait w = fake_wait(100);
    bool ok;

    llm_reply_init(ret);
    ok = llm_query(fake.llm, &request, &w, ret, err);
    json_decref(all);
    return ok;
}

/** Member @path ("messages/0/role") of the body of question @n as JSON text, valid until the next
 *  call. */
static inline const char *fake_sent(unsigned n, const char *path)
{
    static char text[2000];
    const json_t *at;
    char part[100];
    size_t len;

    json_decref(fake.sent_json);
    at = fake.sent_json = json_loads(fake.bodies[n], 0, NULL);
    assert_non_null(at);

    for (; *path && at; path += len + (path[len] == '/')) {
        len = strcspn(path, "/");
        (void)snprintf(part, sizeof part, "%.*s", (int)len, path);
        at = json_is_array(at) ? json_array_get(at, (size_t)strtoul(part, NULL, 10))
                               : json_object_get(at, part);
    }
    *text = '\0';
    if (at)
        text[json_dumpb(at, text, sizeof text - 1, JSON_COMPACT | JSON_ENCODE_ANY)] = '\0';
    return text;
}

/** True when an event with this topic came; its text and subject in @ret. */
static inline bool fake_event(const char *topic, struct event *ret)
{
    uint64_t dropped;

    while (event_next(fake.sub, ret, &dropped))
        if (strcmp(ret->topic, topic) == 0)
            return true;
    return false;
}

/* Streams. */
#define OPENAI_TEXT(t) "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"" t "\"}}]}\n\n"
#define OPENAI_END(why) \
    "data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"" why "\"}]}\n\n"
#define OPENAI_USAGE                                                               \
    "data: {\"model\":\"m1-2026\",\"choices\":[],\"usage\":{\"prompt_tokens\":11," \
    "\"completion_tokens\":7}}\n\ndata: [DONE]\n\n"
#define OPENAI_ALL(t) OPENAI_TEXT(t) OPENAI_END("stop") OPENAI_USAGE

#define CLAUDE_START                                                                        \
    "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"id\":\"msg\","  \
    "\"model\":\"claude-x-1\",\"usage\":{\"input_tokens\":9,\"cache_read_input_tokens\":2," \
    "\"output_tokens\":1}}}\n\nevent: ping\ndata: {\"type\":\"ping\"}\n\n"
#define CLAUDE_TEXT(t)                                                                           \
    "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":" \
    "{\"type\":\"text_delta\",\"text\":\"" t "\"}}\n\n"
#define CLAUDE_END(why)                                                                         \
    "event: message_delta\ndata: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"" why \
    "\"},\"usage\":{\"output_tokens\":7}}\n\nevent: message_stop\ndata: "                       \
    "{\"type\":\"message_stop\"}\n\n"
