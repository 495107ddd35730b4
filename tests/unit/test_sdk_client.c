/* The connection of libaios: what comes late, cut, in pieces, or is no answer at all. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "tests/unit/sdk_fake.h"

static struct aios_error err;

static struct aios_reply *ask_in(struct aios *a, int64_t timeout_ms)
{
    struct aios_tool_query query = { .tool = "t", .timeout_ms = timeout_ms };

    return aios_tool(a, &query, &err);
}

static struct aios_reply *ask(struct aios *a)
{
    return ask_in(a, 0);
}

#define assert_says(a, text)                            \
    do {                                                \
        struct aios_reply *r_ = ask(a);                 \
        assert_sdk(r_, err);                            \
        assert_string_equal(aios_reply_text(r_), text); \
        aios_reply_free(r_);                            \
    } while (0)

static void greets_and_asks_in_the_protocol(void **state)
{
    struct aios *a = CONNECT({ TEXT("hello") });

    (void)state;
    assert_sdk(a, err);
    assert_string_equal(aios_agent(a), "tester");
    assert_says(a, "hello");
    DISCONNECT(a);
    assert_string_equal(fake.lines[0], "{\"aios\":{\"agent\":\"\"}}");
    assert_string_equal(
        fake.lines[1],
        "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"tools/call\",\"params\":{\"name\":\"t\","
        "\"arguments\":{},\"_meta\":{\"io.modelcontextprotocol/protocolVersion\":\"2026-07-28\","
        "\"io.modelcontextprotocol/clientCapabilities\":{},\"io.modelcontextprotocol/clientInfo\":"
        "{\"name\":\"libaios\",\"version\":\"" AIOS_VERSION "\"}}}}");
}

static void bad_greetings_are_told_apart(void **state)
{
    static const struct {
        const char *label, *say;
        enum aios_code want;
        const char *text;
    } rows[] = {
        { "refused", "{\"aios\":{\"error\":\"not you\"}}\n", AIOS_DENIED, "not you" },
        { "another server", "{\"hello\":1}\n", AIOS_PROTOCOL, "no kernel" },
        { "not JSON", "SSH-2.0-x\n", AIOS_PROTOCOL, "no message" },
        { "an array", "[]\n", AIOS_PROTOCOL, "no message" },
        { "a number", "{\"aios\":7}\n", AIOS_PROTOCOL, "no kernel" },
        { "nothing", NULL, AIOS_LOST, "closed" },
        { "half", "{\"aios\":", AIOS_LOST, "closed" },
    };
    (void)state;

    for (size_t i = 0; i < SDK_LEN(rows); i++) {
        const struct sdk_step steps[] = { { rows[i].say, .hang_up = true } };
        struct aios *a;

        err.code = AIOS_OK;
        a = sdk_attach(sdk_fake_begin(&fake, steps, 1), NULL, &err);
        sdk_fake_end(&fake);
        if (a || err.code != rows[i].want || !strstr(err.text, rows[i].text))
            fail_msg("%s: code %d: %s", rows[i].label, (int)err.code, err.text);
    }
}

static void a_late_answer_is_cancelled_and_passed_over(void **state)
{
    /* Nothing comes before the cancellation; then both answers. */
    struct aios *a = CONNECT({ NULL }, { NULL },
                             { "{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{\"content\":["
                               "{\"type\":\"text\",\"text\":\"late\"}]}}\n" TEXT("in time") });

    (void)state;
    assert_sdk(a, err);
    assert_failed(ask_in(a, 20), err, AIOS_TIMEOUT);
    assert_says(a, "in time");
    DISCONNECT(a);
    assert_string_equal(fake.lines[2],
                        "{\"jsonrpc\":\"2.0\",\"method\":\"notifications/cancelled\",\"params\":{"
                        "\"requestId\":1,\"reason\":\"the time limit has passed\"}}");
}

static void notifications_and_requests_of_the_kernel_are_passed_over(void **state)
{
    struct aios *a =
        CONNECT({ "{\"jsonrpc\":\"2.0\",\"method\":\"notifications/progress\",\"params\":{}}\n"
                  "{\"jsonrpc\":\"2.0\",\"id\":$,\"method\":\"ping\"}\n"
                  "{\"jsonrpc\":\"2.0\",\"id\":\"$\",\"result\":{\"content\":[]}}\n" TEXT("x") });

    (void)state;
    assert_sdk(a, err);
    assert_says(a, "x");
    DISCONNECT(a);
}

static void lines_may_come_in_pieces_or_together(void **state)
{
    struct aios *a = CONNECT({ TEXT("one"), .bytewise = true },
                             { TEXT("two") "{\"jsonrpc\":\"2.0\",\"id\":3,\"result\":{\"content\":["
                                           "{\"type\":\"text\",\"text\":\"early\"}]}}\n" });

    (void)state;
    assert_sdk(a, err);
    assert_says(a, "one");
    assert_says(a, "two");
    assert_says(a, "early");
    DISCONNECT(a);
}

static void a_refusal_has_its_kind(void **state)
{
    static const struct {
        const char *say, *want;
    } rows[] = {
        { REFUSAL("\"not_found\"", "no"), "not_found" },
        { ERROR("no"), "" },
        { REFUSAL("7", "no"), "" },
        { REFUSAL("\"a name that is longer than any\"", "no"), "a name that is " },
        { "{\"id\":$,\"error\":{\"code\":-32602,\"message\":\"no\"}}\n", "" },
    };
    (void)state;

    for (size_t i = 0; i < SDK_LEN(rows); i++) {
        struct aios *a = CONNECT({ rows[i].say });

        assert_sdk(a, err);
        memset(&err, 'x', sizeof err);
        assert_null(ask(a));
        assert_int_equal(err.code, AIOS_REFUSED);
        assert_string_equal(err.kind, rows[i].want);
        assert_string_equal(err.text, "no");
        DISCONNECT(a);
    }
}

static void what_is_no_answer_is_an_error(void **state)
{
    static const struct {
        const char *label, *say;
        enum aios_code want;
        bool usable; /* the connection, afterwards */
    } rows[] = {
        { "garbage", "\x01\x02\xff\n", AIOS_PROTOCOL, false },
        { "an empty line", "\n", AIOS_PROTOCOL, false },
        { "two values", "{}{}\n", AIOS_PROTOCOL, false },
        { "no result", "{\"jsonrpc\":\"2.0\",\"id\":$}\n", AIOS_PROTOCOL, true },
        { "a result that is no object", "{\"id\":$,\"result\":7}\n", AIOS_PROTOCOL, true },
        { "no content", RESULT("\"x\":1"), AIOS_PROTOCOL, true },
        { "a question back", RESULT("\"resultType\":\"input_required\",\"content\":[]"),
          AIOS_PROTOCOL, true },
        { "an error", "{\"id\":$,\"error\":{\"code\":-32602,\"message\":\"no\"}}\n", AIOS_REFUSED,
          true },
        { "an error about no line", "{\"id\":null,\"error\":{\"code\":1,\"message\":\"no\"}}\n",
          AIOS_REFUSED, true },
        { "a tool's error", ERROR("no"), AIOS_REFUSED, true },
    };
    (void)state;

    for (size_t i = 0; i < SDK_LEN(rows); i++) {
        struct aios *a = CONNECT({ rows[i].say }, { TEXT("again") });
        struct aios_reply *reply;

        assert_sdk(a, err);
        reply = ask(a);
        if (reply || err.code != rows[i].want)
            fail_msg("%s: code %d: %s", rows[i].label, (int)err.code, err.text);
        if (rows[i].want == AIOS_REFUSED)
            assert_string_equal(err.text, "no");
        reply = ask(a);
        if (!reply != !rows[i].usable)
            fail_msg("%s: afterwards code %d: %s", rows[i].label, (int)err.code, err.text);
        if (!reply)
            assert_int_equal(err.code, AIOS_LOST);
        aios_reply_free(reply);
        DISCONNECT(a);
    }
}

static void a_cut_connection_is_lost_for_good(void **state)
{
    struct aios *a = CONNECT({ "{\"jsonrpc\":", .hang_up = true });

    (void)state;
    assert_sdk(a, err);
    assert_failed(ask(a), err, AIOS_LOST);
    assert_failed(ask(a), err, AIOS_LOST);
    assert_failed(ask_in(a, 1), err, AIOS_LOST);
    DISCONNECT(a);
}

/* Says 'x' for ever. */
static void *flood(void *arg)
{
    static const char many[65536] = { 'x' };
    const int *fd = arg;

    while (send(*fd, many, sizeof many, MSG_NOSIGNAL) > 0)
        ;
    return NULL;
}

static void an_endless_line_is_given_up(void **state)
{
    int pair[2];
    pthread_t thread;

    (void)state;
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
    assert_int_equal(pthread_create(&thread, NULL, flood, &pair[1]), 0);
    assert_failed(sdk_attach(pair[0], NULL, &err), err, AIOS_LOST);
    assert_non_null(strstr(err.text, "too long"));
    pthread_join(thread, NULL);
    close(pair[1]);
}

static void a_long_line_is_taken(void **state)
{
    static char say[3 << 20];
    size_t head =
        strlen("{\"jsonrpc\":\"2.0\",\"id\":$,\"result\":{\"content\":[{\"type\":\"text\","
               "\"text\":\"");
    struct aios_reply *reply;
    struct aios *a;

    (void)state;
    memcpy(say, TEXT(""), head);
    memset(say + head, 'y', 2 << 20);
    memcpy(say + head + (2 << 20), &TEXT("")[head], strlen(TEXT("")) - head + 1);
    a = CONNECT({ say });
    assert_sdk(a, err);
    reply = ask(a);
    assert_sdk(reply, err);
    assert_int_equal(strlen(aios_reply_text(reply)), 2 << 20);
    aios_reply_free(reply);
    DISCONNECT(a);
}

/* A kernel that takes nothing more. */
static void a_question_that_cannot_be_sent_ends_the_connection(void **state)
{
    struct aios_tool_query query = { .tool = "t", .timeout_ms = 1000 };
    size_t len = 4 << 20;
    char *arguments = malloc(len + 16);
    int pair[2];
    struct aios *a;

    (void)state;
    assert_non_null(arguments);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
    assert_int_equal(send(pair[1], GREETED, strlen(GREETED), 0), strlen(GREETED));
    a = sdk_attach(pair[0], NULL, &err);
    assert_sdk(a, err);
    memcpy(arguments, "{\"x\":\"", 6);
    memset(arguments + 6, 'z', len);
    memcpy(arguments + 6 + len, "\"}", 3);
    query.arguments = arguments;
    assert_failed(aios_tool(a, &query, &err), err, AIOS_TIMEOUT);
    assert_failed(aios_tool(a, &query, &err), err, AIOS_LOST);
    aios_close(a);
    close(pair[1]);
    free(arguments);
}

static void a_question_beyond_the_kernels_limit_is_not_sent(void **state)
{
    size_t len = SDK_QUESTION_MAX;
    char *text = malloc(len + 1);
    struct aios *a = CONNECT({ TEXT("still there") });

    (void)state;
    assert_sdk(a, err);
    assert_non_null(text);
    memset(text, 'z', len);
    text[len] = '\0';
    assert_failed(aios_put(a, "k", text, len, NULL, &err), err, AIOS_INVALID);
    assert_failed(aios_put(a, "k", text, len + 1, NULL, &err), err, AIOS_INVALID);
    assert_says(a, "still there");
    DISCONNECT(a);
    free(text);
}

static void a_time_limit_beyond_all_time_fits(void **state)
{
    struct aios *a = CONNECT({ TEXT("x") });
    struct aios_reply *reply;

    (void)state;
    assert_sdk(a, err);
    reply = ask_in(a, INT64_MAX);
    assert_sdk(reply, err);
    aios_reply_free(reply);
    DISCONNECT(a);
}

static void names_that_are_not_utf8_are_refused(void **state)
{
    struct aios_options options = { .agent = "\xff" };
    struct aios_tool_query query = { .tool = "\xff" };
    struct aios *a = CONNECT({ NULL });
    int pair[2];

    (void)state;
    assert_sdk(a, err);
    assert_failed(aios_tool(a, &query, &err), err, AIOS_INVALID);
    DISCONNECT(a);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
    assert_failed(sdk_attach(pair[0], &options, &err), err, AIOS_INVALID);
    close(pair[1]);
}

static void errors_may_be_ignored(void **state)
{
    struct aios *a = CONNECT({ ERROR("no") });
    struct aios_tool_query query = { .tool = "t" };

    (void)state;
    assert_sdk(a, err);
    assert_null(aios_tool(a, &query, NULL));
    aios_close(NULL);
    aios_reply_free(NULL);
    aios_plan_free(NULL);
    DISCONNECT(a);
    assert_non_null(strchr(aios_version(), '.'));
}

static void every_allocation_may_fail(void **state)
{
    (void)state;
    for (unsigned n = 0;; n++) {
        const struct sdk_step steps[] = { { GREETED }, { TEXT("x") } };
        int fd = sdk_fake_begin(&fake, steps, 2);
        struct aios_reply *reply = NULL;
        struct aios *a;
        bool met;

        err.code = AIOS_OK;
        fault_arm(n);
        a = sdk_attach(fd, NULL, &err);
        if (a)
            reply = ask(a);
        met = fault_disarm();
        aios_reply_free(reply);
        DISCONNECT(a);
        if (!met) {
            assert_sdk(reply, err);
            assert_true(n > 20);
            return;
        }
        if (reply || !is_nomem(&err))
            fail_msg("allocation %u: code %d: %s", n, (int)err.code, err.text);
    }
}

/* ---- where it connects ---- */

static char dir[] = "/tmp/aios-sdk-XXXXXX";

static int place(void **state)
{
    (void)state;
    return mkdtemp(dir) ? 0 : -1;
}

static int displace(void **state)
{
    (void)state;
    return rmdir(dir);
}

static void no_server_is_told_apart(void **state)
{
    char path[PATH_MAX], longest[200];
    struct aios_options options = { .socket = path };
    int fd;

    (void)state;
    snprintf(path, sizeof path, "%s/none.sock", dir);
    assert_failed(aios_connect(&options, &err), err, AIOS_NO_SERVER);
    assert_non_null(strstr(err.text, "aios serve"));
    fd = open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    close(fd);
    assert_failed(aios_connect(&options, &err), err, AIOS_NO_SERVER);
    unlink(path);
    memset(longest, 'p', sizeof longest - 1);
    longest[sizeof longest - 1] = '\0';
    options.socket = longest;
    assert_failed(aios_connect(&options, &err), err, AIOS_INVALID);
}

/* Nobody accepts: when the queue is full, connecting waits, but not for ever. */
static void a_full_server_is_a_timeout(void **state)
{
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    struct aios_options options = { .socket = address.sun_path, .timeout_ms = 30 };
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0), held[4];

    (void)state;
    snprintf(address.sun_path, sizeof address.sun_path, "%.60s/full.sock", dir);
    assert_int_equal(bind(fd, (const struct sockaddr *)&address, sizeof address), 0);
    assert_int_equal(listen(fd, 0), 0);
    for (size_t i = 0; i < SDK_LEN(held); i++) {
        held[i] = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        (void)!connect(held[i], (const struct sockaddr *)&address, sizeof address);
    }
    assert_failed(aios_connect(&options, &err), err, AIOS_TIMEOUT);
    for (size_t i = 0; i < SDK_LEN(held); i++)
        close(held[i]);
    close(fd);
    unlink(address.sun_path);
}

/* The error names the path that was tried. */
static void the_usual_socket_follows_the_environment(void **state)
{
    static const char *const names[] = { "AIOS_SOCKET", "AIOS_HOME", "XDG_RUNTIME_DIR", "HOME" };
    static const struct {
        const char *values[4];
        const char *want; /* part of the error */
    } rows[] = {
        { { "/nowhere/s", "/nowhere/a", "/nowhere/x", "/nowhere/h" }, "at /nowhere/s (" },
        { { "", "/nowhere/a", "/nowhere/x", "/nowhere/h" }, "at /nowhere/a/run/aios.sock (" },
        { { NULL, "relative", "/nowhere/x", "/nowhere/h" }, "AIOS_HOME must be" },
        { { NULL, "", "/nowhere/x", "/nowhere/h" }, "at /nowhere/x/aios/aios.sock (" },
    };
    char had[4][PATH_MAX];
    bool set[4];

    (void)state;
    for (size_t k = 0; k < 4; k++) {
        const char *value = getenv(names[k]);

        set[k] = value != NULL;
        snprintf(had[k], sizeof had[k], "%s", value ? value : "");
    }
    for (size_t i = 0; i < SDK_LEN(rows); i++) {
        for (size_t k = 0; k < 4; k++)
            assert_int_equal(
                rows[i].values[k] ? setenv(names[k], rows[i].values[k], 1) : unsetenv(names[k]), 0);
        assert_null(aios_connect(NULL, &err));
        assert_contains(err.text, rows[i].want);
    }
    /* Below the folders of the user, or of the system. */
    setenv("XDG_RUNTIME_DIR", "relative", 1);
    if (geteuid() != 0) {
        assert_null(aios_connect(NULL, &err));
        assert_contains(err.text, "at /nowhere/h/.local/state/aios/run/aios.sock (");
    }
    for (size_t k = 0; k < 4; k++)
        set[k] ? setenv(names[k], had[k], 1) : unsetenv(names[k]);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_refusal_has_its_kind),
        cmocka_unit_test(greets_and_asks_in_the_protocol),
        cmocka_unit_test(bad_greetings_are_told_apart),
        cmocka_unit_test(a_late_answer_is_cancelled_and_passed_over),
        cmocka_unit_test(notifications_and_requests_of_the_kernel_are_passed_over),
        cmocka_unit_test(lines_may_come_in_pieces_or_together),
        cmocka_unit_test(what_is_no_answer_is_an_error),
        cmocka_unit_test(a_cut_connection_is_lost_for_good),
        cmocka_unit_test(an_endless_line_is_given_up),
        cmocka_unit_test(a_long_line_is_taken),
        cmocka_unit_test(a_question_that_cannot_be_sent_ends_the_connection),
        cmocka_unit_test(a_question_beyond_the_kernels_limit_is_not_sent),
        cmocka_unit_test(a_time_limit_beyond_all_time_fits),
        cmocka_unit_test(names_that_are_not_utf8_are_refused),
        cmocka_unit_test(errors_may_be_ignored),
        cmocka_unit_test(every_allocation_may_fail),
        cmocka_unit_test(no_server_is_told_apart),
        cmocka_unit_test(a_full_server_is_a_timeout),
        cmocka_unit_test(the_usual_socket_follows_the_environment),
    };

    return cmocka_run_group_tests_name("sdk_client", tests, place, displace);
}
