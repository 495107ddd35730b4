/*
 * browser_internal - what the parts of the browser family share.  Nobody else includes this.
 *
 * browser.c starts and ends a browser, browser_event.c takes in what it says (on the reading
 * thread), browser_tab.c and browser_frame.c ask it, browser_change.c tells what is new;
 * browser_page.c, browser_wait.c, browser_shot.c, browser_look.c are the tools.
 * Threads: functions ending in _locked want the browser's lock.
 */
#pragma once

#include <inttypes.h>
#include <stdatomic.h>
#include <string.h>

#include "kernel/base/clock.h"
#include "kernel/base/list.h"
#include "tools/browser.h"

#define BROWSER_KEY       "browser"
#define BROWSER_DOWNLOADS "/workspace/Downloads"

#define BROWSER_URL_MAX       2000u
#define BROWSER_TITLE_MAX     200u
#define BROWSER_EVENTS_MAX    128u /* of what happened, per browser */
#define BROWSER_CONSOLE_MAX   200u /* messages kept per tab */
#define BROWSER_NETWORK_MAX   300u /* requests kept per tab */
#define BROWSER_TEXT_MAX      1000u
#define BROWSER_SESSIONS_MAX  64u /* frames of other processes and workers, per tab */
#define BROWSER_WORLDS_MAX    128u
#define BROWSER_DOWNLOADS_MAX 32u

enum browser_state { BROWSER_STARTING, BROWSER_READY, BROWSER_OVER };

enum browser_kind {
    BROWSER_NOTHING, /* told by a later one */
    BROWSER_NAVIGATED,
    BROWSER_WITHIN, /* navigated within its document */
    BROWSER_DIALOG,
    BROWSER_OPENED,
    BROWSER_CLOSED,
    BROWSER_DOWNLOAD,
    BROWSER_CRASHED,
};

struct browser_happening {
    uint64_t seq;
    enum browser_kind kind;
    unsigned tab;   /* its number; 0: nobody knows which */
    unsigned other; /* the opened tab; or the number of the download */
    char text[400];
};

struct browser_download {
    unsigned number; /* 0: free */
    unsigned tab;
    bool over;
    char guid[BROWSER_ID_MAX + 1];
    char name[256], url[300];
};

struct browser_message {
    uint64_t seq;
    char level[16];
    char *text;
    char source[200]; /* "URL:line" */
};

struct browser_request {
    uint64_t seq; /* 0: free */
    char id[BROWSER_ID_MAX + 1], session[BROWSER_ID_MAX + 1];
    char method[12], type[16];
    char *url;
    int status; /* 0: none yet */
    char mime[64];
    char failed[100];
    bool over;
    uint64_t bytes;
    double began_s;
    int64_t took_ms;
};

struct browser_session {
    char id[BROWSER_ID_MAX + 1]; /* "": free */
    char target[BROWSER_ID_MAX + 1];
    char parent_frame[BROWSER_ID_MAX + 1];
    bool worker; /* of a page, or a service worker: no frame, but it logs and asks the network */
};

struct browser_world {
    char session[BROWSER_ID_MAX + 1], frame[BROWSER_ID_MAX + 1];
    int64_t context; /* 0: free */
    bool page;       /* the page's own, not ours */
};

struct browser_shot {
    bool valid;
    uint64_t document;
    double x, y, scale; /* of the page; scale is picture pixels for a CSS pixel */
    double width, height;
};

struct browser_tab {
    atomic_uint refs;
    struct browser *browser; /* who has a reference of the tab has one of it */
    unsigned number;
    char id[16];
    char target[BROWSER_ID_MAX + 1], session[BROWSER_ID_MAX + 1];
    atomic_uint interrupts; /* a dialog opened, or the page crashed: nothing will be answered */

    /* the browser's lock */
    struct list link;
    bool closed, crashed;
    unsigned opener;
    char url[BROWSER_URL_MAX], title[BROWSER_TITLE_MAX];
    char loader[BROWSER_ID_MAX + 1]; /* of its document */
    uint64_t document;
    bool loading, starting, content, loaded;
    bool dialog_open;
    struct browser_dialog dialog;
    char dialog_session[BROWSER_ID_MAX + 1];
    uint64_t chooser_seq;
    char chooser_frame[BROWSER_ID_MAX + 1];
    int64_t chooser_node;
    struct browser_session sessions[BROWSER_SESSIONS_MAX];
    struct browser_world worlds[BROWSER_WORLDS_MAX];
    unsigned next_world;
    struct browser_message console[BROWSER_CONSOLE_MAX];
    struct browser_request network[BROWSER_NETWORK_MAX];
    uint64_t console_seq, network_seq;
    int64_t network_ns; /* when a request last began or ended */
    struct browser_shot shot;
    struct browser_refs refs_kept;
    bool has_refs;
};

struct browser {
    atomic_uint refs;
    struct computer *computer; /* kept as an object */
    struct cdp *cdp;           /* set before BROWSER_READY, then never changes */
    struct run *run;           /* likewise, and the next three */
    int64_t began_ns;          /* to start */
    unsigned slow;             /* what takes a moment elsewhere may take so many of them here */
    char note[400];
    pthread_mutex_t lock;
    pthread_cond_t changed;

    /* lock */
    enum browser_state state;
    bool left_alone; /* it is starting, and nobody waits for it */
    bool replaced;
    char why[300]; /* of BROWSER_OVER */
    struct list tabs;
    struct browser_tab *current; /* borrowed from tabs */
    unsigned last_tab, tab_count;
    uint64_t seq;
    struct browser_happening happened[BROWSER_EVENTS_MAX];
    struct browser_download downloads[BROWSER_DOWNLOADS_MAX];
    unsigned last_download;
};

/* ---- browser.c ---- */

struct browser *browser_ref(struct browser *b);
void browser_unref(struct browser *b);
DEFINE_CLEANUP(struct browser, browser_unref)
struct browser_tab *browser_tab_ref(struct browser_tab *tab);
void browser_tab_unref(struct browser_tab *tab);

/* ---- browser_keep.c ---- */

/** Before the files of @c are copied: what only its browser knows goes into one. */
computers_save_fn browser_saving;

/** What a browser of the computer that this one is a copy of had put there. */
NODISCARD bool browser_take_cookies(struct browser *b, const struct wait *w, struct error *err);

/* ---- browser_event.c ---- */

extern const struct cdp_events browser_events;

void browser_happened_locked(struct browser *b, enum browser_kind kind, unsigned tab,
                             unsigned other, const char *fmt, ...) PRINTF_LIKE(5, 6);
struct browser_tab *browser_tab_find_locked(struct browser *b, const char *id);

/** "" for what is no string; cut to what fits, at the end of a character. */
void browser_copy(char *to, size_t size, const json_t *string);

/** The one that is kept of a frame; NULL: none. */
struct browser_world *browser_world_find_locked(struct browser_tab *tab, const char *session,
                                                const char *frame, bool page);
void browser_world_keep_locked(struct browser_tab *tab, const char *session, const char *frame,
                               bool page, int64_t context);

/* ---- browser_record.c ---- */

/** True: it was one of console and network. */
bool browser_record_locked(struct browser_tab *tab, const char *session, const char *method,
                           const json_t *params);
void browser_records_fini(struct browser_tab *tab);
unsigned browser_pending_locked(const struct browser_tab *tab);

/* ---- waiting ---- */

/** browser_settle() where it may take up to @quiet_ns for something to begin. */
NODISCARD bool browser_settle_after(struct browser_tab *tab, const struct browser_mark *mark,
                                    int64_t quiet_ns, int64_t most_ns, const struct wait *w,
                                    struct error *err);

/** Wait until the page asks the network for nothing for a moment; returns as browser_await(). */
NODISCARD bool browser_until_quiet(struct browser_tab *tab, int64_t until_ns, bool *ret_late,
                                   const struct wait *w, struct error *err);

/** The browser tells titles only when it is asked. */
NODISCARD bool browser_learn_titles(struct browser *b, const struct wait *w, struct error *err);

/** Wait until @ready says so, on the browser's lock.  False: @until_ns has come, or a failure of
 *  @w, or the browser's end, with @err set; a time that has passed sets no error and *ret_late. */
typedef bool browser_ready_fn(struct browser_tab *tab, void *arg);
NODISCARD bool browser_await(struct browser_tab *tab, browser_ready_fn *ready, void *arg,
                             int64_t until_ns, bool *ret_late, const struct wait *w,
                             struct error *err);

/** A JSON object, or NULL with ERR_NOMEM. */
NODISCARD json_t *browser_params(struct error *err, const char *format, ...);

/** Add the note and, when there is one, that a dialog is open; for the end of an answer. */
NODISCARD bool browser_finish(struct tool_call *call, struct browser_use *use, struct buf *text,
                              struct error *err);

/** What was refused since @seq to go out, for the failure of a page. */
void browser_refusals(struct browser *b, uint64_t seq, struct buf *out);

/* ---- the tools ---- */

/** Go to @url in @tab and tell about it in @out. */
NODISCARD bool browser_go(struct tool_call *call, struct browser_tab *tab, const char *url,
                          int wait_for, int64_t most_ns, struct buf *out, struct error *err);

extern const struct json_field browser_navigate_fields[], browser_screenshot_fields[],
    browser_evaluate_fields[], browser_wait_fields[], browser_tabs_fields[],
    browser_console_fields[], browser_network_fields[];
tool_fn browser_navigate, browser_screenshot, browser_evaluate, browser_wait_tool, browser_tabs,
    browser_console, browser_network;

enum { BROWSER_WAIT_LOAD, BROWSER_WAIT_CONTENT, BROWSER_WAIT_IDLE, BROWSER_WAIT_NONE };

struct browser_navigate_args {
    const char *url, *tab, *computer;
    int wait;
};

struct browser_screenshot_args {
    const char *part, *path, *tab, *computer;
};

struct browser_evaluate_args {
    const char *expression, *ref, *frame, *tab, *computer;
};

struct browser_wait_args {
    const char *text, *gone, *url, *tab, *computer;
    bool idle;
    int64_t timeout_ms;
};

struct browser_tabs_args {
    int action;
    const char *url, *tab, *computer;
};

struct browser_look_args {
    int64_t since;
    int64_t body;
    const char *filter, *tab, *computer;
};
