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

int main(void)
{
    static const struct CMUnitTest tests[] = {
        WITH_FAKE(makes_a_vector_of_each_text_in_one_request), WITH_FAKE(says_whether_it_can),
        WITH_FAKE(splits_what_is_too_much_for_one_request),    WITH_FAKE(refuses_malformed_vectors),
        WITH_FAKE(asks_again_when_the_server_is_busy),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
