/*
 * document_driver - the programs that work on documents inside a computer, kept for the next one.
 *
 * A driver answers one request at a time, each in a process of its own that it forks, and ends by
 * itself when none has come for some minutes.  Those at rest stay with their computer.
 * Ownership: a struct document_driver that was taken is to be kept or ended.
 * Threads: worker threads.  Blocking: functions with a struct wait.
 */
#pragma once

#include "tools/document_answer.h"
#include "tools/toolkit.h"

struct document_driver {
    struct run *run;
    uint64_t offset; /* of its output that was read */
    bool warm;       /* it has answered an earlier call */
    bool answered;   /* the last request, wholly */
};

/** One at rest, or a new one, and none at rest with @fresh.  ERR_NOT_FOUND: no Python inside. */
NODISCARD bool document_driver_take(struct tool_call *call, struct computer *c, bool fresh,
                                    struct document_driver *ret, const struct wait *w,
                                    struct error *err);

/** Send a request and collect the whole answer into @out.  ERR_LOST: it ended, or closed its
 *  output, before that. */
NODISCARD bool document_driver_ask(struct document_driver *d, const json_t *request,
                                   struct buf *out, const struct wait *w, struct error *err);

/** It has answered and may be asked again. */
void document_driver_keep(struct tool_call *call, struct computer *c, struct document_driver *d);

/** End it with all that it started. */
void document_driver_end(struct document_driver *d);
