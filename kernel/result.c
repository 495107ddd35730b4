#include "kernel/result.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "kernel/base/json.h"
#include "kernel/base/limits.h"
#include "kernel/base/utf8.h"

/* What a block that had to be cut leaves for those that follow it: the status line of a program
 * that flooded its output must still fit. */
#define RESERVE_BYTES 1024u
#define MARK_BYTES    160u /* the sentence in the middle, without what @more adds */
#define PRINTF_STACK  1024u

void result_init(struct result *r)
{
    static const struct result_block empty = { .data = BUF_INIT };

    /* Not all the blocks: most answers have one, and there is a result for each call. */
    r->blocks[0] = empty;
    r->count = r->text_bytes = 0;
    r->structured = NULL;
    r->is_error = false;
    r->code = ERR_NONE;
}

void result_fini(struct result *r)
{
    for (size_t i = 0; i < r->count; i++)
        buf_fini(&r->blocks[i].data);
    json_decref(r->structured);
    result_init(r);
}

static struct result_block *add_block(struct result *r, enum result_kind kind, struct error *err)
{
    struct result_block *block;

    if (r->count == RESULT_BLOCKS_MAX) {
        error_set(err, ERR_LIMIT, "more than %d parts in one answer", RESULT_BLOCKS_MAX);
        return NULL;
    }
    block = &r->blocks[r->count++];
    block->kind = kind;
    block->mime_type = NULL;
    buf_init(&block->data, 0);
    return block;
}

static bool drop_block(struct result *r)
{
    buf_fini(&r->blocks[--r->count].data);
    return false;
}

/* "689,012", as people read it. */
static const char *grouped(char out[32], size_t n)
{
    char digits[24];
    size_t len = (size_t)snprintf(digits, sizeof digits, "%zu", n), at = 0;

    for (size_t i = 0; i < len; i++) {
        if (i && (len - i) % 3 == 0)
            out[at++] = ',';
        out[at++] = digits[i];
    }
    out[at] = '\0';
    return out;
}

/* How many bytes at the front of @text, or at its end with @tail, are at most @room bytes once they
 * are valid; these are left in @out.  False when memory ran out. */
static bool repair_part(struct buf *out, const char *text, size_t len, size_t room, bool tail,
                        size_t *ret_used)
{
    size_t used = MIN(len, room);

    for (;;) {
        const char *at = text;

        if (tail) {
            /* Begin where a character begins, if there is one in reach. */
            at = text + len - used;
            for (int i = 0; i < 3 && used && at > text && ((unsigned char)*at & 0xc0) == 0x80;
                 i++) {
                at++;
                used--;
            }
        } else if (used < len) {
            used = utf8_cut(text, len, used);
        }
        buf_clear(out);
        if (utf8_append_valid(out, at, used) < 0)
            return false;
        if (out->len <= room)
            break;
        /* A bad byte becomes three, so this never takes away more than is needed by much. */
        used -= (out->len - room + 2) / 3;
    }
    *ret_used = used;
    return true;
}

/* Head, mark, tail: at most @room bytes in all, which is MARK_BYTES and @more at the least. */
static bool append_cut(struct buf *data, const char *text, size_t len, const char *more,
                       size_t room)
{
    CLEANUP(buf_fini) struct buf part = BUF_INIT;
    char number[32];
    size_t mark = MARK_BYTES + (more ? strlen(more) : 0), head, tail, head_room;

    room = room > mark ? room - mark : 0;
    head_room = room - room / 3;
    if (!repair_part(&part, text, len, head_room, false, &head) ||
        !buf_append(data, buf_str(&part), part.len) ||
        !repair_part(&part, text + head, len - head, room - head_room, true, &tail))
        return false;
    if (head + tail < len &&
        !buf_printf(data, "\n[… %s bytes left out%s%s]\n", grouped(number, len - head - tail),
                    more ? "; " : "", more ? more : ""))
        return false;
    return buf_append(data, buf_str(&part), part.len);
}

bool result_text(struct result *r, const char *text, size_t len, const char *more,
                 struct error *err)
{
    size_t left = LIMIT_RESULT_TEXT_BYTES - r->text_bytes;
    size_t room = left > 2 * RESERVE_BYTES ? left - RESERVE_BYTES : left / 2;
    struct result_block *block;
    bool ok;

    /* A @more that is itself too long for its place would push the text out. */
    if (more && strlen(more) > RESERVE_BYTES / 4)
        more = NULL;
    if (len > left && room < MARK_BYTES + RESERVE_BYTES / 4)
        return error_set(err, ERR_LIMIT, "more than %u bytes of text in one answer",
                         LIMIT_RESULT_TEXT_BYTES);
    block = add_block(r, RESULT_TEXT, err);
    if (!block)
        return false;
    if (len <= left && utf8_valid(text, len)) {
        ok = buf_append(&block->data, text, len);
    } else if (len <= left / 3) { /* fits whatever repairing makes of it */
        ok = utf8_append_valid(&block->data, text, len) >= 0;
    } else {
        ok = append_cut(&block->data, text, len, more, room);
    }
    if (!ok) {
        (void)drop_block(r);
        return error_set(err, ERR_NOMEM, "answer of %zu bytes", len);
    }
    r->text_bytes += block->data.len;
    assert(r->text_bytes <= LIMIT_RESULT_TEXT_BYTES);
    return true;
}

bool result_printf(struct result *r, struct error *err, const char *fmt, ...)
{
    CLEANUP(buf_fini) struct buf text = BUF_INIT;
    char stack[PRINTF_STACK];
    va_list ap;
    bool ok;
    int n;

    va_start(ap, fmt);
    n = vsnprintf(stack, sizeof stack, fmt, ap);
    va_end(ap);
    if (n >= 0 && (size_t)n < sizeof stack)
        return result_text(r, stack, (size_t)n, NULL, err);
    va_start(ap, fmt);
    ok = buf_vprintf(&text, fmt, ap);
    va_end(ap);
    if (!ok)
        return error_set(err, ERR_NOMEM, "answer of %d bytes", n);
    return result_text(r, buf_str(&text), text.len, NULL, err);
}

static const char *known_mime_type(const char *mime_type)
{
    static const char *const known[] = { "image/png", "image/jpeg", "image/webp" };

    for (size_t i = 0; i < ARRAY_LEN(known); i++) {
        if (!strcmp(mime_type, known[i]))
            return known[i];
    }
    return NULL;
}

bool result_image(struct result *r, const void *data, size_t len, const char *mime_type,
                  struct error *err)
{
    const char *type = known_mime_type(mime_type);
    struct result_block *block;
    size_t images = 0;

    for (size_t i = 0; i < r->count; i++)
        images += r->blocks[i].kind == RESULT_IMAGE;
    if (!type)
        return error_set(err, ERR_INVALID, "%s is not an image type that can be shown", mime_type);
    if (images == LIMIT_IMAGES)
        return error_set(err, ERR_LIMIT, "more than %u images in one answer", LIMIT_IMAGES);
    if (!len || len > LIMIT_IMAGE_BYTES)
        return error_set(err, ERR_LIMIT, "an image of %zu bytes; it may have 1 to %u", len,
                         LIMIT_IMAGE_BYTES);
    block = add_block(r, RESULT_IMAGE, err);
    if (!block)
        return false;
    if (!buf_append(&block->data, data, len)) {
        (void)drop_block(r);
        return error_set(err, ERR_NOMEM, "image of %zu bytes", len);
    }
    block->mime_type = type;
    return true;
}

/* Half of pure data is no data: what does not fit is refused, not cut. */
static bool append_data(struct result *r, const json_t *value, struct error *err)
{
    struct result_block *block = add_block(r, RESULT_TEXT, err);
    size_t left = LIMIT_RESULT_TEXT_BYTES - r->text_bytes;

    if (!block)
        return false;
    if (!json_write(value, &block->data)) {
        (void)drop_block(r);
        return error_set(err, ERR_NOMEM, "write the answer as JSON");
    }
    if (block->data.len > left) {
        size_t len = block->data.len;

        (void)drop_block(r);
        return error_set(err, ERR_LIMIT,
                         "the answer is %zu bytes long and may have %zu: ask for less at once", len,
                         left);
    }
    r->text_bytes += block->data.len;
    return true;
}

bool result_data(struct result *r, json_t *value, struct error *err)
{
    assert(!r->structured);
    if (!value)
        return error_set(err, ERR_NOMEM, "answer as JSON");
    if (!append_data(r, value, err)) {
        json_decref(value);
        return false;
    }
    r->structured = value;
    return true;
}

void result_fail(struct result *r, const struct error *err)
{
    const char *text = err->text[0] ? err->text : error_code_name(err->code);

    result_fini(r);
    if (!result_text(r, text, strlen(text), NULL, NULL))
        result_init(r); /* no memory left at all: an error without words */
    r->is_error = true;
    r->code = err->code;
}
