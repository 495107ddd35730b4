/* The family llm: its handler, over a service whose servers are a script. */
#include "tests/unit/llm_fake.h"

#include "kernel/llm_job.h"
#include "tools/toolkit.h"

struct llm *__wrap_kernel_llm(struct kernel *k, struct error *err);
const struct config *__wrap_kernel_config(struct kernel *k);
struct storage *__wrap_kernel_storage(struct kernel *k, struct error *err);
bool __wrap_tool_call_preempted(const struct tool_call *call);
bool __wrap_tool_call_yield(struct tool_call *call, void *state, void (*state_free)(void *state));
void *__wrap_tool_call_resume(struct tool_call *call);

static struct {
    struct agent *alice, *bob;
    bool preempt; /* its time is up after each piece of text */
    void *aside;  /* what the call put aside */
    void (*aside_free)(void *state);
    unsigned yields;
} place;

struct llm *__wrap_kernel_llm(struct kernel *k, struct error *err)
{
    (void)k;
    (void)err;
    return fake.llm;
}

const struct config *__wrap_kernel_config(struct kernel *k)
{
    (void)k;
    return fake.config;
}

/* There is only memory: test_llm_restart has the rest. */
struct storage *__wrap_kernel_storage(struct kernel *k, struct error *err)
{
    (void)k;
    error_set(err, ERR_LOST, "no storage here");
    return NULL;
}

bool __wrap_tool_call_preempted(const struct tool_call *call)
{
    (void)call;
    return place.preempt;
}

bool __wrap_tool_call_yield(struct tool_call *call, void *state, void (*state_free)(void *state))
{
    (void)call;
    place.aside = state;
    place.aside_free = state_free;
    place.yields++;
    return true;
}

void *__wrap_tool_call_resume(struct tool_call *call)
{
    (void)call;
    return STEAL(place.aside);
}

static void start(const char *llm)
{
    struct error err = ERROR_INIT;

    fake_start(llm);
    clock_real(); /* jobs wait on threads */
    memset(&place, 0, sizeof place);
    place.alice = agent_new("alice", NULL, &err);
    place.bob = agent_new("bob", NULL, &err);
    assert_ok(place.alice && place.bob, err);
}

static int end(void **state)
{
    agent_unref(place.alice);
    agent_unref(place.bob);
    return fake_end(state);
}

#define WITH_PLACE(test) cmocka_unit_test_teardown(test, end)

struct answer {
    bool ok;
    struct error err;
    char text[4000];
};

static json_t *host_answers(void *arg, const json_t *params, const struct wait *w,
                            struct error *err)
{
    (void)w;
    (void)err;
    assert_true(json_is_array(json_object_get(params, "messages")));
    return json_loads(arg, 0, NULL);
}

static const struct tool_peer peer = { .sample = host_answers };

/* Calls llm_query as @who; @most_ms: how long the call may take.  @host: what the MCP host's model
 * answers, or NULL. */
static struct answer ask_with(struct agent *who, const char *arguments, int64_t most_ms,
                              struct cancel *token, const char *host)
{
    const struct tool *tool = &toolset_llm.tools[0];
    struct answer a = { .err = ERROR_INIT };
    json_t *json = json_loads(arguments, 0, NULL);
    struct syscall *sc = syscall_new(tool->class, who, tool, json, &a.err);
    struct result result;
    struct tool_call call = { .agent = who, .result = &result, .tool = tool, .syscall = sc };

    assert_non_null(json);
    json_decref(json);
    if (!sc)
        return a;
    sc->submitted_ns = clock_now_ns();
    call.wait.deadline_ns = clock_now_ns() + most_ms * CLOCK_NS_PER_MS;
    call.wait.cancel = token;
    if (host) {
        call.peer = &peer;
        call.peer_arg = unconst(host);
    }
    result_init(&result);
    a.ok = tool->handler(&call, sc->args, &a.err);
    for (size_t i = 0, at = 0; i < result.count; i++)
        at += (size_t)snprintf(a.text + at, sizeof a.text - at, "%s%s", i > 0 ? "\n" : "",
                               buf_str(&result.blocks[i].data));
    result_fini(&result);
    syscall_free(sc);
    return a;
}

static struct answer ask(const char *arguments)
{
    return ask_with(place.alice, arguments, 30000, NULL, NULL);
}

static void answers_with_text_and_what_it_took(void **state)
{
    struct answer a;
    (void)state;

    start(FAKE_ONE("openai", ""));
    fake_step((struct fake_step){ .status = 200, .body = OPENAI_ALL("Hello") });
    a = ask("{\"prompt\":\"Hi\",\"system\":\"Be brief.\",\"max_tokens\":9,\"temperature\":0,"
            "\"stop\":[\"END\"]}");
    assert_ok(a.ok, a.err);
    assert_string_equal(a.text, "Hello\n[main, m1-2026: 11 tokens in, 7 out]");
    assert_string_equal(fake_sent(0, "messages"),
                        "[{\"role\":\"system\",\"content\":\"Be brief.\"},{\"role\":\"user\","
                        "\"content\":\"Hi\"}]");
    assert_string_equal(fake_sent(0, "max_tokens"), "9");
    assert_string_equal(fake_sent(0, "temperature"), "0.0");
    assert_string_equal(fake_sent(0, "stop"), "[\"END\"]");
}

static void takes_a_conversation_and_a_schema(void **state)
{
    struct answer a;
    (void)state;

    start(FAKE_ONE("openai", ""));
    fake_step((struct fake_step){ .status = 200, .body = OPENAI_ALL("{}") });
    a = ask("{\"messages\":[{\"role\":\"user\",\"content\":\"a\"},{\"role\":\"assistant\","
            "\"content\":\"b\"},{\"role\":\"user\",\"content\":\"c\"}],\"schema\":{\"type\":"
            "\"object\"},\"model\":\"m9\"}");
    assert_ok(a.ok, a.err);
    assert_contains(a.text, "{}\n[main");
    assert_string_equal(fake_sent(0, "messages/2/content"), "\"c\"");
    assert_string_equal(fake_sent(0, "model"), "\"m9\"");
    assert_string_equal(fake_sent(0, "response_format/json_schema/schema"),
                        "{\"type\":\"object\"}");
}

static void says_what_to_send(void **state)
{
    static const struct {
        const char *arguments, *words;
    } rows[] = {
        { "{}", "either \"prompt\" or \"messages\"" },
        { "{\"prompt\":\"a\",\"messages\":[{\"role\":\"user\",\"content\":\"a\"}]}", "either" },
        { "{\"prompt\":\"a\",\"answer\":\"q_x\"}", "alone" },
        { "{\"answer\":\"q_x\"}", "no answer of yours" },
        { "{\"prompt\":\"a\",\"schema\":7}", "schema must be" },
        { "{\"messages\":[{\"role\":\"robot\",\"content\":\"a\"}]}", "role" },
        { "{\"prompt\":\"a\",\"provider\":\"nobody\"}", "main" },
    };
    (void)state;

    start(FAKE_ONE("openai", ""));
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct answer a = ask(rows[i].arguments);

        assert_false(a.ok);
        assert_contains(a.err.text, rows[i].words);
    }
    assert_int_equal(fake.sent, 0);
    end(NULL);
    start("{}");
    assert_contains(ask("{\"prompt\":\"a\"}").err.text, "llm.providers");
}

static void an_answer_that_takes_too_long_is_fetched_later(void **state)
{
    struct answer a;
    char fetch[100], *handle;
    (void)state;

    start(FAKE_ONE("openai", ""));
    fake_step(
        (struct fake_step){ .status = 200, .body = OPENAI_ALL("Slow but sure"), .hold = true });
    a = ask_with(place.alice, "{\"prompt\":\"Hi\"}", 510, NULL, NULL);
    assert_ok(a.ok, a.err);
    assert_contains(a.text, "still working");
    handle = strstr(a.text, "\"q_");
    assert_non_null(handle);
    (void)snprintf(fetch, sizeof fetch, "{\"answer\":%.*s}", (int)strcspn(handle, "}"), handle);

    a = ask_with(place.bob, fetch, 30000, NULL, NULL); /* nobody else gets it */
    assert_false(a.ok);
    assert_code(a.err, ERR_NOT_FOUND);
    a = ask_with(place.alice, fetch, 510, NULL, NULL); /* still not */
    assert_ok(a.ok, a.err);
    handle = strstr(a.text, "\"q_");
    assert_non_null(handle);
    (void)snprintf(fetch, sizeof fetch, "{\"answer\":%.*s}", (int)strcspn(handle, "}"), handle);
    fake_release(NULL);
    a = ask_with(place.alice, fetch, 30000, NULL, NULL);
    assert_ok(a.ok, a.err);
    assert_contains(a.text, "Slow but sure\n[main");
    assert_int_equal(fake.sent, 1); /* it was asked once */
    a = ask_with(place.alice, fetch, 30000, NULL, NULL);
    assert_code(a.err, ERR_NOT_FOUND);
}

static void what_nobody_fetches_ends_with_the_service(void **state)
{
    (void)state;

    start(FAKE_ONE("openai", ""));
    for (unsigned i = 0; i < LLM_JOBS_OF_AGENT + 2; i++)
        fake_step((struct fake_step){ .status = 200, .body = "", .hold = true });
    for (unsigned i = 0; i < LLM_JOBS_OF_AGENT + 2; i++) { /* and the oldest makes room */
        struct answer a = ask_with(place.alice, "{\"prompt\":\"Hi\"}", 501, NULL, NULL);

        assert_ok(a.ok, a.err);
    }
}

static void *raise_later(void *token)
{
    pthread_mutex_lock(&fake_lock);
    while (fake.sent == 0)
        pthread_cond_wait(&fake_changed, &fake_lock);
    pthread_mutex_unlock(&fake_lock);
    cancel_raise(token);
    return NULL;
}

static void cancelling_ends_the_question(void **state)
{
    struct cancel token;
    struct answer a;
    pthread_t thread;
    (void)state;

    start(FAKE_ONE("openai", ""));
    cancel_init(&token);
    fake_step((struct fake_step){ .status = 200, .body = OPENAI_ALL("never"), .hold = true });
    assert_int_equal(pthread_create(&thread, NULL, raise_later, &token), 0);
    a = ask_with(place.alice, "{\"prompt\":\"Hi\"}", 30000, &token, NULL);
    pthread_join(thread, NULL);
    assert_false(a.ok);
    assert_code(a.err, ERR_CANCELLED);
    cancel_fini(&token);
}

/* Round robin puts it aside after each piece; what comes out is the whole. */
static void goes_on_where_it_was_preempted(void **state)
{
    struct answer a;
    (void)state;

    start(FAKE_ONE("openai", ""));
    fake_step((struct fake_step){ .status = 200, .body = OPENAI_TEXT("One ") OPENAI_ALL("lost") });
    fake_step((struct fake_step){ .status = 200, .body = OPENAI_TEXT("two ") OPENAI_ALL("lost") });
    fake_step((struct fake_step){ .status = 200, .body = OPENAI_ALL("three") });
    place.preempt = true;
    for (unsigned turn = 1; turn <= 2; turn++) {
        a = ask("{\"prompt\":\"Hi\"}");
        assert_ok(a.ok, a.err);
        assert_string_equal(a.text, "");
        assert_int_equal(place.yields, turn);
        assert_non_null(place.aside);
    }
    place.preempt = false;
    a = ask("{\"prompt\":\"Hi\"}");
    assert_ok(a.ok, a.err);
    assert_null(place.aside);
    assert_contains(a.text, "One two three\n[main");
    assert_string_equal(fake_sent(2, "messages/1/content"), "\"One two \"");
}

static void what_was_put_aside_is_released(void **state)
{
    (void)state;

    start(FAKE_ONE("openai", ""));
    fake_step((struct fake_step){ .status = 200, .body = OPENAI_TEXT("One ") });
    place.preempt = true;
    (void)ask("{\"prompt\":\"Hi\"}");
    assert_non_null(place.aside);
    place.aside_free(place.aside);
}

static void the_host_answers_when_no_provider_does(void **state)
{
    static const char host[] = "{\"content\":{\"type\":\"text\",\"text\":\"from the host\"}}";
    struct answer a;
    (void)state;

    start("{\"retries\":0,\"providers\":[{\"name\":\"main\",\"kind\":\"openai\",\"model\":\"m\","
          "\"base_url\":\"https://api.example\"}]}");
    fake_step((struct fake_step){ .status = 500 });
    a = ask_with(place.alice, "{\"prompt\":\"Hi\"}", 30000, NULL, host);
    assert_ok(a.ok, a.err);
    assert_contains(a.text, "from the host\n[sampling: about ");
    a = ask_with(place.alice, "{\"prompt\":\"Hi\",\"provider\":\"main\"}", 30000, NULL, host);
    assert_false(a.ok);
    a = ask_with(place.alice, "{\"prompt\":\"Hi\",\"provider\":\"sampling\"}", 30000, NULL, host);
    assert_ok(a.ok, a.err);
    end(NULL);
    start("{}");
    a = ask_with(place.alice, "{\"prompt\":\"Hi\"}", 30000, NULL, host);
    assert_ok(a.ok, a.err);
    assert_contains(a.text, "from the host");
}

static void is_short_in_the_list_of_tools(void **state)
{
    const struct tool *tool = &toolset_llm.tools[0];
    json_t *schema = json_fields_schema(tool->fields);
    size_t bytes = json_dumpb(schema, NULL, 0, JSON_COMPACT) + strlen(tool->description);
    (void)state;

    print_message("description and schema: %zu bytes\n", bytes);
    assert_true(bytes <= 1228);
    json_decref(schema);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        WITH_PLACE(answers_with_text_and_what_it_took),
        WITH_PLACE(takes_a_conversation_and_a_schema),
        WITH_PLACE(says_what_to_send),
        WITH_PLACE(an_answer_that_takes_too_long_is_fetched_later),
        WITH_PLACE(what_nobody_fetches_ends_with_the_service),
        WITH_PLACE(cancelling_ends_the_question),
        WITH_PLACE(goes_on_where_it_was_preempted),
        WITH_PLACE(what_was_put_aside_is_released),
        WITH_PLACE(the_host_answers_when_no_provider_does),
        cmocka_unit_test(is_short_in_the_list_of_tools),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
