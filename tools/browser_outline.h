/*
 * browser_outline - the pages of a tab as an outline of text, and the references in it.
 *
 * Each frame is told by a script of ours in its isolated world (tools/page); here the frames are
 * numbered and put into one text.  "e12" is an element of the page itself, "f2e7" one of frame 2.
 * Where a reference is taken, a CSS selector or "text=what it says" is, too.
 * Ownership: what is kept lives with the tab (browser_tab_keep_refs()).
 * Threads: any.
 */
#pragma once

#include "tools/browser.h"

#define OUTLINE_TEXT_MAX   (8u << 20) /* of all frames of a page */
#define OUTLINE_FRAMES_MAX 100u
#define OUTLINE_DEPTH_MAX  10u /* of frames in frames */

extern const struct toolset toolset_browser_act;

struct outline;

/** What is kept for @tab, made at the first need; borrowed from the tab.  NULL: ERR_NOMEM. */
struct outline *outline_of(struct browser_tab *tab, struct error *err);

/** Call @body ("(a) => …", may be async), which may use aiosPage and aiosAct, in @frame with @args
 *  (taken).  What it throws is ERR_NOT_FOUND or ERR_INVALID. */
NODISCARD json_t *outline_eval(struct outline *o, struct browser_tab *tab,
                               const struct browser_frame *frame, const char *body, json_t *args,
                               const struct wait *w, struct error *err);

/** An element, where it is. */
struct outline_target {
    struct browser_frames frames;
    const struct browser_frame *frame; /* one of them */
    unsigned number;                   /* of the frame; 0: the page itself */
    char local[512];                   /* its name for the script of its frame */
    bool whole;                        /* "f2": the frame, and no element in it */
};

#define OUTLINE_TARGET_INIT \
    {                       \
        .number = 0         \
    }

/** The frame of @ref, which may be NULL: the page itself.  Whether the element is there is for the
 *  script to find out. */
NODISCARD bool outline_target(struct outline *o, struct browser_tab *tab, const char *ref,
                              struct outline_target *ret, const struct wait *w, struct error *err);
void outline_target_fini(struct outline_target *t);

/** The element as an object of its frame's session, in our world. */
NODISCARD bool outline_object(struct outline *o, struct browser_tab *tab,
                              const struct outline_target *t, char *ret_object, size_t size,
                              const struct wait *w, struct error *err);

/** From a point of @t's frame to the page's viewport.  @ret_why, of @why_size: "" or what is over
 *  the frame there. */
NODISCARD bool outline_point(struct outline *o, struct browser_tab *tab,
                             const struct outline_target *t, double *x, double *y, char *ret_why,
                             size_t why_size, const struct wait *w, struct error *err);

/* ---- the text ---- */

struct outline_wish {
    const char *root, *match;
    int64_t depth, skip; /* lines */
    bool changed, urls;
    size_t most; /* bytes */
};

struct outline_text {
    struct buf text; /* from line `skipped` on, `count` lines of `total` */
    size_t skipped, count, total;
};

NODISCARD bool outline_text(struct outline *o, struct browser_tab *tab,
                            const struct outline_wish *wish, struct outline_text *ret,
                            const struct wait *w, struct error *err);

/* ---- pure parts ---- */

/** "f12e3" → 12 and "e3"; "f12" → 12 and ""; else 0 and the whole. */
unsigned outline_ref_frame(const char *ref, const char **ret_local);

/** Of @text (lines, the last without a newline) skip @skip lines and keep what fits into @most
 *  bytes: whole lines, at least one (cut if it must be).  @ret_count: lines kept. */
void outline_page(const char *text, size_t len, size_t skip, size_t most, const char **ret_begin,
                  size_t *ret_len, size_t *ret_count);

/** Append @text with @indent spaces before each line (after its sign, with @sign: "+~-"). */
bool outline_indent(struct buf *out, const char *text, size_t len, size_t indent);

/** Lines of @text. */
size_t outline_lines(const char *text, size_t len);
