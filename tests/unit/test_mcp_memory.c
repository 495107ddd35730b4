/* The server when memory runs out: every answer is whole, or an error, or the connection ends. */
#include "tests/unit/mcp_place.h"

/* ---- lists of tools in pages, which need many tools ---- */

#define MANY 150

static struct tool many_tools[MANY];
static char many_names[MANY][16];

static const struct toolset *many_set(void)
{
    static struct toolset set = { .name = "many", .tools = many_tools, .count = MANY };

    for (int i = 0; i < MANY; i++) {
        (void)snprintf(many_names[i], sizeof many_names[i], "t_%c%c", 'a' + i / 26, 'a' + i % 26);
        many_tools[i] = fake_tools[0];
        many_tools[i].name = many_names[i];
    }
    return &set;
}

static void place_new_many(struct place *p)
{
    int pair[2];

    place_begin(p, 2, many_set());
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
    p->in = p->out = pair[0];
    assert_int_equal(fcntl(p->in, F_SETFL, O_NONBLOCK), 0);
    place_serve(p, pair[1], pair[1]);
}

static void lists_many_tools_in_pages(void **state)
{
    static const char *const eras[] = { "", META };
    (void)state;

    for (size_t era = 0; era < ARRAY_LEN(eras); era++) {
        struct place p;
        char params[300] = "";
        size_t seen = 0;
        int pages = 0;

        place_new_many(&p);
        (void)snprintf(params, sizeof params, "%s", eras[era]);
        for (;;) {
            MESSAGE m = NULL;
            const json_t *tools;
            const char *cursor;

            ask(&p, "1", "tools/list", params);
            m = take_answer(&p, 1, 0);
            tools = at(m, "result.tools");
            pages++;
            for (size_t i = 0; i < json_array_size(tools); i++, seen++)
                assert_string_equal(text_at(json_array_get(tools, i), "name"), many_names[seen]);
            cursor = json_string_value(at(m, "result.nextCursor"));
            if (!cursor)
                break;
            (void)snprintf(params, sizeof params, "%s%s\"cursor\":\"%s\"", eras[era],
                           eras[era][0] ? "," : "", cursor);
        }
        assert_int_equal(seen, MANY);
        assert_int_equal(pages, 3);
        place_free(&p);
    }
}

static void refuses_cursors_it_did_not_give(void **state)
{
    static const char *const cursors[] = { "\"after-0\"",
                                           "\"after-1\"",
                                           "\"after-63\"",
                                           "\"after-192\"",
                                           "\"after-+64\"",
                                           "\"after- 64\"",
                                           "\"after-064\"",
                                           "\"after-64x\"",
                                           "\"after-64\\u0000x\"",
                                           "\"after-18446744073709551680\"",
                                           "\"after-\"",
                                           "\"before-64\"",
                                           "64",
                                           "null",
                                           "{}" };
    struct place p;
    (void)state;

    place_new_many(&p);
    for (size_t i = 0; i < ARRAY_LEN(cursors); i++) {
        char params[80];

        (void)snprintf(params, sizeof params, "\"cursor\":%s", cursors[i]);
        ask(&p, "1", "tools/list", params);
        assert_answer(&p, 1, JSONRPC_INVALID_PARAMS);
    }
    place_free(&p);
}

/* ---- failing allocations ---- */

static void a_server_that_cannot_be_made_leaves_the_descriptors(void **state)
{
    (void)state;

    FAULT_EACH(n)
    {
        struct error err = ERROR_INIT;
        struct mcp_options options;
        struct place p;
        int pair[2];
        unsigned armed = n;

        (void)fault_disarm();
        place_begin(&p, 1, &fake_set);
        assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
        options = place_options(&p, pair[1], pair[1]);
        fault_arm(armed);
        p.server = mcp_server_new(p.loop, &options, &err);
        FAULT_DONE(n);
        if (!p.server) {
            assert_code(err, ERR_NOMEM);
            assert_int_equal(fcntl(pair[1], F_GETFD), FD_CLOEXEC);
            fd_close(pair[1]);
        }
        fd_close(pair[0]);
        place_free(&p);
    }
}

/* What the server has written, without allocating anything. */
static char written[1u << 20];
static size_t written_len;

/* Whole lines that answer: they have an id, but for the error of a request that could not be
 * parsed. */
static int answers_written(void)
{
    int count = 0;

    for (char *line = written, *end;
         (end = memchr(line, '\n', written_len - (size_t)(line - written))); line = end + 1)
        count += memmem(line, (size_t)(end - line), "\"id\":", 5) ||
                 memmem(line, (size_t)(end - line), "\"error\":", 8);
    return count;
}

/* Read until @answers have come, or the connection has ended. */
static void collect(struct place *p, int answers)
{
    int64_t since_ns = real_now_ns();
    bool ended = false;

    written_len = 0;
    while (answers_written() < answers && !ended) {
        ssize_t n;

        turn(p, since_ns, "an answer, or the end");
        ended = p->ends > 0;
        while ((n = read(p->in, written + written_len, sizeof written - written_len)) > 0)
            written_len += (size_t)n;
    }
}

/* Everything in it is whole; answered are what they should be. */
static int check_written(void)
{
    int count = 0;

    for (size_t at_byte = 0; at_byte < written_len;) {
        const char *end = memchr(written + at_byte, '\n', written_len - at_byte);
        struct error err = ERROR_INIT;
        MESSAGE m = NULL;

        assert_non_null(end);
        m = json_parse(written + at_byte, (size_t)(end - written) - at_byte, &err);
        assert_ok(m, err);
        count += at(m, "id") || at(m, "error");
        at_byte = (size_t)(end - written) + 1;
    }
    return count;
}

static void every_answer_is_whole_or_the_last(void **state)
{
    static const struct {
        const char *label, *lines;
        int answers;
        bool gate;
    } rows[] = {
        { "ping", "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"ping\"}\n", 1, false },
        { "initialize and ping",
          "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"initialize\",\"params\":{\"protocolVersion\":"
          "\"2025-11-25\"}}\n{\"jsonrpc\":\"2.0\",\"id\":2,\"method\":\"ping\"}\n",
          2, false },
        { "discover",
          "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"server/discover\",\"params\":{" META "}}\n",
          1, false },
        { "list", "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"tools/list\"}\n", 1, false },
        { "list in the modern form",
          "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"tools/list\",\"params\":{" META "}}\n", 1,
          false },
        { "an inline call",
          "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"tools/call\",\"params\":{\"name\":\"echo\","
          "\"arguments\":{\"text\":\"hello\",\"times\":500}}}\n",
          1, false },
        { "structured data",
          "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"tools/"
          "call\",\"params\":{\"name\":\"data\"}}\n",
          1, false },
        { "an image",
          "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"tools/"
          "call\",\"params\":{\"name\":\"image\"}}\n",
          1, false },
        { "a call for a worker",
          "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"tools/"
          "call\",\"params\":{\"name\":\"wait\",\"_meta\":"
          "{\"progressToken\":1}}}\n",
          1, true },
        { "a failing call",
          "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"tools/"
          "call\",\"params\":{\"name\":\"fail\"}}\n",
          1, false },
        { "log messages",
          "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"logging/"
          "setLevel\",\"params\":{\"level\":\"debug\"}}\n",
          1, false },
        { "an unsupported version",
          "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"tools/list\",\"params\":{\"_meta\":{"
          "\"io.modelcontextprotocol/protocolVersion\":\"v9\"}}}\n",
          1, false },
    };
    (void)state;

    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        for (unsigned n = 0, last = 0; !last; n++) {
            struct place p;
            int got;

            place_new(&p, 1);
            put_text(&p, rows[i].lines);
            if (rows[i].gate)
                sem_post(&gate);
            fault_arm(n);
            collect(&p, rows[i].answers);
            last = !fault_disarm();
            got = check_written();
            if (got != rows[i].answers && !p.ends)
                fail_msg("%s, allocation %u: %d answers", rows[i].label, n, got);
            if (last && got != rows[i].answers)
                fail_msg("%s: %d answers though nothing failed", rows[i].label, got);
            /* Whoever is not cut off is served as before. */
            if (!p.ends)
                assert_silence(&p);
            place_free(&p);
        }
    }
}

static void a_long_line_may_be_given_up(void **state)
{
    static char part[200000];
    (void)state;

    memset(part, 'y', sizeof part);
    for (unsigned n = 0, last = 0; !last; n++) {
        struct place p;
        int errors = 0;

        place_new(&p, 1);
        put_text(&p, "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"ping\",\"params\":{\"x\":\"");
        fault_arm(n);
        for (size_t sent = 0; sent < sizeof part && !p.ends;) {
            ssize_t w = write(p.out, part + sent, MIN(sizeof part - sent, 50000u));

            if (w > 0)
                sent += (size_t)w;
            loop_turn(p.loop, 0);
        }
        last = !fault_disarm();
        if (p.ends) {
            place_free(&p);
            continue;
        }
        put(&p, "\"}}");
        ask(&p, "2", "ping", "");
        for (bool answered = false; !answered;) {
            MESSAGE m = take(&p);

            answered = at(m, "id") && int_at(m, "id") == 2;
            errors += at(m, "error") != NULL;
            if (last)
                assert_null(at(m, "error"));
        }
        assert_true(errors <= 1);
        place_free(&p);
    }
}

/* ---- answers that nobody reads ---- */

static bool tool_big(struct tool_call *call_, const void *args, struct error *err)
{
    static char image[LIMIT_IMAGE_BYTES];

    (void)args;
    return result_image(call_->result, image, sizeof image, "image/png", err);
}

static const struct tool big_tools[] = { TOOL("big", no_fields, char, tool_big, 0) };
static const struct toolset big_set = { .name = "big", .tools = big_tools, .count = 1 };

static void drops_answers_beyond_all_bounds(void **state)
{
    struct place p;
    int pair[2];
    int images = 0, errors = 0;
    (void)state;

    place_begin(&p, 2, &big_set);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
    p.in = p.out = pair[0];
    assert_int_equal(fcntl(p.in, F_SETFL, O_NONBLOCK), 0);
    place_serve(&p, pair[1], pair[1]);
    /* All are taken in one turn, before the first is answered. */
    {
        CLEANUP(buf_fini) struct buf lines = BUF_INIT;

        for (int i = 1; i <= 50; i++)
            assert_true(
                buf_printf(&lines,
                           "{\"jsonrpc\":\"2.0\",\"id\":%d,\"method\":\"tools/call\",\"params\":{"
                           "\"name\":\"big\"}}\n",
                           i));
        put_bytes(&p, lines.data, lines.len);
    }
    TURN_UNTIL(&p, ({
        struct kernel_stats stats;
        kernel_stats(p.k, &stats);
        stats.done == 50;
    }));
    for (int i = 0; i < 50; i++) {
        MESSAGE m = take(&p);

        if (at(m, "result.isError")) {
            assert_contains(text_at(m, "result.content.0.text"), "not being read");
            errors++;
        } else {
            images++;
        }
    }
    assert_true(images >= 32 && images < 40 && errors > 0);
    assert_int_equal(images + errors, 50);
    place_free(&p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lists_many_tools_in_pages),
        cmocka_unit_test(refuses_cursors_it_did_not_give),
        cmocka_unit_test(a_server_that_cannot_be_made_leaves_the_descriptors),
        cmocka_unit_test(every_answer_is_whole_or_the_last),
        cmocka_unit_test(a_long_line_may_be_given_up),
        cmocka_unit_test(drops_answers_beyond_all_bounds),
    };

    (void)signal(SIGPIPE, SIG_IGN);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
