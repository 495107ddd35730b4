/* Whole conversations, as recorded in tests/golden, through the server. */
#include <dirent.h>
#include <limits.h>

#include "tests/unit/mcp_place.h"

/* Equal, where the text "*" in @want stands for any text. */
static bool matches(const json_t *want, const json_t *got)
{
    const char *key;
    json_t *value;
    size_t i;

    if (json_is_string(want) && strcmp(json_string_value(want), "*") == 0)
        return json_is_string(got) && json_string_length(got) > 0;
    if (!got || json_typeof(want) != json_typeof(got))
        return false;
    if (json_is_object(want)) {
        if (json_object_size(want) != json_object_size(got))
            return false;
        json_object_foreach (unconst(want), key, value)
            if (!matches(value, json_object_get(got, key)))
                return false;
        return true;
    }
    if (json_is_array(want)) {
        if (json_array_size(want) != json_array_size(got))
            return false;
        json_array_foreach (want, i, value)
            if (!matches(value, json_array_get(got, i)))
                return false;
        return true;
    }
    return json_equal(want, got);
}

static void compare(const char *file, int line, const json_t *want, const json_t *got)
{
    CLEANUP(buf_fini) struct buf wanted = BUF_INIT;
    CLEANUP(buf_fini) struct buf shown = BUF_INIT;

    if (matches(want, got))
        return;
    assert_true(json_write(want, &wanted) && json_write(got, &shown));
    fail_msg("%s:%d: wanted %s, got %s", file, line, buf_str(&wanted), buf_str(&shown));
}

/* The requestState that was received last: it is random, and "*state*" stands for it in what is
 * sent. */
static char last_state[80];

static void put_message(struct place *p, const json_t *message)
{
    static const char mark[] = "*state*";
    CLEANUP(buf_fini) struct buf out = BUF_INIT;
    const char *at;

    assert_true(json_write(message, &out));
    at = strstr(buf_str(&out), mark);
    if (at) {
        put_bytes(p, buf_str(&out), (size_t)(at - buf_str(&out)));
        put_text(p, last_state);
        put(p, at + sizeof mark - 1);
        return;
    }
    put(p, buf_str(&out));
}

static void replay_line(struct place *p, const char *file, int line, const json_t *step)
{
    const json_t *message = json_object_get(step, "send");
    const json_t *text = json_object_get(step, "send_text");

    if (json_object_get(step, "rules")) {
        return; /* the place was made with them */
    } else if (message) {
        put_message(p, message);
    } else if (text) {
        put_bytes(p, json_string_value(text), json_string_length(text));
    } else {
        MESSAGE got = take(p);

        compare(file, line, json_object_get(step, "expect"), got);
        if (at(got, "result.requestState"))
            (void)snprintf(last_state, sizeof last_state, "%s",
                           text_at(got, "result.requestState"));
    }
}

static void replay(const char *folder, const char *name)
{
    struct place p;
    char path[PATH_MAX];
    struct error err = ERROR_INIT;
    char *text, *at;
    size_t len;
    int pair[2], line = 0;
    MESSAGE first = NULL;

    (void)snprintf(path, sizeof path, "%s/%s", folder, name);
    text = at = fd_read_file(AT_FDCWD, path, 1u << 20, &len, &err);
    assert_ok(text, err);
    first = json_parse(text, strcspn(text, "\n"), &err);
    assert_ok(first, err);
    place_rules = json_object_get(first, "rules"); /* of the first line, if it has any */
    place_begin(&p, 2, &few_set);
    place_rules = NULL;
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
    p.in = p.out = pair[0];
    assert_int_equal(fcntl(p.in, F_SETFL, O_NONBLOCK), 0);
    place_serve(&p, pair[1], pair[1]);
    while (*at) {
        size_t n = strcspn(at, "\n");
        MESSAGE step = json_parse(at, n, &err);

        line++;
        assert_ok(step, err);
        replay_line(&p, name, line, step);
        at += n + (at[n] == '\n');
    }
    assert_int_equal(shutdown(p.out, SHUT_WR), 0);
    TURN_UNTIL(&p, p.ends == 1);
    assert_null(take_now(&p));
    free(text);
    place_free(&p);
}

static void replays_the_recorded_conversations(void **state)
{
    const char *folder = getenv("AIOS_GOLDEN");
    DIR *dir = opendir(folder ? folder : "tests/golden");
    int count = 0;
    (void)state;

    if (!dir)
        skip_because("no recorded conversations: AIOS_GOLDEN names their folder");
    for (struct dirent *entry; (entry = readdir(dir));) {
        const char *suffix = strrchr(entry->d_name, '.');

        if (suffix && strcmp(suffix, ".jsonl") == 0) {
            replay(folder ? folder : "tests/golden", entry->d_name);
            count++;
        }
    }
    (void)closedir(dir);
    assert_true(count >= 9);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(replays_the_recorded_conversations),
    };

    (void)signal(SIGPIPE, SIG_IGN);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
