#include "tests/support/check.h"

#include "kernel/computer/egress_tls.h"
#include "tests/unit/egress_hello.h"

static enum egress_tls judge(const struct buf *b, struct egress_hello *hello)
{
    return egress_tls_read((const uint8_t *)b->data, b->len, hello);
}

static void reads_the_server_name_whatever_the_records(void **state)
{
    static const size_t sizes[] = { 1, 2, 3, 4, 5, 50, 100, 16384 };
    struct egress_hello hello;
    (void)state;

    for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
        CLEANUP(buf_fini) struct buf message = BUF_INIT;
        CLEANUP(buf_fini) struct buf wire = BUF_INIT;

        put_hello(&message, "Files.PythonHosted.org", 100);
        put_records(&wire, &message, sizes[i]);
        /* Not a byte too early. */
        for (size_t len = 0; len < wire.len; len++) {
            if (egress_tls_read((const uint8_t *)wire.data, len, &hello) != EGRESS_TLS_MORE)
                fail_msg("records of %zu: a verdict after %zu bytes", sizes[i], len);
        }
        assert_int_equal(judge(&wire, &hello), EGRESS_TLS_HELLO);
        assert_string_equal(hello.name, "Files.PythonHosted.org");
        /* What follows does not matter. */
        buf_append(&wire, "\x17\x03\x03 more", 8);
        assert_int_equal(judge(&wire, &hello), EGRESS_TLS_HELLO);
        assert_string_equal(hello.name, "Files.PythonHosted.org");
    }
}

static void a_hello_without_a_name_has_an_empty_name(void **state)
{
    CLEANUP(buf_fini) struct buf message = BUF_INIT;
    CLEANUP(buf_fini) struct buf wire = BUF_INIT;
    struct egress_hello hello;
    (void)state;

    put_hello(&message, NULL, 0);
    put_records(&wire, &message, 16384);
    assert_int_equal(judge(&wire, &hello), EGRESS_TLS_HELLO);
    assert_string_equal(hello.name, "");
}

static void tells_tls_from_other_protocols_and_refuses_doubtful_beginnings(void **state)
{
    static const struct {
        const char *label;
        const char *bytes;
        size_t len;
        enum egress_tls want;
    } rows[] = {
        { "nothing", "", 0, EGRESS_TLS_MORE },
        { "HTTP", "GET / HTTP/1.1\r\n", 16, EGRESS_TLS_PLAIN },
        { "SSH", "SSH-2.0-x\r\n", 11, EGRESS_TLS_PLAIN },
        { "PostgreSQL", "\0\0\0\x08\x04\xd2\x16\x2f", 8, EGRESS_TLS_PLAIN },
        { "one byte of a record", "\x16", 1, EGRESS_TLS_MORE },
        { "not version 3", "\x16\x04", 2, EGRESS_TLS_PLAIN },
        { "an alert first", "\x15\x03\x03\0\x02\x01\0", 7, EGRESS_TLS_BAD },
        { "application data first", "\x17\x03\x03\0\x02", 5, EGRESS_TLS_BAD },
        { "change_cipher_spec first", "\x14\x03\x03\0\x01\x01", 6, EGRESS_TLS_BAD },
        { "a server hello", "\x16\x03\x03\0\x04\x02\0\0\0", 9, EGRESS_TLS_BAD },
        { "an empty record", "\x16\x03\x03\0\0", 5, EGRESS_TLS_BAD },
        { "a record over 2^14", "\x16\x03\x03\x40\x01", 5, EGRESS_TLS_BAD },
        { "an empty hello", "\x16\x03\x03\0\x04\x01\0\0\0", 9, EGRESS_TLS_BAD },
        { "a hello of 64 KiB", "\x16\x03\x03\0\x04\x01\x01\0\0", 9, EGRESS_TLS_BAD },
        { "SSL 2 hello for TLS", "\x80\x2e\x01\x03\x01", 5, EGRESS_TLS_BAD },
        { "SSL 2 hello", "\x80\x2e\x01\0\x02", 5, EGRESS_TLS_BAD },
        { "high byte, other protocol", "\x80\x2e\x02", 3, EGRESS_TLS_PLAIN },
        { "junk after the hello's start", "\x16\x03\x01\0\x02\x01\0\x17\x03", 9, EGRESS_TLS_BAD },
    };
    struct egress_hello hello;
    (void)state;

    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        enum egress_tls got = egress_tls_read((const uint8_t *)rows[i].bytes, rows[i].len, &hello);

        if (got != rows[i].want || (got == EGRESS_TLS_BAD) != (hello.why != NULL))
            fail_msg("%s: %d", rows[i].label, (int)got);
    }
}

static void refuses_a_hello_that_is_cut_or_doubled_inside(void **state)
{
    CLEANUP(buf_fini) struct buf message = BUF_INIT;
    struct egress_hello hello;
    size_t name_at;
    (void)state;

    put_hello(&message, "example.org", 7);
    name_at = message.len - strlen("example.org");
    /* Each length inside, one too large or one too small, breaks the nesting. */
    for (size_t at = 4; at < message.len; at++) {
        bool is_length = at == 38 || (at >= 39 && at <= 40) || at == 43 || at == 45 || at == 46 ||
                         at == 49 || at == 50 || at == name_at - 1 || at == name_at - 4 ||
                         at == name_at - 6;

        if (!is_length)
            continue;
        for (int step = -1; step <= 1; step += 2) {
            CLEANUP(buf_fini) struct buf wire = BUF_INIT;
            char old = message.data[at];
            enum egress_tls got;

            message.data[at] = (char)(old + step);
            put_records(&wire, &message, 16384);
            got = judge(&wire, &hello);
            if (got == EGRESS_TLS_HELLO && !strcmp(hello.name, "example.org"))
                fail_msg("byte %zu changed by %d goes unnoticed", at, step);
            message.data[at] = old;
        }
    }
    /* A NUL would end the name early for whoever reads it as a string. */
    {
        CLEANUP(buf_fini) struct buf wire = BUF_INIT;

        message.data[name_at + 3] = '\0';
        put_records(&wire, &message, 16384);
        assert_int_equal(judge(&wire, &hello), EGRESS_TLS_BAD);
    }
}

static void refuses_two_server_names(void **state)
{
    CLEANUP(buf_fini) struct buf one = BUF_INIT;
    CLEANUP(buf_fini) struct buf wire = BUF_INIT;
    CLEANUP(buf_fini) struct buf extension = BUF_INIT;
    struct egress_hello hello;
    size_t size;
    (void)state;

    put_hello(&one, "example.org", 0);
    size = strlen("example.org") + 9;
    buf_append(&extension, one.data + one.len - size, size);
    buf_append(&one, extension.data, extension.len);
    one.data[3] = (char)(one.data[3] + (char)size);
    one.data[46] = (char)(one.data[46] + (char)size);
    put_records(&wire, &one, 16384);
    assert_int_equal(judge(&wire, &hello), EGRESS_TLS_BAD);
    assert_contains(hello.why, "more than one");
}

static void a_hello_must_be_complete_within_the_limit(void **state)
{
    CLEANUP(buf_fini) struct buf message = BUF_INIT;
    CLEANUP(buf_fini) struct buf wire = BUF_INIT;
    struct egress_hello hello;
    (void)state;

    /* Small enough by itself, but the headers of its tiny records take it over the limit. */
    put_hello(&message, "example.org", 6000);
    put_records(&wire, &message, 1);
    assert_true(wire.len > EGRESS_TLS_MAX);
    assert_int_equal(egress_tls_read((const uint8_t *)wire.data, EGRESS_TLS_MAX - 1, &hello),
                     EGRESS_TLS_MORE);
    assert_int_equal(egress_tls_read((const uint8_t *)wire.data, EGRESS_TLS_MAX, &hello),
                     EGRESS_TLS_BAD);
    assert_int_equal(judge(&wire, &hello), EGRESS_TLS_BAD);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_the_server_name_whatever_the_records),
        cmocka_unit_test(a_hello_without_a_name_has_an_empty_name),
        cmocka_unit_test(tells_tls_from_other_protocols_and_refuses_doubtful_beginnings),
        cmocka_unit_test(refuses_a_hello_that_is_cut_or_doubled_inside),
        cmocka_unit_test(refuses_two_server_names),
        cmocka_unit_test(a_hello_must_be_complete_within_the_limit),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
