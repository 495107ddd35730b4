#include "kernel/base/base64.h"

#include "tests/support/check.h"

static void knows_the_vectors_of_the_rfc(void **state)
{
    static const struct {
        const char *plain, *coded;
    } rows[] = {
        { "", "" },
        { "f", "Zg==" },
        { "fo", "Zm8=" },
        { "foo", "Zm9v" },
        { "foob", "Zm9vYg==" },
        { "fooba", "Zm9vYmE=" },
        { "foobar", "Zm9vYmFy" },
        { "\xfb\xff\xbf", "+/+/" },
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        CLEANUP(buf_fini) struct buf coded = BUF_INIT, plain = BUF_INIT;
        struct error err = ERROR_INIT;

        assert_true(base64_encode(&coded, rows[i].plain, strlen(rows[i].plain)));
        assert_string_equal(buf_str(&coded), rows[i].coded);
        assert_ok(base64_decode(&plain, rows[i].coded, strlen(rows[i].coded), &err), err);
        assert_string_equal(buf_str(&plain), rows[i].plain);
    }
}

static void any_bytes_come_back(void **state)
{
    unsigned char bytes[256 * 3];

    (void)state;
    for (size_t i = 0; i < sizeof bytes; i++)
        bytes[i] = (unsigned char)(i * 7 + i / 256);
    for (size_t len = 0; len <= sizeof bytes; len += 1 + len / 20) {
        CLEANUP(buf_fini) struct buf coded = BUF_INIT, plain = BUF_INIT;
        struct error err = ERROR_INIT;

        assert_true(base64_encode(&coded, bytes, len));
        assert_ok(base64_decode(&plain, buf_str(&coded), coded.len, &err), err);
        assert_int_equal(plain.len, len);
        assert_memory_equal(buf_str(&plain), bytes, len);
    }
}

static void refuses_what_is_not_strict(void **state)
{
    static const char *const rows[] = { "Z",        "Zg",   "Zg=",  "Zm9v\n",    "Zm 9",
                                        "Zg==Zg==", "=Zg=", "Z===", "====",      "Zm9=v",
                                        "Zm-_",     "Zh==", "Zm9=", "Zm\xc3\xa9" };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        CLEANUP(buf_fini) struct buf plain = BUF_INIT;
        struct error err = ERROR_INIT;

        assert_true(buf_append_str(&plain, "before"));
        if (base64_decode(&plain, rows[i], strlen(rows[i]), &err))
            fail_msg("\"%s\" was accepted", rows[i]);
        assert_code(err, ERR_INVALID);
        assert_string_equal(buf_str(&plain), "before");
    }
}

static void limits_and_lack_of_memory_are_reported(void **state)
{
    struct error err = ERROR_INIT;
    struct buf small;

    (void)state;
    buf_init(&small, 7);
    assert_false(base64_encode(&small, "foobar", 6));
    assert_int_equal(small.len, 0);
    assert_true(base64_encode(&small, "foo", 3));
    buf_fini(&small);
    fault_arm(0);
    assert_false(base64_decode(&small, "Zm9v", 4, &err));
    assert_true(fault_disarm());
    assert_code(err, ERR_NOMEM);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(knows_the_vectors_of_the_rfc),
        cmocka_unit_test(any_bytes_come_back),
        cmocka_unit_test(refuses_what_is_not_strict),
        cmocka_unit_test(limits_and_lack_of_memory_are_reported),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
