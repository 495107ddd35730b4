#include "tools/document_answer.h"

#include "tests/support/check.h"

static void an_answer_has_text_and_images(void **state)
{
    static const char bytes[] = "{\"ok\": true, \"text\": 5, \"images\": [[\"image/png\", 3], "
                                "[\"image/jpeg\", 2]]}\nhelloPNGJP";
    struct document_answer a;
    (void)state;

    assert_true(document_answer_read(bytes, sizeof bytes - 1, &a, NULL));
    assert_true(a.ok);
    assert_int_equal(a.text_len, 5);
    assert_memory_equal(a.text, "hello", 5);
    assert_int_equal(a.image_count, 2);
    assert_string_equal(a.images[1].mime_type, "image/jpeg");
    assert_int_equal(a.images[1].len, 2);
    assert_memory_equal(a.images[1].data, "JP", 2);
}

static void a_fault_has_a_code_and_a_text(void **state)
{
    static const char bytes[] = "{\"error\": \"not_found\", \"text\": 4}\ngone";
    struct document_answer a;
    (void)state;

    assert_true(document_answer_read(bytes, sizeof bytes - 1, &a, NULL));
    assert_false(a.ok);
    assert_int_equal(a.code, ERR_NOT_FOUND);
    assert_memory_equal(a.text, "gone", 4);
}

static void what_is_no_whole_answer_is_refused(void **state)
{
    static const char *const rows[] = {
        "",
        "\n",
        "hello",
        "[]\n",
        "{\"ok\":true}\n",
        "{\"ok\":true,\"text\":1}\n",
        "{\"ok\":true,\"text\":0}\nmore",
        "{\"ok\":true,\"text\":-1}\n",
        "{\"ok\":true,\"text\":9223372036854775807}\n",
        "{\"ok\":true,\"text\":0,\"error\":\"invalid\"}\n",
        "{\"text\":0}\n",
        "{\"error\":\"none\",\"text\":0}\n",
        "{\"error\":\"\",\"text\":0}\n",
        "{\"ok\":true,\"text\":0,\"images\":[[\"text/html\",1]]}\nx",
        "{\"ok\":true,\"text\":0,\"images\":[[\"image/png\",2]]}\nx",
        "{\"ok\":true,\"text\":0,\"images\":[[\"image/png\",\"1\"]]}\nx",
        "{\"ok\":true,\"text\":0,\"images\":[1,2,3,4]}\n",
        ("{\"ok\":true,\"text\":0,\"images\":[[\"image/png\",0],[\"image/png\",0],[\"image/"
         "png\",0],"
         "[\"image/png\",0],[\"image/png\",0]]}\n"),
    };
    (void)state;

    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct document_answer a;
        struct error err = ERROR_INIT;

        if (document_answer_read(rows[i], strlen(rows[i]), &a, &err))
            fail_msg("taken: %s", rows[i]);
        assert_int_equal(err.code, ERR_PROTOCOL);
    }
}

static void a_size_is_eight_digits_of_what_an_answer_may_have(void **state)
{
    static const struct {
        const char *digits;
        size_t want; /* 0: refused */
    } rows[] = {
        { "00000001", 1 }, { "00012345", 12345 }, { "00000000", 0 },   { "99999999", 0 },
        { "0000001 ", 0 }, { "-0000001", 0 },     { "{\"ok\": t", 0 },
    };
    (void)state;

    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct error err = ERROR_INIT;
        size_t size = 0;
        bool ok = document_answer_size(rows[i].digits, &size, &err);

        if (ok != (rows[i].want > 0) || size != rows[i].want ||
            err.code != (ok ? ERR_NONE : ERR_PROTOCOL))
            fail_msg("%s: %zu (%s)", rows[i].digits, size, err.text);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_answer_has_text_and_images),
        cmocka_unit_test(a_fault_has_a_code_and_a_text),
        cmocka_unit_test(what_is_no_whole_answer_is_refused),
        cmocka_unit_test(a_size_is_eight_digits_of_what_an_answer_may_have),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
