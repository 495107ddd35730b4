/*
 * Calls that need the model for their vectors and wait for the same worker: through the kernel's
 * queue, the real memory and storage, to a server that counts what it is asked.
 */
#include <semaphore.h>
#include <stdatomic.h>
#include <stdio.h>

#include "kernel/base/clock.h"
#include "kernel/base/json.h"
#include "kernel/kernel.h"
#include "kernel/llm.h"
#include "kernel/memory.h"
#include "tests/support/check.h"
#include "tests/support/folder.h"
#include "tests/support/http_script.h"
#include "tools/toolkit.h"

#define AGENTS 6
#define DIMS   16
#define TOKENS 5 /* that the server counts for each text */

/* Saves give the model two seconds, which a busy machine may need for itself. */
struct wait __wrap_memory_sooner(const struct wait *w, int64_t by_ns);
struct wait __wrap_memory_sooner(const struct wait *w, int64_t by_ns)
{
    (void)by_ns;
    return *w;
}

static struct http_script *server;
static atomic_uint hold_from; /* requests from this one on wait for `go` */
static sem_t go;

/* A text about "word3" points to where other texts about it do. */
static json_t *vector_of(const char *text)
{
    const char *word = strstr(text, "word");
    json_t *v = json_array();

    for (int i = 0; i < DIMS; i++)
        json_array_append_new(v, json_real(word && word[4] - '0' == i ? 1 : 0.01));
    return v;
}

static void answer(struct http_script_conn *c, const struct http_script_request *r, void *arg)
{
    json_t *body = json_loads(r->body, 0, NULL), *data = json_array(), *all, *text;
    size_t i;
    char *reply;
    (void)arg;

    if (r->number >= atomic_load(&hold_from))
        while (sem_wait(&go) != 0)
            continue;
    json_array_foreach (json_object_get(body, "input"), i, text)
        json_array_append_new(data,
                              json_pack("{s:o}", "embedding", vector_of(json_string_value(text))));
    all = json_pack("{s:o, s:{s:i}}", "data", data, "usage", "prompt_tokens",
                    TOKENS * (int)json_array_size(data));
    reply = json_dumps(all, JSON_COMPACT);
    if (strstr(r->body, "too long"))
        (void)http_script_reply(c, 400, "", "{\"error\":{\"message\":\"this text is too long\"}}");
    else
        (void)http_script_reply(c, 200, "Content-Type: application/json\r\n", reply);
    free(reply);
    json_decref(all);
    json_decref(body);
}

/* ---- a kernel with one worker for memory ---- */

struct outcome {
    enum syscall_state state;
    char text[400];
};

static struct {
    struct config *config;
    struct loop *loop;
    struct kernel *k;
    struct outcome outcomes[2 * AGENTS];
    int submitted, done;
} place;

static int make(void **state)
{
    char text[1000];
    struct error err = ERROR_INIT;

    if (folder_make(state))
        return -1;
    memset(&place, 0, sizeof place);
    atomic_store(&hold_from, 1000);
    sem_init(&go, 0, 0);
    server = http_script_start(answer, NULL);
    assert_non_null(server);
    (void)snprintf(text, sizeof text,
                   "{\"audit\":{\"enabled\":false},\"storage\":{\"dir\":\"%s/storage\"},"
                   "\"memory\":{\"dir\":\"%s/memory\",\"workers\":1},"
                   "\"llm\":{\"timeout_ms\":300000,\"idle_ms\":300000,\"providers\":[{\"name\":"
                   "\"main\",\"kind\":\"openai\","
                   "\"embed_model\":\"e\",\"base_url\":\"%s\"}]}}",
                   folder_base, folder_base, http_script_url(server, "/v1"));
    place.config = config_parse(text, strlen(text), "test", NULL, &err);
    assert_ok(place.config, err);
    place.loop = loop_new(&err);
    assert_ok(place.loop, err);
    place.k = kernel_new(place.loop, place.config, &err);
    assert_ok(place.k, err);
    return 0;
}

static int drop(void **state)
{
    for (int i = 0; i < 100; i++) /* whoever may still be held */
        sem_post(&go);
    kernel_free(place.k);
    loop_free(place.loop);
    config_free(place.config);
    http_script_stop(server);
    sem_destroy(&go);
    return folder_remove(state);
}

static void agent_called(int n, char name[8])
{
    (void)snprintf(name, 8, "a%d", n);
}

static void on_done(struct syscall *sc)
{
    struct outcome *o = sc->done_arg;

    o->state = sc->state;
    (void)snprintf(o->text, sizeof o->text, "%s", buf_str(&sc->result.blocks[0].data));
    place.done++;
    syscall_free(sc);
}

/* Its outcome will be the next of place.outcomes. */
static struct syscall *submit(int agent, const char *tool_name, const char *json)
{
    struct error err = ERROR_INIT;
    const struct tool *tool = NULL;
    json_t *arguments = json_loads(json, 0, NULL);
    struct syscall *sc;
    struct agent *a;
    char name[8];

    for (size_t i = 0; i < toolset_memory.count; i++)
        if (!strcmp(toolset_memory.tools[i].name, tool_name))
            tool = &toolset_memory.tools[i];
    assert_true(tool && arguments);
    agent_called(agent, name);
    a = kernel_agent(place.k, name, NULL, &err);
    assert_ok(a, err);
    sc = syscall_new(SYSCALL_MEMORY, a, tool, arguments, &err);
    assert_ok(sc, err);
    agent_unref(a);
    json_decref(arguments);
    sc->deadline_ns = clock_now_ns() + 300 * CLOCK_NS_PER_S;
    sc->done = on_done;
    sc->done_arg = &place.outcomes[place.submitted++];
    assert_ok(kernel_submit(place.k, sc, &err), err);
    return sc;
}

static void turn_until_done(void)
{
    int64_t until_ns = clock_now_ns() + 200 * CLOCK_NS_PER_S;

    while (place.done < place.submitted && clock_now_ns() < until_ns)
        loop_turn(place.loop, 100);
    assert_int_equal(place.done, place.submitted);
}

/* Every agent has a note about its own word, and what follows is held by the server. */
static unsigned notes_of_all(void)
{
    struct error err = ERROR_INIT;
    unsigned asked;

    for (int i = 0; i < AGENTS; i++) {
        char json[100];

        (void)snprintf(json, sizeof json, "{\"text\":\"about word%d\"}", i);
        submit(i, "memory_save", json);
        turn_until_done();
    }
    assert_non_null(kernel_memory(place.k, &err));
    asked = http_script_count(server);
    assert_int_equal(asked, AGENTS);
    atomic_store(&hold_from, asked);
    place.submitted = place.done = 0;
    return asked;
}

static struct syscall *search(int agent, const char *more)
{
    char json[100];

    (void)snprintf(json, sizeof json, "{\"text\":\"word%d%s\",\"semantic\":true}", agent, more);
    return submit(agent, "memory_search", json);
}

static void assert_found(int i, int agent)
{
    char want[40];

    (void)snprintf(want, sizeof want, "about word%d", agent);
    if (place.outcomes[i].state != SYSCALL_DONE || !strstr(place.outcomes[i].text, want))
        fail_msg("%d: %s: %s", i, syscall_state_name(place.outcomes[i].state),
                 place.outcomes[i].text);
}

static uint64_t tokens_of(int agent)
{
    struct llm_usage usage;
    char name[8];

    agent_called(agent, name);
    llm_usage(kernel_llm(place.k, NULL), name, &usage);
    return usage.input_tokens;
}

/* ---- the facts ---- */

static void searches_that_wait_ask_the_model_once(void **state)
{
    unsigned asked = notes_of_all();
    struct syscall *left = NULL;
    (void)state;

    search(0, "");
    assert_true(http_script_wait(server, asked + 1)); /* the worker is there with it */
    for (int i = 1; i < AGENTS; i++) {
        struct syscall *sc = search(i, "");

        if (i == 2)
            left = sc;
    }
    sem_post(&go);
    assert_true(http_script_wait(server, asked + 2)); /* with all that waited */
    syscall_cancel(left);
    sem_post(&go);
    turn_until_done();
    assert_int_equal(http_script_count(server), asked + 2);
    for (int i = 0; i < AGENTS; i++) {
        if (i == 2)
            assert_int_equal(place.outcomes[i].state, SYSCALL_CANCELLED);
        else
            assert_found(i, i);
        assert_int_equal(tokens_of(i), 2 * TOKENS); /* of its note, and its question */
    }
}

static void a_text_that_is_refused_fails_its_own_call(void **state)
{
    unsigned asked = notes_of_all();
    (void)state;

    search(0, "");
    assert_true(http_script_wait(server, asked + 1));
    for (int i = 1; i < 4; i++)
        search(i, i == 2 ? " too long" : "");
    for (int i = 0; i < AGENTS; i++) /* one by one */
        sem_post(&go);
    turn_until_done();
    assert_int_equal(http_script_count(server), asked + 5);
    for (int i = 0; i < 4; i++) {
        if (i != 2)
            assert_found(i, i);
        assert_int_equal(tokens_of(i), (i == 2 ? 1 : 2) * TOKENS);
    }
    assert_int_equal(place.outcomes[2].state, SYSCALL_FAILED);
    assert_contains(place.outcomes[2].text, "this text is too long");
}

/* A search by words asks no model, and is in no batch. */
static void who_needs_no_model_does_not_wait_for_one(void **state)
{
    unsigned asked = notes_of_all();
    (void)state;

    search(0, "");
    assert_true(http_script_wait(server, asked + 1));
    submit(1, "memory_search", "{\"text\":\"about\"}");
    search(2, "");
    sem_post(&go); /* the second is held for ever: the search by words is not behind it */
    for (int64_t until_ns = clock_now_ns() + 200 * CLOCK_NS_PER_S;
         place.done < 2 && clock_now_ns() < until_ns;)
        loop_turn(place.loop, 100);
    assert_found(0, 0);
    assert_found(1, 1);
    sem_post(&go);
    turn_until_done();
    assert_found(2, 2);
}

static void saves_that_wait_ask_the_model_once(void **state)
{
    unsigned asked = notes_of_all();
    (void)state;

    search(0, "");
    assert_true(http_script_wait(server, asked + 1));
    for (int i = 1; i < AGENTS; i++) {
        submit(i, "memory_save", "{\"text\":\"and word8\"}");
        submit(i, "memory_save", "{\"text\":\"and word9\"}");
    }
    sem_post(&go);
    assert_true(http_script_wait(server, asked + 2));
    sem_post(&go);
    turn_until_done();
    assert_int_equal(http_script_count(server), asked + 2);
    atomic_store(&hold_from, 1000);
    for (int i = 0; i < place.submitted; i++)
        assert_int_equal(place.outcomes[i].state, SYSCALL_DONE);
    for (int i = 1; i < AGENTS; i++)
        assert_int_equal(tokens_of(i), 3 * TOKENS);
    place.submitted = place.done = 0;
    submit(3, "memory_search", "{\"text\":\"word9\",\"semantic\":true,\"limit\":1}");
    turn_until_done();
    assert_contains(place.outcomes[0].text, "and word9");
}

/* The first loop of a process leaves the descriptors that all share. */
static int make_first_loop(void **state)
{
    struct loop *loop = loop_new(NULL);
    (void)state;

    loop_free(loop);
    return loop ? 0 : -1;
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, make, drop)

int main(void)
{
    static const struct CMUnitTest tests[] = {
        TEST(searches_that_wait_ask_the_model_once),
        TEST(a_text_that_is_refused_fails_its_own_call),
        TEST(who_needs_no_model_does_not_wait_for_one),
        TEST(saves_that_wait_ask_the_model_once),
    };

    return cmocka_run_group_tests(tests, make_first_loop, NULL);
}
