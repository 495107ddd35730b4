#include "tools/screen.h"

#include <stdlib.h>
#include <string.h>
#include <vterm.h>

/* libvterm puts four bytes on the stack for each that it is given, and what a program prints has
 * any length. */
#define PIECE_BYTES 1024u

struct screen {
    VTerm *vt;
    VTermScreen *screen; /* vt's */
    int rows, cols;
};

static int within(int n, int min, int max)
{
    return MAX(MIN(n, max), min);
}

struct screen *screen_new(int rows, int cols, struct error *err)
{
    struct screen *s = calloc(1, sizeof *s);

    rows = within(rows, 1, SCREEN_ROWS_MAX);
    cols = within(cols, SCREEN_COLS_MIN, SCREEN_COLS_MAX);
    if (s)
        s->vt = vterm_new(rows, cols);
    if (s && s->vt)
        s->screen = vterm_obtain_screen(s->vt);
    if (!s || !s->screen) {
        screen_free(s);
        error_set(err, ERR_NOMEM, "a screen of %d by %d", cols, rows);
        return NULL;
    }
    s->rows = rows;
    s->cols = cols;
    vterm_set_utf8(s->vt, 1);
    vterm_screen_enable_altscreen(s->screen, 1);
    vterm_screen_reset(s->screen, 1);
    return s;
}

void screen_free(struct screen *s)
{
    if (!s)
        return;
    if (s->vt)
        vterm_free(s->vt);
    free(s);
}

void screen_feed(struct screen *s, const char *data, size_t len)
{
    while (len > 0) {
        size_t taken = vterm_input_write(s->vt, data, MIN(len, PIECE_BYTES));

        if (taken == 0 || taken > len)
            return;
        data += taken;
        len -= taken;
    }
}

void screen_resize(struct screen *s, int rows, int cols)
{
    s->rows = within(rows, 1, SCREEN_ROWS_MAX);
    s->cols = within(cols, SCREEN_COLS_MIN, SCREEN_COLS_MAX);
    vterm_set_size(s->vt, s->rows, s->cols);
}

size_t screen_answers(struct screen *s, char *out, size_t size)
{
    return vterm_output_read(s->vt, out, size);
}

static bool put_utf8(struct buf *out, uint32_t c)
{
    char bytes[4];
    size_t n;

    if (c < 0x80) {
        bytes[0] = (char)c;
        n = 1;
    } else if (c < 0x800) {
        bytes[0] = (char)(0xc0 | (c >> 6));
        bytes[1] = (char)(0x80 | (c & 0x3f));
        n = 2;
    } else if (c < 0x10000) {
        bytes[0] = (char)(0xe0 | (c >> 12));
        bytes[1] = (char)(0x80 | ((c >> 6) & 0x3f));
        bytes[2] = (char)(0x80 | (c & 0x3f));
        n = 3;
    } else {
        bytes[0] = (char)(0xf0 | ((c >> 18) & 0x07));
        bytes[1] = (char)(0x80 | ((c >> 12) & 0x3f));
        bytes[2] = (char)(0x80 | ((c >> 6) & 0x3f));
        bytes[3] = (char)(0x80 | (c & 0x3f));
        n = 4;
    }
    return buf_append(out, bytes, n);
}

/* One row; blanks are held back until something follows them. */
static bool put_row(struct screen *s, int row, struct buf *out)
{
    size_t blanks = 0;

    for (int col = 0; col < s->cols;) {
        VTermPos pos = { .row = row, .col = col };
        VTermScreenCell cell;

        if (!vterm_screen_get_cell(s->screen, pos, &cell))
            break;
        col += cell.width > 0 ? cell.width : 1;
        /* The right half of a wide character whose left half is gone is blank, too. */
        if (cell.chars[0] == 0 || cell.chars[0] == ' ' || cell.chars[0] > 0x10ffff) {
            blanks++;
            continue;
        }
        for (; blanks > 0; blanks--)
            if (!buf_append_char(out, ' '))
                return false;
        for (int i = 0; i < VTERM_MAX_CHARS_PER_CELL && cell.chars[i]; i++)
            if (cell.chars[i] <= 0x10ffff && !put_utf8(out, cell.chars[i]))
                return false;
    }
    return buf_append_char(out, '\n');
}

bool screen_text(struct screen *s, struct buf *out)
{
    size_t begin = out->len;
    VTermPos cursor;

    for (int row = 0; row < s->rows; row++)
        if (!put_row(s, row, out))
            return false;
    while (out->len > begin + 1 && out->data[out->len - 1] == '\n' &&
           out->data[out->len - 2] == '\n')
        out->len--;
    vterm_state_get_cursorpos(vterm_obtain_state(s->vt), &cursor);
    return buf_printf(out, "[screen %dx%d, cursor at row %d, column %d]\n", s->cols, s->rows,
                      cursor.row + 1, cursor.col + 1);
}
