#include "kernel/base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "kernel/base/fd.h"
#include "tests/support/check.h"

struct capture {
    int saved, reader;
};

static struct capture capture_begin(void)
{
    struct capture c;
    int ends[2];

    assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
    c.saved = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 3);
    c.reader = ends[0];
    assert_true(dup2(ends[1], STDERR_FILENO) == STDERR_FILENO);
    fd_close(ends[1]);
    return c;
}

/* What was logged since; each line fits in the pipe. */
static void capture_end(struct capture *c, char *text, size_t size)
{
    ssize_t n;

    (void)dup2(c->saved, STDERR_FILENO);
    fd_close(c->saved);
    n = fd_read_full(c->reader, text, size - 1, NULL);
    fd_close(c->reader);
    assert_true(n >= 0);
    text[n] = '\0';
}

static void writes_one_line_with_time_level_and_event(void **state)
{
    struct capture c = capture_begin();
    char text[8192];

    (void)state;
    log_line(LOG_WARN, "computer_lost", "computer=%s after_ms=%d", "c_1", 5);
    capture_end(&c, text, sizeof text);
    assert_true(strncmp(text, "time=2", 6) == 0);
    assert_contains(text, "Z level=warn event=computer_lost computer=c_1 after_ms=5\n");
}

static void drops_what_is_above_the_level(void **state)
{
    struct capture c = capture_begin();
    char text[8192];

    (void)state;
    assert_int_equal(log_level_get(), LOG_WARN);
    log_line(LOG_INFO, "dropped", "a=1");
    log_set_level(LOG_DEBUG);
    log_line(LOG_DEBUG, "kept", "%s", "");
    log_set_level(LOG_ERROR);
    log_line(LOG_WARN, "dropped", "b=1");
    log_set_level(LOG_WARN);
    capture_end(&c, text, sizeof text);
    assert_null(strstr(text, "dropped"));
    assert_contains(text, "level=debug event=kept\n");
}

static void an_event_stays_one_line_however_long(void **state)
{
    struct capture c = capture_begin();
    char text[16384], big[8000];

    (void)state;
    for (size_t i = 0; i + 3 < sizeof big; i += 3)
        memcpy(big + i, "\u20ac", 4);
    log_line(LOG_ERROR, "odd", "text=%s", "two\nlines\r\x1b[31m");
    log_line(LOG_ERROR, "big", "text=%s", big);
    capture_end(&c, text, sizeof text);
    assert_contains(text, "text=two lines  [31m\n");
    assert_true(strchr(text, '\n') < strstr(text, "event=big"));
    assert_ptr_equal(strrchr(text, '\n'), text + strlen(text) - 1);
    assert_ptr_equal(strchr(strchr(text, '\n') + 1, '\n'), text + strlen(text) - 1);
}

static void errno_is_kept(void **state)
{
    struct capture c = capture_begin();
    char text[8192];

    (void)state;
    errno = ENOTDIR;
    log_line(LOG_ERROR, "x", "a=1");
    assert_int_equal(errno, ENOTDIR);
    capture_end(&c, text, sizeof text);
}

static void escapes_text_from_outside(void **state)
{
    static const struct {
        const char *in, *out;
    } rows[] = {
        { "plain", "\"plain\"" },
        { "", "\"\"" },
        { "say \"hi\" \\", "\"say \\\"hi\\\" \\\\\"" },
        { "\n\r\t\b\f", "\"\\n\\r\\t\\b\\f\"" },
        { "\x1b[0m\x7f", "\"\\u001b[0m\\u007f\"" },
        { "\xc2\x9b"
          "31m",
          "\"\\u009b31m\"" },
        { "\xe2\x82\xac \xf0\x9f\x98\x80", "\"\xe2\x82\xac \xf0\x9f\x98\x80\"" },
        { "a\xff\xc3", "\"a\\ufffd\\ufffd\"" },
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++)
        assert_string_equal(LOG_ESC(rows[i].in), rows[i].out);
}

static void marks_where_it_cut(void **state)
{
    char buf[12];

    (void)state;
    assert_string_equal(log_escape(buf, sizeof buf, "123456789"), "\"123456789\"");
    assert_string_equal(log_escape(buf, sizeof buf, "1234567890"), "\"123456...\"");
    assert_string_equal(log_escape(buf, sizeof buf, "12345\n7890"), "\"12345...\"");
    assert_string_equal(log_escape(buf, sizeof buf,
                                   "12345\xe2\x82\xac"
                                   "7890"),
                        "\"12345...\"");
    assert_string_equal(log_escape(buf, 2, "x"), "");
    for (unsigned long size = 1; size < sizeof buf; size++)
        assert_true(strlen(log_escape(buf, size, "some text that is long")) < size);
}

static void parses_level_names(void **state)
{
    enum log_level level = LOG_ERROR;

    (void)state;
    assert_true(log_level_parse("debug", &level));
    assert_int_equal(level, LOG_DEBUG);
    assert_true(log_level_parse("error", &level));
    assert_int_equal(level, LOG_ERROR);
    assert_false(log_level_parse("loud", &level));
    assert_false(log_level_parse("", &level));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(writes_one_line_with_time_level_and_event),
        cmocka_unit_test(drops_what_is_above_the_level),
        cmocka_unit_test(an_event_stays_one_line_however_long),
        cmocka_unit_test(errno_is_kept),
        cmocka_unit_test(escapes_text_from_outside),
        cmocka_unit_test(marks_where_it_cut),
        cmocka_unit_test(parses_level_names),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
