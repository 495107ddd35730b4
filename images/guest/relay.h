/*
 * relay - a socket inside carried over a lane, DATA both ways.
 *
 * Threads: one.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "images/guest/lane.h"
#include "images/guest/sink.h"
#include "images/guest/tap.h"

struct relay {
    struct lane lane;
    struct sink sink;
    struct tap tap;
    struct evloop_source connecting; /* fd -1: not, or not any more */
    int connect_error;
    bool connect_done;
    bool started;
    void (*gone)(struct inside *in); /* called when it has ended; may be NULL */
};

/** Open a lane of @number for a socket that is not there yet.  NULL without memory. */
struct relay *relay_open(struct inside *in, uint32_t number, void (*gone)(struct inside *in));

/** Takes the connected, non-blocking @fd on success. */
bool relay_start(struct relay *r, int fd);

/** Takes @fd, on which connect() has said EINPROGRESS (@pending) or succeeded, in any case.
 * Replies, now or later, and carries bytes from then on. */
void relay_connect(struct relay *r, int fd, bool pending);
