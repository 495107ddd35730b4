/*
 * browser_act - what the tools browser_snapshot and browser_act share.  Nobody else includes this.
 *
 * Threads: worker threads.
 */
#pragma once

#include "tools/browser_input.h"
#include "tools/browser_outline.h"

enum browser_action {
    ACT_CLICK,
    ACT_DOUBLE_CLICK,
    ACT_RIGHT_CLICK,
    ACT_HOVER,
    ACT_TYPE,
    ACT_FILL,
    ACT_PRESS,
    ACT_SELECT,
    ACT_CHECK,
    ACT_UNCHECK,
    ACT_DRAG,
    ACT_SCROLL,
    ACT_UPLOAD,
    ACT_ACCEPT,
    ACT_DISMISS,
};

struct browser_snapshot_args {
    const char *root, *match, *tab, *computer;
    int64_t depth, cursor;
    bool changed, links;
};

struct browser_act_args {
    int action;
    const char *ref, *to, *tab, *computer;
    double dx, dy;
    struct json_text text;
    json_t *values, *fields;
    bool snapshot;
    int64_t timeout_ms;
};

extern const struct json_field browser_snapshot_fields[];
extern const struct json_field browser_act_fields[];
tool_fn browser_snapshot;
tool_fn browser_act;

/** One call of browser_act on its way. */
struct act {
    struct tool_call *call;
    const struct browser_act_args *a;
    struct browser_tab *tab;
    struct outline *o;
    struct wait wait; /* a little longer than the element is waited for */
    int64_t until_ns; /* so long is it waited for */
    struct browser_input in;
    struct browser_mark mark;
    struct outline_target target;
    bool found;              /* target is an element */
    double x, y;             /* where to act, in the viewport */
    double local_x, local_y; /* the same in the target's frame */
    struct buf said;
};

/* ---- browser_target.c: waiting until an element can be acted on ---- */

enum act_need {
    NEED_BARE = 1,     /* it is there */
    NEED_STILL = 2,    /* visible and still; what covers it does not matter */
    NEED_ENABLED = 4,  /* visible, still, enabled and hit by an event */
    NEED_EDITABLE = 8, /* that, and can be typed into */
};

int64_t act_left_ms(const struct act *act);

/** Find @ref (NULL: the page itself), watch its document, and wait for what @need asks.  Fills
 *  act->target, x and y; @ret_reply (may be NULL) is what the script said, a new reference. */
NODISCARD bool act_begin(struct act *act, const char *ref, enum act_need need, json_t **ret_reply,
                         struct error *err);

/** Call the script in the frame of the target; "(el, …) => …" gets the element and then @args
 *  (taken).  A {why} in the answer is an error. */
NODISCARD json_t *act_eval(struct act *act, const char *body, json_t *args, struct error *err);

/** "300,200": a point of the last screenshot. */
bool act_is_point(const char *text, double *ret_x, double *ret_y);

/** The point of the call: of the last screenshot, or its element's. */
NODISCARD bool act_point(struct act *act, enum act_need need, struct error *err);

/** Click at the point of @ref, which is waited for as @need says. */
NODISCARD bool act_click(struct act *act, const char *ref, bool right, int count,
                         struct error *err);

/** What came of it, into act->said: navigation, dialog …, changes of the document, or nothing. */
NODISCARD bool act_finish(struct act *act, struct error *err);

/* ---- browser_field.c: what has a value ---- */

NODISCARD bool act_fill(struct act *act, struct error *err);
NODISCARD bool act_select(struct act *act, struct error *err);
NODISCARD bool act_check(struct act *act, bool wanted, struct error *err);
NODISCARD bool act_upload(struct act *act, struct error *err);
