#include "tools/screen_internal.h"

#include <stdlib.h>
#include <string.h>

static int within(int n, int min, int max)
{
    return MAX(MIN(n, max), min);
}

static struct screen_line *line_at(struct screen *s, int row)
{
    return &s->lines[s->which][row];
}

static void blank(struct screen_cell *cells, int count)
{
    memset(cells, 0, (size_t)count * sizeof *cells);
}

static void set_used(struct screen *s, int which, struct screen_line *line, int used)
{
    s->lines_used[which] += (used > 0) - (line->used > 0);
    line->used = used;
}

static void clear_lines(struct screen *s, int which, int from, int to)
{
    for (int row = from; row < to && s->lines_used[which] > 0; row++) {
        struct screen_line *line = &s->lines[which][row];

        blank(line->cells, line->used);
        set_used(s, which, line, 0);
    }
}

/* ---- making and unmaking ---- */

static void free_cells(struct screen_cell *cells[2], struct screen_line *lines[2])
{
    for (int which = 0; which < 2; which++) {
        free(cells[which]);
        free(lines[which]);
    }
}

static bool make_cells(struct screen_cell *cells[2], struct screen_line *lines[2], int rows,
                       int cols)
{
    for (int which = 0; which < 2; which++) {
        cells[which] = calloc((size_t)rows * (size_t)cols, sizeof *cells[which]);
        lines[which] = calloc((size_t)rows, sizeof *lines[which]);
    }
    if (!cells[0] || !cells[1] || !lines[0] || !lines[1]) {
        free_cells(cells, lines);
        return false;
    }
    for (int which = 0; which < 2; which++)
        for (int row = 0; row < rows; row++)
            lines[which][row].cells = cells[which] + (size_t)row * (size_t)cols;
    return true;
}

static void reset_tabs(struct screen *s)
{
    for (int col = 0; col < SCREEN_COLS_MAX; col++)
        s->tabs[col] = col % 8 == 0;
    s->tabs_changed = false;
}

struct screen *screen_new(int rows, int cols, struct error *err)
{
    struct screen *s = calloc(1, sizeof *s);

    rows = within(rows, 1, SCREEN_ROWS_MAX);
    cols = within(cols, SCREEN_COLS_MIN, SCREEN_COLS_MAX);
    if (!s || !make_cells(s->cells, s->lines, rows, cols)) {
        free(s);
        error_set(err, ERR_NOMEM, "a screen of %d by %d", cols, rows);
        return NULL;
    }
    s->rows = rows;
    s->cols = cols;
    reset_tabs(s);
    screen_reset(s);
    return s;
}

void screen_free(struct screen *s)
{
    if (!s)
        return;
    free_cells(s->cells, s->lines);
    free(s);
}

void screen_reset(struct screen *s)
{
    s->which = 0;
    memset(&s->at, 0, sizeof s->at);
    memset(s->saved, 0, sizeof s->saved);
    s->top = 0;
    s->bottom = s->rows;
    s->insert = s->no_wrap = s->newline = false;
    if (s->tabs_changed)
        reset_tabs(s);
    s->last = 0;
    clear_lines(s, 0, 0, s->rows);
    clear_lines(s, 1, 0, s->rows);
}

/* As much as fits; no half of a wide character is left at the edge. */
static void copy_line(struct screen_line *to, const struct screen_line *from, int old_cols,
                      int cols)
{
    to->used = MIN(from->used, cols);
    memcpy(to->cells, from->cells, (size_t)to->used * sizeof *to->cells);
    if (cols < old_cols && from->cells[cols].c == SCREEN_TAIL)
        blank(to->cells + cols - 1, 1);
}

void screen_resize(struct screen *s, int rows, int cols)
{
    struct screen_cell *cells[2];
    struct screen_line *lines[2];
    int first;

    rows = within(rows, 1, SCREEN_ROWS_MAX);
    cols = within(cols, SCREEN_COLS_MIN, SCREEN_COLS_MAX);
    if (!make_cells(cells, lines, rows, cols))
        return;                             /* what there is stays as it is */
    first = MAX(s->at.row - (rows - 1), 0); /* the cursor's row stays in sight */
    for (int which = 0; which < 2; which++) {
        int from = which == s->which ? first : 0;

        s->lines_used[which] = 0;
        for (int row = 0; row < rows && from + row < s->rows; row++) {
            copy_line(&lines[which][row], &s->lines[which][from + row], s->cols, cols);
            s->lines_used[which] += lines[which][row].used > 0;
        }
        s->saved[which].row = MIN(s->saved[which].row, rows - 1);
        s->saved[which].col = MIN(s->saved[which].col, cols - 1);
    }
    free_cells(s->cells, s->lines);
    memcpy(s->cells, cells, sizeof cells);
    memcpy(s->lines, lines, sizeof lines);
    s->rows = rows;
    s->cols = cols;
    s->top = 0;
    s->bottom = rows;
    screen_move(s, s->at.row - first, s->at.col);
}

/* ---- what sequences do ---- */

/* No wide character lies across the edge before @col. */
static void part(struct screen *s, int row, int col)
{
    struct screen_cell *cells = line_at(s, row)->cells;

    if (col > 0 && col < s->cols && cells[col].c == SCREEN_TAIL)
        blank(cells + col - 1, 2);
}

void screen_move(struct screen *s, int row, int col)
{
    int top = s->at.origin ? s->top : 0;
    int bottom = s->at.origin ? s->bottom : s->rows;

    s->at.row = within(row, top, bottom - 1);
    s->at.col = within(col, 0, s->cols - 1);
    s->at.wrap = false;
}

void screen_erase(struct screen *s, int row, int from, int to)
{
    struct screen_line *line = line_at(s, row);

    from = within(from, 0, s->cols);
    to = within(to, from, s->cols);
    part(s, row, from);
    part(s, row, to);
    if (from < line->used)
        blank(line->cells + from, MIN(to, line->used) - from);
    if (to >= line->used)
        set_used(s, s->which, line, MIN(from, line->used));
}

void screen_erase_rows(struct screen *s, int from, int to)
{
    from = within(from, 0, s->rows);
    to = within(to, from, s->rows);
    clear_lines(s, s->which, from, to);
}

void screen_scroll(struct screen *s, int from, int to, int count)
{
    struct screen_line kept[SCREEN_ROWS_MAX];
    struct screen_line *lines = s->lines[s->which];
    int height = to - from;
    int moved = within(count, -height, height);
    int over = abs(moved);
    int stay = height - over;

    if (s->lines_used[s->which] == 0)
        return;
    if (moved > 0) {
        memcpy(kept, lines + from, (size_t)over * sizeof *kept);
        memmove(lines + from, lines + from + over, (size_t)stay * sizeof *lines);
        memcpy(lines + from + stay, kept, (size_t)over * sizeof *kept);
        screen_erase_rows(s, to - over, to);
    } else if (moved < 0) {
        memcpy(kept, lines + from + stay, (size_t)over * sizeof *kept);
        memmove(lines + from + over, lines + from, (size_t)stay * sizeof *lines);
        memcpy(lines + from, kept, (size_t)over * sizeof *kept);
        screen_erase_rows(s, from, from + over);
    }
}

void screen_shift(struct screen *s, int count)
{
    struct screen_line *line = line_at(s, s->at.row);
    struct screen_cell *cells = line->cells;
    int from = s->at.col;
    int width = s->cols - from;
    int moved = within(count, -width, width);
    size_t bytes = (size_t)(width - abs(moved)) * sizeof *cells;

    part(s, s->at.row, from);
    if (moved >= 0) {
        part(s, s->at.row, from + moved);
        memmove(cells + from, cells + from + moved, bytes);
        blank(cells + s->cols - moved, moved);
    } else {
        part(s, s->at.row, s->cols + moved); /* what goes over the edge goes whole */
        memmove(cells + from - moved, cells + from, bytes);
        blank(cells + from, -moved);
        if (line->used > from)
            set_used(s, s->which, line, MIN(line->used - moved, s->cols));
    }
    s->at.wrap = false;
}

void screen_linefeed(struct screen *s)
{
    s->at.wrap = false;
    if (s->at.row == s->bottom - 1)
        screen_scroll(s, s->top, s->bottom, 1);
    else if (s->at.row < s->rows - 1)
        s->at.row++;
}

void screen_reverse_linefeed(struct screen *s)
{
    s->at.wrap = false;
    if (s->at.row == s->top)
        screen_scroll(s, s->top, s->bottom, -1);
    else if (s->at.row > 0)
        s->at.row--;
}

void screen_tab(struct screen *s, int count)
{
    int step = count < 0 ? -1 : 1;
    int col = s->at.col;

    for (int left = within(abs(count), 0, s->cols); left > 0; left--) {
        col += step;
        while (col > 0 && col < s->cols - 1 && !s->tabs[col])
            col += step;
    }
    s->at.col = within(col, 0, s->cols - 1);
    s->at.wrap = false;
}

void screen_alternate(struct screen *s, bool on)
{
    s->which = on;
    if (on)
        screen_erase_rows(s, 0, s->rows);
}

/* A mark sits on the character before the cursor, if there is one. */
static void put_mark(struct screen *s, uint32_t c)
{
    struct screen_cell *line = line_at(s, s->at.row)->cells;
    int col = s->at.wrap ? s->at.col : s->at.col - 1;

    if (col > 0 && line[col].c == SCREEN_TAIL)
        col--;
    if (col < 0 || line[col].c == 0)
        return;
    for (int i = 0; i < SCREEN_MARKS; i++) {
        if (line[col].marks[i] == 0) {
            line[col].marks[i] = c;
            return;
        }
    }
}

void screen_put(struct screen *s, uint32_t c)
{
    int width = screen_width(c);
    struct screen_line *line;
    struct screen_cell *cell;

    if (width == 0) {
        put_mark(s, c);
        return;
    }
    if (!s->no_wrap && (s->at.wrap || s->at.col + width > s->cols)) {
        screen_linefeed(s);
        s->at.col = 0;
    }
    s->at.wrap = false;
    s->at.col = MIN(s->at.col, s->cols - width);
    if (s->insert)
        screen_shift(s, -width);
    part(s, s->at.row, s->at.col);
    part(s, s->at.row, s->at.col + width);
    line = line_at(s, s->at.row);
    cell = line->cells + s->at.col;
    cell[0] = (struct screen_cell){ .c = c };
    if (width == 2)
        cell[1] = (struct screen_cell){ .c = SCREEN_TAIL };
    set_used(s, s->which, line, MAX(line->used, s->at.col + width));
    s->last = c;
    s->at.wrap = !s->no_wrap && s->at.col + width == s->cols;
    s->at.col = MIN(s->at.col + width, s->cols - 1);
}

/* ---- what it shows ---- */

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
    const struct screen_line *line = line_at(s, row);
    size_t blanks = 0;

    for (int col = 0; col < line->used; col++) {
        const struct screen_cell *cell = line->cells + col;

        if (cell->c == SCREEN_TAIL)
            continue;
        if (cell->c == 0 || (cell->c == ' ' && cell->marks[0] == 0)) {
            blanks++;
            continue;
        }
        for (; blanks > 0; blanks--)
            if (!buf_append_char(out, ' '))
                return false;
        if (!put_utf8(out, cell->c))
            return false;
        for (int i = 0; i < SCREEN_MARKS && cell->marks[i]; i++)
            if (!put_utf8(out, cell->marks[i]))
                return false;
    }
    return buf_append_char(out, '\n');
}

bool screen_text(struct screen *s, struct buf *out)
{
    size_t begin = out->len;

    for (int row = 0; row < s->rows; row++)
        if (!put_row(s, row, out))
            return false;
    while (out->len > begin + 1 && out->data[out->len - 1] == '\n' &&
           out->data[out->len - 2] == '\n')
        out->len--;
    return buf_printf(out, "[screen %dx%d, cursor at row %d, column %d]\n", s->cols, s->rows,
                      s->at.row + 1, s->at.col + 1);
}

size_t screen_answers(struct screen *s, char *out, size_t size)
{
    size_t n = MIN(size, s->answers_len);

    memcpy(out, s->answers, n);
    memmove(s->answers, s->answers + n, s->answers_len - n);
    s->answers_len -= n;
    return n;
}
