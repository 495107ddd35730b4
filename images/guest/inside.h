/*
 * inside - the whole state of the guest program, handed down to everything in it.
 *
 * Threads: one.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/resource.h>

#include "images/guest/egress.h"
#include "images/guest/evloop.h"
#include "images/guest/lane.h"
#include "images/guest/machine.h"
#include "images/guest/reap.h"
#include "images/guest/spawn.h"
#include "images/guest/uplink.h"

#define INSIDE_RUNS_MAX       1024u
#define INSIDE_ASSEMBLING_MAX (8u << 20) /* bytes of SPAWN requests that are not complete yet */

struct inside {
    struct evloop loop;
    struct uplink up;
    struct lanes lanes;
    struct reaper reaper;
    struct spawn_stack spare_stack;
    struct egress egress;
    struct machine machine;
    struct list runs; /* of struct run */
    size_t run_count;
    size_t assembling_bytes;
    struct evloop_timer tidy;
    bool leaving;         /* asked to shut down, or the last run is over: end once that is out */
    bool pid1;            /* everything in this pid namespace is ours */
    bool inert;           /* decode and keep state, but start, stop and connect to nothing */
    int root_fd;          /* what "/" is for the file requests */
    uid_t user;           /* whom programs run as; 0: as whom we run */
    rlim_t processes;     /* how many the user may have; 0: no limit */
    uint64_t disk_before; /* bytes in use when we began: what the image and its start took */
};

struct inside_options {
    int stream;    /* taken on success */
    int listen_fd; /* proxy port, listening; taken on success; -1: none */
    const char *root;
    bool inert;
    uid_t user;
};

/** Storage must be zeroed.  False with everything released but the descriptors of @opt.  HELLO goes
 *  out with the first turn. */
bool inside_init(struct inside *in, const struct inside_options *opt);

/** One turn of the loop, waiting at most @max_wait_ms (-1: until something happens).  False when
 *  it is over: the host is gone, broke the protocol, or asked for the end. */
bool inside_turn(struct inside *in, int max_wait_ms);

/** Give back memory that bursts have taken. */
void inside_tidy(struct inside *in);
void inside_fini(struct inside *in);
