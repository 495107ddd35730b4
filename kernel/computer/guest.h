/*
 * guest - the host's client of the guest in a computer: programs, terminals, files, sockets.
 *
 * It speaks kernel/computer/wire.h over any byte stream and trusts nothing that comes back: what
 * breaks the protocol ends the connection, and everything that waits gets ERR_LOST.
 *
 * Ownership: guest_new() takes the stream on success.  Runs are counted: guest_spawn() returns a
 *   reference for guest_run_unref(); the guest keeps its own until the run's channel is closed.
 * Threads: any, except where "loop" is said: one lock inside; bytes are read on the loop thread,
 *   and written by whoever sends (the loop finishes what the stream did not take).
 * Blocking: functions with a struct wait block until an answer, its deadline or its token.  They
 *   must not be called by callbacks of the loop (asserted); on its thread otherwise, they turn it.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "kernel/base/buf.h"
#include "kernel/base/cancel.h"
#include "kernel/base/error.h"
#include "kernel/base/loop.h"
#include "kernel/computer/channel.h"
#include "kernel/computer/wire.h"

struct guest;
struct guest_run;

struct guest_events {
    /** Loop: something inside connected to the proxy port.  The callee owns @ch. */
    void (*on_egress)(void *arg, struct channel *ch);
    /** Loop, once: the stream ended or the guest broke the protocol.  @why for people. */
    void (*on_lost)(void *arg, const char *why);
};

/** Loop or any thread.  @stream: a connected, non-blocking stream socket.  Reading starts on the
 *  loop soon.  The guest's HELLO is awaited by guest_ready(). */
NODISCARD struct guest *guest_new(struct loop *loop, int stream, const struct guest_events *events,
                                  void *arg, struct error *err);

/** Any thread; may return before the loop has let go of the stream.  Everything that waits gets
 *  ERR_LOST; on_lost is not called any more once this has returned.  NULL is allowed. */
void guest_free(struct guest *g);
DEFINE_CLEANUP(struct guest, guest_free)

/** Block until HELLO has arrived. */
NODISCARD bool guest_ready(struct guest *g, const struct wait *w, struct error *err);

bool guest_lost(struct guest *g);

/** End the connection for the reason @why: from now on every call gets ERR_LOST.  @g stays. */
void guest_close(struct guest *g, const char *why);

NODISCARD bool guest_ping(struct guest *g, const struct wait *w, struct error *err);

/* ---- programs ---- */

enum guest_run_end {
    GUEST_RUN_LIVE = 0,
    GUEST_RUN_EXIT,   /* `value` is the exit code */
    GUEST_RUN_SIGNAL, /* `value` is the signal */
    GUEST_RUN_LOST,   /* the computer went away first */
};

struct guest_run_spec {
    const char *const *argv; /* NULL-terminated; argv[0] is looked up in PATH of env */
    const char *const *env;  /* NULL-terminated NAME=VALUE, whole */
    const char *cwd;         /* absolute, inside */
    bool pty;
    uint16_t rows, cols; /* pty only; 0: 24 and 80 */
    bool merge;          /* stderr into stdout; implied by pty */
    bool stdin_open;     /* else /dev/null */
    bool control;        /* descriptors 3 and 4, see WIRE_SPAWN_CONTROL */
    bool lossless;       /* output waits for its reader (credit is given as it is read) rather than
                            dropping what is oldest */
    bool last;           /* the guest ends with it, see WIRE_SPAWN_LAST */
    size_t ring_bytes;   /* of each output stream; 0: LIMIT_RING_BYTES */
    uint64_t max_output; /* bytes after which the run is killed; 0: LIMIT_RUN_OUTPUT */
};

struct guest_usage {
    int64_t wall_ns;
    int64_t cpu_ns;
    uint64_t peak_bytes; /* largest resident set of a process of the run */
};

struct guest_run_info {
    enum guest_run_end end;
    int value;
    uint32_t pid;
    bool output_over;                    /* killed for max_output */
    bool disk_full;                      /* as the guest saw it at the end; of virtual machines */
    bool streams_ended;                  /* every output stream is at its end, whoever held it */
    uint64_t total[WIRE_STREAM_COUNT];   /* bytes that ever arrived */
    uint64_t dropped[WIRE_STREAM_COUNT]; /* of which no longer in the ring: the oldest */
    struct guest_usage usage;
};

/** ERR_NOT_FOUND and the like when the program cannot be started (the text names it). */
NODISCARD struct guest_run *guest_spawn(struct guest *g, const struct guest_run_spec *spec,
                                        const struct wait *w, struct error *err);
struct guest_run *guest_run_ref(struct guest_run *run);
void guest_run_unref(struct guest_run *run);
DEFINE_CLEANUP(struct guest_run, guest_run_unref)

void guest_run_info(struct guest_run *run, struct guest_run_info *ret);

/** Have @fn called once on the loop thread when the run has ended; soon, when it has already.  At
 *  most once per run.  It may be called after the last guest_run_unref(). */
typedef void guest_run_ended_fn(void *arg, struct guest_run *run);
void guest_run_notify(struct guest_run *run, guest_run_ended_fn *fn, void *arg);

/** Nobody reads any more: a lossless run's output is from now on dropped like that of others, and
 * it does not wait.  The last guest_run_unref() does the same. */
void guest_run_drain(struct guest_run *run);

/** Copy output of one stream from absolute offset *@offset on, at most @max bytes, into @out.
 *  *@offset is moved: first forward over what was dropped, then past what was copied.  Without
 *  blocking; the number of bytes, or -1 out of memory.  In a lossless run, reading consumes. */
long guest_run_read(struct guest_run *run, enum wire_stream stream, uint64_t *offset, size_t max,
                    struct buf *out);

/** Block until the run has ended (end != LIVE), or @streams (bit mask of 1 << stream, may be 0) has
 *  bytes beyond the offset in @beyond[stream] or is at its end.  False on deadline, cancel or
 *  ERR_LOST; a lost computer counts as ended.  @beyond may be NULL when @streams is 0. */
NODISCARD bool guest_run_wait(struct guest_run *run, unsigned streams, const uint64_t *beyond,
                              const struct wait *w, struct error *err);

/** To stdin (WIRE_STREAM_MAIN) or WIRE_STREAM_CONTROL; blocks while there is no credit. */
NODISCARD bool guest_run_write(struct guest_run *run, enum wire_stream stream, const void *data,
                               size_t len, const struct wait *w, struct error *err);
void guest_run_close_stdin(struct guest_run *run);

/** Never block.  @tree: every descendant that can be found, not just the process group. */
void guest_run_signal(struct guest_run *run, int signal, bool tree);
void guest_run_resize(struct guest_run *run, uint16_t rows, uint16_t cols);

/* ---- files ----
 * @root: "/" for the whole computer, or a folder that the path must stay beneath.  Paths are
 * resolved by the guest with openat2(2): no magic links, and never blocking on a FIFO or device. */

struct guest_entry {
    const char *path;   /* below the listed folder */
    const char *target; /* of a symbolic link, or "" */
    struct wire_stat stat;
};

typedef void guest_entry_fn(void *arg, const struct guest_entry *entry);

NODISCARD bool guest_stat(struct guest *g, const char *root, const char *path, bool follow,
                          struct wire_stat *ret, const struct wait *w, struct error *err);

/** Bytes [offset, offset+max) of a regular file appended to @out. */
NODISCARD bool guest_read_file(struct guest *g, const char *root, const char *path, uint64_t offset,
                               uint64_t max, struct buf *out, struct wire_stat *ret_stat,
                               const struct wait *w, struct error *err);

/** @flags: WIRE_WRITE_*. */
NODISCARD bool guest_write_file(struct guest *g, const char *root, const char *path,
                                const void *data, size_t len, uint32_t mode, uint32_t flags,
                                const struct wait *w, struct error *err);

/** Calls @fn for each entry on the caller's thread, folders before what is in them.  @depth 1 lists
 *  one level.  *ret_truncated when there were more than @most. */
NODISCARD bool guest_list(struct guest *g, const char *root, const char *path, uint32_t depth,
                          uint32_t most, bool hidden, guest_entry_fn *fn, void *arg,
                          bool *ret_truncated, const struct wait *w, struct error *err);
NODISCARD bool guest_make_dir(struct guest *g, const char *root, const char *path, uint32_t mode,
                              bool parents, const struct wait *w, struct error *err);
NODISCARD bool guest_move(struct guest *g, const char *root, const char *from, const char *to,
                          bool replace, const struct wait *w, struct error *err);
NODISCARD bool guest_remove(struct guest *g, const char *root, const char *path, bool recursive,
                            const struct wait *w, struct error *err);

typedef void guest_watch_fn(void *arg, uint32_t events, const char *path);
struct guest_watch;

/** @fn is called on the loop thread until guest_watch_free() has returned. */
NODISCARD struct guest_watch *guest_watch(struct guest *g, const char *root, const char *path,
                                          bool recursive, guest_watch_fn *fn, void *arg,
                                          const struct wait *w, struct error *err);
void guest_watch_free(struct guest_watch *watch);

/** Loop: a socket inside, once connected.  @family 4, 6, or 1 for a Unix path.  @done is called
 *  once on the loop thread (before this returns when it cannot even be asked for), with a channel
 * that the callee owns, or NULL and an errno. */
typedef void guest_dial_fn(void *arg, struct channel *ch, int os_errno);
void guest_dial(struct guest *g, int family, const char *host, uint16_t port, guest_dial_fn *done,
                void *arg);

/* ---- the computer as a whole ---- */

NODISCARD bool guest_freeze(struct guest *g, const struct wait *w, struct error *err);
NODISCARD bool guest_thaw(struct guest *g, const struct wait *w, struct error *err);

/** Once it has returned nothing is under way in either direction, and nothing will be before
 *  guest_release(): what is sent meanwhile waits.  The guest begins again with the next request. */
NODISCARD bool guest_hold(struct guest *g, const struct wait *w, struct error *err);
void guest_release(struct guest *g);

/** For the first client of a copy that was made while another held the guest: every program of the
 *  copy is killed, and what the other had opened is forgotten. */
NODISCARD bool guest_reset(struct guest *g, const struct wait *w, struct error *err);
NODISCARD bool guest_sync(struct guest *g, const struct wait *w, struct error *err);
NODISCARD bool guest_set_time(struct guest *g, int64_t wall_ns, const struct wait *w,
                              struct error *err);
NODISCARD bool guest_reseed(struct guest *g, const void *entropy, size_t len, const struct wait *w,
                            struct error *err);
NODISCARD bool guest_set_name(struct guest *g, const char *host_name, const char *machine_id,
                              const struct wait *w, struct error *err);

/** At most @processes programs at a time; 0: no limit.  Of virtual machines. */
NODISCARD bool guest_limit(struct guest *g, uint32_t processes, const struct wait *w,
                           struct error *err);

/** At most @bytes on its disk besides what was there at its first start; 0: no limit.  Likewise. */
NODISCARD bool guest_limit_disk(struct guest *g, uint64_t bytes, const struct wait *w,
                                struct error *err);

/** Ask it to kill everything and end; does not wait. */
void guest_shutdown(struct guest *g);
