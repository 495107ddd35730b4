/*
 * computer - a place where programs run: what a back end supplies, and what is the same in all.
 *
 * A back end (sandbox, vmctl) makes a struct computer with a guest at the other end of a byte
 * stream.  Everything above it (kernel, tools) uses the functions here, run.h and guest.h, and does
 * not know which kind it is.
 *
 * Ownership: counted; the last computer_unref() destroys it.  computer_destroy() ends it at once
 * for everybody: later calls get ERR_LOST. Threads: any; calls of a back end's functions on one
 * computer are serialised by it. Blocking: functions with a struct wait, and computer_destroy()
 * (bounded: 2 s).
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "kernel/base/cancel.h"
#include "kernel/base/error.h"
#include "kernel/base/id.h"
#include "kernel/base/loop.h"
#include "kernel/computer/display.h"
#include "kernel/computer/guest.h"

struct computer;
struct computer_backend;
struct egress_event;

/** A folder of the host that appears inside at its own path. */
struct computer_dir {
    const char *path; /* absolute, existing, no symbolic link in it */
    bool writable;
};

/** What is asked for.  Zero means the back end's default where a number is given. */
struct computer_spec {
    const char *const *allow; /* egress rules, see egress.h; allow_count 0: no network */
    size_t allow_count;
    const char *const
        *env; /* NAME=VALUE added to the computer's environment; NULL-terminated; or NULL */
    const struct computer_dir *dirs;
    size_t dir_count;
    const char *image; /* what is installed in it: a name or a hash; NULL: the back end's default */
    uint64_t memory_bytes;
    uint64_t disk_bytes; /* what may be written; it counts towards memory where it lives there */
    uint32_t cpu_milli;  /* 1000 is one CPU */
    uint32_t pids;
    bool brief; /* for one program: it is never paused, saved or asked for its usage */
};

enum computer_event_kind {
    COMPUTER_EVENT_REFUSED, /* a system call that the policy does not allow */
    COMPUTER_EVENT_EGRESS,  /* a connection: see `egress` */
    COMPUTER_EVENT_LOST,    /* it ended without being asked to; `text` says why */
};

struct computer_event {
    enum computer_event_kind kind;
    const char *name; /* REFUSED: the system call, "mount" */
    const char *text; /* REFUSED: its telling argument ("/proc"), valid UTF-8; LOST: why */
    uint32_t pid;     /* REFUSED: as the host sees it; 0 unknown */
    const struct egress_event *egress; /* EGRESS */
};

/** Who is told.  Any thread; must not block or call back into the computer. */
struct computer_hooks {
    struct loop *loop;
    void (*on_event)(void *arg, struct computer *c, const struct computer_event *event);
    void *arg;
};

struct computer_usage {
    int64_t cpu_ns;
    uint64_t memory_bytes;
    uint64_t peak_memory_bytes;
    uint64_t disk_bytes;
    uint32_t pids;
};

/** How often a limit has struck since the computer was made. */
struct computer_strikes {
    uint64_t oom;  /* processes killed for memory */
    uint64_t pids; /* forks refused */
    bool disk_full;
};

/** What one back end does for one computer.  `destroy` ends every process and releases everything
 *  but the struct, which computer.c frees; a NULL function is ERR_UNSUPPORTED. */
struct computer_ops {
    const char *kind; /* "sandbox", "vm" */
    bool (*pause)(struct computer *c, const struct wait *w, struct error *err);
    bool (*resume)(struct computer *c, const struct wait *w, struct error *err);
    /** Save the writable state under the checkpoint id @id. */
    bool (*checkpoint)(struct computer *c, const char *id, const struct wait *w, struct error *err);
    bool (*usage)(struct computer *c, struct computer_usage *ret, struct error *err);
    void (*strikes)(struct computer *c, struct computer_strikes *ret);
    /** Put all of it on disk and free its memory; the next byte for its guest brings it back by
     *  itself.  For a computer in which nothing is going on. */
    bool (*swap_out)(struct computer *c, const struct wait *w, struct error *err);
    bool (*is_swapped)(struct computer *c);
    void (*destroy)(struct computer *c);
    const struct display_ops *display; /* NULL: no screen */
};

/** A maker of computers.  Functions are called on any thread, several at once. */
struct computer_backend {
    const char *kind;
    /** @checkpoint: NULL for a new one, else the id that checkpoint() saved, whose state it starts
     *  with.  ERR_INVALID names the wrong part of @spec, ERR_UNSUPPORTED the missing feature. */
    struct computer *(*create)(struct computer_backend *b, const struct computer_spec *spec,
                               const char *checkpoint, const struct computer_hooks *hooks,
                               const struct wait *w, struct error *err);
    bool (*checkpoint_remove)(struct computer_backend *b, const char *id, struct error *err);
    /** Start the warm pool, if one is configured; returns at once. */
    void (*warm)(struct computer_backend *b);
    void (*free)(struct computer_backend *b); /* after the last computer is gone */
};

/* The name of a refused connection to the outside; its text is the host, the port and why. */
#define COMPUTER_REFUSAL_CONNECT "network connection"

/** One refused system call or connection, as tools report it. */
struct computer_refusal {
    uint64_t seq; /* 1, 2, 3 … */
    char name[32];
    char text[160];
};

/* ---- for everybody ---- */

struct computer *computer_ref(struct computer *c);
void computer_unref(struct computer *c);
DEFINE_CLEANUP(struct computer, computer_unref)

const char *computer_id(const struct computer *c);     /* "c_…" */
const char *computer_kind(const struct computer *c);   /* "sandbox" */
int64_t computer_created_ns(const struct computer *c); /* monotonic */

/** The guest, borrowed for as long as the caller holds a reference to @c; after destruction its
 *  calls fail with ERR_LOST. */
struct guest *computer_guest(struct computer *c);

/** What was asked for, with every default filled in; borrowed like the guest. */
const struct computer_spec *computer_spec(const struct computer *c);

/** "" while it lives, else why it is gone ("destroyed", "the guest ended: …"). */
void computer_lost_reason(struct computer *c, char *buf, size_t size);

NODISCARD bool computer_pause(struct computer *c, const struct wait *w, struct error *err);
NODISCARD bool computer_resume(struct computer *c, const struct wait *w, struct error *err);
NODISCARD bool computer_checkpoint(struct computer *c, const char *id, const struct wait *w,
                                   struct error *err);
NODISCARD bool computer_usage(struct computer *c, struct computer_usage *ret, struct error *err);
NODISCARD bool computer_swap_out(struct computer *c, const struct wait *w, struct error *err);
bool computer_is_swapped(struct computer *c);

/** Others hold references than who keeps it and the caller: somebody's call is going on in it. */
bool computer_in_use(struct computer *c);
void computer_strikes(struct computer *c, struct computer_strikes *ret);
void computer_destroy(struct computer *c);

/** The environment of a run: the computer's own, then @extra (NAME=VALUE, NULL-terminated, or
 *  NULL), later ones winning.  A NULL-terminated array in one allocation for free(). */
NODISCARD char **computer_env(struct computer *c, const char *const *extra, struct error *err);

/** The last sequence number given, 0 for none. */
uint64_t computer_refusal_seq(struct computer *c);

/** Copy those after @since (at most @max, the oldest first); returns how many were copied and sets
 *  *ret_missed to how many were forgotten in between. */
size_t computer_refusals(struct computer *c, uint64_t since, struct computer_refusal *ret,
                         size_t max, uint64_t *ret_missed);

/* ---- for back ends ---- */

/** The common part, first member of a back end's own struct, which computer.c frees with
 *  free() after the last reference is gone. */
struct computer_state; /* computer.c's own */
struct computer {
    const struct computer_ops *ops;
    struct computer_state *state;
};

/** Make the common part: id, refcount 1, a deep copy of @spec, rules parsed (ERR_INVALID names a
 *  bad one).  @base_env: the environment that this kind gives, NULL-terminated, copied. */
NODISCARD bool computer_init(struct computer *c, const struct computer_ops *ops,
                             const struct computer_spec *spec, const char *const *base_env,
                             const struct computer_hooks *hooks, struct error *err);

/** Release what computer_init() made, for a back end whose create fails before it returned @c. */
void computer_fini(struct computer *c);

/** Give it its guest: takes @stream on success, and waits for HELLO.  @w NULL: does not wait;
 * should the guest not be one, the first request will tell. */
NODISCARD bool computer_attach(struct computer *c, int stream, const struct wait *w,
                               struct error *err);

/** The same for a computer that a pool already attached: new hooks, rules and environment for its
 * new owner.  Any thread; nothing has run inside yet. */
NODISCARD bool computer_adopt(struct computer *c, const struct computer_spec *spec,
                              const struct computer_hooks *hooks, struct error *err);

/** Nobody is told of what happens to it any more; waits for who is being told just now. */
void computer_silence(struct computer *c);

/** Report a refused system call: remembered, and passed to the hook. */
void computer_report_refusal(struct computer *c, const char *name, const char *text, uint32_t pid);

/** It died.  The first reason wins.  Any thread. */
void computer_report_lost(struct computer *c, const char *why);
