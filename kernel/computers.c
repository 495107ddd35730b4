#include "kernel/computers.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernel/base/clock.h"
#include "kernel/base/utf8.h"
#include "kernel/computers_internal.h"

#define NEXT_STEP "call computer_create for a new one or computer_list to see yours"

/* ---- finding ---- */

size_t computers_bucket(const char *text, size_t buckets)
{
    uint32_t hash = 2166136261u;

    for (; *text; text++)
        hash = (hash ^ (uint8_t)*text) * 16777619u;
    return hash % buckets;
}

struct computers_owner *computers_owner_locked(struct computers *cs, const char *agent)
{
    struct list *bucket = &cs->owners[computers_bucket(agent, COMPUTERS_BUCKETS)];

    LIST_FOR_EACH (node, bucket) {
        struct computers_owner *owner = LIST_ENTRY(node, struct computers_owner, link);

        if (!strcmp(owner->agent, agent))
            return owner;
    }
    return NULL;
}

struct computers_entry *computers_by_id_locked(struct computers *cs, const char *id)
{
    struct list *bucket = &cs->by_id[computers_bucket(id, COMPUTERS_BUCKETS)];

    LIST_FOR_EACH (node, bucket) {
        struct computers_entry *e = LIST_ENTRY(node, struct computers_entry, bucket);

        if (!strcmp(e->id.text, id))
            return e;
    }
    return NULL;
}

struct computers_entry *computers_find_locked(struct computers *cs, const char *agent,
                                              const char *handle)
{
    struct computers_owner *owner;
    struct computers_entry *e;

    if (!handle) {
        owner = computers_owner_locked(cs, agent);
        return owner ? owner->home : NULL;
    }
    e = computers_by_id_locked(cs, handle);
    return e && !strcmp(e->agent, agent) ? e : NULL;
}

struct computers_entry *computers_entry_of_locked(struct computers *cs, const struct computer *c)
{
    return computers_by_id_locked(cs, computer_id(c));
}

const char *computers_shown(const char *handle, char buf[64])
{
    size_t len = strlen(handle), cut = utf8_cut(handle, len, MIN(len, 48));

    (void)snprintf(buf, 64, "%.*s%s", (int)cut, handle, cut < len ? "…" : "");
    return buf;
}

bool computers_not_found(struct computers *cs, const char *agent, const char *handle,
                         struct error *err)
{
    char reason[sizeof((struct computers_entry *)NULL)->reason] = "", shown[64];

    if (!handle)
        return error_set(err, ERR_NOT_FOUND,
                         "you have no default computer; it is made by the first call that needs "
                         "it, or " NEXT_STEP);
    pthread_mutex_lock(&cs->lock);
    LIST_FOR_EACH (node, &cs->ended) {
        struct computers_entry *e = LIST_ENTRY(node, struct computers_entry, link);

        if (!strcmp(e->id.text, handle) && !strcmp(e->agent, agent))
            (void)snprintf(reason, sizeof reason, "%s", e->reason);
    }
    pthread_mutex_unlock(&cs->lock);
    computers_shown(handle, shown);
    if (reason[0])
        return error_set(err, ERR_LOST, "computer \"%s\" is gone: %s; " NEXT_STEP, shown, reason);
    return error_set(err, ERR_NOT_FOUND,
                     "no computer \"%s\" (unknown, ended or another agent's); " NEXT_STEP, shown);
}

bool computers_make_default(struct computers *cs, struct agent *agent, const char *handle,
                            struct error *err)
{
    struct computers_entry *e;

    pthread_mutex_lock(&cs->lock);
    e = computers_find_locked(cs, agent_name(agent), handle);
    if (e && !e->owner->making_home)
        e->owner->home = e;
    pthread_mutex_unlock(&cs->lock);
    return e || computers_not_found(cs, agent_name(agent), handle, err);
}

/* ---- the registry ---- */

void computers_set_audit(struct computers *cs, struct audit *audit)
{
    cs->audit = audit;
}

struct computers *computers_new(struct loop *loop, const struct config *config, struct audit *audit,
                                struct event_bus *bus, struct error *err)
{
    struct computers *cs = calloc(1, sizeof *cs);

    if (!cs) {
        error_set(err, ERR_NOMEM, "registry of computers");
        return NULL;
    }
    cs->loop = loop;
    cs->config = config;
    cs->audit = audit;
    cs->bus = bus;
    cs->reaper_next_ns = CLOCK_NEVER;
    pthread_mutex_init(&cs->lock, NULL);
    pthread_mutex_init(&cs->records_lock, NULL);
    cancel_init(&cs->stop);
    cond_init(&cs->changed);
    cond_init(&cs->reaper_wake);
    list_init(&cs->entries);
    list_init(&cs->ended);
    list_init(&cs->doomed);
    for (size_t i = 0; i < COMPUTERS_BUCKETS; i++) {
        list_init(&cs->owners[i]);
        list_init(&cs->by_id[i]);
    }
    for (size_t i = 0; i < COMPUTERS_RUN_BUCKETS; i++)
        list_init(&cs->run_by_id[i]);
    return cs;
}

bool computers_add_backend(struct computers *cs, struct computer_backend *b, struct error *err)
{
    bool ok = true;

    pthread_mutex_lock(&cs->lock);
    for (size_t i = 0; ok && i < cs->backend_count; i++) {
        if (!strcmp(cs->backends[i]->kind, b->kind))
            ok =
                error_set(err, ERR_EXISTS, "computers of the kind \"%s\" have a back end", b->kind);
    }
    if (ok && cs->backend_count == COMPUTERS_BACKENDS)
        ok = error_set(err, ERR_LIMIT, "more than %u back ends", COMPUTERS_BACKENDS);
    if (ok)
        cs->backends[cs->backend_count++] = b;
    pthread_mutex_unlock(&cs->lock);
    return ok;
}

struct computer_backend *computers_backend(struct computers *cs, const char *kind,
                                           struct error *err)
{
    char known[128] = "", shown[64];
    size_t len = 0;

    /* They are all there before the first computer, and stay. */
    for (size_t i = 0; i < cs->backend_count; i++) {
        if (!strcmp(cs->backends[i]->kind, kind))
            return cs->backends[i];
        len += (size_t)snprintf(known + len, sizeof known - len, "%s\"%.20s\"", i ? ", " : "",
                                cs->backends[i]->kind);
    }
    error_set(err, ERR_INVALID, "no computers of the kind \"%s\" here; there are: %s",
              computers_shown(kind, shown), known[0] ? known : "none");
    return NULL;
}

void computers_warm(struct computers *cs)
{
    for (size_t i = 0; i < cs->backend_count; i++) {
        if (cs->backends[i]->warm)
            cs->backends[i]->warm(cs->backends[i]);
    }
}

bool computers_enter(struct computers *cs, struct error *err)
{
    bool ok;

    pthread_mutex_lock(&cs->lock);
    ok = !cs->closing;
    if (ok)
        cs->inside++;
    pthread_mutex_unlock(&cs->lock);
    return ok || error_set(err, ERR_CANCELLED, "the server is ending");
}

void computers_leave(struct computers *cs)
{
    pthread_mutex_lock(&cs->lock);
    if (--cs->inside == 0 && cs->closing)
        pthread_cond_broadcast(&cs->changed);
    pthread_mutex_unlock(&cs->lock);
}

size_t computers_count(struct computers *cs)
{
    size_t count;

    pthread_mutex_lock(&cs->lock);
    count = cs->count;
    pthread_mutex_unlock(&cs->lock);
    return count;
}

struct computer *computers_any(struct computers *cs, const char *handle)
{
    struct computer *c = NULL;
    struct computers_entry *e;

    pthread_mutex_lock(&cs->lock);
    e = computers_by_id_locked(cs, handle);
    if (e)
        c = computer_ref(e->c);
    pthread_mutex_unlock(&cs->lock);
    return c;
}

struct computer *computers_get(struct computers *cs, struct agent *agent, const char *handle,
                               const struct wait *w, struct error *err)
{
    const char *name = agent_name(agent);
    struct computer *c = NULL;
    struct computers_entry *e;

    pthread_mutex_lock(&cs->lock);
    e = computers_find_locked(cs, name, handle);
    if (e) {
        computers_used_locked(e);
        c = computer_ref(e->c);
    }
    pthread_mutex_unlock(&cs->lock);
    if (c)
        return c;
    if (handle) {
        computers_not_found(cs, name, handle, err);
        return NULL;
    }
    if (!computers_enter(cs, err))
        return NULL;
    c = computers_home(cs, name, w, err);
    computers_leave(cs);
    return c;
}
