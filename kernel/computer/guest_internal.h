/*
 * guest_internal - what the files guest*.c share: the connection, its channels, and waiting.
 *
 * One mutex per guest guards the connection and everything about its channels.  What only the loop
 * touches says so.  A second one, call_lock, is held while the loop calls a function of the
 * owner, so that guest_free() and guest_watch_free() on other threads can promise that no such call
 * is going on.  Order: a cancel token's lock or call_lock, then lock.
 *
 * Ownership: a guest is counted: its owner, the loop as long as it has the stream, and each
 * channel. A channel is counted: the table while it is open, whoever uses it, each post under way.
 */
#pragma once

#include "kernel/computer/guest.h"

#include <pthread.h>
#include <stdatomic.h>
#include <uv.h>

#include "kernel/base/list.h"
#include "kernel/computer/ring.h"

#define CHAN_BUCKETS     256u
#define GUEST_READ_BYTES (128u << 10)

struct chan;

/* What a waiter waits for: output of stream s is 1 << s, credit for it 1 << (8 + s). */
#define WAKE_CREDIT(stream) (1u << (8 + (stream)))
#define WAKE_REPLY          (1u << 16)
#define WAKE_ROOM           (1u << 17)
#define WAKE_HELLO          (1u << 18)
#define WAKE_ALL            UINT32_MAX

/** One blocked caller. */
struct waiter {
    struct guest *g;
    const struct wait *wait;
    pthread_cond_t cond;
    struct cancel_hook hook;
    struct list link; /* lock */
    uint32_t mask;    /* lock */
};

struct chan_type {
    /** For one-shot requests the reply is the end; the others end with WIRE_CLOSE. */
    bool one_shot;
    bool close_on_eof;   /* the host closes when the guest's stream is at its end */
    bool close_on_reply; /* or when the reply has come */

    /* All under the lock, on the loop unless said otherwise.  Those that return text return NULL,
     * or how the guest broke the protocol. */
    const char *(*on_reply)(struct chan *ch, uint32_t status, struct wire_in *in);
    const char *(*on_data)(struct chan *ch, unsigned stream, const uint8_t *data, size_t len);
    void (*on_eof)(struct chan *ch, unsigned stream);
    void (*on_credit)(struct chan *ch, unsigned stream);
    const char *(*on_other)(struct chan *ch, const struct wire_header *h, struct wire_in *in);
    const char *(*on_close)(struct chan *ch); /* the guest's WIRE_CLOSE */
    void (*on_lost)(struct chan *ch);         /* any thread */
    void (*release)(struct chan *ch); /* any thread: what hangs from it and the struct itself */
};

struct chan {
    struct guest *g;              /* counted; never changes */
    const struct chan_type *type; /* never changes */

    /* lock */
    struct chan *next; /* in its bucket */
    uint32_t id;
    unsigned refs;
    bool listed;
    bool replied;
    bool sent_close;
    bool got_close;
    uint8_t in_mask;  /* streams that the guest may send on */
    uint8_t out_mask; /* streams that we may send on */
    uint8_t in_eof;   /* of which at their end */
    uint8_t out_eof;
    uint32_t in_credit[WIRE_STREAM_COUNT];  /* what the guest may still send */
    uint32_t out_credit[WIRE_STREAM_COUNT]; /* what we may still send */
    uint32_t consumed[WIRE_STREAM_COUNT];   /* dealt with, and not granted again yet */
    struct list waiters;
};

/** What is to be done without the lock after a frame; at most one per frame. */
struct guest_after {
    void (*fn)(struct chan *ch, const struct guest_after *after);
    const uint8_t *data;
    size_t len;
    uint32_t events;
};

struct guest {
    struct loop *loop; /* never changes */
    atomic_uint refs;
    pthread_mutex_t lock;
    pthread_mutex_t call_lock;

    /* loop only */
    uv_poll_t poll;
    bool polling;
    int polled; /* events asked for */
    struct wire_reader reader;
    struct guest_after after;
    struct loop_timer pace; /* armed while a flooding run waits for credit */

    /* lock */
    struct guest_events events;
    void *arg;
    int stream;
    bool hello;
    bool lost;
    bool told;         /* on_lost has been called, or need not be */
    bool freed;        /* by its owner */
    bool broken;       /* the stream takes no more; what it still holds is read first */
    bool held;         /* what is sent stays in `out` until guest_release(), but for … */
    size_t held_after; /* … this many bytes */
    bool corked;       /* frames are collected until guest_uncork_locked() */
    bool posted;       /* `post` is the loop's */
    bool let_go;       /* the loop has closed the stream, or is about to */
    char why[192];
    struct loop_post post;
    struct ring out;
    struct list waiters;
    struct list sockets; /* struct socket.link: open ones */
    uint32_t next_id;
    size_t chan_count;
    struct chan *buckets[CHAN_BUCKETS];
};

/* ---- guest.c ---- */

/** End the connection, for the reason @why, if it has not ended. */
void guest_lose_locked(struct guest *g, const char *why);

/** ERR_LOST with the reason. */
bool guest_lost_error_locked(struct guest *g, struct error *err);

/** Have the loop look at it soon. */
void guest_kick_locked(struct guest *g);

/** Call a function of the owner from the loop: between these the owner's frees wait. */
void guest_call_begin(struct guest *g);
void guest_call_end(struct guest *g);

/** The same around what must not happen during such a call; nothing on the loop itself. */
void guest_calls_stop(struct guest *g);
void guest_calls_resume(struct guest *g);

/* ---- guest_send.c ---- */

/** One frame.  Requests and data ask guest_room_locked() or guest_data_room_locked() before;
 * control frames are small, and few for each byte that the guest sends, so they always go. */
void guest_send_locked(struct guest *g, const struct chan *ch, enum wire_type type, unsigned stream,
                       const void *payload, size_t len);
void guest_cork_locked(struct guest *g);
void guest_uncork_locked(struct guest *g);

/** How much of what is queued the stream may be given now. */
size_t guest_sendable_locked(const struct guest *g);

/** Give the stream what is queued, and wake those who wait for room. */
void guest_flush_locked(struct guest *g);

/** Is there room for a request of @len bytes, or for DATA? */
bool guest_room_locked(const struct guest *g, size_t len);
bool guest_data_room_locked(const struct guest *g);

/** Wait for room; ERR_LOST, ERR_TIMEOUT, ERR_CANCELLED. */
NODISCARD bool guest_wait_room_locked(struct guest *g, struct waiter *wt, size_t len,
                                      struct error *err);

/** Send as much of @len bytes as credit and room allow; returns how many. */
size_t chan_send_data_locked(struct chan *ch, unsigned stream, const uint8_t *data, size_t len);
void chan_send_eof_locked(struct chan *ch, unsigned stream);

/** Send our CLOSE, once; the channel leaves the table when the guest has sent its own. */
void chan_close_locked(struct chan *ch);

/** @len bytes of @stream are dealt with: grant them again, in batches. */
void chan_consumed_locked(struct chan *ch, unsigned stream, size_t len);

/* ---- guest_chan.c ---- */

struct guest *guest_ref(struct guest *g);
void guest_unref(struct guest *g);

/** The common part: one reference, not in the table. */
void chan_init(struct chan *ch, struct guest *g, const struct chan_type *type, uint8_t in_mask,
               uint8_t out_mask);

/** Give it an unused odd number and put it in the table, which takes a reference.  False:
 *  ERR_LOST or ERR_LIMIT. */
NODISCARD bool chan_open_locked(struct chan *ch, struct error *err);

/** The same for a channel that the guest opened as @id. */
void chan_list_locked(struct chan *ch, uint32_t id);
void chan_unlist_locked(struct chan *ch);
struct chan *chan_find_locked(struct guest *g, uint32_t id);

void chan_ref_locked(struct chan *ch);

/** Without the lock. */
void chan_unref(struct chan *ch);

/** With the lock, by a caller who holds another reference to the guest. */
void chan_unref_locked(struct chan *ch);

/** One frame.  NULL, or how the protocol was broken. */
const char *guest_dispatch_locked(struct guest *g, const struct wire_header *h,
                                  const uint8_t *payload, struct chan **ret_ch);

/* ---- waiting ---- */

void waiter_begin(struct waiter *wt, struct guest *g, const struct wait *w);
void waiter_end(struct waiter *wt);

/** Wait once for what @mask says of @list; false when there is no time left.  The caller checks its
 *  condition again in either case. */
bool waiter_wait_locked(struct waiter *wt, struct list *list, uint32_t mask);

/** Sets ERR_TIMEOUT or ERR_CANCELLED. */
bool waiter_error(const struct waiter *wt, struct error *err);
void waiters_wake_locked(struct list *list, uint32_t mask);

/* ---- guest_call.c ---- */

/** A request to be composed: root and path checked and put. */
#define CALL_BYTES (3 * (WIRE_PATH_MAX + 8) + 64)
NODISCARD bool call_put_path(struct wire_out *o, const char *path, struct error *err);

/** @status as the guest reported it, made an error: "cannot @verb "@path": …". */
bool call_error(struct error *err, uint32_t status, const char *verb, const char *path);

/* ---- guest_run.c ---- */

struct guest_run {
    struct chan chan; /* its waiters wait for output, credit, the end */

    /* never change after the spawn */
    uint64_t max_output;
    int64_t started_ns;

    /* lock */
    struct ring rings[WIRE_STREAM_COUNT];
    uint64_t output;                  /* bytes of all streams */
    uint32_t held[WIRE_STREAM_COUNT]; /* credit that a flood is made to wait for */
    unsigned users;                   /* references that are not the table's or a post's */
    uint32_t status;                  /* of the reply */
    uint8_t stage;                    /* where a spawn failed: SPAWN_STAGE_* or 0 */
    bool lossless;
    bool abandoned; /* nobody waits for the reply any more: kill it when it comes */
    bool told;      /* notify_fn is called, or about to be */
    enum guest_run_end end;
    int value;
    uint32_t pid;
    bool output_over, disk_full;
    struct guest_usage usage;
    guest_run_ended_fn *notify_fn;
    void *notify_arg;
    struct loop_post post;
};

enum { SPAWN_STAGE_CWD = 1, SPAWN_STAGE_EXEC = 2, SPAWN_STAGE_RESOURCES = 3 };

/** Ready to be opened and spawned; one user's reference. */
struct guest_run *guest_run_new(struct guest *g, const struct guest_run_spec *spec,
                                struct error *err);
void guest_run_signal_locked(struct guest_run *run, int signal, bool tree);

/* ---- guest_channel.c ---- */

/** The guest opened @id for its proxy port.  NULL, or how the protocol was broken. */
const char *guest_opened_locked(struct guest *g, uint32_t id, struct wire_in *in,
                                struct chan **ret_ch);

/** There is room again: tell the sockets that wait for it. */
void guest_sockets_wake_locked(struct guest *g);
