/*
 * code_internal - what code_context.c and code_watch.c share.
 *
 * Threads: functions ending in _locked want the context's lock, the others must not have it.
 */
#pragma once

#include <stdatomic.h>

#include "tools/code_context.h"
#include "tools/code_frame.h"

#define CODE_CONTROL_BYTES (CODE_FRAME_HEAD_MAX + CODE_FRAME_DATA_MAX)

struct code_context {
    /* never change */
    atomic_uint refs;
    enum code_language language;
    char name[CODE_NAME_MAX + 1];
    struct loop *loop;
    pthread_mutex_t lock;
    pthread_cond_t changed; /* somebody left */

    /* lock */
    bool held;
    bool retired;
    struct run *run; /* NULL: no interpreter */
    enum code_state state;
    uint64_t cell; /* the number of the last one */
    int64_t begun_ns;
    int64_t push_ns; /* when to push (harder) for its end; CLOCK_NEVER */
    unsigned pushes;
    struct code_outcome outcome; /* `output` is read when it is taken */
    uint64_t refusal_seq;        /* computer_refusal_seq() when the cell began */
    uint64_t told;               /* offset of the output that an answer has shown */
    uint64_t control_at;         /* offset of the control stream up to which it was read */
    struct buf control;          /* what was read and is no whole frame yet */
    struct buf *image;           /* being fetched; NULL: none */
    uint64_t image_at;
    bool image_answered;
    bool posted;

    /* loop */
    struct loop_post post;
    struct loop_timer timer; /* holds a reference while it is armed */
};

/** Bring `state` up to date with what the driver has said. */
void code_look_locked(struct code_context *ctx);

/** Ask for the running cell's end, each time harder, and say in push_ns when the next is due. */
void code_push_locked(struct code_context *ctx);

/** Have the loop look at when the next push is due. */
void code_kick_locked(struct code_context *ctx);

/** One wait for something of the driver beyond @at, or its end. */
NODISCARD bool code_await_control(struct code_context *ctx, struct run *run, uint64_t at,
                                  const struct wait *w, struct error *err);
