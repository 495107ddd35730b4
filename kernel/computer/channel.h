/*
 * channel - one byte stream between the host's loop and something inside a computer.
 *
 * The egress broker and port forwarding see nothing but this interface; a test gives them a
 * scripted one.
 * Ownership: whoever is handed a channel calls channel_close() exactly once; no event function is
 *   called after that, and @on_close is not called for a close of one's own.
 * Threads: the loop thread only.  Blocking: never.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

struct channel;

struct channel_events {
    /** Bytes from inside.  Each must be given back with channel_consume() when it has been dealt
     *  with; until then it counts against the sender's credit.  len 0 means end of file. */
    void (*on_data)(void *arg, const uint8_t *data, size_t len);
    /** There is credit again after channel_send() took less than it was given. */
    void (*on_writable)(void *arg);
    /** The other side, or the whole computer, is gone.  channel_close() must still be called. */
    void (*on_close)(void *arg);
};

struct channel_ops {
    void (*listen)(struct channel *ch, const struct channel_events *events, void *arg);
    size_t (*send)(struct channel *ch, const void *data, size_t len);
    void (*send_eof)(struct channel *ch);
    void (*consume)(struct channel *ch, size_t len);
    void (*close)(struct channel *ch);
};

struct channel {
    const struct channel_ops *ops;
};

/** Say who is told.  Nothing arrives before this. */
static inline void channel_listen(struct channel *ch, const struct channel_events *events,
                                  void *arg)
{
    ch->ops->listen(ch, events, arg);
}

/** Takes as many bytes as the credit allows and returns how many. */
static inline size_t channel_send(struct channel *ch, const void *data, size_t len)
{
    return ch->ops->send(ch, data, len);
}

static inline void channel_send_eof(struct channel *ch)
{
    ch->ops->send_eof(ch);
}

static inline void channel_consume(struct channel *ch, size_t len)
{
    ch->ops->consume(ch, len);
}

static inline void channel_close(struct channel *ch)
{
    ch->ops->close(ch);
}
