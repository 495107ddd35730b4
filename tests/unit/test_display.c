#include "tests/support/check.h"

#include <fcntl.h>
#include <linux/input-event-codes.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

#include "kernel/base/clock.h"
#include "kernel/base/fd.h"
#include "vmctl/display.h"

#define PATIENCE_MS 20000
#define GREETING                                                                       \
    "{\"QMP\": {\"version\": {\"qemu\": {\"micro\": 22, \"minor\": 2, \"major\": 7}, " \
    "\"package\": \"\"}, \"capabilities\": []}}\n"

/* A QEMU with a screen, on a thread of its own: it writes its picture where it is told to, and
 * keeps what else it hears. */
struct fake {
    int fd;
    pthread_t thread;
    const char *picture;
    const char *refuse; /* the command that it does not carry out */
    size_t picture_len;
    char in[16384];
    size_t len;
    int set_fd;
    bool wrote_all, read_refused;
    unsigned sets; /* it has been given, and not taken away again */
    struct buf events;
};

static bool take_line(struct fake *f, char *line, size_t size)
{
    for (;;) {
        char *end = memchr(f->in, '\n', f->len);
        struct pollfd p = { .fd = f->fd, .events = POLLIN };
        size_t fds = 0, line_len;
        int fd = -1;
        ssize_t n;

        if (end) {
            line_len = (size_t)(end - f->in);
            (void)snprintf(line, size, "%.*s", (int)line_len, f->in);
            memmove(f->in, end + 1, f->len - line_len - 1);
            f->len -= line_len + 1;
            return true;
        }
        if (poll(&p, 1, PATIENCE_MS) <= 0)
            return false;
        n = fd_recv(f->fd, f->in + f->len, sizeof f->in - f->len, &fd, 1, &fds, NULL);
        if (n <= 0)
            return false;
        if (fds)
            f->set_fd = fd;
        f->len += (size_t)n;
    }
}

static void write_picture(struct fake *f)
{
    char byte;

    f->read_refused = read(f->set_fd, &byte, 1) < 0;
    /* As QEMU opens it, which is not allowed with every file. */
    f->wrote_all = ftruncate(f->set_fd, 0) == 0 &&
                   write(f->set_fd, f->picture, f->picture_len) == (ssize_t)f->picture_len;
}

static void answer(struct fake *f, const char *line)
{
    const char *id = strstr(line, "\"id\":"), *events = strstr(line, "\"events\":");
    char text[200];
    bool refused = f->refuse && strstr(line, f->refuse);

    if (strstr(line, "\"add-fd\""))
        f->sets++;
    if (strstr(line, "\"remove-fd\"") && strstr(line, "\"fdset-id\":7"))
        f->sets--;
    if (strstr(line, "\"screendump\"") && strstr(line, "\"/dev/fdset/7\"") && !refused)
        write_picture(f);
    if (events)
        (void)buf_printf(&f->events, "%s\n", events);
    (void)snprintf(text, sizeof text, "{\"%s\": {%s}, \"id\": %.*s}\n",
                   refused ? "error" : "return",
                   refused ? "\"class\": \"GenericError\", \"desc\": \"no\""
                   : strstr(line, "\"add-fd\"") != NULL ? "\"fdset-id\": 7, \"fd\": 30"
                                                        : "",
                   id ? (int)strspn(id + 5, " 0123456789") : 1, id ? id + 5 : "0");
    UNCHECKED(fd_send(f->fd, text, strlen(text), NULL, 0, NULL));
    if (strstr(line, "\"remove-fd\"")) {
        fd_close(f->set_fd);
        f->set_fd = -1;
    }
}

static void *play(void *arg)
{
    struct fake *f = arg;
    char line[16384];

    UNCHECKED(fd_send(f->fd, GREETING, strlen(GREETING), NULL, 0, NULL));
    while (take_line(f, line, sizeof line))
        answer(f, line);
    return NULL;
}

struct world {
    struct loop *loop;
    struct qmp *q;
    struct fake fake;
    struct wait wait;
};

static void world_open(struct world *w, const char *picture, size_t len)
{
    static const struct qmp_hooks hooks = { .on_event = NULL };
    struct error err = ERROR_INIT;
    int pair[2];

    *w = (struct world){ .fake = { .picture = picture, .picture_len = len, .set_fd = -1 } };
    w->wait.deadline_ns = clock_now_ns() + PATIENCE_MS * CLOCK_NS_PER_MS;
    w->loop = loop_new(&err);
    assert_ok(w->loop, err);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
    w->fake.fd = pair[1];
    assert_int_equal(pthread_create(&w->fake.thread, NULL, play, &w->fake), 0);
    w->q = qmp_new(w->loop, pair[0], &hooks, w, &err);
    assert_ok(w->q, err);
}

static void world_close(struct world *w)
{
    qmp_free(w->q);
    while (loop_turn(w->loop, 0), false)
        continue;
    loop_free(w->loop);
    (void)shutdown(w->fake.fd, SHUT_RD);
    pthread_join(w->fake.thread, NULL);
    fd_close(w->fake.fd);
    fd_close(w->fake.set_fd);
    buf_fini(&w->fake.events);
}

/* ---- pictures ---- */

static const char small[] = "P6\n2 1\n255\nabcdef";
static const char screen[] = "P6\n1280 800\n255\n";

static void takes_the_picture_and_lets_go_of_the_file(void **state)
{
    struct display_frame frame;
    struct error err = ERROR_INIT;
    struct world w;
    (void)state;

    world_open(&w, small, sizeof small - 1);
    assert_ok(vm_display_dump(w.q, true, &frame, &w.wait, &err), err);
    assert_int_equal(frame.width, 2);
    assert_int_equal(frame.height, 1);
    assert_memory_equal(frame.rgb, "abcdef", 6);
    display_frame_fini(&frame);
    assert_true(w.fake.wrote_all);
    assert_true(w.fake.read_refused);
    assert_int_equal(w.fake.sets, 0);
    assert_ok(vm_display_dump(w.q, false, &frame, &w.wait, &err), err);
    assert_null(frame.rgb);
    assert_int_equal(frame.width, 2);
    world_close(&w);
}

static void a_screendump_that_fails_leaves_no_file_behind(void **state)
{
    struct display_frame frame;
    struct error err = ERROR_INIT;
    struct world w;
    (void)state;

    world_open(&w, small, sizeof small - 1);
    w.fake.refuse = "screendump";
    assert_false(vm_display_dump(w.q, true, &frame, &w.wait, &err));
    assert_code(err, ERR_IO);
    assert_int_equal(w.fake.sets, 0);
    world_close(&w);
}

static void what_is_no_picture_is_not_taken_for_one(void **state)
{
    static const char *const rows[] = {
        "",
        "P6",
        "P6\n",
        "P5\n2 1\n255\n",
        "P6\n2 1\n65535\n",
        "P6\n0 1\n255\n",
        "P6\n1 0\n255\n",
        "P6\n4097 1\n255\n",
        "P6\n1 4097\n255\n",
        "P6\n99999999999999999999 1\n255\n",
        "P6\n-1 1\n255\n",
        "P6\n 1 1\n255\n",
        "P6\n1\n1\n255\n",
        "P6\n1 1 255\n",
        "P6\n1 1\n255",
        "P6\n1 1\n255 ",
        "P6\n# a comment\n1 1\n255\n",
    };
    (void)state;

    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct display_frame size;
        struct error err = ERROR_INIT;
        size_t at;

        if (vm_display_header(rows[i], strlen(rows[i]), &size, &at, &err) ||
            err.code != ERR_PROTOCOL)
            fail_msg("\"%s\" was taken for a picture", rows[i]);
    }
}

static void half_a_picture_is_none(void **state)
{
    static const char *const rows[] = { "", "P6\n2 1\n255\n", "P6\n2 1\n255\nabcde",
                                        "P6\n4096 4096\n255\nabc" };
    (void)state;

    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct display_frame frame;
        struct error err = ERROR_INIT;
        struct world w;

        world_open(&w, rows[i], strlen(rows[i]));
        assert_false(vm_display_dump(w.q, true, &frame, &w.wait, &err));
        assert_code(err, ERR_PROTOCOL);
        world_close(&w);
    }
}

/* ---- events ---- */

#define KEY_EVENT(name, down)                                                  \
    "{\"type\":\"key\",\"data\":{\"key\":{\"type\":\"qcode\",\"data\":\"" name \
    "\"},\"down\":" #down "}}"
#define BUTTON_EVENT(name, down) \
    "{\"type\":\"btn\",\"data\":{\"button\":\"" name "\",\"down\":" #down "}}"
#define MOVE_EVENT(x, y)                                                                         \
    "{\"type\":\"abs\",\"data\":{\"axis\":\"x\",\"value\":" #x "}},{\"type\":\"abs\",\"data\":{" \
    "\"axis\":\"y\",\"value\":" #y "}}"
#define EVENTS(...) "\"events\":[" __VA_ARGS__ "]}}\n"

/* Without what jansson does with spaces, and what follows the events. */
static void assert_heard(struct world *w, const char *want)
{
    CLEANUP(buf_fini) struct buf got = BUF_INIT;
    char *rest = w->fake.events.data, *line;

    while (rest && (line = strsep(&rest, "\n")) && *line) {
        char *end = strrchr(line, ']');

        assert_non_null(end);
        assert_true(buf_printf(&got, "%.*s]}}\n", (int)(end - line), line));
    }
    assert_string_equal(buf_str(&got), want);
}

static void a_click_is_a_move_to_the_middle_of_the_pixel_and_a_button(void **state)
{
    static const struct display_event events[] = {
        { .kind = DISPLAY_MOVE, .x = 0, .y = 799 },
        { .kind = DISPLAY_BUTTON, .button = DISPLAY_LEFT, .down = true },
        { .kind = DISPLAY_BUTTON, .button = DISPLAY_LEFT },
        { .kind = DISPLAY_MOVE, .x = 1279, .y = 0 },
    };
    struct error err = ERROR_INIT;
    struct world w;
    (void)state;

    world_open(&w, screen, sizeof screen - 1);
    assert_ok(vm_display_send(w.q, events, ARRAY_LEN(events), &w.wait, &err), err);
    assert_heard(&w, EVENTS(MOVE_EVENT(12, 32747) "," BUTTON_EVENT("left", true) "," BUTTON_EVENT(
                         "left", false)) EVENTS(MOVE_EVENT(32755, 20)));
    world_close(&w);
}

static void keys_and_wheels_go_by_names_and_one_device_after_the_other(void **state)
{
    static const struct display_event events[] = {
        { .kind = DISPLAY_KEY, .key = KEY_LEFTCTRL, .down = true },
        { .kind = DISPLAY_KEY, .key = KEY_A, .down = true },
        { .kind = DISPLAY_KEY, .key = KEY_A },
        { .kind = DISPLAY_BUTTON, .button = DISPLAY_WHEEL_DOWN, .down = true },
        { .kind = DISPLAY_BUTTON, .button = DISPLAY_WHEEL_RIGHT, .down = true },
        { .kind = DISPLAY_BUTTON, .button = DISPLAY_WHEEL_RIGHT },
    };
    struct error err = ERROR_INIT;
    struct world w;
    (void)state;

    world_open(&w, screen, sizeof screen - 1);
    assert_ok(vm_display_send(w.q, events, ARRAY_LEN(events), &w.wait, &err), err);
    assert_heard(
        &w, EVENTS(KEY_EVENT("ctrl", true) "," KEY_EVENT("a", true) "," KEY_EVENT("a", false))
                EVENTS(BUTTON_EVENT("wheel-down", true)) EVENTS(KEY_EVENT("shift", true))
                    EVENTS(BUTTON_EVENT("wheel-down", true)) EVENTS(KEY_EVENT("shift", false)));
    assert_int_equal(w.fake.sets, 0); /* no picture was needed */
    world_close(&w);
}

static void many_events_go_in_pieces_that_the_devices_can_hold(void **state)
{
    struct display_event events[100];
    struct error err = ERROR_INIT;
    struct world w;
    unsigned lines = 0;
    (void)state;

    for (size_t i = 0; i < ARRAY_LEN(events); i++)
        events[i] = (struct display_event){ .kind = DISPLAY_KEY, .key = KEY_X, .down = !(i & 1) };
    world_open(&w, screen, sizeof screen - 1);
    assert_ok(vm_display_send(w.q, events, ARRAY_LEN(events), &w.wait, &err), err);
    for (const char *c = buf_str(&w.fake.events); *c; c++)
        lines += *c == '\n';
    assert_int_equal(lines, 13); /* of at most 8 */
    world_close(&w);
}

static void refuses_what_cannot_be_and_sends_nothing_of_it(void **state)
{
    static const struct display_event rows[] = {
        { .kind = DISPLAY_MOVE, .x = 1280, .y = 0 },
        { .kind = DISPLAY_MOVE, .x = 0, .y = 800 },
        { .kind = DISPLAY_MOVE, .x = UINT32_MAX, .y = UINT32_MAX },
        { .kind = DISPLAY_BUTTON, .button = DISPLAY_BUTTON_COUNT },
        { .kind = DISPLAY_KEY, .key = 0 },
        { .kind = DISPLAY_KEY, .key = 0xffff },
        { .kind = (enum display_event_kind)9 },
    };
    struct world w;
    (void)state;

    world_open(&w, screen, sizeof screen - 1);
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        const struct display_event events[] = { { .kind = DISPLAY_KEY, .key = KEY_A, .down = true },
                                                rows[i] };
        struct error err = ERROR_INIT;

        if (vm_display_send(w.q, events, 2, &w.wait, &err) || err.code != ERR_INVALID)
            fail_msg("row %zu: code %d", i, err.code);
    }
    assert_int_equal(w.fake.events.len, 0);
    world_close(&w);
}

static void every_key_of_a_keyboard_has_a_name_of_its_own(void **state)
{
    (void)state;
    for (uint16_t a = KEY_ESC; a <= KEY_COMPOSE; a++) {
        const char *name = vm_display_key(a);

        if (!name && a != KEY_ZENKAKUHANKAKU && a != 84 && a != KEY_KATAKANA && a != KEY_HIRAGANA &&
            a != KEY_KPJPCOMMA && a != KEY_LINEFEED && a != KEY_MACRO && a != KEY_POWER &&
            a != KEY_KPPLUSMINUS && a != KEY_SCALE)
            fail_msg("key %u has no name", a);
        for (uint16_t b = KEY_ESC; name && b < a; b++) {
            if (vm_display_key(b) && !strcmp(vm_display_key(b), name))
                fail_msg("keys %u and %u are both %s", a, b, name);
        }
    }
}

static void survives_every_allocation_failure(void **state)
{
    static const struct display_event event = { .kind = DISPLAY_MOVE };
    (void)state;

    FAULT_EACH(n)
    {
        struct error err = ERROR_INIT;
        struct display_frame frame = { .width = 0 };
        bool met, ok;
        struct world w;

        (void)fault_disarm();
        world_open(&w, small, sizeof small - 1);
        assert_ok(qmp_ready(w.q, &w.wait, &err), err);
        fault_arm(n);
        ok = vm_display_dump(w.q, true, &frame, &w.wait, &err) &&
             (display_frame_fini(&frame), true) && vm_display_send(w.q, &event, 1, &w.wait, &err);
        met = fault_disarm();
        n_last = !met;
        if (!met)
            assert_ok(ok, err);
        else if (!ok && err.code != ERR_NOMEM && err.code != ERR_LOST)
            fail_msg("allocation %u: %s", n, err.text);
        world_close(&w);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(takes_the_picture_and_lets_go_of_the_file),
        cmocka_unit_test(a_screendump_that_fails_leaves_no_file_behind),
        cmocka_unit_test(what_is_no_picture_is_not_taken_for_one),
        cmocka_unit_test(half_a_picture_is_none),
        cmocka_unit_test(a_click_is_a_move_to_the_middle_of_the_pixel_and_a_button),
        cmocka_unit_test(keys_and_wheels_go_by_names_and_one_device_after_the_other),
        cmocka_unit_test(many_events_go_in_pieces_that_the_devices_can_hold),
        cmocka_unit_test(refuses_what_cannot_be_and_sends_nothing_of_it),
        cmocka_unit_test(every_key_of_a_keyboard_has_a_name_of_its_own),
        cmocka_unit_test(survives_every_allocation_failure),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
