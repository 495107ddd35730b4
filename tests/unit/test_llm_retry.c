#include "kernel/base/clock.h"
#include "kernel/llm_provider.h"
#include "tests/support/check.h"

static void knows_what_a_status_means(void **state)
{
    static const struct {
        int status;
        enum llm_verdict want;
    } rows[] = {
        { 200, LLM_OK },    { 204, LLM_OK },      { 301, LLM_NEXT },    { 400, LLM_REFUSED },
        { 401, LLM_NEXT },  { 403, LLM_NEXT },    { 404, LLM_NEXT },    { 408, LLM_AGAIN },
        { 409, LLM_AGAIN }, { 413, LLM_REFUSED }, { 422, LLM_REFUSED }, { 429, LLM_AGAIN },
        { 500, LLM_AGAIN }, { 502, LLM_AGAIN },   { 503, LLM_AGAIN },   { 529, LLM_AGAIN },
        { 599, LLM_AGAIN },
    };
    (void)state;

    for (size_t i = 0; i < ARRAY_LEN(rows); i++)
        if (llm_retry_status(rows[i].status) != rows[i].want)
            fail_msg("%d", rows[i].status);
}

static void waits_longer_each_time_with_full_jitter(void **state)
{
    int64_t bound = 500 * CLOCK_NS_PER_MS;
    (void)state;

    for (unsigned attempt = 1; attempt < 100; attempt++) {
        int64_t most = MIN(bound, 20 * CLOCK_NS_PER_S);

        assert_int_equal(llm_retry_delay(attempt, -1, 0), 0);
        assert_int_equal(llm_retry_delay(attempt, -1, (uint64_t)most), most);
        for (uint64_t random = 1; random; random <<= 1) {
            int64_t delay = llm_retry_delay(attempt, -1, random * 3);

            assert_in_range(delay, 0, most);
        }
        bound = most * 2;
    }
}

static void never_comes_before_it_was_told_to(void **state)
{
    int64_t told_ns = 7 * CLOCK_NS_PER_S;
    (void)state;

    for (uint64_t random = 1; random; random <<= 1) {
        int64_t delay = llm_retry_delay(1, told_ns, random);

        assert_in_range(delay, told_ns, told_ns + CLOCK_NS_PER_S);
    }
    assert_true(llm_retry_delay(1, CLOCK_NEVER, 5) > 0); /* no overflow */
}

static void a_pause_ends_with_the_deadline_or_the_token(void **state)
{
    struct cancel token;
    struct wait w = { .deadline_ns = clock_now_ns() + CLOCK_NS_PER_MS };
    struct error err = ERROR_INIT;
    (void)state;

    assert_false(llm_retry_pause(&w, 100 * CLOCK_NS_PER_S, &err));
    assert_code(err, ERR_TIMEOUT);
    error_clear(&err);
    cancel_init(&token);
    cancel_raise(&token);
    w = (struct wait){ .deadline_ns = clock_now_ns() + 100 * CLOCK_NS_PER_S, .cancel = &token };
    assert_false(llm_retry_pause(&w, 50 * CLOCK_NS_PER_S, &err));
    assert_code(err, ERR_CANCELLED);
    error_clear(&err);
    cancel_fini(&token);
    w.cancel = NULL;
    assert_ok(llm_retry_pause(&w, 1, &err), err);
    assert_ok(llm_retry_pause(&w, 0, &err), err);
}

static void finds_the_words_of_a_refusal(void **state)
{
    static const struct {
        const char *body, *want;
    } rows[] = {
        { "{\"error\":{\"message\":\"No such model\",\"type\":\"x\"}}", "No such model" },
        { "{\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\",\"message\":\"Overloaded\"}"
          "}",
          "Overloaded" },
        { "{\"error\":\"busy\"}", "busy" },
        { "{\"detail\":\"Not here\"}", "Not here" },
        { "{\"message\":\"m\"}", "m" },
        { "{\"error\":{\"code\":7}}", "{\"error\":{\"code\":7}}" },
        { "plain\nwords\x01", "plain words " },
        { "", "" },
        { "\xff\xfe", "\xef\xbf\xbd\xef\xbf\xbd" },
    };
    char words[100];
    (void)state;

    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        llm_retry_words(rows[i].body, strlen(rows[i].body), words, sizeof words);
        assert_string_equal(words, rows[i].want);
    }
}

static void cuts_long_words_on_a_character(void **state)
{
    char body[400], words[10];
    (void)state;

    for (size_t i = 0; i + 1 < sizeof body; i += 2)
        memcpy(body + i, "\xc3\xa4", 2);
    llm_retry_words(body, sizeof body, words, sizeof words);
    assert_int_equal(strlen(words), 8);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(knows_what_a_status_means),
        cmocka_unit_test(waits_longer_each_time_with_full_jitter),
        cmocka_unit_test(never_comes_before_it_was_told_to),
        cmocka_unit_test(a_pause_ends_with_the_deadline_or_the_token),
        cmocka_unit_test(finds_the_words_of_a_refusal),
        cmocka_unit_test(cuts_long_words_on_a_character),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
