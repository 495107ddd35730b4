/*
 * sink - carries DATA of one stream of a lane into a descriptor.
 *
 * What the descriptor does not take at once is held, at most the window, and credit is given back
 * as it is written.  When nobody reads any more, the rest is dropped and its credit given back.
 * Ownership: the descriptor is the sink's once opened.  Threads: one.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "images/guest/evloop.h"
#include "images/guest/lane.h"

struct sink_chunk;

enum sink_kind {
    SINK_PIPE,     /* the end is closing it */
    SINK_SOCKET,   /* the end is shutting it down for writing */
    SINK_TERMINAL, /* the end is the end-of-file character */
};

struct sink {
    struct evloop_source source; /* fd -1: none, or nobody reads */
    struct lane *lane;
    struct sink_chunk *head, *tail;
    uint8_t stream;
    uint8_t last; /* the last byte written to a terminal */
    enum sink_kind kind;
    bool eof;   /* the host has no more */
    bool ended; /* and that has been passed on */
};

void sink_init(struct sink *s, struct lane *lane, uint8_t stream);

/** Takes @fd, non-blocking, on success. */
bool sink_open(struct sink *s, int fd, enum sink_kind kind);
void sink_close(struct sink *s);

void sink_data(struct sink *s, const uint8_t *data, size_t len);
void sink_eof(struct sink *s);
