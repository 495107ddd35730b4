/*
 * lane - one channel of the protocol: its number, its credit in both directions, its end.
 *
 * A lane is the first member of what uses it (a run, a connection, a file being sent), which is
 * released with free() once both sides have said CLOSE.  What it holds is given up before that,
 * by its drop function: at lane_finish(), or when the host's CLOSE arrives.
 * Ownership: `struct lanes` owns every lane after lane_open().  Threads: one.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "images/guest/evloop.h"
#include "kernel/base/list.h"
#include "kernel/computer/wire.h"

#define LANES_MAX        4096u /* in use */
#define LANES_ENDING_MAX 4096u /* beside them: only waiting for the host's CLOSE */
#define LANE_BUCKETS     128u

struct inside;
struct lane;

/** What a lane does.  NULL: bytes are dropped and their credit given back, EOF is ignored, any
 * other message breaks the protocol. */
struct lane_ops {
    /** Bytes within the credit; lane_consumed() gives it back. */
    void (*on_data)(struct lane *lane, uint8_t stream, const uint8_t *data, size_t len);
    void (*on_eof)(struct lane *lane, uint8_t stream);
    /** Anything but DATA, EOF, CREDIT and CLOSE; false breaks the protocol. */
    bool (*on_message)(struct lane *lane, const struct wire_header *h, const uint8_t *payload);
    /** Go on with what there is to do, a bounded piece; lane_wake() asks for it. */
    void (*pump)(struct lane *lane);
    /** Give up everything held but the struct itself.  @by_host: its CLOSE came first. */
    void (*drop)(struct lane *lane, bool by_host);
};

struct lane {
    struct list link; /* in its bucket */
    struct evloop_work work;
    struct inside *in;
    const struct lane_ops *ops; /* NULL: only waits for the host's CLOSE */
    uint32_t number;
    uint32_t credit[WIRE_STREAM_COUNT];  /* bytes we may send */
    uint32_t allowed[WIRE_STREAM_COUNT]; /* bytes the host may send */
    uint32_t due[WIRE_STREAM_COUNT];     /* bytes dealt with, not granted again yet */
    bool one_shot;                       /* ends with its reply, without CLOSE */
};

struct lanes {
    struct list buckets[LANE_BUCKETS];
    size_t live;
    size_t ending;
    uint32_t next_even;
};

void lanes_init(struct lanes *lanes);

/** Drop and free all of them. */
void lanes_fini(struct lanes *lanes);

/** NULL when there is none of that number. */
struct lane *lane_find(struct lanes *lanes, uint32_t number);

/** Put @lane, the first member of something from calloc(), into the table. */
void lane_open(struct inside *in, struct lane *lane, uint32_t number, const struct lane_ops *ops);

/** An unused number for a channel that the guest opens. */
uint32_t lane_new_number(struct lanes *lanes);

/** Say CLOSE (a one-shot lane says nothing), drop; @lane may be gone afterwards. */
void lane_finish(struct lane *lane);

/** Reply with an error and, unless @one_shot, CLOSE, on a channel that has no lane yet. */
void lane_refuse(struct inside *in, uint32_t number, int status, bool one_shot);

/** Have the pump function called soon. */
void lane_wake(struct lane *lane);

/** @n received bytes were dealt with. */
void lane_consumed(struct lane *lane, uint8_t stream, size_t n);

void lane_send(struct lane *lane, uint8_t type, uint8_t stream, const void *payload, size_t len);
void lane_reply(struct lane *lane, int status, const void *result, size_t len);

/** Reply on a channel that never had a lane. */
void lane_reply_to(struct inside *in, uint32_t number, int status, const void *result, size_t len);

/** A frame for a lane in the table; false when it breaks the protocol. */
bool lane_frame(struct lane *lane, const struct wire_header *h, const uint8_t *payload);
