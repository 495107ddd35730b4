/*
 * agent - who asks.
 *
 * Ownership: counted.  Threads: any; the fields are constant, the state is atomic.
 */
#pragma once

#include <stdbool.h>

#include "kernel/base/error.h"

struct agent;

enum agent_state {
    AGENT_CREATED,
    AGENT_READY,
    AGENT_RUNNING,
    AGENT_WAITING,
    AGENT_SUSPENDED,
    AGENT_ENDED,
    AGENT_FAILED,
    AGENT_STATE_COUNT
};

/** @name: [A-Za-z0-9_.-], 1 to 64 characters.  @group may be NULL.  ERR_INVALID, ERR_NOMEM. */
NODISCARD struct agent *agent_new(const char *name, const char *group, struct error *err);
struct agent *agent_ref(struct agent *a);
void agent_unref(struct agent *a);
DEFINE_CLEANUP(struct agent, agent_unref)

const char *agent_name(const struct agent *a);
const char *agent_group(const struct agent *a); /* "" for none */
enum agent_state agent_state(const struct agent *a);

/** False, and nothing changes, when the state machine has no such step. */
NODISCARD bool agent_change(struct agent *a, enum agent_state to);
const char *agent_state_name(enum agent_state state);
