/*
 * tap - carries what can be read from a descriptor to the host, as DATA of one stream of a lane.
 *
 * Nothing is held in between: bytes are read into the queue to the host when there is room and
 * credit, so that a program that writes too much waits on its own pipe.
 * Ownership: the descriptor is the tap's once opened.  Threads: one.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "images/guest/evloop.h"
#include "images/guest/lane.h"

struct tap {
    struct evloop_source source; /* fd -1: none, or at its end */
    struct lane *lane;
    size_t owed; /* bytes seen in the pipe that something else must wait for */
    uint8_t stream;
    bool terminal; /* a pty's master */
    bool ready;    /* may have bytes */
    bool hung_up;  /* may be at its end */
    bool open;     /* EOF not sent yet */
    bool broken;   /* ended with an error rather than an end of file */
};

void tap_init(struct tap *t, struct lane *lane, uint8_t stream);

/** Takes @fd, non-blocking, on success; events wake the lane. */
bool tap_open(struct tap *t, int fd, bool terminal);
void tap_close(struct tap *t);

/** Forward at most @budget bytes; returns how many.  Sends EOF at the end. */
size_t tap_forward(struct tap *t, size_t budget);

/** True when tap_forward() would get further now, given room in the queue. */
bool tap_can_go_on(const struct tap *t);

/** Note what is in the pipe now: t->owed becomes 0 when it has been forwarded. */
void tap_mark(struct tap *t);

/** Bytes that can be read now; 0 for a terminal. */
size_t tap_available(const struct tap *t);
