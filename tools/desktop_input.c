/* Pointer and keys. */
#include <linux/input-event-codes.h>
#include <stdlib.h>
#include <string.h>

#include "kernel/base/clock.h"
#include "tools/desktop.h"

#define EVENTS_MAX    64u
#define TYPED_AT_ONCE 6u /* characters; a keyboard's queue inside takes 64 events */
#define TYPE_NS       (60 * CLOCK_NS_PER_S)
#define CLICK_NS      (30 * CLOCK_NS_PER_MS) /* programs overlook what is faster */
#define DRAG_STEPS    8u

struct batch {
    struct display_event events[EVENTS_MAX];
    size_t count;
};

static void add_move(struct batch *b, struct desktop_point p)
{
    b->events[b->count++] = (struct display_event){ .kind = DISPLAY_MOVE, .x = p.x, .y = p.y };
}

static void add_button(struct batch *b, enum display_button button, bool down)
{
    b->events[b->count++] =
        (struct display_event){ .kind = DISPLAY_BUTTON, .button = button, .down = down };
}

static void add_key(struct batch *b, uint16_t code, bool down)
{
    b->events[b->count++] =
        (struct display_event){ .kind = DISPLAY_KEY, .key = code, .down = down };
}

/* Whoever runs inside has had its turn before the next ones come: the guest has answered. */
static bool send(struct desktop *d, struct batch *b, struct error *err)
{
    const struct wait *w = &d->call->wait;
    bool ok = display_input(d->computer, b->events, b->count, w, err) &&
              wait_pause(w, CLICK_NS, err) && guest_ping(computer_guest(d->computer), w, err);

    b->count = 0;
    return ok;
}

static void add_chord(struct batch *b, const struct desktop_chord *chord, bool down)
{
    for (size_t i = 0; chord && i < chord->count; i++) {
        const struct desktop_key *key = &chord->keys[down ? i : chord->count - 1 - i];

        if (down && key->shift)
            add_key(b, KEY_LEFTSHIFT, true);
        add_key(b, key->code, down);
        if (!down && key->shift)
            add_key(b, KEY_LEFTSHIFT, false);
    }
}

/* Keys that are down come up again, whatever has failed in between and however late it is. */
static bool release(struct desktop *d, const struct desktop_chord *chord, bool ok,
                    struct error *err)
{
    const struct wait w = { .deadline_ns = clock_add_ns(clock_now_ns(), 2 * CLOCK_NS_PER_S) };
    struct batch b = { .count = 0 };
    struct error late = ERROR_INIT;

    add_chord(&b, chord, false);
    if (b.count && !display_input(d->computer, b.events, b.count, &w, &late) && ok)
        return error_set(err, late.code, "%s", late.text);
    return ok;
}

bool desktop_move(struct desktop *d, struct desktop_point to, struct error *err)
{
    struct batch b = { .count = 0 };

    add_move(&b, to);
    if (!send(d, &b, err))
        return false;
    desktop_set_pointer(d, to);
    return true;
}

bool desktop_click(struct desktop *d, enum display_button button, unsigned times,
                   const struct desktop_chord *chord, struct error *err)
{
    struct batch b = { .count = 0 };
    bool ok = true;

    add_chord(&b, chord, true);
    for (unsigned i = 0; ok && i < times; i++) {
        add_button(&b, button, true);
        ok = send(d, &b, err);
        add_button(&b, button, false);
        ok = ok && send(d, &b, err);
    }
    return release(d, chord, ok, err);
}

bool desktop_button(struct desktop *d, bool down, struct error *err)
{
    struct batch b = { .count = 0 };

    add_button(&b, DISPLAY_LEFT, down);
    return send(d, &b, err);
}

bool desktop_drag(struct desktop *d, struct desktop_point from, struct desktop_point to,
                  const struct desktop_chord *chord, struct error *err)
{
    struct batch b = { .count = 0 };
    bool ok;

    add_chord(&b, chord, true);
    add_move(&b, from);
    ok = send(d, &b, err);
    add_button(&b, DISPLAY_LEFT, true);
    ok = ok && send(d, &b, err);
    for (uint32_t i = 1; ok && i <= DRAG_STEPS; i++) {
        struct desktop_point p = {
            .x = (from.x * (DRAG_STEPS - i) + to.x * i) / DRAG_STEPS,
            .y = (from.y * (DRAG_STEPS - i) + to.y * i) / DRAG_STEPS,
        };

        add_move(&b, p);
        ok = send(d, &b, err);
    }
    b.count = 0;
    add_button(&b, DISPLAY_LEFT, false);
    ok = ok && send(d, &b, err);
    if (ok)
        desktop_set_pointer(d, to);
    return release(d, chord, ok, err);
}

bool desktop_press(struct desktop *d, const struct desktop_chord *chord, int64_t hold_ns,
                   struct error *err)
{
    struct batch b = { .count = 0 };
    bool ok;

    add_chord(&b, chord, true);
    ok = send(d, &b, err) && (hold_ns <= 0 || wait_pause(&d->call->wait, hold_ns, err));
    return release(d, chord, ok, err);
}

static bool type_ascii(struct desktop *d, const char *text, size_t len, struct error *err)
{
    struct batch b = { .count = 0 };

    for (size_t i = 0; i < len; i++) {
        struct desktop_key key;

        if (!desktop_key_of(text[i], &key))
            return error_set(err, ERR_INVALID,
                             "the text holds the control character %d, which no key types",
                             text[i]);
        if (key.shift)
            add_key(&b, KEY_LEFTSHIFT, true);
        add_key(&b, key.code, true);
        add_key(&b, key.code, false);
        if (key.shift)
            add_key(&b, KEY_LEFTSHIFT, false);
        if ((i % TYPED_AT_ONCE == TYPED_AT_ONCE - 1 || i + 1 == len) && !send(d, &b, err))
            return false;
    }
    return true;
}

/* What the layout has no key for is typed by a program inside, which gives free keys the missing
 * characters. */
static bool type_inside(struct desktop *d, const char *text, size_t len, struct error *err)
{
    static const char *const argv[] = { "xdotool", "type", "--clearmodifiers",
                                        "--delay", "25",   "--file",
                                        "-",       NULL };
    const struct toolkit_program program = {
        .argv = argv, .input = text, .input_len = len, .max = 4096, .timeout_ns = TYPE_NS
    };
    CLEANUP(buf_fini) struct buf said = BUF_INIT;
    struct error why = ERROR_INIT;
    int code;

    if (!toolkit_program(d->call, d->computer, &program, &said, &code, &why)) {
        if (why.code == ERR_NOT_FOUND)
            return error_set(
                err, ERR_UNSUPPORTED,
                "only characters of a US keyboard can be typed here: this computer has "
                "no xdotool, which the image \"desktop\" has");
        return error_set(err, why.code, "%s", why.text);
    }
    return code == 0 || error_set(err, ERR_IO, "xdotool: %s", buf_str(&said));
}

bool desktop_type(struct desktop *d, const char *text, size_t len, struct error *err)
{
    bool ascii = true;

    for (size_t i = 0; i < len && ascii; i++)
        ascii = (unsigned char)text[i] < 0x80;
    return ascii ? type_ascii(d, text, len, err) : type_inside(d, text, len, err);
}
