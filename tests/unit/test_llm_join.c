#include "kernel/llm_join.h"

#include "tests/support/check.h"

static void drops_what_a_continued_answer_repeats(void **state)
{
    static const struct {
        const char *label;
        enum llm_join_mode mode;
        const char *before, *comes, *joined;
    } rows[] = {
        { "nothing before", LLM_JOIN_WORDS, "", "abc", "abc" },
        { "nothing repeated", LLM_JOIN_WORDS, "The quick", " brown fox", "The quick brown fox" },
        { "nothing comes", LLM_JOIN_WORDS, "The quick", "", "The quick" },
        { "the beginning of a word", LLM_JOIN_WORDS, "The quick bro", "brown fox",
          "The quick brown fox" },
        { "the last words", LLM_JOIN_WORDS, "It was the best of times", "the best of times, it was",
          "It was the best of times, it was" },
        { "all of it", LLM_JOIN_WORDS, "One two", "One two three", "One two three" },
        { "a space in between", LLM_JOIN_WORDS, "One two ", "two three", "One two three" },
        { "only what was there", LLM_JOIN_WORDS, "One two three", "two three", "One two three" },
        { "a letter is no repetition", LLM_JOIN_WORDS, "An a", "apple", "An aapple" },
        { "nor are digits", LLM_JOIN_WORDS, "pi is 3.1415, e is 111", "111",
          "pi is 3.1415, e is 111111" },
        { "nor what only begins alike", LLM_JOIN_WORDS, "the cat sat", "sad it was",
          "the cat satsad it was" },
        { "the longest counts", LLM_JOIN_WORDS, "very very very", "very very well",
          "very very very well" },
        { "no ASCII", LLM_JOIN_WORDS, "Sie aß Äpfel", "Äpfel und Birnen",
          "Sie aß Äpfel und Birnen" },
        { "plain leaves all", LLM_JOIN_PLAIN, "One two", "two three", "One twotwo three" },
        { "the space that was not sent", LLM_JOIN_SPACE, "One ", " two", "One two" },
        { "which may not come back", LLM_JOIN_SPACE, "One ", "two", "One two" },
        { "more of it", LLM_JOIN_SPACE, "One.\n\n", "\n\nTwo", "One.\n\nTwo" },
        { "less of it", LLM_JOIN_SPACE, "One.\n\n", "\nTwo", "One.\n\nTwo" },
        { "words stay", LLM_JOIN_SPACE, "ha", "ha", "haha" },
    };
    (void)state;

    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        size_t len = strlen(rows[i].comes);

        for (size_t piece = 1; piece <= len + 1; piece++) {
            struct llm_join j;
            struct buf out = BUF_INIT;

            llm_join_init(&j, rows[i].mode, rows[i].before, strlen(rows[i].before));
            buf_append_str(&out, rows[i].before);
            for (size_t at = 0; at < len; at += piece)
                assert_true(llm_join_push(&j, rows[i].comes + at, MIN(piece, len - at), &out));
            assert_true(llm_join_end(&j, &out));
            if (strcmp(buf_str(&out), rows[i].joined) != 0)
                fail_msg("%s in pieces of %zu: \"%s\"", rows[i].label, piece, buf_str(&out));
            buf_fini(&out);
            llm_join_fini(&j);
        }
    }
}

static void finds_a_long_text_told_again(void **state)
{
    struct llm_join j;
    struct buf before = BUF_INIT, out = BUF_INIT;
    (void)state;

    for (unsigned i = 0; i < 2000; i++)
        buf_printf(&before, "line %u\n", i);
    assert_true(before.len > 4 * LLM_JOIN_TAIL);
    llm_join_init(&j, LLM_JOIN_WORDS, before.data, before.len);
    for (size_t at = 0; at < before.len; at += 7)
        assert_true(llm_join_push(&j, before.data + at, MIN(7u, before.len - at), &out));
    assert_true(llm_join_push(&j, "the end", 7, &out));
    assert_string_equal(buf_str(&out), "the end");
    llm_join_fini(&j);
    buf_fini(&before);
    buf_fini(&out);
}

/* Held back for ever would be as bad as doubled. */
static void lets_go_as_soon_as_it_is_sure(void **state)
{
    struct llm_join j;
    struct buf out = BUF_INIT;
    (void)state;

    llm_join_init(&j, LLM_JOIN_WORDS, "One two", 7);
    assert_true(llm_join_push(&j, "tw", 2, &out));
    assert_int_equal(out.len, 0);
    assert_true(llm_join_push(&j, "ice", 3, &out));
    assert_string_equal(buf_str(&out), "twice");
    llm_join_fini(&j);
    buf_fini(&out);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(drops_what_a_continued_answer_repeats),
        cmocka_unit_test(finds_a_long_text_told_again),
        cmocka_unit_test(lets_go_as_soon_as_it_is_sure),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
