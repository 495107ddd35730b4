#include "kernel/access.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernel/base/utf8.h"

/* Borrows its text from access->json. */
struct pattern {
    const char *text; /* NULL: anything */
    size_t len;
    bool prefix; /* what follows the first @len bytes does not matter */
};

struct rule {
    struct pattern agent;
    struct pattern group;
    struct pattern tool;
    enum access_decision decision;
    char text[sizeof((struct access_verdict *)NULL)->rule];
};

struct access {
    json_t *json; /* our own copy of the rules */
    size_t count;
    struct rule rules[];
};

static bool pattern_read(struct pattern *ret, const json_t *rule, const char *key, size_t number,
                         struct error *err)
{
    const json_t *value = json_object_get(rule, key);
    const char *star;

    *ret = (struct pattern){ .text = NULL };
    if (!value || json_is_null(value))
        return true;
    ret->text = json_string_value(value);
    if (!ret->text || !*ret->text)
        return error_set(err, ERR_INVALID, "access rule %zu: %s is not a pattern", number, key);
    ret->len = strlen(ret->text);
    star = strchr(ret->text, '*');
    if (!star)
        return true;
    if (star[1])
        return error_set(err, ERR_INVALID,
                         "access rule %zu: in the %s \"%s\" the '*' is not at the end", number, key,
                         ret->text);
    ret->len--;
    ret->prefix = true;
    return true;
}

static bool pattern_matches(const struct pattern *p, const char *name)
{
    if (!p->text)
        return true;
    return !strncmp(name, p->text, p->len) && (p->prefix || !name[p->len]);
}

/* What a person reads when a call was refused, and what stands in the audit. */
static void describe(struct rule *r, size_t number)
{
    char text[512];
    size_t len;

    (void)snprintf(text, sizeof text, "rule %zu: %s %.64s%s%.64s%s%.64s", number,
                   r->decision == ACCESS_ALLOW ? "allow" : "deny",
                   r->tool.text ? r->tool.text : "*", r->agent.text ? " for agent " : "",
                   r->agent.text ? r->agent.text : "", r->group.text ? " in group " : "",
                   r->group.text ? r->group.text : "");
    len = utf8_cut(text, strlen(text), MIN(strlen(text), sizeof r->text - 1));
    memcpy(r->text, text, len);
    r->text[len] = '\0';
}

static bool rule_read(struct rule *r, const json_t *json, size_t number, struct error *err)
{
    const char *decision = json_string_value(json_object_get(json, "decision"));

    if (!decision || (strcmp(decision, "allow") != 0 && strcmp(decision, "deny") != 0))
        return error_set(err, ERR_INVALID,
                         "access rule %zu: its decision must be \"allow\" or \"deny\"", number);
    r->decision = strcmp(decision, "allow") == 0 ? ACCESS_ALLOW : ACCESS_DENY;
    if (!pattern_read(&r->agent, json, "agent", number, err) ||
        !pattern_read(&r->group, json, "group", number, err) ||
        !pattern_read(&r->tool, json, "tool", number, err))
        return false;
    describe(r, number);
    return true;
}

struct access *access_new(const json_t *rules, struct error *err)
{
    CLEANUP(access_freep) struct access *a = NULL;
    size_t count = json_array_size(rules);

    if (rules && !json_is_null(rules) && !json_is_array(rules)) {
        error_set(err, ERR_INVALID, "access rules are a list");
        return NULL;
    }
    a = calloc(1, sizeof *a + count * sizeof a->rules[0]);
    if (a && count)
        a->json = json_deep_copy(rules);
    if (!a || (count && !a->json)) {
        error_set(err, ERR_NOMEM, "%zu access rules", count);
        return NULL;
    }
    for (; a->count < count; a->count++) {
        if (!rule_read(&a->rules[a->count], json_array_get(a->json, a->count), a->count + 1, err))
            return NULL;
    }
    return STEAL(a);
}

void access_free(struct access *a)
{
    if (!a)
        return;
    json_decref(a->json);
    free(a);
}

static void verdict(struct access_verdict *ret, enum access_decision decision, const char *rule)
{
    ret->decision = decision;
    memcpy(ret->rule, rule, strlen(rule) + 1);
}

void access_check(const struct access *a, const struct agent *agent, const char *tool,
                  struct access_verdict *ret)
{
    for (size_t i = 0; i < a->count; i++) {
        const struct rule *r = &a->rules[i];

        if (pattern_matches(&r->tool, tool) && pattern_matches(&r->agent, agent_name(agent)) &&
            pattern_matches(&r->group, agent_group(agent))) {
            verdict(ret, r->decision, r->text);
            return;
        }
    }
    verdict(ret, ACCESS_ALLOW, "no rule");
}
