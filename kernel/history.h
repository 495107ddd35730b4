/*
 * history - how long calls are expected to take, learned from those before them: of this tool and
 * agent, else of this tool.
 *
 * A sliding mean, in which the latest call counts for an eighth, and an outlier for less.  Bounded:
 * where there is no room, the pair that was seen least gives way. Threads: one at a time (the
 * loop).
 */
#pragma once

#include <stdint.h>

#include "kernel/base/error.h"

struct history;

NODISCARD struct history *history_new(struct error *err);
void history_free(struct history *h);
DEFINE_CLEANUP(struct history, history_free)

/** @tool and @agent are told apart by their addresses alone. */
void history_learn(struct history *h, const void *tool, const void *agent, int64_t took_ns);

/** At least 1; 0 when the tool was never seen. */
int64_t history_expect(const struct history *h, const void *tool, const void *agent);
