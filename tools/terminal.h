/*
 * terminal - what is kept of a run between calls: how far it was told, and its screen.
 *
 * Kept with the run's computer under the run's id, and freed with it.
 * Threads: any; one lock inside.
 */
#pragma once

#include "tools/toolkit.h"

struct terminal;

/** Make and attach the record of @run. @pty: with a screen of that size. */
NODISCARD bool terminal_attach(struct tool_call *call, struct run *run, bool pty, int rows,
                               int cols, struct error *err);

/** A reference to the record, or NULL when the computer is gone. */
struct terminal *terminal_get(struct tool_call *call, struct run *run);
void terminal_unref(struct terminal *t);
DEFINE_CLEANUP(struct terminal, terminal_unref)

bool terminal_has_screen(const struct terminal *t);

/** Feed the screen with what has come since, send back what it answers, and give its text. */
NODISCARD bool terminal_screen(struct terminal *t, struct run *run, struct buf *out,
                               struct error *err);

/** Where the next call goes on reading, and that it has been told up to @offset (if that is
 * further). */
uint64_t terminal_told(struct terminal *t);
void terminal_tell(struct terminal *t, uint64_t offset);

/** Wait until the output has been quiet for a moment, the run has ended, or @most_ns have passed.
 */
NODISCARD bool terminal_settle(struct tool_call *call, struct run *run, int64_t most_ns,
                               struct error *err);
