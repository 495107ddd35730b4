/*
 * loop - what libuv leaves out: posting from any thread, deadlines, an owner check.
 *
 * Ownership: a post's node lives inside the thing that is posted; it is the loop's from
 *   loop_post() until its function is called, then the caller's again.  Nothing is allocated.
 * Threads: the thread that calls loop_new() owns the loop; only loop_post() may be called
 *   from others.
 * Blocking: loop_run(), loop_turn() and loop_wait_cond() only.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "kernel/base/cancel.h"
#include "kernel/base/error.h"

struct loop;
struct uv_loop_s;
struct loop_post;
struct loop_timer;

typedef void loop_post_fn(struct loop_post *post);
typedef void loop_timer_fn(struct loop_timer *timer);

struct loop_post {
    struct loop_post *next; /* the loop's while posted */
    loop_post_fn *fn;
};

/** A deadline.  Zero-initialise; it may be freed as soon as it is stopped or has fired. */
struct loop_timer {
    int64_t deadline_ns;
    loop_timer_fn *fn;
    size_t slot; /* 1 + place in the loop's heap; 0 when not armed */
};

NODISCARD struct loop *loop_new(struct error *err);

/** Runs what is still posted, closes every handle left on the loop, and releases it.  Threads
 *  that post must have come back from their last loop_post(): join them first. */
void loop_free(struct loop *loop);
DEFINE_CLEANUP(struct loop, loop_free)

/** The libuv loop underneath, for handles. */
struct uv_loop_s *loop_uv(struct loop *loop);

/** Run until loop_stop().  Returns at once when stopped already; can be called again. */
void loop_run(struct loop *loop);

/** One turn: handle what is ready, waiting up to @wait_ms for it. */
void loop_turn(struct loop *loop, int wait_ms);

void loop_stop(struct loop *loop);

/** Run @fn(@post) on the loop thread, in order of posting, soon.  Any thread. */
void loop_post(struct loop *loop, struct loop_post *post, loop_post_fn *fn);

/** False in the loop's own callbacks, where nothing may wait for what the loop brings about. */
bool loop_may_wait(const struct loop *loop);

/** wait_cond() for what the loop brings about.  On the loop's own thread this is one turn of the
 *  loop instead, with @lock let go: so a program with nothing else to do needs no other thread.
 *  There, what other threads signal is heard only if they post, too. */
bool loop_wait_cond(struct loop *loop, const struct wait *w, pthread_cond_t *cond,
                    pthread_mutex_t *lock);

/** (Re)arm for @deadline_ns (monotonic).  False only when memory for the heap ran out. */
NODISCARD bool loop_timer_start(struct loop *loop, struct loop_timer *timer, int64_t deadline_ns,
                                loop_timer_fn *fn);

/** Disarm; harmless when not armed. */
void loop_timer_stop(struct loop *loop, struct loop_timer *timer);

bool loop_is_owner(const struct loop *loop);

/** Asserts that the caller is the loop's thread. */
void loop_assert_owner(const struct loop *loop);
