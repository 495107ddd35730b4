#include "kernel/access_quota.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernel/access_who.h"
#include "kernel/base/clock.h"

#define MINUTE_NS   (60 * CLOCK_NS_PER_S)
#define TABLE_FIRST 16u
#define NAME_BYTES  65u

struct quota {
    struct access_who who;
    uint64_t max_in_flight; /* 0: no bound */
    int64_t step_ns;        /* between two calls when all are spread; 0: no bound */
    char flight_rule[96], minute_rule[96];
};

/* What is known of one agent. */
struct account {
    char name[NAME_BYTES]; /* "": this place is empty */
    const struct quota *quota;
    uint64_t in_flight;
    /* When the calls that were made would have been made had they been spread: a call may come as
     * long as that is less than a minute ahead. */
    int64_t paid_until_ns;
};

struct access_quota {
    struct account *accounts; /* open addressing; the number of places is a power of two */
    size_t places, used;
    size_t count;
    struct quota quotas[];
};

/* ---- making ---- */

static bool quota_read(struct quota *q, const json_t *json, size_t number, struct error *err)
{
    json_int_t in_flight = json_integer_value(json_object_get(json, "max_in_flight"));
    json_int_t per_minute = json_integer_value(json_object_get(json, "calls_per_minute"));

    if (!json_is_object(json))
        return error_set(err, ERR_INVALID, "it is not an object");
    if (in_flight < 0 || per_minute < 0 || per_minute > MINUTE_NS)
        return error_set(err, ERR_INVALID, "a number is out of range");
    q->max_in_flight = (uint64_t)in_flight;
    q->step_ns = per_minute ? MINUTE_NS / per_minute : 0;
    (void)snprintf(q->flight_rule, sizeof q->flight_rule, "quota %zu: %lld calls at once", number,
                   (long long)in_flight);
    (void)snprintf(q->minute_rule, sizeof q->minute_rule, "quota %zu: %lld calls a minute", number,
                   (long long)per_minute);
    return access_who_read(&q->who, json, err);
}

struct access_quota *access_quota_new(const json_t *quotas, struct error *err)
{
    CLEANUP(access_quota_freep) struct access_quota *q = NULL;
    size_t count = json_array_size(quotas);

    if (quotas && !json_is_null(quotas) && !json_is_array(quotas)) {
        error_set(err, ERR_INVALID, "access quotas are a list");
        return NULL;
    }
    q = calloc(1, sizeof *q + count * sizeof q->quotas[0]);
    if (!q) {
        error_set(err, ERR_NOMEM, "%zu access quotas", count);
        return NULL;
    }
    for (; q->count < count; q->count++) {
        if (!quota_read(&q->quotas[q->count], json_array_get(quotas, q->count), q->count + 1,
                        err)) {
            access_who_fini(&q->quotas[q->count].who);
            error_prefix(err, "access quota %zu", q->count + 1);
            return NULL;
        }
    }
    return STEAL(q);
}

void access_quota_free(struct access_quota *q)
{
    if (!q)
        return;
    for (size_t i = 0; i < q->count; i++)
        access_who_fini(&q->quotas[i].who);
    free(q->accounts);
    free(q);
}

/* ---- accounts ---- */

static size_t hash(const char *name)
{
    uint64_t sum = 0xcbf29ce484222325u;

    for (; *name; name++)
        sum = (sum ^ (unsigned char)*name) * 0x100000001b3u;
    return (size_t)(sum ^ sum >> 32);
}

/* The account of @name, or the empty place for it; there always is one. */
static struct account *place(struct account *accounts, size_t places, const char *name)
{
    size_t at = hash(name) & (places - 1);

    while (accounts[at].name[0] && strcmp(accounts[at].name, name) != 0)
        at = (at + 1) & (places - 1);
    return &accounts[at];
}

static bool is_idle(const struct account *a, int64_t now_ns)
{
    return !a->in_flight && a->paid_until_ns <= now_ns;
}

/* A bigger table, or one without those that have nothing to their account, so that agents which
 * come and go leave nothing behind. */
static bool make_room(struct access_quota *q, int64_t now_ns)
{
    size_t busy = 0, places = TABLE_FIRST;
    struct account *accounts;

    for (size_t i = 0; i < q->places; i++)
        busy += q->accounts[i].name[0] && !is_idle(&q->accounts[i], now_ns);
    while (places < busy * 4)
        places *= 2;
    accounts = calloc(places, sizeof *accounts);
    if (!accounts)
        return false;
    for (size_t i = 0; i < q->places; i++) {
        const struct account *a = &q->accounts[i];

        if (a->name[0] && !is_idle(a, now_ns))
            *place(accounts, places, a->name) = *a;
    }
    free(q->accounts);
    q->accounts = accounts;
    q->places = places;
    q->used = busy;
    return true;
}

static struct account *account_of(struct access_quota *q, const struct agent *agent, int64_t now_ns)
{
    struct account *a = q->places ? place(q->accounts, q->places, agent_name(agent)) : NULL;

    if (a && a->name[0])
        return a;
    if (!a || q->used + 1 > q->places / 2) {
        if (!make_room(q, now_ns))
            return NULL;
        a = place(q->accounts, q->places, agent_name(agent));
    }
    *a = (struct account){ .paid_until_ns = now_ns };
    (void)snprintf(a->name, sizeof a->name, "%s", agent_name(agent));
    for (size_t i = 0; i < q->count && !a->quota; i++) {
        if (access_who_matches(&q->quotas[i].who, agent))
            a->quota = &q->quotas[i];
    }
    q->used++;
    return a;
}

/* ---- counting ---- */

bool access_quota_take(struct access_quota *q, const struct agent *agent, int64_t now_ns,
                       const char **ret_rule, struct error *err)
{
    const struct quota *quota;
    struct account *a;
    int64_t ahead_ns;

    if (!q->count)
        return true;
    a = account_of(q, agent, now_ns);
    if (!a)
        return error_set(err, ERR_NOMEM, "the account of agent %s", agent_name(agent));
    quota = a->quota;
    if (quota && quota->max_in_flight && a->in_flight >= quota->max_in_flight) {
        *ret_rule = quota->flight_rule;
        return error_set(err, ERR_LIMIT,
                         "agent %s has %llu calls in flight, which is all that it may have (%s); "
                         "call again when one of them has been answered",
                         agent_name(agent), (unsigned long long)a->in_flight, quota->flight_rule);
    }
    if (quota && quota->step_ns) {
        a->paid_until_ns = MAX(a->paid_until_ns, now_ns);
        ahead_ns = a->paid_until_ns + quota->step_ns - now_ns;
        if (ahead_ns > MINUTE_NS) {
            *ret_rule = quota->minute_rule;
            return error_set(
                err, ERR_LIMIT,
                "agent %s has made as many calls as it may (%s); call again in %lld ms",
                agent_name(agent), quota->minute_rule,
                (long long)((ahead_ns - MINUTE_NS + CLOCK_NS_PER_MS - 1) / CLOCK_NS_PER_MS));
        }
        a->paid_until_ns += quota->step_ns;
    }
    a->in_flight++;
    return true;
}

void access_quota_give(struct access_quota *q, const struct agent *agent)
{
    struct account *a;

    if (!q->count)
        return;
    a = place(q->accounts, q->places, agent_name(agent));
    if (a->name[0] && a->in_flight)
        a->in_flight--;
}

size_t access_quota_places(const struct access_quota *q)
{
    return q->places;
}
