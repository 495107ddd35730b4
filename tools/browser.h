/*
 * browser - Chromium in a computer: started at the first need, kept warm, gone with the computer.
 *
 * One browser per computer, and so per agent.  Its pages are tabs with handles "t1", "t2", …; a
 * pop-up becomes a tab by itself.  What happens in them (navigations, dialogs, downloads, console,
 * network) is kept in bounded records with numbers, so that a caller can ask what is new.
 * Ownership: a struct browser_use holds what a call works with.  Tabs and browsers are counted.
 * Threads: any; one lock in each browser, never held across a wait.
 * Blocking: functions with a struct wait.
 */
#pragma once

#include "tools/cdp.h"
#include "tools/toolkit.h"

#define BROWSER_ID_MAX   CDP_WORD_MAX
#define BROWSER_WIDTH    1280 /* of a page that nobody gave a size, in CSS pixels */
#define BROWSER_HEIGHT   800
#define BROWSER_IMAGE    1568 /* the long edge of a picture, in its pixels */
#define BROWSER_TABS_MAX 16u

struct browser;
struct browser_tab;

/* ---- what a call works with ---- */

struct browser_use {
    struct browser *browser;
    struct browser_tab *tab;
    const char *note; /* "" or what the agent must know: that the browser had crashed and was
                         started anew, that the tab is new; borrowed from the browser */
};

/** The browser of the computer @computer (NULL: the agent's own), started if there is none, and its
 *  tab @tab (NULL: the current one, made if there is none; it becomes the current one).
 *  ERR_NOT_FOUND names the tabs that there are, or the package and image that have Chromium.
 *  ERR_BUSY: a dialog is open in the tab, unless @dialog_too; the text says how to answer it. */
NODISCARD bool browser_use(struct tool_call *call, const char *computer, const char *tab,
                           bool dialog_too, struct browser_use *ret, struct error *err);
void browser_use_fini(struct browser_use *use);

/** The optional arguments that every tool of the family has. */
#define BROWSER_FIELDS(type)                                                           \
    { .name = "tab",                                                                   \
      .description = "Default: current",                                               \
      .kind = JSON_KIND_STRING,                                                        \
      .offset = offsetof(type, tab) },                                                 \
    {                                                                                  \
        .name = "computer", .description = "Default: yours", .kind = JSON_KIND_STRING, \
        .offset = offsetof(type, computer)                                             \
    }

const char *browser_tab_id(const struct browser_tab *tab); /* "t1" */

/** The URL and title of its page, cut to what fits. */
void browser_tab_where(struct browser_tab *tab, char *url, size_t url_size, char *title,
                       size_t title_size);

/** The number of its document: another one after each navigation (one within the document, by a
 *  fragment or by the history API, does not count). */
uint64_t browser_tab_document(struct browser_tab *tab);

/** Call a method in the session of the tab's page.  As cdp_call(); ERR_LOST says that the page
 *  crashed and what to do.  A dialog that opens while it waits ends it with ERR_BUSY. */
NODISCARD json_t *browser_call(struct browser_tab *tab, const char *method, json_t *params,
                               const struct wait *w, struct error *err);

/* ---- frames ---- */

struct browser_frame {
    char id[BROWSER_ID_MAX + 1];
    char parent[BROWSER_ID_MAX + 1];  /* "" for the page itself */
    char session[BROWSER_ID_MAX + 1]; /* where its methods are called: the page's, or its own when
                                         it is of another origin and lives in another process */
    bool own_session;                 /* it is the root of its session */
    char *url;                        /* never NULL */
    char *name;
};

struct browser_frames {
    struct browser_frame *at; /* the page itself first, parents before their children */
    size_t count;
};

/** All frames of the tab, those of other processes included. */
NODISCARD bool browser_frames(struct browser_tab *tab, struct browser_frames *ret,
                              const struct wait *w, struct error *err);
void browser_frames_fini(struct browser_frames *frames);

/** browser_call() in the session of @frame; @frame NULL is the page itself. */
NODISCARD json_t *browser_frame_call(struct browser_tab *tab, const struct browser_frame *frame,
                                     const char *method, json_t *params, const struct wait *w,
                                     struct error *err);

/** The execution context of our isolated world in @frame, which is made at the first need: it sees
 *  the page's document and none of its variables.  It ends with the document (ERR_NOT_FOUND of
 *  calls with it, then ask again). */
NODISCARD bool browser_frame_world(struct browser_tab *tab, const struct browser_frame *frame,
                                   int64_t *ret_context, const struct wait *w, struct error *err);

/** Call @function ("function (a, b) {…}", may be async) in the isolated world of @frame with @args
 *  (an array, taken; may be NULL): its result by value, a new reference.  What it throws is
 *  ERR_INVALID with its text. */
NODISCARD json_t *browser_frame_eval(struct browser_tab *tab, const struct browser_frame *frame,
                                     const char *function, json_t *args, const struct wait *w,
                                     struct error *err);

/** The same on an object (`this`) that was got in @frame's session as "objectId". */
NODISCARD json_t *browser_object_eval(struct browser_tab *tab, const struct browser_frame *frame,
                                      const char *object, const char *function, json_t *args,
                                      const struct wait *w, struct error *err);

/** @ns as long as it must be where @tab's computer is slow: an emulated one takes many times as
 *  long for everything. */
int64_t browser_patience(const struct browser_tab *tab, int64_t ns);

/* ---- what changed ---- */

struct browser_mark {
    uint64_t seq;      /* of the browser's record of what happened */
    uint64_t document; /* of the tab */
};

/** Remember where things stand. */
void browser_mark(struct browser_tab *tab, struct browser_mark *ret);

/** Wait for what an action may have set off: until a navigation that began since @mark has come to
 *  its document, and what it opened has opened; at most @most_ns.  A dialog ends it at once.
 *  Failing means @w's cancel or the browser's end. */
NODISCARD bool browser_settle(struct browser_tab *tab, const struct browser_mark *mark,
                              int64_t most_ns, const struct wait *w, struct error *err);

/** Append what happened since @mark, a line each: "navigated to URL (title)", "dialog: confirm
 *  \"…\" is open: …", "new tab t3: URL", "download: /workspace/Downloads/x.pdf, 12 kB", "the page
 *  crashed", or "nothing changed" (in the browser's eyes: the caller may know of changes in the
 *  document, and then gives @quiet_text instead, NULL for the usual).  False: out of memory. */
bool browser_changes(struct browser_tab *tab, const struct browser_mark *mark,
                     const char *quiet_text, struct buf *out);

/* ---- dialogs ---- */

struct browser_dialog {
    char type[16];     /* "alert", "confirm", "prompt", "beforeunload" */
    char message[400]; /* cut */
    char value[200];   /* what a prompt offers */
};

/** False: none is open. */
bool browser_tab_dialog(struct browser_tab *tab, struct browser_dialog *ret);

/** Answer the open one; @text (may be NULL) is for a prompt.  ERR_NOT_FOUND: none is open. */
NODISCARD bool browser_tab_answer(struct browser_tab *tab, bool accept, const char *text,
                                  const struct wait *w, struct error *err);

/* ---- file choosers ---- */

/** A page that asks for files opens no chooser: which element asked last, since @mark.  @ret_frame
 *  has room for BROWSER_ID_MAX + 1.  False: none. */
bool browser_tab_chooser(struct browser_tab *tab, const struct browser_mark *mark, char *ret_frame,
                         int64_t *ret_backend_node);

/* ---- pictures ---- */

struct browser_box {
    double x, y, width, height; /* CSS pixels of the viewport */
};

/** Where a point of the last screenshot of the tab is in its viewport now.  ERR_INVALID: there was
 *  none of this document, or the point is outside of it. */
NODISCARD bool browser_tab_point(struct browser_tab *tab, double image_x, double image_y,
                                 double *ret_x, double *ret_y, const struct wait *w,
                                 struct error *err);

/* ---- references to elements ---- */

/** Given to a tab by browser_snapshot, and used by the tools that take a `ref`. */
struct browser_refs {
    void *arg;
    void (*free_arg)(void *arg); /* any thread, perhaps under the lock: it may not call back */
    /** The element as an "objectId" of ret_frame's session, for the caller to release.  *ret_frame:
     *  browser_frame_fini(). */
    bool (*object)(void *arg, struct browser_tab *tab, const char *ref,
                   struct browser_frame *ret_frame, char *ret_object, const struct wait *w,
                   struct error *err);
    /** Scrolled into view, its box in the page's viewport, also when it is within frames. */
    bool (*box)(void *arg, struct browser_tab *tab, const char *ref, struct browser_box *ret,
                const struct wait *w, struct error *err);
};

void browser_frame_fini(struct browser_frame *frame);

/** Keep @refs with the tab until it is gone, once per tab: what is kept already stays and is
 *  returned (the caller frees its own then). */
void *browser_tab_keep_refs(struct browser_tab *tab, const struct browser_refs *refs);

/** What is kept; NULL: nothing yet. */
const struct browser_refs *browser_tab_refs(struct browser_tab *tab);
