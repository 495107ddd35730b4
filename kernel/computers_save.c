#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernel/base/clock.h"
#include "kernel/base/log.h"
#include "kernel/computers_ceiling.h"
#include "kernel/computers_internal.h"

#define LABEL_MAX_BYTES  200u
#define ABANDONED_AGE_MS (3600 * 1000ll) /* no save takes this long: its server is gone */

/* ---- what a computer was asked to be ---- */

static size_t count_of(const char *const *strings)
{
    size_t count = 0;

    while (strings && strings[count])
        count++;
    return count;
}

/* The labels and idle time of a live computer; *ret_labels is a copy, or NULL for none. */
static bool entry_traits(struct computers *cs, struct computer *c, json_t **ret_labels,
                         int64_t *ret_idle_ns, struct error *err)
{
    struct computers_entry *e;
    bool ok = true;

    *ret_labels = NULL;
    *ret_idle_ns = computers_idle_ns(cs);
    pthread_mutex_lock(&cs->lock);
    e = computers_entry_of_locked(cs, c);
    if (e) {
        *ret_idle_ns = e->idle_ns;
        if (e->labels) {
            *ret_labels = json_deep_copy(e->labels);
            ok = *ret_labels || error_set(err, ERR_NOMEM, "labels");
        }
    }
    pthread_mutex_unlock(&cs->lock);
    return ok;
}

/* ---- fork ---- */

/* Back ends sweep checkpoints with such an id when their server is gone. */
static struct computer *fork_from(struct computers *cs, const char *agent, struct computer *source,
                                  const json_t *labels, const struct wait *w, struct error *err)
{
    struct id id = id_make(COMPUTERS_TEMPORARY_ID);
    struct error ignored = ERROR_INIT;
    struct computers_plan plan = { .agent = agent,
                                   .spec = *computer_spec(source),
                                   .checkpoint = id.text,
                                   .word = "forked",
                                   .from = computer_id(source) };
    struct computer *copy = NULL;
    json_t *same = NULL;

    plan.backend = computers_backend(cs, computer_kind(source), err);
    if (!plan.backend || !entry_traits(cs, source, &same, &plan.idle_ns, err))
        return NULL;
    plan.labels = labels ? labels : same;
    computers_tell_saving(cs, source, w);
    if (computer_checkpoint(source, id.text, w, err)) {
        copy = computers_make(cs, &plan, w, err);
        if (!plan.backend->checkpoint_remove(plan.backend, id.text, &ignored))
            log_line(LOG_WARN, "checkpoint_stays", "checkpoint=%s why=%s", id.text,
                     LOG_ESC(ignored.text));
    }
    json_decref(same);
    return copy;
}

struct computer *computers_fork(struct computers *cs, struct agent *agent, const char *handle,
                                const json_t *labels, const struct wait *w, struct error *err)
{
    CLEANUP(computer_unrefp) struct computer *source = NULL;
    struct computer *copy = NULL;

    if (!computers_labels_check(labels, err))
        return NULL;
    source = computers_get(cs, agent, handle, w, err);
    if (!source || !computers_enter(cs, err))
        return NULL;
    copy = fork_from(cs, agent_name(agent), source, labels, w, err);
    computers_leave(cs);
    return copy;
}

/* ---- save ---- */

struct sweep {
    struct computers *cs;
    int64_t now_ms;
};

static bool sweep_one(void *arg, const struct computers_record *r)
{
    struct sweep *sweep = arg;
    struct computer_backend *b;

    if (!r->saving || sweep->now_ms - r->created_ms < ABANDONED_AGE_MS)
        return true;
    b = computers_backend(sweep->cs, r->kind, NULL);
    if (b && b->checkpoint_remove)
        (void)!b->checkpoint_remove(b, r->id, NULL);
    computers_record_remove(r->id);
    return true;
}

/* Once per server: saves that were under way when a server was killed. */
static void sweep_once(struct computers *cs)
{
    struct sweep sweep = { .cs = cs, .now_ms = clock_wall_ns() / CLOCK_NS_PER_MS };
    bool mine;

    pthread_mutex_lock(&cs->lock);
    mine = !cs->swept;
    cs->swept = true;
    pthread_mutex_unlock(&cs->lock);
    if (mine)
        (void)!computers_record_each(sweep_one, &sweep, NULL);
}

struct tally {
    const char *agent;
    size_t count;
};

static bool count_one(void *arg, const struct computers_record *r)
{
    struct tally *tally = arg;

    tally->count += !strcmp(r->agent, tally->agent);
    return true;
}

/* Puts the record of a save that begins, if the agent may have one more. */
static bool begin_save(struct computers *cs, const struct computers_record *r, struct error *err)
{
    struct tally tally = { .agent = r->agent };
    bool ok;

    pthread_mutex_lock(&cs->records_lock);
    ok = computers_record_each(count_one, &tally, err);
    if (ok && tally.count >= LIMIT_CHECKPOINTS)
        ok = error_set(err, ERR_LIMIT,
                       "you have %zu snapshots, the most one agent may have; call "
                       "computer_snapshot with action \"delete\" on one you no longer need",
                       tally.count);
    ok = ok && computers_record_write(r, err);
    pthread_mutex_unlock(&cs->records_lock);
    return ok;
}

static bool checkpoint_whole(struct computers *cs, struct computer *c, struct computers_record *r,
                             const struct wait *w, struct error *err)
{
    struct computer_backend *b = computers_backend(cs, r->kind, err);

    if (!b || !begin_save(cs, r, err))
        return false;
    computers_tell_saving(cs, c, w);
    if (computer_checkpoint(c, r->id, w, err)) {
        r->saving = false;
        if (computers_note(cs, AUDIT_COMPUTER, r->agent, r->from, "saved", NULL, r->id, err) &&
            computers_record_write(r, err))
            return true;
        (void)!b->checkpoint_remove(b, r->id, NULL);
    }
    computers_record_remove(r->id);
    return false;
}

static bool save(struct computers *cs, const char *agent, struct computer *c, const char *label,
                 struct id *ret_id, const struct wait *w, struct error *err)
{
    const struct computer_spec *spec = computer_spec(c);
    struct id id = id_make(COMPUTERS_CHECKPOINT_ID);
    struct computers_record r = { .id = id.text,
                                  .agent = agent,
                                  .label = label,
                                  .from = computer_id(c),
                                  .kind = computer_kind(c),
                                  .image = spec->image,
                                  .created_ms = clock_wall_ns() / CLOCK_NS_PER_MS,
                                  .memory_bytes = (int64_t)spec->memory_bytes,
                                  .disk_bytes = (int64_t)spec->disk_bytes,
                                  .cpu_milli = spec->cpu_milli,
                                  .pids = spec->pids,
                                  .saving = true };
    int64_t idle_ns;
    bool ok;

    if (!entry_traits(cs, c, &r.labels, &idle_ns, err))
        return false;
    r.idle_ms = idle_ns == CLOCK_NEVER ? -1 : idle_ns / CLOCK_NS_PER_MS;
    r.allow = computers_strings_json(spec->allow, spec->allow_count);
    r.env = computers_strings_json(spec->env, count_of(spec->env));
    ok = r.allow && r.env ? checkpoint_whole(cs, c, &r, w, err)
                          : error_set(err, ERR_NOMEM, "snapshot");
    json_decref(r.labels);
    json_decref(r.allow);
    json_decref(r.env);
    if (!ok)
        return false;
    event_publish(cs->bus, "computer.saved", agent, computer_id(c), "%s", id.text);
    *ret_id = id;
    return true;
}

bool computers_save(struct computers *cs, struct agent *agent, const char *handle,
                    const char *label, struct id *ret_id, const struct wait *w, struct error *err)
{
    CLEANUP(computer_unrefp) struct computer *c = NULL;
    bool ok;

    if (label && strlen(label) > LABEL_MAX_BYTES)
        return error_set(err, ERR_INVALID, "the label has %zu bytes; the most is %u", strlen(label),
                         LABEL_MAX_BYTES);
    c = computers_get(cs, agent, handle, w, err);
    if (!c || !computers_enter(cs, err))
        return false;
    sweep_once(cs);
    ok = save(cs, agent_name(agent), c, label, ret_id, w, err);
    computers_leave(cs);
    return ok;
}

/* ---- restore ---- */

static struct computer *restore(struct computers *cs, const struct computers_record *r,
                                const json_t *labels, const struct wait *w, struct error *err)
{
    const char **allow = computers_strings(r->allow, err);
    const char **env = allow ? computers_strings(r->env, err) : NULL;
    struct computers_plan plan = {
        .agent = r->agent,
        .backend = env ? computers_backend(cs, r->kind, err) : NULL,
        .spec = { .allow = allow,
                  .allow_count = json_array_size(r->allow),
                  .env = env,
                  .image = r->image,
                  .memory_bytes = (uint64_t)r->memory_bytes,
                  .disk_bytes = (uint64_t)r->disk_bytes,
                  .cpu_milli = (uint32_t)r->cpu_milli,
                  .pids = (uint32_t)r->pids },
        .checkpoint = r->id,
        .labels = labels ? labels : r->labels,
        .idle_ns = r->idle_ms > 0 && r->idle_ms < CLOCK_NEVER / CLOCK_NS_PER_MS
                       ? r->idle_ms * CLOCK_NS_PER_MS
                       : CLOCK_NEVER,
        .word = "restored",
        .from = r->id,
    };
    struct computer *c = NULL;

    /* The configuration may have become stricter since. */
    if (plan.backend && computers_ceiling_check(cs->config->computer.allow_ceiling, allow,
                                                plan.spec.allow_count, err))
        c = computers_make(cs, &plan, w, err);
    free(env);
    free(allow);
    return c;
}

struct computer *computers_restore(struct computers *cs, struct agent *agent,
                                   const char *checkpoint, const json_t *labels,
                                   const struct wait *w, struct error *err)
{
    struct computers_record r;
    struct computer *c;

    if (!computers_labels_check(labels, err) || !computers_enter(cs, err))
        return NULL;
    if (!computers_record_read(agent_name(agent), checkpoint, &r, err)) {
        computers_leave(cs);
        return NULL;
    }
    c = restore(cs, &r, labels, w, err);
    computers_record_fini(&r);
    computers_leave(cs);
    return c;
}

/* ---- the list ---- */

struct listing {
    const char *agent;
    json_t *list;
    bool failed;
};

static bool list_one(void *arg, const struct computers_record *r)
{
    struct listing *listing = arg;
    char when[32];
    json_t *row;

    if (r->saving || strcmp(r->agent, listing->agent) != 0)
        return true;
    row = json_pack("{s:s, s:s, s:s, s:s, s:s, s:s*}", "snapshot", r->id, "label",
                    r->label ? r->label : "", "created",
                    clock_iso8601(r->created_ms * CLOCK_NS_PER_MS, when, sizeof when),
                    "from_computer", r->from ? r->from : "", "kind", r->kind, "image", r->image);
    listing->failed = json_array_append_new(listing->list, row) < 0;
    return !listing->failed;
}

/* By age: the times are written so that their text sorts. */
static int by_age(const void *a, const void *b)
{
    json_t *const *x = a, *const *y = b;
    int order = strcmp(json_string_value(json_object_get(*x, "created")),
                       json_string_value(json_object_get(*y, "created")));

    return order ? order
                 : strcmp(json_string_value(json_object_get(*x, "snapshot")),
                          json_string_value(json_object_get(*y, "snapshot")));
}

static json_t *sorted(json_t *list)
{
    size_t count = json_array_size(list);
    json_t **rows = calloc(count + 1, sizeof(json_t *)), *ret = json_array();
    bool ok = rows && ret;

    for (size_t i = 0; ok && i < count; i++)
        rows[i] = json_array_get(list, i);
    if (ok)
        qsort(rows, count, sizeof(json_t *), by_age);
    for (size_t i = 0; ok && i < count; i++)
        ok = json_array_append(ret, rows[i]) == 0;
    free(rows);
    if (ok)
        return ret;
    json_decref(ret);
    return NULL;
}

json_t *computers_checkpoints(struct computers *cs, struct agent *agent, struct error *err)
{
    struct listing listing = { .agent = agent_name(agent), .list = json_array() };
    json_t *ret = NULL;
    bool read;

    (void)cs;
    if (!listing.list) {
        error_set(err, ERR_NOMEM, "list of snapshots");
        return NULL;
    }
    read = computers_record_each(list_one, &listing, err);
    if (read && !listing.failed)
        ret = sorted(listing.list);
    if (read && !ret)
        error_set(err, ERR_NOMEM, "list of snapshots");
    json_decref(listing.list);
    return ret;
}

/* ---- delete ---- */

static bool delete_record(struct computers *cs, const struct computers_record *r, struct error *err)
{
    struct computer_backend *b = computers_backend(cs, r->kind, err);
    struct error why = ERROR_INIT;

    if (!b || !computers_note(cs, AUDIT_COMPUTER, r->agent, r->from ? r->from : "", "deleted", NULL,
                              r->id, err))
        return false;
    /* Data that is gone already is no reason to keep its record. */
    if (!b->checkpoint_remove(b, r->id, &why) && why.code != ERR_NOT_FOUND) {
        if (err)
            *err = why;
        return false;
    }
    computers_record_remove(r->id);
    event_publish(cs->bus, "checkpoint.deleted", r->agent, r->id, "%s", r->from ? r->from : "");
    return true;
}

bool computers_checkpoint_delete(struct computers *cs, struct agent *agent, const char *checkpoint,
                                 struct error *err)
{
    struct computers_record r;
    bool ok;

    if (!computers_enter(cs, err))
        return false;
    ok = computers_record_read(agent_name(agent), checkpoint, &r, err);
    if (ok) {
        ok = delete_record(cs, &r, err);
        computers_record_fini(&r);
    }
    computers_leave(cs);
    return ok;
}
