#include "tools/browser_input.h"

#include <string.h>

/* Longer texts go in pieces: nobody waits for ten thousand keys. */
#define KEYED_BYTES_MAX 100u

static bool send(struct browser_input *in, const char *method, json_t *params, struct error *err)
{
    struct error why = ERROR_INIT;
    json_t *done;

    if (in->dialog) {
        json_decref(params);
        return true;
    }
    done = browser_call(in->tab, method, params, in->w, &why);
    json_decref(done);
    if (done)
        return true;
    if (why.code == ERR_BUSY) {
        in->dialog = true;
        return true;
    }
    if (err)
        *err = why;
    return false;
}

static bool mouse(struct browser_input *in, const char *type, double x, double y,
                  const char *button, int buttons, int count, struct error *err)
{
    return send(in, "Input.dispatchMouseEvent",
                json_pack("{ss sf sf ss si si}", "type", type, "x", x, "y", y, "button", button,
                          "buttons", buttons, "clickCount", count),
                err);
}

bool browser_input_move(struct browser_input *in, double x, double y, bool pressed,
                        struct error *err)
{
    return mouse(in, "mouseMoved", x, y, pressed ? "left" : "none", pressed, 0, err);
}

bool browser_input_button(struct browser_input *in, double x, double y, bool right, bool down,
                          int count, struct error *err)
{
    return mouse(in, down ? "mousePressed" : "mouseReleased", x, y, right ? "right" : "left",
                 !down   ? 0
                 : right ? 2
                         : 1,
                 count, err);
}

bool browser_input_click(struct browser_input *in, double x, double y, bool right, int count,
                         struct error *err)
{
    for (int i = 1; i <= count; i++)
        if (!browser_input_button(in, x, y, right, true, i, err) ||
            !browser_input_button(in, x, y, right, false, i, err))
            return false;
    return true;
}

bool browser_input_wheel(struct browser_input *in, double x, double y, double dx, double dy,
                         struct error *err)
{
    return browser_input_move(in, x, y, false, err) &&
           send(in, "Input.dispatchMouseEvent",
                json_pack("{ss sf sf sf sf}", "type", "mouseWheel", "x", x, "y", y, "deltaX", dx,
                          "deltaY", dy),
                err);
}

static bool key_event(struct browser_input *in, const struct browser_key *key, bool down,
                      unsigned modifiers, struct error *err)
{
    const char *text = down && key->text[0] ? key->text : NULL;

    return send(in, "Input.dispatchKeyEvent",
                json_pack("{ss ss ss si si ss* ss*}", "type",
                          !down  ? "keyUp"
                          : text ? "keyDown"
                                 : "rawKeyDown",
                          "key", key->key, "code", key->code, "windowsVirtualKeyCode", key->number,
                          "modifiers", (int)modifiers, "text", text, "unmodifiedText", text),
                err);
}

static const enum browser_modifier all_modifiers[] = { BROWSER_CONTROL, BROWSER_ALT, BROWSER_META,
                                                       BROWSER_SHIFT };

bool browser_input_key(struct browser_input *in, const struct browser_key *key, struct error *err)
{
    unsigned held = 0;
    struct browser_key modifier;

    for (size_t i = 0; i < ARRAY_LEN(all_modifiers); i++) {
        if (!(key->modifiers & all_modifiers[i]))
            continue;
        held |= all_modifiers[i];
        browser_key_modifier(all_modifiers[i], &modifier);
        if (!key_event(in, &modifier, true, held, err))
            return false;
    }
    if (!key_event(in, key, true, held, err) || !key_event(in, key, false, held, err))
        return false;
    for (size_t i = ARRAY_LEN(all_modifiers); i-- > 0;) {
        if (!(key->modifiers & all_modifiers[i]))
            continue;
        held &= ~(unsigned)all_modifiers[i];
        browser_key_modifier(all_modifiers[i], &modifier);
        if (!key_event(in, &modifier, false, held, err))
            return false;
    }
    return true;
}

bool browser_input_keys(struct browser_input *in, const char *keys, struct error *err)
{
    struct browser_key key;

    /* All of them first: half a sequence is worse than none. */
    for (int pass = 0; pass < 2; pass++) {
        for (const char *at = keys + strspn(keys, " "); *at; at += strspn(at, " ")) {
            size_t len = strcspn(at, " ");

            if (!browser_key(at, len, &key, err) || (pass && !browser_input_key(in, &key, err)))
                return false;
            at += len;
        }
    }
    return true;
}

bool browser_input_insert(struct browser_input *in, const char *text, size_t len, struct error *err)
{
    return len == 0 || send(in, "Input.insertText", json_pack("{ss%}", "text", text, len), err);
}

bool browser_input_type(struct browser_input *in, const char *text, size_t len, struct error *err)
{
    bool keyed = len <= KEYED_BYTES_MAX;
    size_t piece;

    for (size_t at = 0; at < len; at += piece) {
        struct browser_key key;
        unsigned char c = (unsigned char)text[at];

        piece = 1;
        if (c == '\n' || c == '\t' || (keyed && c >= ' ' && c < 0x7f)) {
            if (!browser_key(c == '\n'   ? "Enter"
                             : c == '\t' ? "Tab"
                                         : text + at,
                             c == '\n'   ? 5
                             : c == '\t' ? 3
                                         : 1,
                             &key, err) ||
                !browser_input_key(in, &key, err))
                return false;
            continue;
        }
        while (at + piece < len && text[at + piece] != '\n' && text[at + piece] != '\t' &&
               (!keyed || (unsigned char)text[at + piece] >= 0x7f))
            piece++;
        if (!browser_input_insert(in, text + at, piece, err))
            return false;
    }
    return true;
}
