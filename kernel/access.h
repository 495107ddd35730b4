/*
 * access - may this agent make this call: ordered rules, the first that matches decides; and how
 * many calls it may make.
 *
 * A rule names agents, groups and roles, tools and arguments by patterns (access_glob.h,
 * access_args.h) and says allow, deny or ask; ask leaves it to a person (access_ask.h).  Without a
 * match: allow.  An argument that cannot be looked at whole counts against the call: it matches
 * rules that deny and ask, and none that allows.
 *
 * Threads: rules are constant once made, access_check() and access_remember() may be called on any
 *   thread; access_begin() and access_end() on one, the loop's.
 */
#pragma once

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "kernel/agent.h"
#include "kernel/base/error.h"

#define ACCESS_RULE_BYTES   96
#define ACCESS_REMEMBER_MAX 1024u /* answers that are remembered at once */

struct access;

enum access_decision { ACCESS_ALLOW, ACCESS_DENY, ACCESS_ASK };

struct access_verdict {
    enum access_decision decision;
    const char *rule; /* "rule 2: deny terminal_* for agent guest", "no rule"; lives as long as the
                         access does */
    size_t number;    /* of that rule, from 1; 0: no rule */
};

/** @rules and @quotas: NULL or the arrays of the configuration, {agent, group, role, tool, args,
 *  decision} and {agent, group, role, max_in_flight, calls_per_minute}.  ERR_INVALID names the one
 *  that is wrong. */
NODISCARD struct access *access_new(const json_t *rules, const json_t *quotas, struct error *err);
void access_free(struct access *a);
DEFINE_CLEANUP(struct access, access_free)

/** @args: of the call, NULL for {}. */
void access_check(struct access *a, const struct agent *agent, const char *tool, const json_t *args,
                  struct access_verdict *ret);

/** From now on the rule @number, which asks, allows this agent this tool.  Forgotten with @a; when
 *  there is no room or no memory, it goes on asking. */
void access_remember(struct access *a, size_t number, const struct agent *agent, const char *tool);

/** What people have allowed the agent @name is forgotten: another may get the name. */
void access_forget(struct access *a, const char *name);

/** One more call of @agent is in flight.  False: ERR_LIMIT, with when to come again; *ret_rule
 *  ("quota 1: 60 calls a minute") lives as long as @a. */
NODISCARD bool access_begin(struct access *a, const struct agent *agent, const char **ret_rule,
                            struct error *err);
void access_end(struct access *a, const struct agent *agent);

const char *access_decision_name(enum access_decision decision);
