/*
 * access_who - whom a rule or a quota is about: patterns for the agent's name, group and roles.
 *
 * Ownership: access_who_fini(), also after a failure.  Threads: any; constant once read.
 */
#pragma once

#include <jansson.h>

#include "kernel/access_glob.h"
#include "kernel/agent.h"

struct access_who {
    struct access_glob *agent, *group, *role; /* NULL: any */
};

/** The keys agent, group and role of @object.  ERR_INVALID, ERR_NOMEM. */
NODISCARD bool access_who_read(struct access_who *ret, const json_t *object, struct error *err);
void access_who_fini(struct access_who *who);
bool access_who_matches(const struct access_who *who, const struct agent *agent);

/** The pattern under @key, or NULL in *ret where there is none. */
NODISCARD bool access_who_pattern(const json_t *object, const char *key, struct access_glob **ret,
                                  struct error *err);
