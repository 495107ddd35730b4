/* The output of runs as answers show it, in a computer whose programs do what their name says. */
#include "kernel/base/limits.h"
#include "kernel/base/utf8.h"
#include "tests/unit/fake_puppet.h"
#include "tools/toolkit.h"

struct fixture {
    struct loop_thread lt;
    struct puppet puppet;
    struct computer *c;
};

static const struct computer_ops fake_ops = { .kind = "fake" };

static int start(void **state)
{
    static const char *const env[] = { "PATH=/bin", NULL };
    const struct computer_spec spec = { .pids = 1 };
    const struct wait w = patience(NULL);
    struct fixture *f = calloc(1, sizeof *f);
    struct error err = ERROR_INIT;
    struct computer_hooks hooks;

    assert_non_null(f);
    loop_thread_start(&f->lt);
    hooks = (struct computer_hooks){ .loop = f->lt.loop };
    f->c = calloc(1, sizeof *f->c);
    assert_non_null(f->c);
    assert_ok(computer_init(f->c, &fake_ops, &spec, env, &hooks, &err), err);
    assert_ok(computer_attach(f->c, puppet_start(&f->puppet), &w, &err), err);
    *state = f;
    return 0;
}

static int stop(void **state)
{
    struct fixture *f = *state;

    computer_unref(f->c);
    puppet_join(&f->puppet);
    loop_thread_stop(&f->lt);
    free(f);
    return 0;
}

/* A run that has written @text and ended. */
static struct run *run_that_wrote(struct fixture *f, const char *text, size_t len)
{
    const struct run_spec spec = { .command = "echo", .stdin_open = true };
    const struct wait w = patience(NULL);
    struct error err = ERROR_INIT;
    struct run *run = run_start(f->c, &spec, &w, &err);

    assert_ok(run, err);
    if (len > 0)
        assert_ok(guest_run_write(run_guest(run), WIRE_STREAM_MAIN, text, len, &w, &err), err);
    guest_run_close_stdin(run_guest(run));
    assert_ok(run_wait(run, 0, NULL, &w, &err), err);
    return run;
}

/* Lines of ten bytes each, numbered. */
static char *numbered(size_t lines)
{
    char *text = malloc(lines * 10 + 1);

    assert_non_null(text);
    for (size_t i = 0; i < lines; i++) {
        char line[32];

        (void)snprintf(line, sizeof line, "%09zu\n", i);
        memcpy(text + i * 10, line, 11);
    }
    return text;
}

static void short_output_is_shown_whole(void **state)
{
    static const char text[] = "\x1b[1mone\x1b[0m\ntwo\xff\n";
    struct fixture *f = *state;
    CLEANUP(run_unrefp) struct run *run = run_that_wrote(f, text, sizeof text - 1);

    for (int page = 0; page < 2; page++) {
        CLEANUP(buf_fini) struct buf out = BUF_INIT;
        struct toolkit_span span = { .begin = 0 };

        assert_true(toolkit_output(&out, run, WIRE_STREAM_OUT, page, &span));
        assert_string_equal(out.data, "one\ntwo\xef\xbf\xbd\n");
        assert_int_equal(span.begin, 0);
        assert_int_equal(span.end, sizeof text - 1);
        assert_int_equal(span.total, sizeof text - 1);
    }
}

static void no_output_is_none(void **state)
{
    struct fixture *f = *state;
    CLEANUP(run_unrefp) struct run *run = run_that_wrote(f, NULL, 0);
    CLEANUP(buf_fini) struct buf out = BUF_INIT;
    struct toolkit_span span = { .begin = 0 };

    assert_true(toolkit_output(&out, run, WIRE_STREAM_OUT, false, &span));
    assert_int_equal(out.len, 0);
    span.begin = 100; /* beyond the end */
    assert_true(toolkit_output(&out, run, WIRE_STREAM_OUT, true, &span));
    assert_int_equal(out.len, 0);
    assert_int_equal(span.total, 0);
    assert_true(span.begin > span.total);
}

static void pages_lead_from_one_to_the_next_without_a_gap(void **state)
{
    struct fixture *f = *state;
    size_t len = 20000 * 10;
    char *text = numbered(20000);
    CLEANUP(run_unrefp) struct run *run = run_that_wrote(f, text, len);
    CLEANUP(buf_fini) struct buf all = BUF_INIT;
    uint64_t at = 0;
    int pages = 0;

    while (at < len) {
        CLEANUP(buf_fini) struct buf out = BUF_INIT;
        struct toolkit_span span = { .begin = at };

        assert_true(toolkit_output(&out, run, WIRE_STREAM_OUT, true, &span));
        assert_true(out.len <= LIMIT_RESULT_TEXT_BYTES - 1024);
        assert_int_equal(span.begin, at);
        assert_int_equal(span.end, at + out.len);
        assert_int_equal(span.total, len);
        assert_int_equal(out.data[out.len - 1], '\n'); /* ends after a line */
        assert_true(buf_append(&all, out.data, out.len));
        assert_true(span.end > at);
        at = span.end;
        pages++;
    }
    assert_int_equal(all.len, len);
    assert_memory_equal(all.data, text, len);
    assert_true(pages > 5 && pages < 20);
    free(text);
}

static void a_gap_says_where_to_go_on(void **state)
{
    struct fixture *f = *state;
    size_t len = 20000 * 10;
    char *text = numbered(20000);
    CLEANUP(run_unrefp) struct run *run = run_that_wrote(f, text, len);
    CLEANUP(buf_fini) struct buf out = BUF_INIT;
    CLEANUP(buf_fini) struct buf rest = BUF_INIT;
    struct toolkit_span span = { .begin = 0 };
    unsigned long long left_out, offset;
    const char *mark;

    assert_true(toolkit_output(&out, run, WIRE_STREAM_OUT, false, &span));
    assert_true(out.len <= LIMIT_RESULT_TEXT_BYTES - 1024);
    assert_true(strncmp(out.data, "000000000\n", 10) == 0);
    assert_true(strcmp(out.data + out.len - 10, "000019999\n") == 0);
    mark = strstr(out.data, "[… ");
    assert_non_null(mark);
    assert_int_equal(sscanf(mark, "[… %llu bytes left out", &left_out), 1);
    mark = strstr(mark, "\"offset\":");
    assert_non_null(mark);
    assert_int_equal(sscanf(mark, "\"offset\":%llu", &offset), 1);
    assert_memory_equal(out.data, text, offset); /* all of what is before it was shown */
    /* And what is shown behind the gap is what lies behind it. */
    mark = strstr(mark, "]\n") + 2;
    assert_string_equal(mark, text + offset + left_out);
    span.begin = offset;
    assert_true(toolkit_output(&rest, run, WIRE_STREAM_OUT, true, &span));
    assert_memory_equal(rest.data, text + offset, rest.len);
    free(text);
}

static void bytes_that_grow_when_made_valid_fit_as_well(void **state)
{
    struct fixture *f = *state;
    size_t len = 60000;
    char *text = malloc(len);
    CLEANUP(run_unrefp) struct run *run = NULL;

    assert_non_null(text);
    memset(text, 0xff, len);
    run = run_that_wrote(f, text, len);
    for (int page = 0; page < 2; page++) {
        CLEANUP(buf_fini) struct buf out = BUF_INIT;
        struct toolkit_span span = { .begin = 0 };

        assert_true(toolkit_output(&out, run, WIRE_STREAM_OUT, page, &span));
        assert_true(out.len > 1000 && out.len <= LIMIT_RESULT_TEXT_BYTES - 1024);
        assert_true(utf8_valid(out.data, out.len));
        assert_true(span.end > 0);
    }
    free(text);
}

static void one_long_line_is_cut_between_characters(void **state)
{
    struct fixture *f = *state;
    size_t len = 90000;
    char *text = malloc(len);
    CLEANUP(run_unrefp) struct run *run = NULL;
    uint64_t at = 0;

    assert_non_null(text);
    for (size_t i = 0; i < len; i += 3)
        memcpy(text + i, "\xe2\x82\xac", 3);
    run = run_that_wrote(f, text, len);
    while (at < len) {
        CLEANUP(buf_fini) struct buf out = BUF_INIT;
        struct toolkit_span span = { .begin = at };

        assert_true(toolkit_output(&out, run, WIRE_STREAM_OUT, true, &span));
        assert_int_equal(out.len % 3, 0);
        assert_null(strstr(out.data, "\xef\xbf\xbd"));
        assert_true(span.end > at);
        at = span.end;
    }
    free(text);
}

static void says_what_is_no_longer_kept(void **state)
{
    struct fixture *f = *state;
    size_t len = 150000 * 10;
    char *text = numbered(150000);
    CLEANUP(run_unrefp) struct run *run = run_that_wrote(f, text, len);
    CLEANUP(buf_fini) struct buf out = BUF_INIT;
    struct toolkit_span span = { .begin = 0 };

    assert_true(toolkit_output(&out, run, WIRE_STREAM_OUT, true, &span));
    assert_contains(out.data, "bytes of output are no longer kept]");
    assert_true(span.begin >= len - LIMIT_RING_BYTES);
    assert_int_equal(span.total, len);
    free(text);
}

static void output_survives_every_allocation_failure(void **state)
{
    struct fixture *f = *state;
    char *text = numbered(5000);
    CLEANUP(run_unrefp) struct run *run = run_that_wrote(f, text, 50000);

    for (int page = 0; page < 2; page++) {
        FAULT_EACH(n)
        {
            CLEANUP(buf_fini) struct buf out = BUF_INIT;
            struct toolkit_span span = { .begin = 0 };
            bool ok = toolkit_output(&out, run, WIRE_STREAM_OUT, page, &span);

            FAULT_DONE(n);
            assert_int_equal(ok, n_last);
        }
    }
    free(text);
}

/* ---- the whole report ---- */

static struct tool_call call_of(struct result *result)
{
    result_init(result);
    return (struct tool_call){ .result = result };
}

static const char *report_of(struct run *run, const struct toolkit_report *report,
                             struct result *result)
{
    static char text[LIMIT_RESULT_TEXT_BYTES + 1];
    struct tool_call call = call_of(result);
    struct error err = ERROR_INIT;
    size_t at = 0;

    (void)run;
    assert_ok(toolkit_report(&call, report, &err), err);
    for (size_t i = 0; i < result->count; i++)
        at += (size_t)snprintf(text + at, sizeof text - at, "%s", buf_str(&result->blocks[i].data));
    return text;
}

static void a_report_is_output_and_status(void **state)
{
    struct fixture *f = *state;
    CLEANUP(run_unrefp) struct run *run = run_that_wrote(f, "hello\n", 6);
    CLEANUP(result_fini) struct result result;
    uint64_t end = 0;
    const struct toolkit_report report = { .run = run, .ret_end = &end };
    const char *text = report_of(run, &report, &result);

    assert_contains(text, "hello\n");
    assert_contains(text, "[exit code 0, ");
    assert_int_equal(end, 6);
    assert_false(result.is_error);
}

static void a_page_says_what_it_shows(void **state)
{
    struct fixture *f = *state;
    char *lines = numbered(10000);
    CLEANUP(run_unrefp) struct run *run = run_that_wrote(f, lines, 100000);
    CLEANUP(result_fini) struct result first;
    CLEANUP(result_fini) struct result second;
    CLEANUP(result_fini) struct result beyond;
    const struct toolkit_report from_start = { .run = run, .page = true };
    const struct toolkit_report near_end = { .run = run, .from = 99990, .page = true };
    const struct toolkit_report after = { .run = run, .from = 200000, .page = true };
    const char *text = report_of(run, &from_start, &first);

    assert_contains(text, "[bytes 0 to ");
    assert_contains(text, "of 100000; go on with terminal_read {\"run\":\"r_");
    text = report_of(run, &near_end, &second);
    assert_contains(text, "000009999\n");
    assert_contains(text, "[bytes 99990 to 100000 of 100000]");
    assert_null(strstr(text, "go on with"));
    text = report_of(run, &after, &beyond);
    assert_contains(text, "[the output ends at byte 100000]");
    free(lines);
}

static void a_screen_takes_the_place_of_output(void **state)
{
    struct fixture *f = *state;
    CLEANUP(run_unrefp) struct run *run = run_that_wrote(f, "hello\n", 6);
    CLEANUP(result_fini) struct result result;
    const struct toolkit_report report = { .run = run, .screen = "a screen" };
    const char *text = report_of(run, &report, &result);

    assert_contains(text, "a screen\n");
    assert_null(strstr(text, "hello"));
    assert_contains(text, "[exit code 0, ");
}

static void tells_what_was_refused_once_each(void **state)
{
    struct fixture *f = *state;
    CLEANUP(run_unrefp) struct run *run = run_that_wrote(f, "", 0);
    CLEANUP(result_fini) struct result result;
    const struct toolkit_report report = { .run = run };
    const char *text;

    computer_report_refusal(f->c, "mount", "/proc", 7);
    computer_report_refusal(f->c, "mount", "/proc", 7);
    for (char name[] = "call_a"; name[5] < 'l'; name[5]++)
        computer_report_refusal(f->c, name, "x", 7);
    text = report_of(run, &report, &result);
    assert_contains(text, "[refused by the sandbox: mount(/proc) 2 times]");
    assert_contains(text, "[refused by the sandbox: call_a(x)]");
    assert_contains(text, "[and 4 more refused system calls]");
}

static void a_report_survives_every_allocation_failure(void **state)
{
    struct fixture *f = *state;
    CLEANUP(run_unrefp) struct run *run = run_that_wrote(f, "hello\n", 6);

    computer_report_refusal(f->c, "mount", "/proc", 7);
    FAULT_EACH(n)
    {
        CLEANUP(result_fini) struct result result;
        struct tool_call call = call_of(&result);
        const struct toolkit_report report = { .run = run, .page = true };
        struct error err = ERROR_INIT;
        bool ok = toolkit_report(&call, &report, &err);

        FAULT_DONE(n);
        assert_int_equal(ok, n_last);
        if (!ok)
            assert_code(err, ERR_NOMEM);
    }
}

#define WITH_COMPUTER(test) cmocka_unit_test_setup_teardown(test, start, stop)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_COMPUTER(short_output_is_shown_whole),
        WITH_COMPUTER(no_output_is_none),
        WITH_COMPUTER(pages_lead_from_one_to_the_next_without_a_gap),
        WITH_COMPUTER(a_gap_says_where_to_go_on),
        WITH_COMPUTER(bytes_that_grow_when_made_valid_fit_as_well),
        WITH_COMPUTER(one_long_line_is_cut_between_characters),
        WITH_COMPUTER(says_what_is_no_longer_kept),
        WITH_COMPUTER(output_survives_every_allocation_failure),
        WITH_COMPUTER(a_report_is_output_and_status),
        WITH_COMPUTER(a_page_says_what_it_shows),
        WITH_COMPUTER(a_screen_takes_the_place_of_output),
        WITH_COMPUTER(tells_what_was_refused_once_each),
        WITH_COMPUTER(a_report_survives_every_allocation_failure),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
