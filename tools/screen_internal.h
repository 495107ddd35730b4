/*
 * screen_internal - what the parts of the screen share: its state, and what can be done to it.
 * Nobody else includes this.
 *
 * screen.c holds the cells and keeps every place within them, screen_vt.c reads the bytes.
 * Threads: one at a time.
 */
#pragma once

#include "tools/screen.h"

#define SCREEN_MARKS      2  /* kept of those that sit on one character */
#define SCREEN_PARAMS_MAX 16 /* numbers of one sequence that are looked at */

/* The right half of a wide character. */
#define SCREEN_TAIL UINT32_MAX

struct screen_cell {
    uint32_t c; /* 0: blank */
    uint32_t marks[SCREEN_MARKS];
};

/* Scrolling changes places, and erasing touches what is in use: a program may do either with few
 * bytes, and shall not make much work by it. */
struct screen_line {
    struct screen_cell *cells;
    int used; /* cells from here on are blank */
};

struct screen_cursor {
    int row, col;
    bool wrap; /* a character has been put into the last column: the next begins a line */
    bool origin;
    bool drawing[2]; /* G0 and G1 are the line drawing characters */
    int shift;       /* which of them is in use */
};

enum screen_state {
    SCREEN_TEXT,
    SCREEN_ESCAPE,
    SCREEN_CSI,
    SCREEN_STRING,     /* until BEL or ESC \ */
    SCREEN_STRING_ESC, /* ESC within one */
};

struct screen {
    int rows, cols;
    struct screen_cell *cells[2]; /* the usual ones and the alternate ones, */
    struct screen_line *lines[2]; /* which these order */
    int lines_used[2];            /* how many of them are not blank */
    int which;
    struct screen_cursor at, saved[2];
    int top, bottom; /* the rows that scroll: [top, bottom) */
    bool insert, no_wrap, newline;
    bool tabs[SCREEN_COLS_MAX];
    bool tabs_changed;
    uint32_t last; /* the character that was put last */

    /* input */
    enum screen_state state;
    int params[SCREEN_PARAMS_MAX]; /* -1: left out */
    int param_count;
    char leader, intermediate;
    uint32_t utf8;     /* what has come of a character */
    int utf8_left;     /* how many bytes of it are to come */
    uint32_t utf8_min; /* below this it was written too long */

    /* output */
    char answers[256];
    size_t answers_len;
};

/* Columns that @c takes: 0, 1 or 2. */
int screen_width(uint32_t c);

/* Everything below brings rows and columns that are out of range into it. */
void screen_reset(struct screen *s);
void screen_put(struct screen *s, uint32_t c);
void screen_move(struct screen *s, int row, int col);
void screen_linefeed(struct screen *s);
void screen_reverse_linefeed(struct screen *s);
void screen_tab(struct screen *s, int count);
/* [from, to) of one row; whole rows. */
void screen_erase(struct screen *s, int row, int from, int to);
void screen_erase_rows(struct screen *s, int from, int to);
/* Rows [from, to) move up by @count, or down when it is negative; blank ones come after them. */
void screen_scroll(struct screen *s, int from, int to, int count);
/* Cells from the cursor on move left by @count, or right when it is negative. */
void screen_shift(struct screen *s, int count);
void screen_alternate(struct screen *s, bool on);
