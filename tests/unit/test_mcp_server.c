/* The server's two descriptors: how messages come in, go out, and end. */
#include "tests/unit/mcp_place.h"

/* ---- ways in and out ---- */

static void serves_two_pipes(void **state)
{
    struct place p;
    int in[2], out[2];
    (void)state;

    place_begin(&p, 2, &fake_set);
    assert_int_equal(pipe2(in, O_CLOEXEC), 0);
    assert_int_equal(pipe2(out, O_CLOEXEC), 0);
    p.in = out[0];
    p.out = in[1];
    assert_int_equal(fcntl(p.in, F_SETFL, O_NONBLOCK), 0);
    place_serve(&p, in[0], out[1]);
    initialize(&p, "2025-11-25", "");
    call(&p, "2", "echo", "\"arguments\":{\"text\":\"hi\"}");
    assert_answer(&p, 2, 0);
    assert_int_equal(p.firsts, 1);
    fd_close(p.out);
    p.out = -1;
    TURN_UNTIL(&p, p.ends == 1);
    place_free(&p);
}

static int file_of(const char *text)
{
    char path[] = "/tmp/aios-test-XXXXXX";
    int fd = mkostemp(path, O_CLOEXEC);
    struct error err = ERROR_INIT;

    assert_true(fd >= 0);
    assert_int_equal(unlink(path), 0);
    assert_ok(fd_write_all(fd, text, strlen(text), &err), err);
    assert_int_equal(lseek(fd, 0, SEEK_SET), 0);
    return fd;
}

static void serves_files(void **state)
{
    CLEANUP(buf_fini) struct buf text = BUF_INIT;
    struct place p;
    int out = file_of("");
    int answers = 0;
    bool seen[301] = { false };
    (void)state;

    /* More than one burst of messages, one that takes its time, and no newline at the end. */
    assert_true(
        buf_append_str(&text, "{\"jsonrpc\":\"2.0\",\"id\":0,\"method\":\"tools/call\",\"params\":{"
                              "\"name\":\"wait\"}}\n"));
    for (int i = 1; i <= 300; i++)
        assert_true(buf_printf(&text, "{\"jsonrpc\":\"2.0\",\"id\":%d,\"method\":\"ping\"}%s", i,
                               i < 300 ? "\n" : ""));
    place_begin(&p, 2, &fake_set);
    sem_post(&gate);
    p.in = dup(out);
    assert_true(p.in >= 0);
    place_serve(&p, file_of(buf_str(&text)), out);
    TURN_UNTIL(&p, p.ends == 1);
    assert_int_equal(lseek(p.in, 0, SEEK_SET), 0);
    for (MESSAGE m = NULL; (m = take_now(&p)); json_decref(m), m = NULL, answers++) {
        json_int_t id = int_at(m, "id");

        assert_true(id >= 0 && id <= 300 && !seen[id]);
        assert_non_null(at(m, "result"));
        seen[id] = true;
    }
    assert_int_equal(answers, 301);
    place_free(&p);
}

static void ends_at_once_with_nothing_to_read(void **state)
{
    struct place p;
    (void)state;

    place_begin(&p, 2, &fake_set);
    place_serve(&p, open("/dev/null", O_RDONLY | O_CLOEXEC),
                open("/dev/null", O_WRONLY | O_CLOEXEC));
    TURN_UNTIL(&p, p.ends == 1);
    assert_int_equal(p.firsts, 0);
    place_free(&p);
}

static void ends_when_it_cannot_write(void **state)
{
    struct place p;
    int full = open("/dev/full", O_WRONLY | O_CLOEXEC);
    (void)state;

    if (full < 0)
        skip_because("there is no /dev/full");
    place_begin(&p, 2, &fake_set);
    place_serve(&p, file_of("{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"ping\"}\n"), full);
    TURN_UNTIL(&p, p.ends == 1);
    assert_int_equal(p.firsts, 0);
    place_free(&p);
}

static void takes_lines_however_they_are_cut(void **state)
{
    static const char text[] = "\r\n\n{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"ping\"}\r\n\n"
                               "{\"jsonrpc\":\"2.0\",\"id\":2,\"method\":\"ping\"}\n";
    struct place p;
    (void)state;

    for (size_t step = 1; step < sizeof text; step += step < 4 ? 1 : 17) {
        place_new(&p, 2);
        for (size_t i = 0; i < sizeof text - 1; i += step) {
            put_bytes(&p, text + i, MIN(step, sizeof text - 1 - i));
            loop_turn(p.loop, 0);
        }
        assert_answer(&p, 1, 0);
        assert_answer(&p, 2, 0);
        place_free(&p);
    }
}

static void refuses_a_line_too_long_once_and_reads_on(void **state)
{
    CLEANUP(buf_fini) struct buf line = BUF_INIT;
    struct place p;
    MESSAGE error = NULL;
    (void)state;

    place_new(&p, 2);
    assert_true(buf_reserve(&line, 10u << 20));
    memset(line.data, 'y', 10u << 20);
    line.len = 10u << 20;
    put_bytes(&p, line.data, line.len);
    put(&p, "");
    ask(&p, "1", "ping", "");
    error = take(&p);
    assert_null(at(error, "id"));
    assert_int_equal(int_at(error, "error.code"), JSONRPC_INVALID_REQUEST);
    assert_answer(&p, 1, 0);
    /* A long one that may be. */
    line.len = 4u << 20;
    put_text(&p, "{\"jsonrpc\":\"2.0\",\"id\":2,\"method\":\"ping\",\"params\":{\"x\":\"");
    put_bytes(&p, line.data, line.len);
    put(&p, "\"}}");
    assert_answer(&p, 2, 0);
    place_free(&p);
}

static void handles_many_at_once(void **state)
{
    CLEANUP(buf_fini) struct buf lines = BUF_INIT;
    struct place p;
    (void)state;

    place_new(&p, 2);
    for (int i = 0; i < 1000; i++)
        assert_true(buf_printf(&lines, "{\"jsonrpc\":\"2.0\",\"id\":%d,\"method\":\"ping\"}\n", i));
    put_bytes(&p, lines.data, lines.len);
    for (int i = 0; i < 1000; i++)
        assert_answer(&p, i, 0);
    place_free(&p);
}

/* ---- the first answer ---- */

static void tells_of_the_first_answer_after_it_was_written(void **state)
{
    struct place p;
    (void)state;

    place_new(&p, 2);
    put(&p, "{\"jsonrpc\":\"2.0\",\"method\":\"notifications/initialized\"}");
    put(&p, "nonsense");
    put(&p, "{\"jsonrpc\":\"2.0\",\"id\":5,\"result\":{}}");
    {
        MESSAGE error = take(&p);

        assert_int_equal(int_at(error, "error.code"), JSONRPC_PARSE_ERROR);
    }
    assert_int_equal(p.firsts, 0); /* none of them was a request */
    ask(&p, "1", "ping", "");
    ask(&p, "2", "ping", "");
    TURN_UNTIL(&p, p.firsts == 1);
    assert_true(p.first_after_answer);
    assert_answer(&p, 1, 0);
    assert_answer(&p, 2, 0);
    assert_int_equal(p.firsts, 1);
    place_free(&p);
}

static void a_call_in_flight_is_not_answered_yet(void **state)
{
    struct place p;
    (void)state;

    place_new(&p, 2);
    call(&p, "1", "wait", META);
    await_handler(&p);
    loop_turn(p.loop, 0);
    assert_int_equal(p.firsts, 0);
    sem_post(&gate);
    TURN_UNTIL(&p, p.firsts == 1);
    assert_true(p.first_after_answer);
    assert_answer(&p, 1, 0);
    place_free(&p);
}

/* ---- a client that does not read ---- */

static void stops_reading_from_a_client_that_does_not_read(void **state)
{
    static const char text[] =
        "{\"jsonrpc\":\"2.0\",\"id\":7,\"method\":\"tools/call\",\"params\":{\"name\":"
        "\"echo\",\"arguments\":{\"text\":\"0123456789\",\"times\":3200}}}\n";
    struct place p;
    size_t written = 0, sent = 0, answered = 0;
    int idle = 0;
    (void)state;

    place_new(&p, 2);
    /* Until nothing is taken any more, many turns after the last piece was. */
    while (idle < 50) {
        ssize_t n = write(p.out, text + written, sizeof text - 1 - written);

        if (n > 0) {
            idle = 0;
            written += (size_t)n;
            if (written == sizeof text - 1) {
                written = 0;
                sent++;
            }
        } else {
            idle++;
            loop_turn(p.loop, 1);
        }
        assert_true(sent < 20000);
    }
    /* About what the limit holds, and what lies in the sockets and the frame. */
    assert_true(sent * 32000 > LIMIT_MCP_OUT_BYTES);
    assert_true(sent * 32000 < 3 * (size_t)LIMIT_MCP_OUT_BYTES);
    /* It reads on when it is read from. */
    for (; answered < sent; answered++)
        assert_answer(&p, 7, 0);
    if (written > 0) {
        put_text(&p, text + written);
        assert_answer(&p, 7, 0);
    }
    assert_silence(&p);
    place_free(&p);
}

static void an_ended_client_that_does_not_read_is_not_waited_for(void **state)
{
    static const char text[] =
        "{\"jsonrpc\":\"2.0\",\"id\":7,\"method\":\"tools/call\",\"params\":{\"name\":"
        "\"echo\",\"arguments\":{\"text\":\"0123456789\",\"times\":3200}}}";
    int64_t now_ns = clock_now_ns();
    struct place p;
    (void)state;

    clock_fake(now_ns);
    place_new(&p, 2);
    for (int i = 0; i < 100; i++)
        put(&p, text);
    assert_int_equal(shutdown(p.out, SHUT_WR), 0);
    for (int i = 0; i < 100; i++)
        loop_turn(p.loop, 0);
    assert_int_equal(p.ends, 0);
    /* It has time as long as it reads now and then. */
    for (int i = 0; i < 10; i++) {
        now_ns += 4 * CLOCK_NS_PER_S;
        clock_fake(now_ns);
        for (int answers = 0; answers < 8; answers++)
            assert_answer(&p, 7, 0);
        for (int turns = 0; turns < 10; turns++)
            loop_turn(p.loop, 0);
        assert_int_equal(p.ends, 0);
    }
    for (int i = 0; i < 3 && !p.ends; i++) {
        now_ns += 5 * CLOCK_NS_PER_S;
        clock_fake(now_ns);
        loop_turn(p.loop, 0);
        loop_turn(p.loop, 0);
    }
    assert_int_equal(p.ends, 1);
    place_free(&p);
}

/* ---- the end ---- */

static void answers_what_is_in_flight_at_the_end_of_the_input(void **state)
{
    struct place p;
    (void)state;

    place_new(&p, 2);
    call(&p, "1", "wait", "");
    put_text(&p, "{\"jsonrpc\":\"2.0\",\"id\":2,\"method\":\"ping\"}");
    await_handler(&p);
    assert_int_equal(shutdown(p.out, SHUT_WR), 0);
    assert_answer(&p, 2, 0); /* though its line had no end */
    assert_int_equal(p.ends, 0);
    sem_post(&gate);
    assert_answer(&p, 1, 0);
    TURN_UNTIL(&p, p.ends == 1);
    place_free(&p);
}

static void cancels_what_is_in_flight_soon_after_the_end(void **state)
{
    int64_t now_ns = clock_now_ns();
    struct place p;
    (void)state;

    clock_fake(now_ns);
    place_new(&p, 2);
    call(&p, "1", "wait", "");
    await_handler(&p);
    assert_int_equal(shutdown(p.out, SHUT_WR), 0);
    for (int i = 0; i < 20; i++)
        loop_turn(p.loop, 0);
    assert_int_equal(p.ends, 0);
    clock_fake(now_ns + CLOCK_NS_PER_S);
    TURN_UNTIL(&p, p.ends == 1);
    assert_null(take_now(&p)); /* nothing is said about it */
    place_free(&p);
}

static void a_client_that_has_gone_cancels_everything(void **state)
{
    struct place p;
    int in[2], out[2];
    (void)state;

    place_begin(&p, 2, &fake_set);
    assert_int_equal(pipe2(in, O_CLOEXEC), 0);
    assert_int_equal(pipe2(out, O_CLOEXEC), 0);
    p.in = out[0];
    p.out = in[1];
    place_serve(&p, in[0], out[1]);
    call(&p, "1", "wait", "");
    await_handler(&p);
    fd_close(p.in); /* it does not read, but its input has not ended */
    p.in = -1;
    ask(&p, "2", "ping", "");
    TURN_UNTIL(&p, p.ends == 1);
    place_free(&p);
}

static void a_reset_connection_is_an_end(void **state)
{
    struct place p;
    (void)state;

    place_new(&p, 2);
    ask(&p, "1", "ping", "");
    TURN_UNTIL(&p, p.firsts == 1);
    ask(&p, "2", "ping", "");
    place_close(&p); /* with an unread answer, which makes it a reset */
    TURN_UNTIL(&p, p.ends == 1);
    assert_int_equal(p.ends, 1);
    place_free(&p);
}

/* ---- freed at any time ---- */

static void begin_nothing(struct place *p)
{
    (void)p;
}

static void begin_half_a_line(struct place *p)
{
    put_text(p, "{\"jsonrpc\":");
    loop_turn(p->loop, 0);
}

static void begin_with_lines_unread(struct place *p)
{
    for (int i = 0; i < 500; i++)
        ask(p, "1", "ping", "");
    loop_turn(p->loop, 0);
}

static void begin_with_answers_unread(struct place *p)
{
    for (int i = 0; i < 100; i++)
        call(p, "1", "echo", "\"arguments\":{\"text\":\"0123456789\",\"times\":3000}");
    for (int i = 0; i < 10; i++)
        loop_turn(p->loop, 0);
}

static void begin_a_call(struct place *p)
{
    call(p, "1", "wait", "\"_meta\":{\"progressToken\":1}");
    await_handler(p);
}

static void begin_calls_in_the_queue(struct place *p)
{
    for (int i = 0; i < 20; i++) {
        char id[16];

        (void)snprintf(id, sizeof id, "%d", i);
        call(p, id, "wait", "");
    }
    await_handler(p);
}

static void begin_a_question(struct place *p)
{
    initialize(p, "2025-11-25", "\"roots\":{}");
    call(p, "2", "roots", "");
    {
        MESSAGE question = take(p);

        assert_string_equal(text_at(question, "method"), "roots/list");
    }
}

static void begin_a_question_unasked(struct place *p)
{
    initialize(p, "2025-11-25", "\"roots\":{}");
    call(p, "2", "roots", "");
    loop_turn(p->loop, 0); /* the worker may ask now, or later, or never */
}

static void begin_with_a_subscription(struct place *p)
{
    ask(p, "1", "logging/setLevel", "\"level\":\"debug\"");
    assert_answer(p, 1, 0);
    call(p, "2", "event", "");
    event_publish(kernel_events(p->k), "egress.denied", "default", "c_1", "x");
}

static void begin_with_the_input_ended(struct place *p)
{
    begin_a_call(p);
    (void)shutdown(p->out, SHUT_WR);
    loop_turn(p->loop, 0);
}

static void begin_with_the_client_gone(struct place *p)
{
    begin_a_call(p);
    ask(p, "2", "ping", "");
    place_close(p);
    loop_turn(p->loop, 0);
}

static void is_freed_in_every_state(void **state)
{
    static void (*const beginnings[])(struct place * p) = {
        begin_nothing,
        begin_half_a_line,
        begin_with_lines_unread,
        begin_with_answers_unread,
        begin_a_call,
        begin_calls_in_the_queue,
        begin_a_question,
        begin_a_question_unasked,
        begin_with_a_subscription,
        begin_with_the_input_ended,
        begin_with_the_client_gone,
    };
    (void)state;

    for (size_t i = 0; i < ARRAY_LEN(beginnings); i++) {
        struct place p;

        place_new(&p, 2);
        beginnings[i](&p);
        mcp_server_free(p.server);
        p.server = NULL;
        assert_true(p.ends <= 1);
        place_free(&p);
    }
    mcp_server_free(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(serves_two_pipes),
        cmocka_unit_test(serves_files),
        cmocka_unit_test(ends_at_once_with_nothing_to_read),
        cmocka_unit_test(ends_when_it_cannot_write),
        cmocka_unit_test(takes_lines_however_they_are_cut),
        cmocka_unit_test(refuses_a_line_too_long_once_and_reads_on),
        cmocka_unit_test(handles_many_at_once),
        cmocka_unit_test(tells_of_the_first_answer_after_it_was_written),
        cmocka_unit_test(a_call_in_flight_is_not_answered_yet),
        cmocka_unit_test(stops_reading_from_a_client_that_does_not_read),
        cmocka_unit_test(an_ended_client_that_does_not_read_is_not_waited_for),
        cmocka_unit_test(answers_what_is_in_flight_at_the_end_of_the_input),
        cmocka_unit_test(cancels_what_is_in_flight_soon_after_the_end),
        cmocka_unit_test(a_client_that_has_gone_cancels_everything),
        cmocka_unit_test(a_reset_connection_is_an_end),
        cmocka_unit_test(is_freed_in_every_state),
    };

    (void)signal(SIGPIPE, SIG_IGN);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
