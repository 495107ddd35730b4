/*
 * llm_sse - a stream of server-sent events, as it comes in pieces, back into events.
 *
 * Follows the event stream format of the HTML standard: lines end with LF, CR or CRLF, `data` lines
 * of one event are joined by LF, comments and unknown fields are skipped, an event that no empty
 * line has ended is not one.
 * Threads: one at a time.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "kernel/base/buf.h"
#include "kernel/base/error.h"

struct llm_sse {
    struct buf line, data;
    size_t max;     /* most bytes of one line, and of one event's data */
    char event[64]; /* the event's name so far; cut when longer */
    bool after_cr;  /* an LF now belongs to the CR before it */
    bool begun;     /* the first line is over: no byte order mark any more */
    bool has_data;
    unsigned long events; /* handed out */
};

void llm_sse_init(struct llm_sse *s, size_t max);
void llm_sse_fini(struct llm_sse *s);

/** One event; @event is "message" when it has no name, @data is NUL-terminated.  False ends the
 *  feeding, with @err set or not as the receiver wants. */
typedef bool llm_sse_fn(void *arg, const char *event, const char *data, size_t len,
                        struct error *err);

/** False: @fn said so, or ERR_LIMIT (an event over the limit), ERR_NOMEM. */
NODISCARD bool llm_sse_feed(struct llm_sse *s, const char *data, size_t len, llm_sse_fn *fn,
                            void *arg, struct error *err);
