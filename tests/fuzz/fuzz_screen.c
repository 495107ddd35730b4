/*
 * A terminal's bytes, as hostile as they come: the screen stays within its size and is valid UTF-8
 * however the bytes are cut, and cleaned output holds nothing that a terminal would obey.  The
 * first two bytes are the screen's size.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "kernel/base/utf8.h"
#include "tools/screen.h"
#include "tools/toolkit.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(bool holds)
{
    if (!holds)
        abort();
}

static void show(struct screen *s, struct buf *out, int rows)
{
    size_t lines = 0;

    buf_clear(out);
    check(screen_text(s, out));
    check(utf8_valid(out->data, out->len));
    for (size_t i = 0; i < out->len; i++) {
        unsigned char c = (unsigned char)out->data[i];

        check(c == '\n' || (c >= 0x20 && c != 0x7f));
        lines += c == '\n';
    }
    check(lines >= 1 && lines <= (size_t)rows + 1);
}

static void check_screen(const uint8_t *data, size_t size, int rows, int cols)
{
    struct screen *whole = screen_new(rows, cols, NULL);
    struct screen *cut = screen_new(rows, cols, NULL);
    struct buf one = BUF_INIT, other = BUF_INIT;
    char answers[64];
    size_t n;

    check(whole && cut);
    screen_feed(whole, (const char *)data, size);
    for (size_t i = 0; i < size; i++) {
        const char byte = (char)data[i];

        screen_feed(cut, &byte, 1);
    }
    while ((n = screen_answers(whole, answers, sizeof answers)) > 0)
        check(n <= sizeof answers);
    show(whole, &one, rows);
    show(cut, &other, rows);
    check(one.len == other.len && memcmp(one.data, other.data, one.len) == 0);
    screen_resize(whole, cols % 7 + 1, rows % 11 + 1);
    screen_feed(whole, (const char *)data, size);
    show(whole, &one, cols % 7 + 1);
    screen_free(whole);
    screen_free(cut);
    buf_fini(&one);
    buf_fini(&other);
}

static void check_clean(const uint8_t *data, size_t size)
{
    struct buf once = BUF_INIT, twice = BUF_INIT;

    check(toolkit_clean(&once, (const char *)data, size));
    check(once.len <= size);
    for (size_t i = 0; i < once.len; i++) {
        unsigned char c = (unsigned char)once.data[i];

        check(c == '\n' || c == '\t' || (c >= 0x20 && c != 0x7f));
    }
    /* What is clean stays as it is. */
    check(toolkit_clean(&twice, buf_str(&once), once.len));
    check(twice.len == once.len && memcmp(buf_str(&twice), buf_str(&once), once.len) == 0);
    buf_fini(&once);
    buf_fini(&twice);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 2)
        return 0;
    check_screen(data + 2, size - 2, 1 + data[0] % SCREEN_ROWS_MAX, 1 + data[1] % 80);
    check_clean(data + 2, size - 2);
    return 0;
}
