/*
 * access - may this agent use this tool: ordered rules, the first that matches decides.
 *
 * A rule names an agent or group pattern and a tool pattern ("*" and a trailing "*" are the
 * wildcards) and says allow or deny.  Without a match: allow.
 * Threads: any; constant once made.
 */
#pragma once

#include <jansson.h>
#include <stdbool.h>

#include "kernel/agent.h"
#include "kernel/base/error.h"

struct access;

enum access_decision { ACCESS_ALLOW, ACCESS_DENY };

struct access_verdict {
    enum access_decision decision;
    char rule[96]; /* "rule 2: deny terminal_* for agent guest", "no rule" */
};

/** @rules: NULL or the checked array of the configuration: {agent, group, tool, decision}. */
NODISCARD struct access *access_new(const json_t *rules, struct error *err);
void access_free(struct access *a);
DEFINE_CLEANUP(struct access, access_free)

void access_check(const struct access *a, const struct agent *agent, const char *tool,
                  struct access_verdict *ret);
