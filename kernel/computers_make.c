#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernel/base/clock.h"
#include "kernel/computers_ceiling.h"
#include "kernel/computers_internal.h"

/* A place among the computers of @agent and of the server, before one is made. */
static struct computers_owner *reserve_locked(struct computers *cs, const char *agent,
                                              struct error *err)
{
    struct computers_owner *owner = computers_owner_locked(cs, agent);
    size_t most = (size_t)cs->config->computer.max_per_agent;

    if (owner && owner->count >= most) {
        error_set(err, ERR_LIMIT,
                  "you have %zu computers, the most one agent may have; end one with "
                  "computer_destroy (computer_list shows them)",
                  owner->count);
        return NULL;
    }
    if (cs->count >= LIMIT_COMPUTERS) {
        error_set(err, ERR_LIMIT,
                  "this server has %u computers, the most it may have; end one with "
                  "computer_destroy",
                  LIMIT_COMPUTERS);
        return NULL;
    }
    if (!owner) {
        owner = calloc(1, sizeof *owner);
        if (!owner) {
            error_set(err, ERR_NOMEM, "computer");
            return NULL;
        }
        (void)snprintf(owner->agent, sizeof owner->agent, "%s", agent);
        list_append(&cs->owners[computers_bucket(agent, COMPUTERS_BUCKETS)], &owner->link);
    }
    owner->count++;
    cs->count++;
    return owner;
}

/* @home: it was to be the default one, and others may wait for it. */
static void unreserve_locked(struct computers *cs, struct computers_owner *owner, bool home)
{
    if (home) {
        owner->making_home = false;
        pthread_cond_broadcast(&cs->changed);
    }
    computers_count_down_locked(cs, owner);
}

void computers_count_down_locked(struct computers *cs, struct computers_owner *owner)
{
    cs->count--;
    if (--owner->count > 0)
        return;
    list_remove(&owner->link);
    free(owner);
}

static struct computers_entry *entry_new(struct computers *cs, const struct computers_plan *plan,
                                         struct error *err)
{
    struct computers_entry *e = calloc(1, sizeof *e);

    if (e && plan->labels && json_object_size(plan->labels)) {
        e->labels = json_deep_copy(plan->labels);
        if (!e->labels) {
            free(e);
            e = NULL;
        }
    }
    if (!e) {
        error_set(err, ERR_NOMEM, "computer");
        return NULL;
    }
    e->cs = cs;
    e->idle_ns = plan->idle_ns;
    (void)snprintf(e->agent, sizeof e->agent, "%s", plan->agent);
    list_init(&e->link);
    list_init(&e->bucket);
    list_init(&e->doomed);
    list_init(&e->runs);
    list_init(&e->things);
    return e;
}

/* What the audit says about a new computer. */
static void describe(const struct computers_plan *plan, struct buf *out)
{
    (void)buf_printf(out, "kind=%s", plan->backend->kind);
    if (plan->spec.image)
        (void)buf_printf(out, " image=%.100s", plan->spec.image);
    if (plan->from)
        (void)buf_printf(out, " from=%s", plan->from);
    (void)buf_append_str(out, " allow=");
    for (size_t i = 0; i < plan->spec.allow_count && out->len < LIMIT_AUDIT_DETAIL; i++)
        (void)buf_printf(out, "%s%s", i ? "," : "", plan->spec.allow[i]);
}

static bool note_made(struct computers *cs, const struct computers_plan *plan,
                      const struct computer *c, struct error *err)
{
    CLEANUP(buf_fini) struct buf detail = BUF_INIT;

    describe(plan, &detail);
    return computers_note(cs, AUDIT_COMPUTER, plan->agent, computer_id(c), plan->word, NULL,
                          buf_str(&detail), err);
}

/* The entry becomes findable.  False when it was lost, or the server began to end, meanwhile. */
static bool publish_locked(struct computers *cs, struct computers_entry *e,
                           struct computers_owner *owner, struct computer *c, bool home,
                           struct error *err)
{
    if (cs->closing)
        return error_set(err, ERR_CANCELLED, "the server is ending");
    if (e->reason[0])
        return error_set(err, ERR_LOST, "the new computer was lost at once: %s", e->reason);
    if (e->idle_ns != CLOCK_NEVER &&
        !computers_reaper_by_locked(cs, clock_add_ns(clock_now_ns(), e->idle_ns), err))
        return false;
    if (!computers_swap_watch_locked(e, c, err))
        return false;
    e->c = computer_ref(c);
    e->owner = owner;
    e->made_ns = e->used_ns = clock_now_ns();
    (void)snprintf(e->id.text, sizeof e->id.text, "%s", computer_id(c));
    e->live = true;
    list_append(&cs->entries, &e->link);
    list_append(&cs->by_id[computers_bucket(e->id.text, COMPUTERS_BUCKETS)], &e->bucket);
    if (home) {
        owner->home = e;
        owner->making_home = false;
        pthread_cond_broadcast(&cs->changed);
    }
    return true;
}

static struct computer *make_reserved(struct computers *cs, const struct computers_plan *plan,
                                      struct computers_owner *owner, const struct wait *w,
                                      struct error *err)
{
    struct computers_entry *e = entry_new(cs, plan, err);
    struct computer_hooks hooks = { .loop = cs->loop, .on_event = computers_hook, .arg = e };
    struct computer *c = NULL;
    bool ok;

    if (e)
        c = plan->backend->create(plan->backend, &plan->spec, plan->checkpoint, &hooks, w, err);
    ok = c && note_made(cs, plan, c, err);
    pthread_mutex_lock(&cs->lock);
    ok = ok && publish_locked(cs, e, owner, c, plan->home, err);
    if (!ok)
        unreserve_locked(cs, owner, plan->home);
    pthread_mutex_unlock(&cs->lock);
    if (ok) {
        event_publish(cs->bus, "computer.made", plan->agent, computer_id(c), "%s%s%s", plan->word,
                      plan->from ? " from " : "", plan->from ? plan->from : "");
        return c; // cppcheck-suppress returnDanglingLifetime
    }
    if (c) {
        computer_destroy(c);
        computers_let_go(e, c);
    }
    if (e)
        computers_release(e);
    return NULL;
}

struct computer *computers_make(struct computers *cs, const struct computers_plan *plan,
                                const struct wait *w, struct error *err)
{
    struct computers_owner *owner;

    pthread_mutex_lock(&cs->lock);
    owner = reserve_locked(cs, plan->agent, err);
    pthread_mutex_unlock(&cs->lock);
    return owner ? make_reserved(cs, plan, owner, w, err) : NULL;
}

bool computers_labels_check(const json_t *labels, struct error *err)
{
    const char *key;
    json_t *object, *value;

    if (!labels)
        return true;
    memcpy(&object, &labels, sizeof(json_t *)); /* jansson iterates over no constant */
    if (!json_is_object(labels) || json_object_size(labels) > COMPUTERS_LABELS_MAX)
        return error_set(err, ERR_INVALID, "labels must be an object of at most %u strings",
                         COMPUTERS_LABELS_MAX);
    json_object_foreach (object, key, value) {
        if (!json_is_string(value))
            return error_set(err, ERR_INVALID, "the label \"%.64s\" must be a string", key);
    }
    return true;
}

int64_t computers_idle_ns(const struct computers *cs)
{
    int64_t seconds = cs->config->computer.idle_timeout_s;

    return seconds > 0 ? seconds * CLOCK_NS_PER_S : CLOCK_NEVER;
}

const char **computers_strings(const json_t *array, struct error *err)
{
    size_t count = json_array_size(array);
    const char **strings = calloc(count + 1, sizeof *strings);

    if (!strings) {
        error_set(err, ERR_NOMEM, "computer");
        return NULL;
    }
    for (size_t i = 0; i < count; i++)
        strings[i] = json_string_value(json_array_get(array, i));
    return strings;
}

/* What it gets unless asked otherwise.  Of other kinds than sandboxes the back end knows the usual
 * size. */
static void fill_spec(const struct config *config, const char *kind, struct computer_spec *spec)
{
    if (strcmp(kind, "sandbox") != 0) {
        if (!spec->image && *config->computer.image)
            spec->image = config->computer.image;
        return;
    }
    if (!spec->memory_bytes)
        spec->memory_bytes = (uint64_t)config->computer.memory_mb << 20;
    if (!spec->disk_bytes)
        spec->disk_bytes = (uint64_t)config->computer.disk_mb << 20;
    if (!spec->cpu_milli)
        spec->cpu_milli = (uint32_t)config->computer.cpus_milli;
    if (!spec->pids)
        spec->pids = (uint32_t)config->computer.pids;
}

static struct computer *create(struct computers *cs, const char *agent,
                               const struct computers_request *request,
                               struct computers_owner *reserved, const struct wait *w,
                               struct error *err)
{
    const struct config *config = cs->config;
    struct computers_plan plan = {
        .agent = agent,
        .spec = { .allow = request->allow,
                  .env = request->env,
                  .image = request->image,
                  .memory_bytes = request->memory_bytes,
                  .disk_bytes = request->disk_bytes,
                  .cpu_milli = request->cpu_milli,
                  .pids = request->pids },
        .labels = request->labels,
        .idle_ns = request->idle_ns ? request->idle_ns : computers_idle_ns(cs),
        .home = reserved != NULL,
        .word = "made",
    };
    struct computer *c = NULL;
    const char **allow = NULL;
    bool ok;

    plan.backend =
        computers_backend(cs, request->kind ? request->kind : config->computer.kind, err);
    if (plan.backend)
        fill_spec(config, plan.backend->kind, &plan.spec);
    ok = plan.backend && computers_labels_check(request->labels, err);
    if (ok && !request->allow) {
        allow = computers_strings(config->computer.allow, err);
        plan.spec.allow = allow;
        ok = allow != NULL;
    }
    while (ok && plan.spec.allow[plan.spec.allow_count])
        plan.spec.allow_count++;
    ok = ok && computers_ceiling_check(config->computer.allow_ceiling, plan.spec.allow,
                                       plan.spec.allow_count, err);
    if (ok) {
        c = reserved ? make_reserved(cs, &plan, reserved, w, err)
                     : computers_make(cs, &plan, w, err);
    } else if (reserved) {
        pthread_mutex_lock(&cs->lock);
        unreserve_locked(cs, reserved, true);
        pthread_mutex_unlock(&cs->lock);
    }
    free(allow);
    return c;
}

struct computer *computers_create(struct computers *cs, struct agent *agent,
                                  const struct computers_request *request, const struct wait *w,
                                  struct error *err)
{
    struct computer *c;

    if (!computers_enter(cs, err))
        return NULL;
    c = create(cs, agent_name(agent), request, NULL, w, err);
    computers_leave(cs);
    return c;
}

/* ---- the default computer ---- */

static void on_cancel(void *arg)
{
    struct computers *cs = arg;

    pthread_mutex_lock(&cs->lock);
    pthread_cond_broadcast(&cs->changed);
    pthread_mutex_unlock(&cs->lock);
}

/* Returns with a reference in *ret, or a place reserved for the one that the caller shall make. */
static bool home_or_place(struct computers *cs, const char *agent, const struct wait *w,
                          struct computer **ret, struct computers_owner **ret_place,
                          struct error *err)
{
    struct cancel_hook hook;
    bool ok = true, waited = true;

    *ret = NULL;
    *ret_place = NULL;
    cancel_attach(w->cancel, &hook, on_cancel, cs); /* its function takes our lock */
    pthread_mutex_lock(&cs->lock);
    while (ok && !*ret && !*ret_place) {
        struct computers_owner *owner = computers_owner_locked(cs, agent);

        if (cs->closing) {
            ok = error_set(err, ERR_CANCELLED, "the server is ending");
        } else if (owner && owner->home) {
            computers_used_locked(owner->home);
            *ret = computer_ref(owner->home->c);
        } else if (owner && owner->making_home) {
            ok = waited ||
                 (wait_check(w, err) && error_set(err, ERR_TIMEOUT, "the deadline passed"));
            if (ok)
                waited = wait_cond(w, &cs->changed, &cs->lock);
        } else {
            owner = reserve_locked(cs, agent, err);
            ok = owner != NULL;
            if (ok)
                owner->making_home = true;
            *ret_place = owner;
        }
    }
    pthread_mutex_unlock(&cs->lock);
    cancel_detach(w->cancel, &hook);
    return ok;
}

struct computer *computers_home(struct computers *cs, const char *agent, const struct wait *w,
                                struct error *err)
{
    static const struct computers_request usual = { .kind = NULL };
    struct computers_owner *place;
    struct computer *c;

    if (!home_or_place(cs, agent, w, &c, &place, err))
        return NULL;
    return c ? c : create(cs, agent, &usual, place, w, err);
}
