#include "kernel/llm_sse.h"

#include "tests/support/check.h"

struct heard {
    struct buf text;
    unsigned stop_after; /* 0: never */
    unsigned count;
};

static bool hear(void *arg, const char *event, const char *data, size_t len, struct error *err)
{
    struct heard *h = arg;

    (void)err;
    assert_int_equal(strlen(data), len);
    buf_printf(&h->text, "<%s|%s>", event, data);
    h->count++;
    return h->count != h->stop_after;
}

static void reads_what_the_standard_says(void **state)
{
    static const struct {
        const char *label, *stream, *want;
    } rows[] = {
        { "one", "data: a\n\n", "<message|a>" },
        { "a name", "event: ping\ndata: {}\n\n", "<ping|{}>" },
        { "two lines are one event", "data: a\ndata: b\n\n", "<message|a\nb>" },
        { "no space after the colon", "data:a\n\n", "<message|a>" },
        { "only one space goes", "data:  a\n\n", "<message| a>" },
        { "a field without a colon", "data\n\n", "<message|>" },
        { "comments", ": keep-alive\n\ndata: a\n\n", "<message|a>" },
        { "unknown fields", "id: 7\nretry: 9\nfoo: x\ndata: a\n\n", "<message|a>" },
        { "carriage returns", "data: a\r\rdata: b\r\r", "<message|a><message|b>" },
        { "both", "data: a\r\n\r\ndata: b\r\n\r\n", "<message|a><message|b>" },
        { "a byte order mark",
          "\xef\xbb\xbf"
          "data: a\n\n",
          "<message|a>" },
        { "a name without data is no event", "event: x\n\ndata: a\n\n", "<message|a>" },
        { "not ended is no event", "data: a\n\ndata: b\n", "<message|a>" },
        { "empty", "", "" },
        { "many empty lines", "\n\n\n\r\n\n", "" },
    };
    (void)state;

    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        size_t len = strlen(rows[i].stream);

        for (size_t piece = 1; piece <= len + 1; piece++) { /* however it is cut */
            struct llm_sse s;
            struct heard h = { .count = 0 };
            struct error err = ERROR_INIT;

            llm_sse_init(&s, 100);
            for (size_t at = 0; at < len; at += piece)
                assert_ok(
                    llm_sse_feed(&s, rows[i].stream + at, MIN(piece, len - at), hear, &h, &err),
                    err);
            if (strcmp(buf_str(&h.text), rows[i].want) != 0)
                fail_msg("%s in pieces of %zu: %s", rows[i].label, piece, buf_str(&h.text));
            buf_fini(&h.text);
            llm_sse_fini(&s);
        }
    }
}

static void refuses_what_is_too_long(void **state)
{
    static const char *const rows[] = { "data: 0123456789abcdef",
                                        "data: 01234567\ndata: 01234567\n",
                                        ": 0123456789abcdef0123" };
    (void)state;

    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct llm_sse s;
        struct heard h = { .count = 0 };
        struct error err = ERROR_INIT;

        llm_sse_init(&s, 16);
        assert_false(llm_sse_feed(&s, rows[i], strlen(rows[i]), hear, &h, &err));
        assert_code(err, ERR_LIMIT);
        buf_fini(&h.text);
        llm_sse_fini(&s);
    }
}

static void stops_where_the_receiver_says(void **state)
{
    struct llm_sse s;
    struct heard h = { .stop_after = 1 };
    struct error err = ERROR_INIT;
    (void)state;

    llm_sse_init(&s, 100);
    assert_false(llm_sse_feed(&s, "data: a\n\ndata: b\n\n", 18, hear, &h, &err));
    assert_int_equal(err.code, ERR_NONE);
    assert_string_equal(buf_str(&h.text), "<message|a>");
    buf_fini(&h.text);
    llm_sse_fini(&s);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_what_the_standard_says),
        cmocka_unit_test(refuses_what_is_too_long),
        cmocka_unit_test(stops_where_the_receiver_says),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
