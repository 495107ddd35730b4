/* The screen's input: text, control characters and the escape sequences of xterm that move, erase
 * and scroll.  What only colours, names or beeps is read and forgotten. */
#include "tools/screen_internal.h"

#include <stdio.h>
#include <string.h>

#define PARAM_MOST 9999 /* larger numbers mean no more than this */

/* ---- answers ---- */

static void answer(struct screen *s, const char *text)
{
    size_t len = strlen(text);

    /* A program that asks more than it reads is not told the rest. */
    if (len > sizeof s->answers - s->answers_len)
        return;
    memcpy(s->answers + s->answers_len, text, len);
    s->answers_len += len;
}

static void answer_position(struct screen *s, const char *mark)
{
    char text[40];

    (void)snprintf(text, sizeof text, "\x1b[%s%d;%dR", mark,
                   s->at.row + 1 - (s->at.origin ? s->top : 0), s->at.col + 1);
    answer(s, text);
}

/* ---- sequences ---- */

/* Number @i of the sequence, @missing when it was left out, at least @least. */
static int param(const struct screen *s, int i, int missing, int least)
{
    int value = i < s->param_count && s->params[i] >= 0 ? s->params[i] : missing;

    return value < least ? least : value;
}

static void save_cursor(struct screen *s)
{
    s->saved[s->which] = s->at;
}

static void restore_cursor(struct screen *s)
{
    bool wrap = s->saved[s->which].wrap;

    s->at = s->saved[s->which];
    screen_move(s, s->at.row, s->at.col);
    s->at.wrap = wrap && s->at.col == s->cols - 1;
}

/* Straight up or down, stopping at the edge of the scrolling rows when within them. */
static void move_rows(struct screen *s, int count)
{
    int row = s->at.row + count;

    if (count < 0 && s->at.row >= s->top)
        row = MAX(row, s->top);
    if (count > 0 && s->at.row < s->bottom)
        row = MIN(row, s->bottom - 1);
    screen_move(s, row, s->at.col);
}

static void move_to_row(struct screen *s, int row, int col)
{
    screen_move(s, row + (s->at.origin ? s->top : 0), col);
}

static void erase_display(struct screen *s)
{
    int row = s->at.row;

    switch (param(s, 0, 0, 0)) {
    case 0:
        screen_erase(s, row, s->at.col, s->cols);
        screen_erase_rows(s, row + 1, s->rows);
        break;
    case 1:
        screen_erase_rows(s, 0, row);
        screen_erase(s, row, 0, s->at.col + 1);
        break;
    case 2:
        screen_erase_rows(s, 0, s->rows);
        break;
    default:
        break;
    }
    s->at.wrap = false;
}

static void erase_line(struct screen *s)
{
    switch (param(s, 0, 0, 0)) {
    case 0:
        screen_erase(s, s->at.row, s->at.col, s->cols);
        break;
    case 1:
        screen_erase(s, s->at.row, 0, s->at.col + 1);
        break;
    case 2:
        screen_erase(s, s->at.row, 0, s->cols);
        break;
    default:
        break;
    }
    s->at.wrap = false;
}

/* Rows come in, or go, at the cursor. */
static void scroll_here(struct screen *s, int count)
{
    if (s->at.row < s->top || s->at.row >= s->bottom)
        return;
    screen_scroll(s, s->at.row, s->bottom, count);
    screen_move(s, s->at.row, 0);
}

static void set_scrolling_rows(struct screen *s)
{
    int top = param(s, 0, 1, 1) - 1;
    int bottom = MIN(param(s, 1, s->rows, 1), s->rows);

    if (top >= bottom - 1) { /* less than two rows do not scroll */
        top = 0;
        bottom = s->rows;
    }
    s->top = top;
    s->bottom = bottom;
    move_to_row(s, 0, 0);
}

static void clear_tabs(struct screen *s)
{
    s->tabs_changed = true;
    if (param(s, 0, 0, 0) == 0)
        s->tabs[s->at.col] = false;
    else if (param(s, 0, 0, 0) == 3)
        memset(s->tabs, 0, sizeof s->tabs);
}

static void set_mode(struct screen *s, bool on)
{
    for (int i = 0; i < s->param_count; i++) {
        if (s->params[i] == 4)
            s->insert = on;
        else if (s->params[i] == 20)
            s->newline = on;
    }
}

static void switch_screen(struct screen *s, bool on, bool with_cursor)
{
    if (on == (s->which == 1))
        return;
    if (on && with_cursor)
        save_cursor(s);
    screen_alternate(s, on);
    if (!on && with_cursor)
        restore_cursor(s);
}

static void set_private_mode(struct screen *s, bool on)
{
    for (int i = 0; i < s->param_count; i++) {
        switch (s->params[i]) {
        case 6:
            s->at.origin = on;
            move_to_row(s, 0, 0);
            break;
        case 7:
            s->no_wrap = !on;
            s->at.wrap = false;
            break;
        case 47:
        case 1047:
            switch_screen(s, on, false);
            break;
        case 1048:
            if (on)
                save_cursor(s);
            else
                restore_cursor(s);
            break;
        case 1049:
            switch_screen(s, on, true);
            break;
        default:
            break; /* cursor shapes, mice, pastes */
        }
    }
}

static void repeat(struct screen *s)
{
    int count = MIN(param(s, 0, 1, 1), s->cols); /* nobody means more than a line */

    while (s->last && count-- > 0)
        screen_put(s, s->last);
}

static void report_status(struct screen *s, const char *mark)
{
    if (param(s, 0, 0, 0) == 5)
        answer(s, "\x1b[0n");
    else if (param(s, 0, 0, 0) == 6)
        answer_position(s, mark);
}

/* Sequences that move the cursor; false for the others. */
static bool csi_move(struct screen *s, char final)
{
    int n = param(s, 0, 1, 1);

    switch (final) {
    case 'A':
        move_rows(s, -n);
        return true;
    case 'B':
    case 'e':
        move_rows(s, n);
        return true;
    case 'C':
    case 'a':
        screen_move(s, s->at.row, s->at.col + n);
        return true;
    case 'D':
        screen_move(s, s->at.row, s->at.col - n);
        return true;
    case 'E':
        move_rows(s, n);
        s->at.col = 0;
        return true;
    case 'F':
        move_rows(s, -n);
        s->at.col = 0;
        return true;
    case 'G':
    case '`':
        screen_move(s, s->at.row, n - 1);
        return true;
    case 'H':
    case 'f':
        move_to_row(s, n - 1, param(s, 1, 1, 1) - 1);
        return true;
    case 'I':
        screen_tab(s, n);
        return true;
    case 'Z':
        screen_tab(s, -n);
        return true;
    case 'd':
        move_to_row(s, n - 1, s->at.col);
        return true;
    case 's':
        save_cursor(s);
        return true;
    case 'u':
        restore_cursor(s);
        return true;
    default:
        return false;
    }
}

static void csi_plain(struct screen *s, char final)
{
    int n = param(s, 0, 1, 1);

    if (csi_move(s, final))
        return;
    switch (final) {
    case '@':
        screen_shift(s, -n);
        break;
    case 'J':
        erase_display(s);
        break;
    case 'K':
        erase_line(s);
        break;
    case 'L':
        scroll_here(s, -n);
        break;
    case 'M':
        scroll_here(s, n);
        break;
    case 'P':
        screen_shift(s, n);
        break;
    case 'S':
        screen_scroll(s, s->top, s->bottom, n);
        break;
    case 'T':
        screen_scroll(s, s->top, s->bottom, -n);
        break;
    case 'X':
        screen_erase(s, s->at.row, s->at.col, s->at.col + n);
        break;
    case 'b':
        repeat(s);
        break;
    case 'c':
        if (param(s, 0, 0, 0) == 0)
            answer(s, "\x1b[?1;2c");
        break;
    case 'g':
        clear_tabs(s);
        break;
    case 'h':
    case 'l':
        set_mode(s, final == 'h');
        break;
    case 'n':
        report_status(s, "");
        break;
    case 'r':
        set_scrolling_rows(s);
        break;
    default:
        break;
    }
}

/* DECSTR: modes go back to their beginning, what is shown stays. */
static void soft_reset(struct screen *s)
{
    int row = s->at.row;
    int col = s->at.col;

    memset(&s->at, 0, sizeof s->at);
    s->insert = s->no_wrap = false;
    s->top = 0;
    s->bottom = s->rows;
    screen_move(s, row, col);
}

static void csi(struct screen *s, char final)
{
    if (s->leader == 0 && s->intermediate == 0) {
        csi_plain(s, final);
    } else if (s->leader == 0 && s->intermediate == '!' && final == 'p') {
        soft_reset(s);
    } else if (s->leader == '>' && final == 'c') {
        answer(s, "\x1b[>0;100;0c");
    } else if (s->leader == '?' && s->intermediate == 0) {
        if (final == 'h' || final == 'l')
            set_private_mode(s, final == 'h');
        else if (final == 'J')
            erase_display(s);
        else if (final == 'K')
            erase_line(s);
        else if (final == 'n')
            report_status(s, "?");
    }
}

static void escape(struct screen *s, char final)
{
    if (s->intermediate == '(' || s->intermediate == ')') {
        s->at.drawing[s->intermediate == ')'] = final == '0';
        return;
    }
    if (s->intermediate)
        return;
    switch (final) {
    case '7':
        save_cursor(s);
        break;
    case '8':
        restore_cursor(s);
        break;
    case 'D':
        screen_linefeed(s);
        break;
    case 'E':
        screen_linefeed(s);
        s->at.col = 0;
        break;
    case 'H':
        s->tabs[s->at.col] = s->tabs_changed = true;
        break;
    case 'M':
        screen_reverse_linefeed(s);
        break;
    case 'c':
        screen_reset(s);
        break;
    default:
        break;
    }
}

/* ---- bytes ---- */

/* The line drawing characters for 0x60 to 0x7e. */
static const uint16_t drawing[] = {
    0x25c6, 0x2592, 0x2409, 0x240c, 0x240d, 0x240a, 0x00b0, 0x00b1, 0x2424, 0x240b, 0x2518,
    0x2510, 0x250c, 0x2514, 0x253c, 0x23ba, 0x23bb, 0x2500, 0x23bc, 0x23bd, 0x251c, 0x2524,
    0x2534, 0x252c, 0x2502, 0x2264, 0x2265, 0x03c0, 0x2260, 0x00a3, 0x00b7,
};

static void put_character(struct screen *s, uint32_t c)
{
    if (s->at.drawing[s->at.shift] && c >= 0x60 && c <= 0x7e)
        c = drawing[c - 0x60];
    screen_put(s, c);
}

static void control(struct screen *s, char c)
{
    switch (c) {
    case '\b':
        screen_move(s, s->at.row, s->at.col - 1);
        break;
    case '\t':
        screen_tab(s, 1);
        break;
    case '\n':
    case '\v':
    case '\f':
        screen_linefeed(s);
        if (s->newline)
            s->at.col = 0;
        break;
    case '\r':
        screen_move(s, s->at.row, 0);
        break;
    case 0x0e:
        s->at.shift = 1;
        break;
    case 0x0f:
        s->at.shift = 0;
        break;
    default:
        break;
    }
}

static void csi_byte(struct screen *s, unsigned char c)
{
    int *last = &s->params[MIN(s->param_count, SCREEN_PARAMS_MAX) - 1];

    if (c >= '0' && c <= '9') {
        if (s->param_count <= SCREEN_PARAMS_MAX)
            *last = MIN(MAX(*last, 0) * 10 + (c - '0'), PARAM_MOST);
    } else if (c == ';' || c == ':') {
        if (s->param_count <= SCREEN_PARAMS_MAX)
            s->param_count++;
        if (s->param_count <= SCREEN_PARAMS_MAX)
            s->params[s->param_count - 1] = -1;
    } else if (c >= 0x3c && c <= 0x3f) {
        s->leader = (char)c;
    } else if (c >= 0x20 && c <= 0x2f) {
        s->intermediate = (char)c;
    } else {
        s->state = SCREEN_TEXT;
        s->param_count = MIN(s->param_count, SCREEN_PARAMS_MAX);
        if (c >= 0x40 && c <= 0x7e)
            csi(s, (char)c);
    }
}

static void escape_byte(struct screen *s, unsigned char c)
{
    if (c >= 0x20 && c <= 0x2f) {
        s->intermediate = (char)c;
        return;
    }
    s->state = SCREEN_TEXT;
    if (s->intermediate == 0 && c == '[') {
        s->state = SCREEN_CSI;
        s->leader = 0;
        s->param_count = 1;
        s->params[0] = -1;
    } else if (s->intermediate == 0 && strchr("]PX^_", c) && c) {
        s->state = SCREEN_STRING;
    } else if (c < 0x7f) {
        escape(s, (char)c);
    }
}

/* Text, which may have been cut within a character. */
static void text_byte(struct screen *s, unsigned char c)
{
    if (s->utf8_left > 0) {
        if ((c & 0xc0) == 0x80) {
            s->utf8 = s->utf8 << 6 | (c & 0x3f);
            if (--s->utf8_left > 0)
                return;
            if (s->utf8 < s->utf8_min || s->utf8 > 0x10ffff ||
                (s->utf8 >= 0xd800 && s->utf8 <= 0xdfff))
                s->utf8 = 0xfffd;
            if (s->utf8 >= 0xa0) /* those below are control characters of old */
                put_character(s, s->utf8);
            return;
        }
        s->utf8_left = 0;
        put_character(s, 0xfffd);
    }
    if (c < 0x80) {
        put_character(s, c);
    } else if (c >= 0xc2 && c <= 0xf4) {
        s->utf8_left = c >= 0xf0 ? 3 : c >= 0xe0 ? 2 : 1;
        s->utf8_min = c >= 0xf0 ? 0x10000 : c >= 0xe0 ? 0x800 : 0x80;
        s->utf8 = c & (0x3fu >> s->utf8_left);
    } else {
        put_character(s, 0xfffd);
    }
}

/* Control characters work within sequences, too. */
static void control_byte(struct screen *s, unsigned char c)
{
    if (s->utf8_left > 0) {
        s->utf8_left = 0;
        put_character(s, 0xfffd);
    }
    if (c == 0x1b) {
        s->state = s->state == SCREEN_STRING ? SCREEN_STRING_ESC : SCREEN_ESCAPE;
        s->intermediate = 0;
    } else if (c == 0x18 || c == 0x1a) {
        s->state = SCREEN_TEXT;
    } else if (s->state == SCREEN_STRING) {
        if (c == '\a')
            s->state = SCREEN_TEXT;
    } else {
        control(s, (char)c);
    }
}

void screen_feed(struct screen *s, const char *data, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        unsigned char c = (unsigned char)data[i];

        if (c == 0x7f)
            continue;
        if (c < 0x20) {
            control_byte(s, c);
            continue;
        }
        switch (s->state) {
        case SCREEN_TEXT:
            text_byte(s, c);
            break;
        case SCREEN_STRING_ESC:
            if (c == '\\') {
                s->state = SCREEN_TEXT;
                break;
            }
            s->state = SCREEN_ESCAPE;
            escape_byte(s, c);
            break;
        case SCREEN_ESCAPE:
            escape_byte(s, c);
            break;
        case SCREEN_CSI:
            csi_byte(s, c);
            break;
        case SCREEN_STRING:
            break;
        }
    }
}
