/*
 * Answers that were put off, over servers that are killed: a child asks and is killed while the
 * model writes, another service on the same storage folder goes on.
 */
#include <signal.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "kernel/base/clock.h"
#include "kernel/llm_job.h"
#include "kernel/storage.h"
#include "tests/support/check.h"
#include "tests/support/folder.h"
#include "tests/support/http_script.h"
#include "tools/toolkit.h"

#define SPACE  "~generation.alice"
#define BEGUN  "The quick brown fox "
#define WHOLE  "The quick brown fox jumps over it."
#define DAY_NS (24 * 3600 * CLOCK_NS_PER_S)
#define TRIES  5 /* a machine that is too busy to write within a call */

struct llm *__wrap_kernel_llm(struct kernel *k, struct error *err);
struct storage *__wrap_kernel_storage(struct kernel *k, struct error *err);
const struct config *__wrap_kernel_config(struct kernel *k);
bool __wrap_tool_call_preempted(const struct tool_call *call);
void *__wrap_tool_call_resume(struct tool_call *call);
int64_t __real_clock_wall_ns(void);
int64_t __wrap_clock_wall_ns(void);

static struct {
    struct http_script *server;
    struct config *config;
    struct llm *llm;
    struct storage *storage; /* NULL: not available */
    struct agent *alice, *bob;
    int64_t ago_ns;
} place;

struct llm *__wrap_kernel_llm(struct kernel *k, struct error *err)
{
    (void)k;
    (void)err;
    return place.llm;
}

struct storage *__wrap_kernel_storage(struct kernel *k, struct error *err)
{
    (void)k;
    if (!place.storage)
        error_set(err, ERR_LOST, "no storage here");
    return place.storage;
}

const struct config *__wrap_kernel_config(struct kernel *k)
{
    (void)k;
    return place.config;
}

bool __wrap_tool_call_preempted(const struct tool_call *call)
{
    (void)call;
    return false;
}

void *__wrap_tool_call_resume(struct tool_call *call)
{
    (void)call;
    return NULL;
}

int64_t __wrap_clock_wall_ns(void)
{
    return __real_clock_wall_ns() - place.ago_ns;
}

/* ---- servers ---- */

static bool piece(struct http_script_conn *c, const char *text)
{
    char event[300];
    int len = snprintf(event, sizeof event,
                       "data: {\"choices\":[{\"delta\":{\"content\":\"%s\"}}]}\n\n", text);

    return http_script_chunk(c, event, (size_t)len);
}

static void end_stream(struct http_script_conn *c)
{
    (void)http_script_chunk(c, "data: [DONE]\n\n", 14);
    (void)http_script_chunk(c, "", 0);
}

/* Writes @arg, and no more. */
static void begins(struct http_script_conn *c, const struct http_script_request *r, void *arg)
{
    (void)r;
    if (http_script_chunked(c, 200, "Content-Type: text/event-stream\r\n") &&
        (!*(char *)arg || piece(c, arg)))
        http_script_hold(c);
}

static void ends(struct http_script_conn *c, const struct http_script_request *r, void *arg)
{
    (void)r;
    if (http_script_chunked(c, 200, "Content-Type: text/event-stream\r\n") && piece(c, arg))
        end_stream(c);
}

/* ---- a kernel's services ---- */

/* Without assertions: also in a child. */
static bool start_llm(http_script_fn *fn, const char *arg, struct error *err)
{
    char text[1000];

    place.server = http_script_start(fn, unconst(arg));
    if (!place.server)
        return error_set(err, ERR_IO, "a server");
    (void)snprintf(text, sizeof text,
                   "{\"storage\":{\"dir\":\"%s\"},\"llm\":{\"providers\":[{\"name\":\"main\","
                   "\"kind\":\"openai\",\"model\":\"m\",\"base_url\":\"%s\"}]}}",
                   folder_path("s"), http_script_url(place.server, "/v1"));
    place.config = config_parse(text, strlen(text), "test", NULL, err);
    place.llm = place.config ? llm_new(place.config, NULL, err) : NULL;
    return place.llm != NULL;
}

static bool start_in(http_script_fn *fn, const char *arg, struct error *err)
{
    memset(&place, 0, sizeof place);
    if (!start_llm(fn, arg, err))
        return false;
    place.storage = storage_open(place.config, NULL, err);
    place.alice = agent_new("alice", NULL, err);
    place.bob = agent_new("bob", NULL, err);
    return place.storage && place.alice && place.bob;
}

static void start(http_script_fn *fn, const char *arg)
{
    struct error err = ERROR_INIT;

    assert_ok(start_in(fn, arg, &err), err);
}

static void end_llm(void)
{
    llm_free(place.llm);
    http_script_stop(place.server);
}

static int end(void **state)
{
    end_llm();
    storage_close(place.storage);
    agent_unref(place.alice);
    agent_unref(place.bob);
    config_free(place.config);
    memset(&place, 0, sizeof place);
    return folder_remove(state);
}

#define WITH_PLACE(test) cmocka_unit_test_setup_teardown(test, folder_make, end)

struct answer {
    bool ok;
    struct error err;
    char text[2000];
};

static struct answer ask(struct agent *who, const char *arguments, int64_t most_ms)
{
    const struct tool *tool = &toolset_llm.tools[0];
    struct answer a = { .err = ERROR_INIT };
    json_t *json = json_loads(arguments, 0, NULL);
    struct syscall *sc = syscall_new(tool->class, who, tool, json, &a.err);
    struct result result;
    struct tool_call call = { .agent = who, .result = &result, .tool = tool, .syscall = sc };

    json_decref(json);
    if (!sc)
        return a;
    sc->submitted_ns = clock_now_ns();
    call.wait.deadline_ns = clock_now_ns() + most_ms * CLOCK_NS_PER_MS;
    result_init(&result);
    a.ok = tool->handler(&call, sc->args, &a.err);
    for (size_t i = 0, at = 0; i < result.count && at < sizeof a.text; i++)
        at += (size_t)snprintf(a.text + at, sizeof a.text - at, "%s%s", i > 0 ? "\n" : "",
                               buf_str(&result.blocks[i].data));
    result_fini(&result);
    syscall_free(sc);
    return a;
}

static struct answer fetch(struct agent *who, const char *handle)
{
    char arguments[100];

    (void)snprintf(arguments, sizeof arguments, "{\"answer\":\"%s\"}", handle);
    return ask(who, arguments, 30000);
}

static bool saved_has(const char *handle, const char *part)
{
    struct wait w = { .deadline_ns = clock_now_ns() + 10 * CLOCK_NS_PER_S };
    CLEANUP(buf_fini) struct buf value = BUF_INIT;

    return storage_get(place.storage, SPACE, handle, 0, 0, SIZE_MAX, &value, &w, NULL, NULL) &&
           strstr(buf_str(&value), part);
}

/* Asks until an answer is put off and written down. */
static bool park(const char *arguments, char ret_handle[ID_SIZE])
{
    for (unsigned i = 0; i < TRIES; i++) {
        struct answer a = ask(place.alice, arguments, 501);
        const char *at = strstr(a.text, "q_");

        if (!at)
            continue; /* it was over already */
        (void)snprintf(ret_handle, ID_SIZE, "%.*s", (int)strcspn(at, "\""), at);
        if (!place.storage || saved_has(ret_handle, "\"request\":{"))
            return true;
    }
    return false;
}

static bool wait_saved(const char *handle, const char *part)
{
    int64_t until_ns = clock_now_ns() + 30 * CLOCK_NS_PER_S;

    while (!saved_has(handle, part))
        if (clock_now_ns() > until_ns)
            return false;
    return true;
}

/* A server that is killed as soon as @part of the answer is written down. */
static void kill_one(http_script_fn *fn, const char *arg, const char *arguments, const char *part,
                     char ret_handle[ID_SIZE])
{
    int ends_of[2], status;
    pid_t child;

    assert_int_equal(pipe(ends_of), 0);
    child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        struct error err = ERROR_INIT;
        char handle[ID_SIZE] = "";

        if (!start_in(fn, arg, &err) || !park(arguments, handle) || !wait_saved(handle, part) ||
            write(ends_of[1], handle, ID_SIZE) != ID_SIZE)
            _exit(1);
        (void)kill(getpid(), SIGKILL);
    }
    close(ends_of[1]);
    status = (int)read(ends_of[0], ret_handle, ID_SIZE);
    close(ends_of[0]);
    assert_int_equal(status, ID_SIZE);
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
}

static json_t *sent(unsigned n)
{
    const struct http_script_request *r = http_script_request(place.server, n);
    json_t *body;

    assert_non_null(r);
    body = json_loads(r->body, 0, NULL);
    assert_non_null(body);
    return body;
}

static const char *content(const json_t *body, size_t message)
{
    const char *text = json_string_value(
        json_object_get(json_array_get(json_object_get(body, "messages"), message), "content"));

    return text ? text : "";
}

/* ---- what is so ---- */

static void goes_on_from_its_text_after_a_kill(void **state)
{
    char handle[ID_SIZE];
    struct answer a;
    json_t *body;
    (void)state;

    kill_one(begins, BEGUN, "{\"prompt\":\"Tell\",\"system\":\"Brief.\",\"max_tokens\":99}", BEGUN,
             handle);
    start(ends, "brown fox jumps over it."); /* repeats the last words, as models do */
    a = fetch(place.bob, handle);
    assert_code(a.err, ERR_NOT_FOUND);
    assert_int_equal(http_script_count(place.server), 0);
    a = fetch(place.alice, handle);
    assert_ok(a.ok, a.err);
    assert_contains(a.text, WHOLE "\n[main");
    body = sent(0);
    assert_string_equal(content(body, 0), "Brief.");
    assert_string_equal(content(body, 1), "Tell");
    assert_string_equal(content(body, 2), BEGUN);
    json_decref(body);
    a = fetch(place.alice, handle); /* once delivered it is gone */
    assert_code(a.err, ERR_NOT_FOUND);
    assert_false(saved_has(handle, ""));
    assert_int_equal(http_script_count(place.server), 1);
}

static void a_second_kill_loses_nothing_either(void **state)
{
    char first[ID_SIZE], handle[ID_SIZE], again[100];
    struct answer a;
    (void)state;

    kill_one(begins, "The quick ", "{\"prompt\":\"Tell\"}", "The quick ", first);
    (void)snprintf(again, sizeof again, "{\"answer\":\"%s\"}", first);
    kill_one(begins, "brown fox ", again, BEGUN, handle);
    assert_string_equal(handle, first);
    start(ends, "jumps over it.");
    a = fetch(place.alice, handle);
    assert_ok(a.ok, a.err);
    assert_contains(a.text, WHOLE "\n[main");
}

static void put_saved(const char *handle, const char *value)
{
    struct wait w = { .deadline_ns = clock_now_ns() + 10 * CLOCK_NS_PER_S };
    struct error err = ERROR_INIT;

    assert_ok(storage_put(place.storage, SPACE, handle, value, strlen(value), STORAGE_ANY, &w, NULL,
                          &err),
              err);
}

static void an_answer_that_was_over_is_there_at_once(void **state)
{
    static const char over[] =
        "{\"request\":{\"messages\":[{\"role\":\"user\",\"content\":\"Tell\"}],\"data\":true},"
        "\"text\":\"" WHOLE "\",\"reply\":{\"finish\":\"length\",\"provider\":\"main\","
        "\"model\":\"m\",\"input_tokens\":3,\"output_tokens\":4,\"estimated\":false}}";
    struct id id = id_make("q");
    struct answer a;
    (void)state;

    start(ends, "never asked");
    put_saved(id.text, over);
    a = fetch(place.alice, id.text);
    assert_ok(a.ok, a.err);
    assert_contains(a.text, "\"text\":\"" WHOLE "\"");
    assert_contains(a.text, "\"finish\":\"length\"");
    assert_contains(a.text, "\"output_tokens\":4");
    assert_code(fetch(place.alice, id.text).err, ERR_NOT_FOUND);
    FAULT_EACH(n)
    {
        fault_disarm();
        put_saved(id.text, over);
        fault_arm(n);
        a = fetch(place.alice, id.text);
        FAULT_DONE(n);
        assert_true(a.ok || saved_has(id.text, WHOLE)); /* what failed can be tried again */
    }
    assert_ok(a.ok, a.err);
    assert_int_equal(http_script_count(place.server), 0);
}

/* Ends when the test says so, which it does through a pipe. */
static int release_fd;

static void ends_when_told(struct http_script_conn *c, const struct http_script_request *r,
                           void *arg)
{
    char told;

    (void)r;
    if (!http_script_chunked(c, 200, "Content-Type: text/event-stream\r\n") || !piece(c, arg))
        return;
    if (read(release_fd, &told, 1) == 1 && piece(c, "jumps over it."))
        end_stream(c);
}

static void what_ends_unfetched_is_written_down_whole(void **state)
{
    int ends_of[2];
    char handle[ID_SIZE];
    struct error err = ERROR_INIT;
    struct answer a;
    (void)state;

    assert_int_equal(pipe(ends_of), 0);
    release_fd = ends_of[0];
    start(ends_when_told, BEGUN);
    assert_true(park("{\"prompt\":\"Tell\"}", handle));
    for (unsigned i = 0; i < TRIES; i++)
        assert_int_equal(write(ends_of[1], "x", 1), 1);
    assert_true(wait_saved(handle, "\"reply\":{"));
    close(ends_of[1]);
    end_llm();
    close(ends_of[0]);
    config_free(place.config);
    assert_ok(start_llm(ends, "never asked", &err), err);
    a = fetch(place.alice, handle);
    assert_ok(a.ok, a.err);
    assert_contains(a.text, WHOLE "\n[main");
    assert_int_equal(http_script_count(place.server), 0);
    assert_code(fetch(place.alice, handle).err, ERR_NOT_FOUND);
}

static void a_structured_answer_is_asked_for_anew(void **state)
{
    char handle[ID_SIZE];
    struct answer a;
    json_t *body;
    (void)state;

    kill_one(begins, "{\\\"a\\\":", "{\"prompt\":\"Tell\",\"schema\":{\"type\":\"object\"}}",
             "\"schema\"", handle);
    start(ends, "{\\\"a\\\":1}");
    a = fetch(place.alice, handle);
    assert_ok(a.ok, a.err);
    assert_contains(a.text, "{\"a\":1}\n[main");
    body = sent(0);
    assert_int_equal(json_array_size(json_object_get(body, "messages")), 1);
    assert_non_null(json_object_get(body, "response_format"));
    json_decref(body);
}

static void an_orderly_end_writes_what_there_is(void **state)
{
    char handle[ID_SIZE];
    struct error err = ERROR_INIT;
    struct answer a;
    (void)state;

    start(begins, BEGUN);
    assert_true(park("{\"prompt\":\"Tell\"}", handle));
    assert_true(wait_saved(handle, BEGUN));
    end_llm();
    config_free(place.config);
    assert_ok(start_llm(ends, "jumps over it.", &err), err);
    a = fetch(place.alice, handle);
    assert_ok(a.ok, a.err);
    assert_contains(a.text, WHOLE);
}

static void one_that_fails_can_be_fetched_again(void **state)
{
    char handle[ID_SIZE];
    struct error err = ERROR_INIT;
    struct answer a;
    (void)state;

    kill_one(begins, BEGUN, "{\"prompt\":\"Tell\"}", BEGUN, handle);
    start(ends, "jumps over it.");
    {
        struct llm *good = STEAL(place.llm);
        struct config *none = config_parse("{}", 2, "test", NULL, &err);

        assert_ok(none, err);
        place.llm = llm_new(none, NULL, &err); /* its provider is not there any more */
        assert_ok(place.llm, err);
        a = fetch(place.alice, handle);
        assert_code(a.err, ERR_UNSUPPORTED);
        llm_free(place.llm);
        config_free(none);
        place.llm = good;
    }
    a = fetch(place.alice, handle);
    assert_ok(a.ok, a.err);
    assert_contains(a.text, WHOLE);
}

static void only_one_call_at_a_time_has_an_answer(void **state)
{
    char handle[ID_SIZE];
    struct error err = ERROR_INIT;
    struct llm_job *job;
    (void)state;

    start(begins, BEGUN);
    assert_true(park("{\"prompt\":\"Tell\"}", handle));
    job = llm_job_claim(place.llm, "alice", handle, &err);
    assert_ok(job, err);
    assert_code(fetch(place.alice, handle).err, ERR_BUSY); /* and not: asked a second time */
    llm_job_free(job);
    assert_true(saved_has(handle, "\"request\":{"));
}

static void without_storage_there_is_memory(void **state)
{
    struct storage *storage;
    char handle[ID_SIZE], again[100];
    struct answer a;
    (void)state;

    start(begins, BEGUN);
    storage = STEAL(place.storage);
    assert_true(park("{\"prompt\":\"Tell\"}", handle));
    (void)snprintf(again, sizeof again, "{\"answer\":\"%s\"}", handle);
    a = ask(place.alice, again, 501);
    assert_ok(a.ok, a.err);
    assert_contains(a.text, handle);
    a = fetch(place.alice, "q_aaaaaaaaaaaaaaaaaaaaaaaaaa");
    assert_code(a.err, ERR_NOT_FOUND);
    place.storage = storage;
    assert_false(saved_has(handle, ""));
}

static void what_is_damaged_or_not_a_handle_is_not_found(void **state)
{
    static const char *const names[] = { "q_", "q_x", "../x", "x", "q_aaaaaaaaaaaaaaaaaaaaaaaaaa" };
    struct id id = id_make("q");
    (void)state;

    start(ends, "never asked");
    for (size_t i = 0; i < ARRAY_LEN(names); i++)
        assert_code(fetch(place.alice, names[i]).err, ERR_NOT_FOUND);
    put_saved(id.text, "{");
    assert_code(fetch(place.alice, id.text).err, ERR_NOT_FOUND);
    put_saved(id.text, "{\"request\":7,\"text\":{}}");
    assert_code(fetch(place.alice, id.text).err, ERR_INVALID);
    assert_int_equal(http_script_count(place.server), 0);
}

static void what_nobody_fetches_for_a_day_makes_room(void **state)
{
    struct id ids[5];
    char handle[ID_SIZE];
    (void)state;

    start(begins, "");
    for (unsigned i = 0; i < ARRAY_LEN(ids); i++) {
        ids[i] = id_make("q");
        place.ago_ns = i < 3 ? DAY_NS + CLOCK_NS_PER_S : DAY_NS - 600 * CLOCK_NS_PER_S;
        put_saved(ids[i].text, "{}");
    }
    place.ago_ns = 0;
    for (unsigned tries = 0;
         saved_has(ids[0].text, "") || saved_has(ids[1].text, "") || saved_has(ids[2].text, "");
         tries++) {
        assert_true(tries < TRIES);
        assert_true(park("{\"prompt\":\"Tell\"}", handle));
    }
    assert_true(saved_has(ids[3].text, "{}") && saved_has(ids[4].text, "{}"));
    assert_true(saved_has(handle, "\"request\":{"));
}

static void there_are_not_more_than_a_few(void **state)
{
    struct id first = id_make("q");
    char handle[ID_SIZE];
    (void)state;

    start(begins, "");
    place.ago_ns = 60 * CLOCK_NS_PER_S;
    put_saved(first.text, "{}");
    place.ago_ns = 0;
    for (unsigned i = 0; i < 40; i++)
        put_saved(id_make("q").text, "{}");
    for (unsigned tries = 0; saved_has(first.text, ""); tries++) {
        assert_true(tries < TRIES);
        assert_true(park("{\"prompt\":\"Tell\"}", handle));
    }
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        WITH_PLACE(goes_on_from_its_text_after_a_kill),
        WITH_PLACE(a_second_kill_loses_nothing_either),
        WITH_PLACE(an_answer_that_was_over_is_there_at_once),
        WITH_PLACE(what_ends_unfetched_is_written_down_whole),
        WITH_PLACE(a_structured_answer_is_asked_for_anew),
        WITH_PLACE(an_orderly_end_writes_what_there_is),
        WITH_PLACE(one_that_fails_can_be_fetched_again),
        WITH_PLACE(only_one_call_at_a_time_has_an_answer),
        WITH_PLACE(without_storage_there_is_memory),
        WITH_PLACE(what_is_damaged_or_not_a_handle_is_not_found),
        WITH_PLACE(what_nobody_fetches_for_a_day_makes_room),
        WITH_PLACE(there_are_not_more_than_a_few),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
