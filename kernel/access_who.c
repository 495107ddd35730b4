#include "kernel/access_who.h"

#include <string.h>

bool access_who_pattern(const json_t *object, const char *key, struct access_glob **ret,
                        struct error *err)
{
    const json_t *value = json_object_get(object, key);

    if (!value || json_is_null(value))
        return true;
    if (!json_string_length(value))
        return error_set(err, ERR_INVALID, "%s is not a pattern", key);
    *ret = access_glob_new(json_string_value(value), err);
    return *ret != NULL || error_prefix(err, "%s", key);
}

bool access_who_read(struct access_who *ret, const json_t *object, struct error *err)
{
    *ret = (struct access_who){ .agent = NULL };
    return access_who_pattern(object, "agent", &ret->agent, err) &&
           access_who_pattern(object, "group", &ret->group, err) &&
           access_who_pattern(object, "role", &ret->role, err);
}

void access_who_fini(struct access_who *who)
{
    access_glob_free(who->agent);
    access_glob_free(who->group);
    access_glob_free(who->role);
}

static bool is(const struct access_glob *pattern, const char *name)
{
    return !pattern || access_glob_matches(pattern, name, strlen(name));
}

static bool has_role(const struct access_glob *pattern, const struct agent *agent)
{
    bool found = !pattern;

    for (size_t i = 0; !found && i < agent_role_count(agent); i++)
        found = is(pattern, agent_role(agent, i));
    return found;
}

bool access_who_matches(const struct access_who *who, const struct agent *agent)
{
    return is(who->agent, agent_name(agent)) && is(who->group, agent_group(agent)) &&
           has_role(who->role, agent);
}
