/* Pointer and keys. */
#include <inttypes.h>
#include <linux/input-event-codes.h>
#include <string.h>

#include "kernel/base/clock.h"
#include "tools/desktop_state.h"

#define EVENTS_MAX    64u
#define TYPED_AT_ONCE 6u /* characters; a keyboard's queue inside takes 64 events */
#define LAYOUT_NS     (30 * CLOCK_NS_PER_S)
#define X_KEYCODES    8u                     /* what X adds to the kernel's codes */
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

/* ---- text ---- */

/* Keys that no program has a use for.  What the layout has no key for is put on them for as long as
 * it is needed: a program that sent it inside would come from another keyboard, and be overtaken by
 * the next change of the layout where programs are slow. */
static const uint16_t spare[DESKTOP_SPARE] = {
    KEY_AGAIN, KEY_PROPS,   KEY_UNDO,     KEY_FRONT, KEY_COPY,   KEY_OPEN,
    KEY_PASTE, KEY_FIND,    KEY_CUT,      KEY_RO,    KEY_HENKAN, KEY_KATAKANAHIRAGANA,
    KEY_YEN,   KEY_HANGEUL, KEY_MUHENKAN, KEY_HANJA,
};

/* The character at @text, of @len valid bytes, and how many of them it has. */
static uint32_t character(const char *text, size_t len, size_t *ret_len)
{
    static const uint8_t masks[] = { 0, 0x7f, 0x1f, 0x0f, 0x07 };
    uint8_t first = (uint8_t)text[0];
    size_t n = first < 0x80 ? 1 : first < 0xe0 ? 2 : first < 0xf0 ? 3 : 4;
    uint32_t c = first & masks[n];

    n = MIN(n, len);
    for (size_t i = 1; i < n; i++)
        c = c << 6 | ((uint8_t)text[i] & 0x3f);
    *ret_len = n;
    return c;
}

static int find_spare(const uint32_t *on, uint32_t c)
{
    for (unsigned i = 0; i < DESKTOP_SPARE; i++) {
        if (on[i] == c)
            return (int)i;
    }
    return -1;
}

/* The bytes of @text for which there are keys at once; those that come new on @on are told to
 * @script. */
static bool fit(uint32_t *on, const char *text, size_t len, size_t *ret_len, struct buf *script)
{
    bool used[DESKTOP_SPARE] = { false };
    size_t at = 0, n;

    for (; at < len; at += n) {
        uint32_t c = character(text + at, len - at, &n);
        int key = c < 0x80 ? 0 : find_spare(on, c);

        if (c < 0x80)
            continue;
        if (key < 0) {
            for (key = 0; key < (int)DESKTOP_SPARE && used[key];)
                key++;
            if (key == (int)DESKTOP_SPARE)
                break;
            on[key] = c;
            if (!buf_printf(script, "keycode %u = U%04" PRIX32 " U%04" PRIX32 "\n",
                            spare[key] + X_KEYCODES, c, c))
                return false;
        }
        used[key] = true;
    }
    *ret_len = at;
    return true;
}

/* Programs have taken what was typed before, and learn of the new keys before they are pressed. */
static bool change_layout(struct desktop *d, const struct buf *script, struct error *err)
{
    static const char *const argv[] = { "xmodmap", "-", NULL };
    const struct toolkit_program program = { .argv = argv,
                                             .input = script->data,
                                             .input_len = script->len,
                                             .max = 4096,
                                             .timeout_ns = LAYOUT_NS };
    CLEANUP(buf_fini) struct buf said = BUF_INIT;
    struct error why = ERROR_INIT;
    int code;

    if (!desktop_calm(d, err))
        return false;
    if (!toolkit_program(d->call, d->computer, &program, &said, &code, &why)) {
        if (why.code == ERR_NOT_FOUND)
            return error_set(
                err, ERR_UNSUPPORTED,
                "only characters of a US keyboard can be typed here: this computer has "
                "no xmodmap, which the image \"desktop\" has");
        return error_set(err, why.code, "%s", why.text);
    }
    return code == 0 || error_set(err, ERR_IO, "xmodmap: %s", buf_str(&said));
}

static bool press_all(struct desktop *d, const uint32_t *on, const char *text, size_t len,
                      struct error *err)
{
    struct batch b = { .count = 0 };
    size_t n, typed = 0;

    for (size_t at = 0; at < len; at += n) {
        uint32_t c = character(text + at, len - at, &n);
        struct desktop_key key = { .code = 0 };

        if (c >= 0x80)
            key.code = spare[find_spare(on, c)];
        else
            (void)desktop_key_of((char)c, &key);
        if (key.shift)
            add_key(&b, KEY_LEFTSHIFT, true);
        add_key(&b, key.code, true);
        add_key(&b, key.code, false);
        if (key.shift)
            add_key(&b, KEY_LEFTSHIFT, false);
        if ((++typed % TYPED_AT_ONCE == 0 || at + n == len) && !send(d, &b, err))
            return false;
    }
    return true;
}

bool desktop_type(struct desktop *d, const char *text, size_t len, struct error *err)
{
    uint32_t on[DESKTOP_SPARE];
    struct desktop_key key;
    size_t n;

    for (size_t i = 0; i < len; i++) {
        if ((unsigned char)text[i] < 0x80 && !desktop_key_of(text[i], &key))
            return error_set(err, ERR_INVALID,
                             "the text holds the control character %d, which no key types",
                             text[i]);
    }
    pthread_mutex_lock(&d->state->lock);
    memcpy(on, d->state->spare, sizeof on);
    pthread_mutex_unlock(&d->state->lock);
    for (; len; text += n, len -= n) {
        CLEANUP(buf_fini) struct buf script = BUF_INIT;

        if (!fit(on, text, len, &n, &script))
            return error_set(err, ERR_NOMEM, "a keyboard layout");
        if (script.len && !change_layout(d, &script, err))
            return false;
        pthread_mutex_lock(&d->state->lock);
        memcpy(d->state->spare, on, sizeof on);
        pthread_mutex_unlock(&d->state->lock);
        if (!press_all(d, on, text, n, err))
            return false;
    }
    return true;
}
