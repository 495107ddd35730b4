/*
 * uplink - the byte stream to the host: cuts what comes into frames, queues what goes out.
 *
 * The queue is bounded by never being asked for more: frames are taken from the host, and work
 * is run, only while uplink_has_room() holds, and one frame or one piece of work adds at most a
 * data frame and some small ones.
 * Ownership: takes the descriptor.  Threads: one.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "images/guest/evloop.h"
#include "kernel/computer/wire.h"

/** One frame; false when it breaks the protocol. */
typedef bool uplink_frame_fn(void *arg, const struct wire_header *h, const uint8_t *payload);

struct uplink {
    struct evloop *loop;
    struct evloop_source source;
    struct wire_reader reader;
    uint8_t *out;
    size_t out_start, out_end;
    uplink_frame_fn *on_frame;
    void *arg;
    uint32_t interest;
    bool stalled; /* frames wait in the reader for room in the queue */
    bool used;    /* bytes went either way since somebody last set this to false */
    bool dead;    /* ended or broken: nothing more is read or sent */
    bool holding; /* since the host asked for silence, until its next frame */
    size_t due;   /* while holding: what is still to be sent */
};

/** Takes @fd on success. */
bool uplink_init(struct uplink *up, struct evloop *loop, int fd, uplink_frame_fn *on_frame,
                 void *arg);
void uplink_fini(struct uplink *up);

bool uplink_has_room(const struct uplink *up);

/** Queue one frame that is not DATA of a lane, or DATA that was made elsewhere. */
void uplink_send(struct uplink *up, uint32_t channel, uint8_t type, uint8_t stream,
                 const void *payload, size_t len);

/** Where the payload of the next DATA frame may be written and how much; NULL when the queue is
 *  full.  Nothing else may be queued before uplink_data_end(), whose @len may be 0. */
uint8_t *uplink_data_begin(struct uplink *up, size_t *ret_room);
void uplink_data_end(struct uplink *up, uint32_t channel, uint8_t stream, size_t len);

/** The same for a frame of another type, which may be empty. */
void uplink_made(struct uplink *up, uint32_t channel, uint8_t type, uint8_t stream, size_t len);

/** Send what the host takes now. */
void uplink_flush(struct uplink *up);

/** After a flush: take up frames that had to wait, and say to the loop what to wait for.  Once a
 *  turn, from the loop itself. */
void uplink_resume(struct uplink *up);

/** Is something queued that the stream was not asked to take yet? */
bool uplink_untried(const struct uplink *up);

/** Nothing unread, nothing unsent. */
bool uplink_idle(const struct uplink *up);

/** Send what is queued, and then nothing before the host's next frame. */
void uplink_hold(struct uplink *up);

/** Forget what is queued: it was for another host. */
void uplink_forget(struct uplink *up);

/** Give memory back that a burst has taken; only when idle. */
void uplink_tidy(struct uplink *up);
