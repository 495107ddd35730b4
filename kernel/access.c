#include "kernel/access.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernel/access_args.h"
#include "kernel/access_quota.h"
#include "kernel/access_who.h"
#include "kernel/base/clock.h"
#include "kernel/base/utf8.h"

static const char *const decision_names[] = { "allow", "deny", "ask" };

struct rule {
    struct access_who who;
    struct access_glob *tool; /* NULL: any */
    struct access_args *args; /* likewise */
    enum access_decision decision;
    char text[ACCESS_RULE_BYTES];
    char before[ACCESS_RULE_BYTES]; /* when a person has allowed it before */
};

/* A person does not want to be asked again. */
struct answer {
    size_t number; /* of the rule */
    char agent[65], tool[65];
};

struct access {
    json_t *json; /* our own copy of the rules */
    struct access_quota *quota;

    pthread_mutex_t lock; /* guards the answers */
    struct answer *answers;
    size_t answer_count;

    size_t count;
    struct rule rules[];
};

const char *access_decision_name(enum access_decision decision)
{
    return (unsigned)decision < ARRAY_LEN(decision_names) ? decision_names[decision] : "unknown";
}

/* ---- making ---- */

static void put_cut(char ret[ACCESS_RULE_BYTES], const struct buf *text)
{
    size_t len = utf8_cut(buf_str(text), text->len, MIN(text->len, ACCESS_RULE_BYTES - 1));

    memcpy(ret, buf_str(text), len);
    ret[len] = '\0';
}

static void describe_who(struct buf *text, const json_t *json)
{
    static const char *const keys[][2] = { { "agent", " for agent " },
                                           { "group", " in group " },
                                           { "role", " with role " } };

    for (size_t i = 0; i < ARRAY_LEN(keys); i++) {
        const char *pattern = json_string_value(json_object_get(json, keys[i][0]));

        if (pattern)
            buf_printf(text, "%s%.64s", keys[i][1], pattern);
    }
}

/* What a person reads when a call was refused, and what stands in the audit. */
static bool describe(struct rule *r, json_t *json, size_t number, struct error *err)
{
    const char *tool = json_string_value(json_object_get(json, "tool"));
    CLEANUP(buf_fini) struct buf what = BUF_INIT, text = BUF_INIT;
    const char *key;
    json_t *pattern;

    buf_printf(&what, "%s %.64s", access_decision_name(r->decision), tool ? tool : "*");
    describe_who(&what, json);
    json_object_foreach (json_object_get(json, "args"), key, pattern)
        buf_printf(&what, " with %.64s=%.64s", key, json_string_value(pattern));
    buf_printf(&text, "rule %zu: %s", number, buf_str(&what));
    put_cut(r->text, &text);
    buf_clear(&text);
    buf_printf(&text, "rule %zu, allowed before: %s", number, buf_str(&what));
    put_cut(r->before, &text);
    return (!what.failed && !text.failed) || error_set(err, ERR_NOMEM, "text of a rule");
}

static bool decision_read(enum access_decision *ret, const json_t *json, struct error *err)
{
    const char *name = json_string_value(json_object_get(json, "decision"));

    for (size_t i = 0; name && i < ARRAY_LEN(decision_names); i++) {
        if (!strcmp(name, decision_names[i])) {
            *ret = (enum access_decision)i;
            return true;
        }
    }
    return error_set(err, ERR_INVALID, "its decision must be \"allow\", \"deny\" or \"ask\"");
}

static bool rule_read(struct rule *r, json_t *json, size_t number, struct error *err)
{
    json_t *args = json_object_get(json, "args");

    if (!decision_read(&r->decision, json, err) || !access_who_read(&r->who, json, err) ||
        !access_who_pattern(json, "tool", &r->tool, err))
        return false;
    if (args && !json_is_null(args)) {
        r->args = access_args_new(args, err);
        if (!r->args)
            return false;
    }
    return describe(r, json, number, err);
}

static void rule_fini(struct rule *r)
{
    access_who_fini(&r->who);
    access_glob_free(r->tool);
    access_args_free(r->args);
}

struct access *access_new(const json_t *rules, const json_t *quotas, struct error *err)
{
    CLEANUP(access_freep) struct access *a = NULL;
    size_t count = json_array_size(rules);

    if (rules && !json_is_null(rules) && !json_is_array(rules)) {
        error_set(err, ERR_INVALID, "access rules are a list");
        return NULL;
    }
    a = calloc(1, sizeof *a + count * sizeof a->rules[0]);
    if (!a) {
        error_set(err, ERR_NOMEM, "%zu access rules", count);
        return NULL;
    }
    pthread_mutex_init(&a->lock, NULL);
    a->json = count ? json_deep_copy(rules) : NULL;
    if (count && !a->json) {
        error_set(err, ERR_NOMEM, "%zu access rules", count);
        return NULL;
    }
    for (; a->count < count; a->count++) {
        size_t number = a->count + 1;

        if (!rule_read(&a->rules[a->count], json_array_get(a->json, a->count), number, err)) {
            rule_fini(&a->rules[a->count]);
            error_prefix(err, "access rule %zu", number);
            return NULL;
        }
    }
    a->quota = access_quota_new(quotas, err);
    return a->quota ? STEAL(a) : NULL;
}

void access_free(struct access *a)
{
    if (!a)
        return;
    for (size_t i = 0; i < a->count; i++)
        rule_fini(&a->rules[i]);
    access_quota_free(a->quota);
    pthread_mutex_destroy(&a->lock);
    free(a->answers);
    json_decref(a->json);
    free(a);
}

/* ---- answers of people ---- */

static bool is_remembered(struct access *a, size_t number, const char *agent, const char *tool)
{
    bool found = false;

    pthread_mutex_lock(&a->lock);
    for (size_t i = 0; i < a->answer_count && !found; i++) {
        const struct answer *answer = &a->answers[i];

        found = answer->number == number && !strcmp(answer->agent, agent) &&
                !strcmp(answer->tool, tool);
    }
    pthread_mutex_unlock(&a->lock);
    return found;
}

void access_remember(struct access *a, size_t number, const struct agent *agent, const char *tool)
{
    struct answer *answer;

    if (is_remembered(a, number, agent_name(agent), tool))
        return;
    pthread_mutex_lock(&a->lock);
    /* Room for all of them at once: most servers never see one. */
    if (!a->answers)
        a->answers = calloc(ACCESS_REMEMBER_MAX, sizeof *a->answers);
    if (a->answers && a->answer_count < ACCESS_REMEMBER_MAX) {
        answer = &a->answers[a->answer_count++];
        answer->number = number;
        (void)snprintf(answer->agent, sizeof answer->agent, "%s", agent_name(agent));
        (void)snprintf(answer->tool, sizeof answer->tool, "%s", tool);
    }
    pthread_mutex_unlock(&a->lock);
}

void access_forget(struct access *a, const char *name)
{
    pthread_mutex_lock(&a->lock);
    for (size_t i = a->answer_count; i-- > 0;) {
        if (!strcmp(a->answers[i].agent, name))
            a->answers[i] = a->answers[--a->answer_count];
    }
    pthread_mutex_unlock(&a->lock);
}

/* ---- deciding ---- */

static bool rule_matches(const struct rule *r, const struct agent *agent, const char *tool,
                         const json_t *args)
{
    if (r->tool && !access_glob_matches(r->tool, tool, strlen(tool)))
        return false;
    if (!access_who_matches(&r->who, agent))
        return false;
    if (!r->args)
        return true;
    switch (access_args_match(r->args, args)) {
    case ACCESS_MATCH_YES:
        return true;
    case ACCESS_MATCH_NO:
        return false;
    case ACCESS_MATCH_UNSURE:
        break;
    }
    return r->decision != ACCESS_ALLOW;
}

void access_check(struct access *a, const struct agent *agent, const char *tool, const json_t *args,
                  struct access_verdict *ret)
{
    for (size_t i = 0; i < a->count; i++) {
        const struct rule *r = &a->rules[i];

        if (!rule_matches(r, agent, tool, args))
            continue;
        *ret = (struct access_verdict){ r->decision, r->text, i + 1 };
        if (r->decision == ACCESS_ASK && is_remembered(a, i + 1, agent_name(agent), tool))
            *ret = (struct access_verdict){ ACCESS_ALLOW, r->before, i + 1 };
        return;
    }
    *ret = (struct access_verdict){ ACCESS_ALLOW, "no rule", 0 };
}

bool access_begin(struct access *a, const struct agent *agent, const char **ret_rule,
                  struct error *err)
{
    return access_quota_take(a->quota, agent, clock_now_ns(), ret_rule, err);
}

void access_end(struct access *a, const struct agent *agent)
{
    access_quota_give(a->quota, agent);
}
