/*
 * access_quota - how many calls an agent may make: at once, and in a minute.
 *
 * The first quota that matches an agent holds for it, and for each such agent by itself.  A
 * minute's calls may be made at once, and come back one by one, evenly: after n calls at n a minute
 * there is one more every 60/n seconds.  Both checks take the same time whatever the number of
 * agents.
 *
 * Ownership: access_quota_free().  Threads: one, the loop's.
 */
#pragma once

#include <jansson.h>
#include <stdint.h>

#include "kernel/agent.h"
#include "kernel/base/error.h"

struct access_quota;

/** @quotas: NULL or an array.  ERR_INVALID names the one that is wrong. */
NODISCARD struct access_quota *access_quota_new(const json_t *quotas, struct error *err);
void access_quota_free(struct access_quota *q);
DEFINE_CLEANUP(struct access_quota, access_quota_free)

/** Counts one call.  False: ERR_LIMIT and *ret_rule (as long as @q lives), or ERR_NOMEM. */
NODISCARD bool access_quota_take(struct access_quota *q, const struct agent *agent, int64_t now_ns,
                                 const char **ret_rule, struct error *err);

/** A call that was counted has ended. */
void access_quota_give(struct access_quota *q, const struct agent *agent);

/** Agents that there is room for, the forgotten ones included. */
size_t access_quota_places(const struct access_quota *q);
