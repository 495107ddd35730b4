#include "tests/unit/llm_fake.h"

#define EMBED                                                                                    \
    "{\"retries\": 1, \"providers\": [{\"name\": \"chat\", \"kind\": \"anthropic\", \"model\": " \
    "\"m\", \"base_url\": \"https://one.example/v1\"}, {\"name\": \"vectors\", \"kind\": "       \
    "\"openai\", \"embed_model\": \"e1\", \"base_url\": \"https://two.example/v1\"}]}"

static bool embed(const char *const *texts, size_t count, float **ret, size_t *ret_dims,
                  struct error *err)
{
    struct wait w = fake_wait(100);

    return llm_embed(fake.llm, "tester", texts, count, &w, ret, ret_dims, err);
}

static void makes_a_vector_of_each_text_in_one_request(void **state)
{
    static const char *const texts[] = { "one", "two", "three" };
    struct error err = ERROR_INIT;
    struct llm_usage usage;
    float *rows;
    size_t dims;
    (void)state;

    fake_start(EMBED);
    fake_step((struct fake_step){
        .status = 200,
        .body = "{\"data\":[{\"index\":2,\"embedding\":[5,6]},{\"index\":0,\"embedding\":[1,2.5]},"
                "{\"index\":1,\"embedding\":[3,4]}],\"usage\":{\"prompt_tokens\":6}}" });
    assert_ok(embed(texts, 3, &rows, &dims, &err), err);
    assert_int_equal(fake.sent, 1);
    assert_string_equal(fake.urls[0], "POST https://two.example/v1/embeddings");
    assert_string_equal(fake_sent(0, "input"), "[\"one\",\"two\",\"three\"]");
    assert_string_equal(fake_sent(0, "model"), "\"e1\"");
    assert_int_equal(dims, 2);
    for (int i = 0; i < 6; i++)
        assert_true(rows[i] > (float)(i + 1) - 0.1f && rows[i] < (float)(i + 1) + 0.6f);
    free(rows);
    llm_usage(fake.llm, "tester", &usage);
    assert_int_equal(usage.input_tokens, 6);
}

static void says_whether_it_can(void **state)
{
    char name[65], model[129];
    const char *text = "x";
    struct error err = ERROR_INIT;
    float *rows;
    size_t dims;
    (void)state;

    fake_start(EMBED);
    assert_true(llm_can_embed(fake.llm, name, model));
    assert_string_equal(name, "vectors");
    assert_string_equal(model, "e1");
    fake_end(NULL);
    fake_start("{}");
    assert_false(llm_can_embed(fake.llm, name, model));
    assert_false(embed(&text, 1, &rows, &dims, &err));
    assert_code(err, ERR_UNSUPPORTED);
    assert_contains(err.text, "embed_model");
}

static void splits_what_is_too_much_for_one_request(void **state)
{
    const char *texts[200];
    CLEANUP(buf_fini) struct buf first = BUF_INIT;
    CLEANUP(buf_fini) struct buf second = BUF_INIT;
    struct error err = ERROR_INIT;
    float *rows;
    size_t dims;
    (void)state;

    fake_start(EMBED);
    for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
        struct buf *to = i < 128 ? &first : &second;

        texts[i] = "text";
        buf_printf(to, "%s{\"embedding\":[%zu]}", to->len > 0 ? "," : "{\"data\":[", i);
    }
    buf_append_str(&first, "]}");
    buf_append_str(&second, "]}");
    fake_step((struct fake_step){ .status = 200, .body = first.data });
    fake_step((struct fake_step){ .status = 200, .body = second.data });
    assert_ok(embed(texts, ARRAY_LEN(texts), &rows, &dims, &err), err);
    assert_int_equal(fake.sent, 2);
    assert_int_equal(dims, 1);
    for (size_t i = 0; i < ARRAY_LEN(texts); i++)
        assert_true(rows[i] > (float)i - 0.5f && rows[i] < (float)i + 0.5f);
    free(rows);
}

static void refuses_malformed_vectors(void **state)
{
    static const char *const bodies[] = {
        "",
        "[]",
        "{}",
        "{\"data\":[]}",
        "{\"data\":[{\"embedding\":[1]}]}",
        "{\"data\":[{\"embedding\":[1]},{\"embedding\":[1,2]}]}",
        "{\"data\":[{\"embedding\":[]},{\"embedding\":[]}]}",
        "{\"data\":[{\"embedding\":[1]},{\"embedding\":[\"x\"]}]}",
        "{\"data\":[{\"embedding\":[1]},{}]}",
        "{\"data\":[7,8]}",
        "{\"data\":[{\"index\":0,\"embedding\":[1]},{\"index\":0,\"embedding\":[1]}]}",
        "{\"data\":[{\"index\":0,\"embedding\":[1]},{\"index\":2,\"embedding\":[1]}]}",
        "{\"data\":[{\"index\":-1,\"embedding\":[1]},{\"index\":0,\"embedding\":[1]}]}",
    };
    static const char *const texts[] = { "one", "two" };
    (void)state;

    for (size_t i = 0; i < ARRAY_LEN(bodies); i++) {
        struct error err = ERROR_INIT;
        float *rows = NULL;
        size_t dims;

        fake_start(EMBED);
        fake_step((struct fake_step){ .status = 200, .body = bodies[i] });
        assert_false(embed(texts, 2, &rows, &dims, &err));
        assert_code(err, ERR_LOST);
        assert_contains(err.text, "vectors: ");
        fake_end(NULL);
    }
}

static void asks_again_when_the_server_is_busy(void **state)
{
    const char *text = "x";
    struct error err = ERROR_INIT;
    float *rows;
    size_t dims;
    (void)state;

    fake_start(EMBED);
    fake_step((struct fake_step){ .status = 503 });
    fake_step((struct fake_step){ .status = 200, .body = "{\"data\":[{\"embedding\":[1]}]}" });
    assert_ok(embed(&text, 1, &rows, &dims, &err), err);
    assert_int_equal(fake.pause_count, 1);
    free(rows);
}

/* ---- several calls ---- */

#define CALLS 3

/* Calls of agents a0, a1 and a2, each with one text. */
struct several {
    struct llm_embed_call calls[CALLS];
    struct wait waits[CALLS];
    const char *texts[CALLS];
};

static void several_of(struct several *s)
{
    static const char *const agents[CALLS] = { "a0", "a1", "a2" };
    static const char *const texts[CALLS] = { "one", "three", "seventeen" };

    memset(s, 0, sizeof *s);
    for (size_t i = 0; i < CALLS; i++) {
        s->waits[i] = fake_wait(100);
        s->texts[i] = texts[i];
        s->calls[i] = (struct llm_embed_call){
            .agent = agents[i], .texts = &s->texts[i], .count = 1, .wait = &s->waits[i]
        };
    }
}

/* Each has its vector [10 * @i + 1]; frees them. */
static void assert_rows(struct several *s, const bool want[CALLS])
{
    for (size_t i = 0; i < CALLS; i++) {
        const struct llm_embed_call *c = &s->calls[i];

        if (c->ok != want[i])
            fail_msg("call %zu: %s", i, c->ok ? "has a vector" : c->err.text);
        if (c->ok)
            assert_true(c->dims == 1 && c->rows[0] > (float)i * 10 + 0.5f &&
                        c->rows[0] < (float)i * 10 + 1.5f);
        else
            assert_null(c->rows);
        free(s->calls[i].rows);
    }
}

static uint64_t tokens_of(const char *agent)
{
    struct llm_usage usage;

    llm_usage(fake.llm, agent, &usage);
    return usage.input_tokens;
}

static void assert_usage(const char *agent, uint64_t calls, uint64_t failures)
{
    struct llm_usage usage;

    llm_usage(fake.llm, agent, &usage);
    assert_int_equal(usage.calls, calls);
    assert_int_equal(usage.failures, failures);
}

#define ROW(n)     "{\"embedding\":[" #n "]}"
#define ROWS(list) "{\"data\":[" list "],\"usage\":{\"prompt_tokens\":101}}"

static void several_calls_share_one_request_and_its_price(void **state)
{
    struct several s;
    (void)state;

    fake_start(EMBED);
    several_of(&s);
    fake_step((struct fake_step){ .status = 200, .body = ROWS(ROW(1) "," ROW(11) "," ROW(21)) });
    llm_embed_many(fake.llm, s.calls, CALLS);
    assert_rows(&s, (const bool[]){ true, true, true });
    assert_int_equal(fake.sent, 1);
    assert_string_equal(fake_sent(0, "input"), "[\"one\",\"three\",\"seventeen\"]");
    /* By the bytes and one for each text: 4, 6 and 10 of 20; together what was counted. */
    assert_int_equal(tokens_of("a0"), 20);
    assert_int_equal(tokens_of("a1"), 30);
    assert_int_equal(tokens_of("a2"), 51);
    assert_usage("a1", 1, 0);
}

static void long_calls_fill_requests_in_order(void **state)
{
    static const char *texts[100];
    CLEANUP(buf_fini) struct buf first = BUF_INIT;
    CLEANUP(buf_fini) struct buf second = BUF_INIT;
    struct wait w;
    struct llm_embed_call calls[2];
    (void)state;

    fake_start(EMBED);
    w = fake_wait(100);
    for (size_t i = 0; i < 200; i++) {
        struct buf *to = i < 128 ? &first : &second;

        texts[i % 100] = "text";
        buf_printf(to, "%s{\"embedding\":[%zu]}", to->len > 0 ? "," : "{\"data\":[", i);
    }
    buf_append_str(&first, "]}");
    buf_append_str(&second, "]}");
    fake_step((struct fake_step){ .status = 200, .body = first.data });
    fake_step((struct fake_step){ .status = 200, .body = second.data });
    for (size_t c = 0; c < 2; c++)
        calls[c] =
            (struct llm_embed_call){ .agent = "a", .texts = texts, .count = 100, .wait = &w };
    llm_embed_many(fake.llm, calls, 2);
    assert_int_equal(fake.sent, 2);
    for (size_t c = 0; c < 2; c++) {
        assert_ok(calls[c].ok, calls[c].err);
        for (size_t i = 0; i < 100; i++)
            assert_true(calls[c].rows[i] > (float)(c * 100 + i) - 0.5f &&
                        calls[c].rows[i] < (float)(c * 100 + i) + 0.5f);
        free(calls[c].rows);
    }
}

/* What is refused for one text, by a server that calls it so and by one that calls it an error of
 * its own. */
static void a_refused_text_costs_the_others_nothing(void **state)
{
    static const int statuses[] = { 400, 413, 500 };
    (void)state;

    for (size_t i = 0; i < ARRAY_LEN(statuses); i++) {
        struct fake_step no = { .status = statuses[i], .body = "{\"error\":\"too long\"}" };
        unsigned tries = statuses[i] == 500 ? 2 : 1;
        struct several s;

        fake_start(EMBED);
        several_of(&s);
        for (unsigned k = 0; k < tries; k++)
            fake_step(no);
        fake_step((struct fake_step){ .status = 200, .body = ROWS(ROW(1)) });
        for (unsigned k = 0; k < tries; k++)
            fake_step(no);
        fake_step((struct fake_step){ .status = 200, .body = ROWS(ROW(21)) });
        llm_embed_many(fake.llm, s.calls, CALLS);
        assert_rows(&s, (const bool[]){ true, false, true });
        assert_code(s.calls[1].err, statuses[i] == 500 ? ERR_LOST : ERR_INVALID);
        assert_contains(s.calls[1].err.text, "too long");
        assert_int_equal(fake.sent, 2 * tries + 2);
        assert_int_equal(tokens_of("a0"), 101);
        assert_int_equal(tokens_of("a1"), 0);
        assert_usage("a0", 1, 0);
        assert_usage("a1", 1, 1);
        fake_end(NULL);
    }
}

static void a_call_over_its_budget_does_not_ride(void **state)
{
    struct several s;
    (void)state;

    fake_start("{\"budget_tokens\": 2, \"providers\": [{\"name\": \"v\", \"kind\": \"openai\", "
               "\"embed_model\": \"e\", \"base_url\": \"https://two.example\"}]}");
    several_of(&s);
    s.texts[1] = "a text of more than eight bytes";
    s.texts[2] = "2";
    fake_step((struct fake_step){ .status = 200, .body = "{\"data\":[" ROW(1) "," ROW(21) "]}" });
    llm_embed_many(fake.llm, s.calls, CALLS);
    assert_rows(&s, (const bool[]){ true, false, true });
    assert_code(s.calls[1].err, ERR_LIMIT);
    assert_string_equal(fake_sent(0, "input"), "[\"one\",\"2\"]");
    assert_int_equal(tokens_of("a0"), 1);
    assert_int_equal(tokens_of("a1"), 0);
}

static void those_with_time_left_are_asked_again_without_the_late_one(void **state)
{
    struct several s;
    (void)state;

    fake_start(EMBED);
    several_of(&s);
    s.waits[1] = fake_wait(1);
    fake_step((struct fake_step){ .broken = ERR_TIMEOUT, .takes_ns = 2 * CLOCK_NS_PER_S });
    fake_step((struct fake_step){ .status = 200, .body = ROWS(ROW(1) "," ROW(21)) });
    llm_embed_many(fake.llm, s.calls, CALLS);
    assert_rows(&s, (const bool[]){ true, false, true });
    assert_code(s.calls[1].err, ERR_TIMEOUT);
    assert_int_equal(fake.sent, 2);
    assert_string_equal(fake_sent(1, "input"), "[\"one\",\"seventeen\"]");
}

static void who_has_no_time_for_a_pause_is_not_waited_for(void **state)
{
    struct several s;
    (void)state;

    fake_start(EMBED);
    several_of(&s);
    s.waits[1] = fake_wait(2);
    fake_step((struct fake_step){ .status = 429, .retry_after_ns = 10 * CLOCK_NS_PER_S });
    fake_step((struct fake_step){ .status = 200, .body = ROWS(ROW(1) "," ROW(21)) });
    llm_embed_many(fake.llm, s.calls, CALLS);
    assert_rows(&s, (const bool[]){ true, false, true });
    assert_code(s.calls[1].err, ERR_LOST);
    assert_contains(s.calls[1].err.text, "429");
    assert_int_equal(fake.sent, 2);
    assert_int_equal(fake.pause_count, 0);
}

static void a_provider_that_is_down_fails_all_at_once(void **state)
{
    struct several s;
    (void)state;

    fake_start(EMBED);
    several_of(&s);
    fake_step((struct fake_step){ .broken = ERR_LOST });
    fake_step((struct fake_step){ .status = 503 });
    llm_embed_many(fake.llm, s.calls, CALLS);
    assert_rows(&s, (const bool[]){ false, false, false });
    for (size_t i = 0; i < CALLS; i++)
        assert_code(s.calls[i].err, ERR_LOST);
    assert_int_equal(fake.sent, 2); /* as one question */
    assert_usage("a2", 1, 1);
}

static void *ask_several(void *arg)
{
    struct several *s = arg;

    llm_embed_many(fake.llm, s->calls, CALLS);
    return NULL;
}

static void wait_for_a_request(void)
{
    pthread_mutex_lock(&fake_lock);
    while (fake.sent == 0)
        pthread_cond_wait(&fake_changed, &fake_lock);
    pthread_mutex_unlock(&fake_lock);
}

/* How many of three are cancelled: before, or while the request is under way. */
static void a_request_goes_on_while_one_of_its_calls_wants_it(void **state)
{
    static const struct {
        bool before;
        unsigned cancelled;
        const char *body;
    } rows[] = {
        { true, 1, ROWS(ROW(11) "," ROW(21)) },
        { false, 1, ROWS(ROW(1) "," ROW(11) "," ROW(21)) },
        { false, 2, ROWS(ROW(1) "," ROW(11) "," ROW(21)) },
        { false, 3, NULL },
    };
    (void)state;

    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct cancel tokens[CALLS];
        struct several s;
        pthread_t thread;

        fake_start(EMBED);
        clock_real();
        several_of(&s);
        for (size_t k = 0; k < CALLS; k++) {
            cancel_init(&tokens[k]);
            s.waits[k].cancel = &tokens[k];
        }
        fake_step((struct fake_step){ .status = 200, .body = rows[i].body, .hold = true });
        for (size_t k = 0; rows[i].before && k < rows[i].cancelled; k++)
            cancel_raise(&tokens[k]);
        assert_int_equal(pthread_create(&thread, NULL, ask_several, &s), 0);
        wait_for_a_request();
        for (size_t k = 0; k < rows[i].cancelled; k++)
            cancel_raise(&tokens[k]);
        if (rows[i].cancelled < CALLS)
            fake_release(NULL);
        pthread_join(thread, NULL);
        /* Who was cancelled under way may have its vector: it came with the others'. */
        assert_rows(&s, (const bool[]){ rows[i].cancelled < CALLS && !rows[i].before,
                                        rows[i].cancelled < CALLS, rows[i].cancelled < CALLS });
        if (rows[i].before || rows[i].cancelled == CALLS)
            assert_code(s.calls[0].err, ERR_CANCELLED);
        for (size_t k = 0; k < CALLS; k++)
            cancel_fini(&tokens[k]);
        fake_end(NULL);
    }
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        WITH_FAKE(several_calls_share_one_request_and_its_price),
        WITH_FAKE(long_calls_fill_requests_in_order),
        cmocka_unit_test(a_refused_text_costs_the_others_nothing),
        WITH_FAKE(a_call_over_its_budget_does_not_ride),
        WITH_FAKE(those_with_time_left_are_asked_again_without_the_late_one),
        WITH_FAKE(who_has_no_time_for_a_pause_is_not_waited_for),
        WITH_FAKE(a_provider_that_is_down_fails_all_at_once),
        cmocka_unit_test(a_request_goes_on_while_one_of_its_calls_wants_it),
        WITH_FAKE(makes_a_vector_of_each_text_in_one_request),
        WITH_FAKE(says_whether_it_can),
        WITH_FAKE(splits_what_is_too_much_for_one_request),
        WITH_FAKE(refuses_malformed_vectors),
        WITH_FAKE(asks_again_when_the_server_is_busy),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
