/*
 * code_result - what is told of a cell: its output, value, error, pictures, and one status line.
 *
 * Threads: worker threads, within one struct tool_call.
 */
#pragma once

#include "tools/code_context.h"

/** Take the outcome of the finished cell and tell it.  @earlier: it is not the cell that the call
 *  asked for, and is told as such. */
NODISCARD bool code_result_finished(struct tool_call *call, struct code_context *ctx, bool earlier,
                                    const struct wait *w, struct error *err);

/** The cell goes on: its output up to now, and how to wait for the rest. */
NODISCARD bool code_result_running(struct tool_call *call, struct code_context *ctx,
                                   int64_t waited_ns, struct error *err);
