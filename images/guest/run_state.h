/*
 * run_state - what run.c (streams, messages, end) and run_start.c (how it comes to be) share.
 */
#pragma once

#include "images/guest/run.h"

#include <stdbool.h>

#include "images/guest/lane.h"
#include "images/guest/sink.h"
#include "images/guest/spawn.h"
#include "images/guest/tap.h"

enum run_state {
    RUN_ASSEMBLING, /* the request is not complete */
    RUN_STARTING,   /* cloned, not known to have executed */
    RUN_LIVE,
    RUN_OVER, /* the first process is reaped */
};

struct run {
    struct lane lane;
    struct list link; /* in inside.runs once there is a process */
    enum run_state state;
    uint8_t *assembled;
    size_t assembled_len, assembled_cap;
    struct spawn *spawn; /* while STARTING */
    pid_t pid;
    struct sink input, control_in;
    struct tap out, err, control_out;
    size_t control_pass; /* control bytes that may go once out and err owe nothing */
    struct wire_exit end;
    bool last; /* we end with it */
    bool exit_sent;
    bool marked; /* at the end: what was in the pipes then is being sent */
};

/** Start what the complete request says; a failure is answered and ends the lane. */
void run_start(struct run *r, const uint8_t *payload, size_t len);

/** Keep one part of a request.  0, E2BIG or ENOMEM. */
int run_assemble(struct run *r, const uint8_t *payload, size_t len);
void run_forget_assembled(struct run *r);

/** Answer with the error and its stage, and end the lane. */
void run_fail(struct run *r, int status, enum spawn_stage stage);

/** 0 or an errno. */
int run_set_size(int master, uint16_t rows, uint16_t cols);
