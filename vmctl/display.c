#include "vmctl/display.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/input-event-codes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "kernel/base/clock.h"
#include "kernel/base/fd.h"
#include "vmctl/vm_internal.h"

#define HEADER_MAX 32u
#define AXIS_MAX   0x7fffu
#define BATCH      8u /* events at once */
/* In which the guest takes a batch: between it and its server is room for 64 events, with one of
 * its own a batch, and what does not fit is lost.  So the server may be late by a quarter of a
 * second. */
#define BREATH_NS  (40 * CLOCK_NS_PER_MS)
#define TURN_NS    (60 * CLOCK_NS_PER_MS) /* the guest takes what one device says before the other */
#define LOOK_NS    (50 * CLOCK_NS_PER_MS)
#define OUTPUT_MAX 1000u

/* ---- the picture ---- */

static bool read_number(const char **at, const char *end, char stop, uint32_t *ret)
{
    uint32_t n = 0;
    const char *start = *at;

    for (; *at < end && **at >= '0' && **at <= '9'; ++*at) {
        n = n * 10 + (uint32_t)(**at - '0');
        if (n > VM_DISPLAY_MAX)
            return false;
    }
    if (*at == start || *at == end || **at != stop)
        return false;
    ++*at;
    *ret = n;
    return true;
}

bool vm_display_header(const char *text, size_t len, struct display_frame *ret_size, size_t *ret_at,
                       struct error *err)
{
    struct display_frame size = { .width = 0 };
    const char *at = text + 3, *end = text + len;
    uint32_t depth;

    if (len < 3 || memcmp(text, "P6\n", 3) != 0 || !read_number(&at, end, ' ', &size.width) ||
        !read_number(&at, end, '\n', &size.height) || !read_number(&at, end, '\n', &depth) ||
        depth != 255 || size.width == 0 || size.height == 0)
        return error_set(err, ERR_PROTOCOL, "QEMU wrote no picture of at most %u by %u pixels",
                         VM_DISPLAY_MAX, VM_DISPLAY_MAX);
    *ret_size = size;
    *ret_at = (size_t)(at - text);
    return true;
}

/* Up to @len bytes; -1. */
static ssize_t read_at(int file, void *data, size_t len, size_t offset, struct error *err)
{
    size_t got = 0;

    while (got < len) {
        ssize_t n = pread(file, (uint8_t *)data + got, len - got, (off_t)(offset + got));

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0) {
            error_set_errno(err, errno, "read a picture");
            return -1;
        }
        if (n == 0)
            break;
        got += (size_t)n;
    }
    return (ssize_t)got;
}

static bool read_pixels(int file, size_t at, struct display_frame *frame, struct error *err)
{
    size_t len = (size_t)frame->width * frame->height * 3;
    ssize_t n;

    frame->rgb = malloc(len);
    if (!frame->rgb)
        return error_set(err, ERR_NOMEM, "a picture");
    n = read_at(file, frame->rgb, len, at, err);
    if (n == (ssize_t)len)
        return true;
    display_frame_fini(frame);
    return n >= 0 ? error_set(err, ERR_PROTOCOL, "QEMU wrote half a picture") : false;
}

bool vm_display_dump(struct qmp *q, bool rgb, struct display_frame *ret, const struct wait *w,
                     struct error *err)
{
    CLEANUP(fd_closep) int file = memfd_create("aios-screen", MFD_CLOEXEC);
    struct display_frame frame;
    char header[HEADER_MAX];
    size_t at;
    ssize_t n;

    if (file < 0)
        return error_set_errno(err, errno, "a file for a picture");
    if (!qmp_call_into(q, "screendump", json_object(), file, w, err))
        return false;
    n = read_at(file, header, sizeof header, 0, err);
    if (n < 0 || !vm_display_header(header, (size_t)n, &frame, &at, err))
        return false;
    if (rgb && !read_pixels(file, at, &frame, err))
        return false;
    *ret = frame;
    return true;
}

/* ---- events ---- */

/* Where on QEMU's axis the middle of a pixel is; the guest's rounding then finds it again. */
static uint32_t scale(uint32_t at, uint32_t size)
{
    return (uint32_t)(((uint64_t)at * 2 + 1) * (AXIS_MAX + 1) / (2ull * MAX(size, 1)));
}

static bool add_event(json_t *list, json_t *event)
{
    return json_array_append_new(list, event) == 0;
}

static bool add_move(json_t *list, const struct display_event *e, const struct display_frame *size)
{
    return add_event(list, json_pack("{s:s, s:{s:s, s:i}}", "type", "abs", "data", "axis", "x",
                                     "value", (int)scale(e->x, size->width))) &&
           add_event(list, json_pack("{s:s, s:{s:s, s:i}}", "type", "abs", "data", "axis", "y",
                                     "value", (int)scale(e->y, size->height)));
}

static bool add_button(json_t *list, const char *name, bool down)
{
    return add_event(list, json_pack("{s:s, s:{s:s, s:b}}", "type", "btn", "data", "button", name,
                                     "down", down));
}

static bool add_key(json_t *list, const char *name, bool down)
{
    return add_event(list, json_pack("{s:s, s:{s:{s:s, s:s}, s:b}}", "type", "key", "data", "key",
                                     "type", "qcode", "data", name, "down", down));
}

static bool is_sideways(const struct display_event *e)
{
    return e->kind == DISPLAY_BUTTON &&
           (e->button == DISPLAY_WHEEL_LEFT || e->button == DISPLAY_WHEEL_RIGHT);
}

static bool is_key(const struct display_event *e)
{
    return e->kind == DISPLAY_KEY;
}

static bool check_event(const struct display_event *e, const struct display_frame *size,
                        struct error *err)
{
    switch (e->kind) {
    case DISPLAY_MOVE:
        return (e->x < size->width && e->y < size->height) ||
               error_set(err, ERR_INVALID, "%u,%u is not on the screen, which is %u by %u", e->x,
                         e->y, size->width, size->height);
    case DISPLAY_BUTTON:
        return e->button < DISPLAY_BUTTON_COUNT ||
               error_set(err, ERR_INVALID, "there is no button %d", (int)e->button);
    case DISPLAY_KEY:
        return vm_display_key(e->key) ||
               error_set(err, ERR_INVALID, "a virtual machine has no key %u", e->key);
    }
    return error_set(err, ERR_INVALID, "there is no event %d", (int)e->kind);
}

/* The picture is only taken when something depends on its size. */
static bool check_all(struct qmp *q, const struct display_event *events, size_t count,
                      struct display_frame *ret_size, const struct wait *w, struct error *err)
{
    for (size_t i = 0; i < count; i++) {
        if (events[i].kind == DISPLAY_MOVE && !ret_size->width &&
            !vm_display_dump(q, false, ret_size, w, err))
            return false;
        if (!check_event(&events[i], ret_size, err))
            return false;
    }
    return true;
}

static bool add_one(json_t *list, const struct display_event *e, const struct display_frame *size)
{
    static const char *const buttons[] = {
        [DISPLAY_LEFT] = "left",
        [DISPLAY_MIDDLE] = "middle",
        [DISPLAY_RIGHT] = "right",
        [DISPLAY_WHEEL_UP] = "wheel-up",
        [DISPLAY_WHEEL_DOWN] = "wheel-down",
        [DISPLAY_WHEEL_LEFT] = "wheel-up",
        [DISPLAY_WHEEL_RIGHT] = "wheel-down",
    };

    if (e->kind == DISPLAY_MOVE)
        return add_move(list, e, size);
    if (e->kind == DISPLAY_KEY)
        return add_key(list, vm_display_key(e->key), e->down);
    return add_button(list, buttons[e->button], e->down);
}

static bool send_list(struct qmp *q, json_t *list, const struct wait *w, struct error *err)
{
    json_t *args = json_pack("{s:O}", "events", list);

    return args ? qmp_call(q, "input-send-event", args, NULL, w, err)
                : error_set(err, ERR_NOMEM, "events for the screen");
}

/* One device's events, which it reports as one. */
static bool send_batch(struct qmp *q, const struct display_event *events, size_t count,
                       const struct display_frame *size, const struct wait *w, struct error *err)
{
    CLEANUP(json_decrefp) json_t *list = json_array();
    bool ok = list != NULL;

    for (size_t i = 0; ok && i < count; i++)
        ok = add_one(list, &events[i], size);
    if (!ok)
        return error_set(err, ERR_NOMEM, "events for the screen");
    return send_list(q, list, w, err);
}

/* Ends early when QEMU is gone. */
static bool give_a_moment(struct qmp *q, int64_t ns, const struct wait *w, struct error *err)
{
    int64_t until_ns = clock_add_ns(clock_now_ns(), ns);
    const struct wait brief = { .deadline_ns = MIN(w->deadline_ns, until_ns), .cancel = w->cancel };
    uint64_t mark = qmp_event_mark(q);

    UNCHECKED(qmp_await(q, &mark, "SHUTDOWN", NULL, &brief, NULL));
    return wait_check(w, err);
}

/* QEMU's pointer has one wheel; with Shift held programs take it for the other. */
static bool send_sideways(struct qmp *q, const struct display_event *e,
                          const struct display_frame *size, const struct wait *w, struct error *err)
{
    static const struct display_event shift[] = {
        { .kind = DISPLAY_KEY, .key = KEY_LEFTSHIFT, .down = true },
        { .kind = DISPLAY_KEY, .key = KEY_LEFTSHIFT }
    };

    return !e->down ||
           (send_batch(q, &shift[0], 1, size, w, err) && send_batch(q, e, 1, size, w, err) &&
            send_batch(q, &shift[1], 1, size, w, err));
}

/* Events that can be told as one: of one device, at most one move, and that first, as a device
 * tells where it is and not how it came there. */
static size_t batch_length(const struct display_event *events, size_t count)
{
    size_t n = 1;

    if (is_sideways(events))
        return 1;
    while (n < count && n < BATCH && is_key(&events[n]) == is_key(events) &&
           events[n].kind != DISPLAY_MOVE && !is_sideways(&events[n]))
        n++;
    return n;
}

bool vm_display_send(struct qmp *q, const struct display_event *events, size_t count,
                     const struct wait *w, struct error *err)
{
    struct display_frame size = { .width = 0 };
    bool keys = false;
    size_t since = 0;

    if (!check_all(q, events, count, &size, w, err))
        return false;
    while (count) {
        size_t n = batch_length(events, count);
        bool other = since && is_key(events) != keys;

        if (other || since + n > BATCH) {
            if (!give_a_moment(q, other ? TURN_NS : BREATH_NS, w, err))
                return false;
            since = 0;
        }
        keys = is_key(events);
        if (!(is_sideways(events) ? send_sideways(q, events, &size, w, err)
                                  : send_batch(q, events, n, &size, w, err)))
            return false;
        since += n;
        events += n;
        count -= n;
    }
    return true;
}

/* ---- its size ---- */

static bool run_resize(struct guest *g, uint32_t width, uint32_t height, const struct wait *w,
                       struct error *err)
{
    static const char *const env[] = { "PATH=/usr/local/bin:/usr/bin:/bin", "DISPLAY=:0", NULL };
    CLEANUP(buf_fini) struct buf words = BUF_INIT;
    CLEANUP(guest_run_unrefp) struct guest_run *run = NULL;
    struct guest_run_info info;
    char x[12], y[12];
    const char *const argv[] = { VM_DISPLAY_RESIZE, x, y, NULL };
    struct error why = ERROR_INIT;
    uint64_t offset = 0;

    (void)snprintf(x, sizeof x, "%u", width);
    (void)snprintf(y, sizeof y, "%u", height);
    run = guest_spawn(
        g, &(struct guest_run_spec){ .argv = argv, .env = env, .cwd = "/", .merge = true }, w,
        &why);
    if (!run && why.code == ERR_NOT_FOUND)
        return error_set(err, ERR_UNSUPPORTED, "the image has no program to resize its screen");
    if (!run)
        return error_set(err, why.code, "%s", why.text);
    if (!guest_run_wait(run, 0, NULL, w, err))
        return false;
    guest_run_info(run, &info);
    if (info.end == GUEST_RUN_EXIT && info.value == 0)
        return true;
    (void)guest_run_read(run, WIRE_STREAM_OUT, &offset, OUTPUT_MAX, &words);
    return error_set(err, ERR_IO, "the screen could not be resized: %.150s", buf_str(&words));
}

bool vm_display_resize(struct vm *vm, struct guest *guest, uint32_t width, uint32_t height,
                       const struct wait *w, struct error *err)
{
    struct display_frame size = { .width = 0 };

    if (width < 1 || width > VM_DISPLAY_MAX || height < 1 || height > VM_DISPLAY_MAX)
        return error_set(err, ERR_INVALID, "a screen has 1 to %u pixels each way", VM_DISPLAY_MAX);
    if (!run_resize(guest, width, height, w, err))
        return false;
    for (;;) {
        const struct wait brief = { .deadline_ns =
                                        MIN(w->deadline_ns, clock_add_ns(clock_now_ns(), LOOK_NS)),
                                    .cancel = w->cancel };
        uint64_t mark = qmp_event_mark(vm_qmp(vm));

        if (!vm_display_frame(vm, false, &size, w, err))
            return false;
        if (size.width == width && size.height == height)
            return true;
        UNCHECKED(qmp_await(vm_qmp(vm), &mark, "SHUTDOWN", NULL, &brief, NULL));
        if (!wait_check(w, err))
            return error_prefix(err, "the screen stays %u by %u", size.width, size.height);
    }
}

/* ---- of a machine ---- */

bool vm_display_frame(struct vm *vm, bool rgb, struct display_frame *ret, const struct wait *w,
                      struct error *err)
{
    return vm_display_dump(vm_qmp(vm), rgb, ret, w, err) || vm_explain(vm, err);
}

bool vm_display_input(struct vm *vm, const struct display_event *events, size_t count,
                      const struct wait *w, struct error *err)
{
    return vm_display_send(vm_qmp(vm), events, count, w, err) || vm_explain(vm, err);
}
