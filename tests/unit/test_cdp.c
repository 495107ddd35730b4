#include "tests/unit/fake_guest.h"

#include "kernel/computer/computer.h"
#include "tools/cdp.h"

/* ---- a thread that behaves as a guest with one program, a browser that does what it is told ----
 */

struct peer {
    pthread_t thread;
    struct fake f;
    uint32_t channel;
    struct buf in;
};

static void say(struct peer *p, const char *text, size_t len)
{
    for (size_t at = 0; at < len; at += MIN(len - at, 7u)) /* cut at any place */
        (void)fake_send(&p->f, p->channel, WIRE_DATA, WIRE_STREAM_CONTROL, text + at,
                        MIN(len - at, 7u));
}

static void say_line(struct peer *p, const char *text)
{
    say(p, text, strlen(text) + 1);
}

static void end(struct peer *p, bool signalled, uint32_t value)
{
    if (!p->channel)
        return;
    (void)fake_exit(&p->f, p->channel, signalled, value);
    (void)fake_send(&p->f, p->channel, WIRE_EOF, WIRE_STREAM_OUT, NULL, 0);
    (void)fake_send(&p->f, p->channel, WIRE_EOF, WIRE_STREAM_CONTROL, NULL, 0);
    (void)fake_send(&p->f, p->channel, WIRE_CLOSE, 0, NULL, 0);
    p->channel = 0;
}

static void obey(struct peer *p, const json_t *message)
{
    const char *method = json_string_value(json_object_get(message, "method"));
    const char *session = json_string_value(json_object_get(message, "sessionId"));
    const char *words = "cannot open shared object file\n";
    json_int_t id = json_integer_value(json_object_get(message, "id"));
    char text[512];

    if (!strcmp(method, "Echo"))
        (void)snprintf(text, sizeof text, "{\"id\":%lld,\"result\":{\"session\":\"%s\"}}",
                       (long long)id, session ? session : "");
    else if (!strcmp(method, "Refuse"))
        (void)snprintf(text, sizeof text,
                       "{\"id\":%lld,\"error\":{\"code\":-32000,\"message\":\"no such node\"}}",
                       (long long)id);
    else if (!strcmp(method, "NoSession"))
        (void)snprintf(text, sizeof text,
                       "{\"id\":%lld,\"error\":{\"code\":-32001,\"message\":\"Session with given "
                       "id not found.\"}}",
                       (long long)id);
    else if (!strcmp(method, "Half"))
        (void)snprintf(text, sizeof text,
                       "{\"id\":%lld,\"result\":{\"a\":\"x\\ud83d\",\"b\":\"\\ud83d\\ude00\"}}",
                       (long long)id);
    else if (!strcmp(method, "Broken"))
        (void)snprintf(text, sizeof text, "{\"id\":%lld,\"result\":{]", (long long)id);
    else if (!strcmp(method, "Odd"))
        (void)snprintf(text, sizeof text, "{\"id\":%lld,\"result\":[1]}", (long long)id);
    else if (!strcmp(method, "Event")) {
        say_line(p, "{\"method\":\"A.b\",\"params\":{\"n\":1},\"sessionId\":\"S\"}");
        say_line(p, "[1,2]");
        say_line(p, "{\"method\":\"A.b\",\"params\":7}");
        say_line(p, "{\"id\":999999,\"result\":{}}");
        (void)snprintf(text, sizeof text, "{\"id\":%lld,\"result\":{}}", (long long)id);
    } else if (!strcmp(method, "Exit")) {
        (void)fake_send(&p->f, p->channel, WIRE_DATA, WIRE_STREAM_OUT, words, strlen(words));
        end(p, false, 3);
        return;
    } else {
        return; /* silent */
    }
    say_line(p, text);
}

static void hear(struct peer *p)
{
    char *nul;

    (void)buf_append(&p->in, p->f.payload, p->f.h.length);
    (void)fake_send_u32(&p->f, p->channel, WIRE_CREDIT, p->f.h.stream, p->f.h.length);
    while (p->in.len && (nul = memchr(p->in.data, '\0', p->in.len))) {
        json_t *message = json_loads(p->in.data, 0, NULL);

        buf_consume(&p->in, (size_t)(nul - p->in.data) + 1);
        if (message)
            obey(p, message);
        json_decref(message);
    }
}

static void *peer_main(void *arg)
{
    struct peer *p = arg;

    fake_hello(&p->f);
    while (fake_recv(&p->f)) {
        if (p->f.h.type == WIRE_SPAWN) {
            p->channel = p->f.h.channel;
            (void)fake_reply_pid(&p->f, p->channel, 7);
        } else if (p->channel && p->f.h.channel == p->channel) {
            if (p->f.h.type == WIRE_DATA)
                hear(p);
            if (p->f.h.type == WIRE_SIGNAL)
                end(p, true, 9);
        }
    }
    buf_fini(&p->in);
    fd_close(p->f.fd);
    return NULL;
}

/* ---- a connection to it ---- */

struct place {
    struct loop_thread lt;
    struct peer peer;
    struct computer *c;
    struct run *run;
    struct cdp *cdp;
    struct mark events, lost;
    char session[32], why[256];
    json_int_t n;
};

static void on_event(void *arg, const char *session, const char *method, json_t *params)
{
    struct place *p = arg;

    (void)snprintf(p->session, sizeof p->session, "%s %s", session, method);
    p->n = json_integer_value(json_object_get(params, "n"));
    mark_hit(&p->events);
}

static void on_lost(void *arg, const char *why)
{
    struct place *p = arg;

    (void)snprintf(p->why, sizeof p->why, "%s", why);
    mark_hit(&p->lost);
}

static const struct cdp_events events = { .event = on_event, .lost = on_lost };

static const struct computer_ops fake_ops = { .kind = "fake" };

static int begin(void **state)
{
    static const char *const env[] = { "PATH=/bin", NULL };
    static const struct run_spec spec = {
        .command = "browser", .merge = true, .control = true, .lossless = true
    };
    const struct computer_spec limits = { .pids = 1 };
    const struct wait w = patience(NULL);
    struct place *p = calloc(1, sizeof *p);
    struct error err = ERROR_INIT;
    struct computer_hooks hooks;
    int pair[2];

    assert_non_null(p);
    p->events = p->lost = (struct mark)MARK_INIT;
    loop_thread_start(&p->lt);
    hooks = (struct computer_hooks){ .loop = p->lt.loop };
    p->c = calloc(1, sizeof *p->c);
    assert_non_null(p->c);
    assert_ok(computer_init(p->c, &fake_ops, &limits, env, &hooks, &err), err);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
    assert_true(fd_set_nonblock(pair[0], true, NULL));
    fake_init(&p->peer.f, pair[1]);
    assert_int_equal(pthread_create(&p->peer.thread, NULL, peer_main, &p->peer), 0);
    assert_ok(computer_attach(p->c, pair[0], &w, &err), err);
    p->run = run_start(p->c, &spec, &w, &err);
    assert_ok(p->run, err);
    p->cdp = cdp_new(p->run, &events, p, &err);
    assert_ok(p->cdp, err);
    *state = p;
    return 0;
}

static int finish(void **state)
{
    struct place *p = *state;

    cdp_free(p->cdp);
    run_unref(p->run);
    computer_unref(p->c);
    pthread_join(p->peer.thread, NULL);
    loop_thread_stop(&p->lt);
    free(p);
    return 0;
}

/* ---- calls ---- */

static void an_answer_reaches_its_call(void **state)
{
    struct place *p = *state;
    const struct wait w = patience(NULL);
    struct error err = ERROR_INIT;

    for (int i = 0; i < 3; i++) {
        json_t *answer =
            cdp_call(p->cdp, i ? "S1" : NULL, "Echo", json_pack("{s:i}", "x", i), &w, &err);

        assert_ok(answer, err);
        assert_string_equal(json_string_value(json_object_get(answer, "session")), i ? "S1" : "");
        json_decref(answer);
    }
    assert_true(cdp_alive(p->cdp));
}

static void what_goes_wrong_is_told_by_its_kind(void **state)
{
    static const struct {
        const char *method;
        enum error_code code;
        const char *text;
    } rows[] = {
        { "Refuse", ERR_INVALID, "no such node" },
        { "NoSession", ERR_NOT_FOUND, "not found" },
        { "Broken", ERR_INVALID, "not valid JSON" },
        { "Odd", ERR_INVALID, "without a result" },
    };
    struct place *p = *state;
    const struct wait w = patience(NULL);

    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct error err = ERROR_INIT;

        assert_null(cdp_call(p->cdp, NULL, rows[i].method, NULL, &w, &err));
        assert_code(err, rows[i].code);
        assert_contains(err.text, rows[i].text);
    }
    assert_true(cdp_alive(p->cdp));
}

static void halves_of_characters_are_mended(void **state)
{
    struct place *p = *state;
    const struct wait w = patience(NULL);
    struct error err = ERROR_INIT;
    json_t *answer = cdp_call(p->cdp, NULL, "Half", NULL, &w, &err);

    assert_ok(answer, err);
    assert_string_equal(json_string_value(json_object_get(answer, "a")), "x\xef\xbf\xbd");
    assert_string_equal(json_string_value(json_object_get(answer, "b")), "\xf0\x9f\x98\x80");
    json_decref(answer);
}

static void events_are_told_and_nonsense_is_dropped(void **state)
{
    struct place *p = *state;
    const struct wait w = patience(NULL);
    struct error err = ERROR_INIT;
    json_t *answer = cdp_call(p->cdp, NULL, "Event", NULL, &w, &err);

    assert_ok(answer, err);
    json_decref(answer);
    mark_wait(&p->events, 1);
    assert_int_equal(p->events.count, 1);
    assert_string_equal(p->session, "S A.b");
    assert_int_equal(p->n, 1);
}

static void waiting_ends_with_its_deadline_and_its_token(void **state)
{
    struct place *p = *state;
    struct cancel cancel;
    struct wait w = { .deadline_ns = clock_now_ns() + 20 * CLOCK_NS_PER_MS };
    struct error err = ERROR_INIT;

    assert_null(cdp_call(p->cdp, NULL, "Silent", NULL, &w, &err));
    assert_code(err, ERR_TIMEOUT);
    cancel_init(&cancel);
    cancel_raise(&cancel);
    w = patience(&cancel);
    error_clear(&err);
    assert_null(cdp_call(p->cdp, NULL, "Silent", json_object(), &w, &err));
    assert_code(err, ERR_CANCELLED);
    cancel_fini(&cancel);
    assert_true(cdp_alive(p->cdp));
}

struct asking {
    struct place *p;
    const char *method;
    atomic_uint *interrupts;
    atomic_bool done;
};

static bool ask(void *arg, struct error *err)
{
    struct asking *a = arg;
    const struct wait w = patience(NULL);
    json_t *answer = cdp_ask(a->p->cdp, NULL, a->method, NULL, a->interrupts, &w, err);

    json_decref(answer);
    atomic_store(&a->done, true);
    return answer != NULL;
}

static void an_interrupt_ends_the_calls_that_name_it(void **state)
{
    struct place *p = *state;
    atomic_uint interrupts = 0;
    struct asking a = { .p = p, .method = "Silent", .interrupts = &interrupts };
    struct async call;

    async_start(&call, ask, &a);
    /* One that comes before it has begun is not meant for it. */
    while (!atomic_load(&a.done)) {
        const struct wait moment = { .deadline_ns = clock_now_ns() + 5 * CLOCK_NS_PER_MS };
        struct error late = ERROR_INIT;

        atomic_fetch_add(&interrupts, 1);
        cdp_wake(p->cdp);
        assert_null(cdp_call(p->cdp, NULL, "Silent", NULL, &moment, &late));
    }
    assert_false(async_join(&call));
    assert_code(call.err, ERR_BUSY);
}

static void its_end_ends_all_calls_with_the_reason(void **state)
{
    struct place *p = *state;
    struct asking silent = { .p = p, .method = "Silent" };
    struct asking exits = { .p = p, .method = "Exit" };
    struct async first, second;
    struct error err = ERROR_INIT;
    const struct wait w = patience(NULL);
    char why[256];

    async_start(&first, ask, &silent);
    async_start(&second, ask, &exits);
    assert_false(async_join(&first));
    assert_false(async_join(&second));
    assert_code(first.err, ERR_LOST);
    assert_code(second.err, ERR_LOST);
    mark_wait(&p->lost, 1);
    assert_false(cdp_alive(p->cdp));
    cdp_why(p->cdp, why, sizeof why);
    assert_string_equal(why, p->why);
    assert_contains(why, "exit 3");
    assert_contains(why, "cannot open shared object file");
    assert_null(cdp_call(p->cdp, NULL, "Echo", NULL, &w, &err));
    assert_code(err, ERR_LOST);
    cdp_post(p->cdp, NULL, "Echo", NULL); /* harmless */
}

static void stopping_ends_all_calls(void **state)
{
    struct place *p = *state;
    struct asking silent = { .p = p, .method = "Silent" };
    struct async call;

    async_start(&call, ask, &silent);
    cdp_stop(p->cdp);
    assert_false(async_join(&call));
    assert_code(call.err, ERR_LOST);
    mark_wait(&p->lost, 1);
}

static void one_that_never_ends_a_message_is_given_up(void **state)
{
    struct cdp_message m;
    size_t used, len = CDP_MESSAGE_MAX + 2u;
    char *bytes = malloc(len);
    (void)state;

    assert_non_null(bytes);
    memset(bytes, 'x', len);
    assert_int_equal(cdp_message_read(bytes, 0, &m, &used), CDP_MORE);
    assert_int_equal(cdp_message_read(bytes, CDP_MESSAGE_MAX, &m, &used), CDP_MORE);
    assert_int_equal(cdp_message_read(bytes, len, &m, &used), CDP_BROKEN);
    bytes[len - 1] = '\0';
    assert_int_equal(cdp_message_read(bytes, len, &m, &used), CDP_BROKEN);
    free(bytes);
}

static void a_deep_answer_fails_its_call_alone(void **state)
{
    struct cdp_message m;
    size_t used;
    CLEANUP(buf_fini) struct buf text = BUF_INIT;
    (void)state;

    assert_true(buf_append_str(&text, "{\"id\":12,\"result\":"));
    for (int i = 0; i < 200; i++)
        assert_true(buf_append_str(&text, "{\"a\":"));
    assert_true(buf_append_char(&text, '1'));
    for (int i = 0; i < 201; i++)
        assert_true(buf_append_char(&text, '}'));
    assert_true(buf_append_char(&text, '\0'));
    assert_int_equal(cdp_message_read(text.data, text.len, &m, &used), CDP_OK);
    assert_int_equal(used, text.len);
    assert_int_equal(m.id, 12);
    assert_null(m.result);
    assert_contains(m.error, "too deeply");
    json_decref(m.whole);
}

#define WITH_BROWSER(test) cmocka_unit_test_setup_teardown(test, begin, finish)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_BROWSER(an_answer_reaches_its_call),
        WITH_BROWSER(what_goes_wrong_is_told_by_its_kind),
        WITH_BROWSER(halves_of_characters_are_mended),
        WITH_BROWSER(events_are_told_and_nonsense_is_dropped),
        WITH_BROWSER(waiting_ends_with_its_deadline_and_its_token),
        WITH_BROWSER(an_interrupt_ends_the_calls_that_name_it),
        WITH_BROWSER(its_end_ends_all_calls_with_the_reason),
        WITH_BROWSER(stopping_ends_all_calls),
        cmocka_unit_test(one_that_never_ends_a_message_is_given_up),
        cmocka_unit_test(a_deep_answer_fails_its_call_alone),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
