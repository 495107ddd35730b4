#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernel/base/clock.h"
#include "kernel/computers_internal.h"

#define SAVERS_MAX 8u /* families with such a thing, in one computer */

/* ---- taking apart ---- */

void computers_take_runs_locked(struct computers_entry *e, struct list *ret)
{
    while (!list_empty(&e->runs)) {
        struct computers_run *r = LIST_ENTRY(e->runs.next, struct computers_run, link);

        list_remove(&r->link);
        list_remove(&r->bucket);
        list_append(ret, &r->link);
    }
    e->run_count = 0;
}

void computers_take_things_locked(struct computers_entry *e, struct list *ret)
{
    while (!list_empty(&e->things)) {
        struct list *node = e->things.next;

        list_remove(node);
        list_append(ret, node);
    }
}

void computers_drop_runs(struct list *runs)
{
    LIST_FOR_EACH_SAFE (node, runs) {
        struct computers_run *r = LIST_ENTRY(node, struct computers_run, link);

        run_unref(r->run);
        free(r);
    }
    list_init(runs);
}

void computers_drop_things(struct list *things)
{
    LIST_FOR_EACH_SAFE (node, things) {
        struct computers_thing *t = LIST_ENTRY(node, struct computers_thing, link);

        t->free_fn(t->thing);
        free(t);
    }
    list_init(things);
}

/* ---- attachments ---- */

static struct computers_thing *thing_find_locked(const struct computers_entry *e, const char *key)
{
    LIST_FOR_EACH (node, &e->things) {
        struct computers_thing *t = LIST_ENTRY(node, struct computers_thing, link);

        if (!strcmp(t->key, key))
            return t;
    }
    return NULL;
}

static bool attach_locked(struct computers *cs, struct computer *c, struct computers_thing *t,
                          struct error *err)
{
    struct computers_entry *e = computers_entry_of_locked(cs, c);

    if (!e) {
        error_set(err, ERR_LOST, "computer \"%s\" is gone", computer_id(c));
        return false;
    }
    if (thing_find_locked(e, t->key)) {
        error_set(err, ERR_EXISTS, "computer \"%s\" has a \"%.64s\" already", computer_id(c),
                  t->key);
        return false;
    }
    list_append(&e->things, &t->link);
    return true;
}

bool computers_attach(struct computers *cs, struct computer *c, const char *key, void *thing,
                      void (*free_fn)(void *thing), struct error *err)
{
    size_t key_bytes = strlen(key) + 1;
    struct computers_thing *t = calloc(1, sizeof *t + key_bytes);
    bool ok;

    if (!t)
        return error_set(err, ERR_NOMEM, "computer");
    memcpy(t->key, key, key_bytes);
    t->thing = thing;
    t->free_fn = free_fn;
    pthread_mutex_lock(&cs->lock);
    ok = attach_locked(cs, c, t, err);
    pthread_mutex_unlock(&cs->lock);
    if (!ok)
        free(t);
    return ok;
}

bool computers_attached(struct computers *cs, struct computer *c, const char *key,
                        void (*use)(void *arg, void *thing), void *arg)
{
    struct computers_thing *t = NULL;
    struct computers_entry *e;

    pthread_mutex_lock(&cs->lock);
    e = computers_entry_of_locked(cs, c);
    t = e ? thing_find_locked(e, key) : NULL;
    if (t)
        use(arg, t->thing);
    pthread_mutex_unlock(&cs->lock);
    return t != NULL;
}

static void take_thing_locked(struct computers_entry *e, const char *key, struct list *ret)
{
    struct computers_thing *t = thing_find_locked(e, key);

    if (!t)
        return;
    list_remove(&t->link);
    list_append(ret, &t->link);
}

void computers_detach(struct computers *cs, struct computer *c, const char *key)
{
    struct computers_entry *e;
    struct list things;

    list_init(&things);
    pthread_mutex_lock(&cs->lock);
    e = computers_entry_of_locked(cs, c);
    if (e)
        take_thing_locked(e, key, &things);
    pthread_mutex_unlock(&cs->lock);
    computers_drop_things(&things);
}

void computers_on_save(struct computers *cs, struct computer *c, const char *key,
                       computers_save_fn *fn)
{
    struct computers_thing *t;
    struct computers_entry *e;

    pthread_mutex_lock(&cs->lock);
    e = computers_entry_of_locked(cs, c);
    t = e ? thing_find_locked(e, key) : NULL;
    if (t)
        t->on_save = fn;
    pthread_mutex_unlock(&cs->lock);
}

void computers_tell_saving(struct computers *cs, struct computer *c, const struct wait *w)
{
    struct {
        computers_save_fn *tell;
    } savers[SAVERS_MAX];
    struct computers_entry *e;
    size_t count = 0;

    pthread_mutex_lock(&cs->lock);
    e = computers_entry_of_locked(cs, c);
    for (struct list *link = e ? e->things.next : NULL;
         link && link != &e->things && count < SAVERS_MAX; link = link->next) {
        const struct computers_thing *t = LIST_ENTRY(link, struct computers_thing, link);

        if (t->on_save)
            savers[count++].tell = t->on_save;
    }
    pthread_mutex_unlock(&cs->lock);
    for (size_t i = 0; i < count; i++)
        savers[i].tell(cs, c, w);
}

/* ---- runs ---- */

static struct list *run_bucket(struct computers *cs, const char *id)
{
    return &cs->run_by_id[computers_bucket(id, COMPUTERS_RUN_BUCKETS)];
}

static struct computers_run *run_find_locked(struct computers *cs, const char *id)
{
    LIST_FOR_EACH (node, run_bucket(cs, id)) {
        struct computers_run *r = LIST_ENTRY(node, struct computers_run, bucket);

        if (!strcmp(run_id(r->run), id))
            return r;
    }
    return NULL;
}

struct run **computers_runs_locked(const struct computers_entry *e, size_t *ret_count)
{
    struct run **runs;
    size_t n = 0;

    *ret_count = e->run_count;
    if (!e->run_count)
        return NULL;
    runs = calloc(e->run_count, sizeof(struct run *));
    if (!runs)
        return NULL;
    LIST_FOR_EACH (node, &e->runs)
        runs[n++] = run_ref(LIST_ENTRY(node, struct computers_run, link)->run);
    return runs;
}

static bool run_is_live(struct run *run)
{
    struct run_info info;

    run_info(run, &info);
    return info.reason == RUN_LIVE;
}

size_t computers_runs_live(struct run **runs, size_t count)
{
    size_t live = 0;

    for (size_t i = 0; runs && i < count; i++) {
        live += run_is_live(runs[i]);
        run_unref(runs[i]);
    }
    free(runs);
    return live;
}

/* Forget the run @id, and what was attached under its name. */
static void forget(struct computers *cs, const char *id)
{
    struct list runs, things;
    struct computers_run *r;

    list_init(&runs);
    list_init(&things);
    pthread_mutex_lock(&cs->lock);
    r = run_find_locked(cs, id);
    if (r) {
        take_thing_locked(r->entry, id, &things);
        list_remove(&r->bucket);
        list_remove(&r->link);
        list_append(&runs, &r->link);
        r->entry->run_count--;
    }
    pthread_mutex_unlock(&cs->lock);
    computers_drop_things(&things);
    computers_drop_runs(&runs);
}

/* Makes room among the runs of @c for one more, if it is crowded: the oldest that has ended goes.
 */
static bool make_room(struct computers *cs, struct computer *c, struct error *err)
{
    struct run **runs = NULL;
    struct computers_entry *e;
    size_t count = 0;
    bool room = false;

    pthread_mutex_lock(&cs->lock);
    e = computers_entry_of_locked(cs, c);
    if (!e || e->run_count < COMPUTERS_RUNS_KEPT)
        room = true;
    else
        runs = computers_runs_locked(e, &count);
    pthread_mutex_unlock(&cs->lock);
    if (room)
        return true;
    if (!runs)
        return error_set(err, ERR_NOMEM, "run");
    room = count < LIMIT_RUNS;
    for (size_t i = 0; i < count; i++) {
        if (!run_is_live(runs[i])) {
            forget(cs, run_id(runs[i]));
            room = true;
            break;
        }
    }
    for (size_t i = 0; i < count; i++)
        run_unref(runs[i]);
    free(runs);
    return room || error_set(err, ERR_LIMIT,
                             "computer \"%s\" has %zu live runs, the most it may have; end some "
                             "with terminal_kill",
                             computer_id(c), count);
}

static bool add_locked(struct computers *cs, const char *agent, struct computers_run *r,
                       struct error *err)
{
    const struct computer *c = run_computer(r->run);
    struct computers_entry *e = computers_entry_of_locked(cs, c);

    if (!e || strcmp(e->agent, agent) != 0) {
        error_set(err, ERR_LOST, "computer \"%s\" is gone", computer_id(c));
        return false;
    }
    r->entry = e;
    list_append(&e->runs, &r->link);
    list_append(run_bucket(cs, run_id(r->run)), &r->bucket);
    e->run_count++;
    computers_used_locked(e);
    return true;
}

bool computers_run_add(struct computers *cs, struct agent *agent, struct run *run,
                       struct error *err)
{
    struct computers_run *r;
    bool ok;

    if (!make_room(cs, run_computer(run), err))
        return false;
    r = calloc(1, sizeof *r);
    if (!r)
        return error_set(err, ERR_NOMEM, "run");
    r->run = run_ref(run);
    pthread_mutex_lock(&cs->lock);
    ok = add_locked(cs, agent_name(agent), r, err);
    pthread_mutex_unlock(&cs->lock);
    if (!ok) {
        run_unref(r->run);
        free(r);
    }
    return ok;
}

struct run *computers_run_get(struct computers *cs, struct agent *agent, const char *handle,
                              struct error *err)
{
    struct run *run = NULL;
    struct computers_run *r;
    char shown[64];

    pthread_mutex_lock(&cs->lock);
    r = run_find_locked(cs, handle);
    if (r && !strcmp(r->entry->agent, agent_name(agent))) {
        run = run_ref(r->run);
        computers_used_locked(r->entry);
    }
    pthread_mutex_unlock(&cs->lock);
    if (!run)
        error_set(err, ERR_NOT_FOUND,
                  "no run \"%s\" (unknown, forgotten or another agent's; runs go with their "
                  "computer); call terminal_run to start one",
                  computers_shown(handle, shown));
    return run;
}

/* ---- the list ---- */

/* What is needed of one computer, so that the lock need not be held. */
struct row {
    struct computer *c; /* a reference */
    struct run **runs;
    size_t run_count;
    json_t *labels; /* a copy, or NULL */
    int64_t made_ns, used_ns;
    bool home;
    char agent[COMPUTERS_AGENT_BYTES]; /* "": of whoever asks */
};

static void rows_free(struct row *rows, size_t count)
{
    for (size_t i = 0; rows && i < count; i++) {
        (void)computers_runs_live(rows[i].runs, rows[i].run_count);
        json_decref(rows[i].labels);
        computer_unref(rows[i].c);
    }
    free(rows);
}

static bool row_take_locked(struct row *row, struct computers_entry *e, bool say_agent)
{
    *row = (struct row){ .c = computer_ref(e->c),
                         .made_ns = e->made_ns,
                         .used_ns = e->used_ns,
                         .home = e->owner->home == e };
    if (say_agent)
        memcpy(row->agent, e->agent, sizeof row->agent);
    row->runs = computers_runs_locked(e, &row->run_count);
    row->labels = e->labels ? json_deep_copy(e->labels) : json_object();
    return row->labels && (row->runs || !row->run_count);
}

/* @agent NULL: anybody's. */
static bool take_rows(struct computers *cs, const char *agent, struct row **ret, size_t *ret_count)
{
    struct row *rows = NULL;
    size_t cap = 0, n = 0;
    bool ok = true;

    pthread_mutex_lock(&cs->lock);
    LIST_FOR_EACH (node, &cs->entries)
        cap += !agent || !strcmp(LIST_ENTRY(node, struct computers_entry, link)->agent, agent);
    if (cap) {
        rows = calloc(cap, sizeof *rows);
        ok = rows != NULL;
    }
    for (struct list *node = cs->entries.next; ok && n < cap && node != &cs->entries;
         node = node->next) {
        struct computers_entry *e = LIST_ENTRY(node, struct computers_entry, link);

        if (!agent || !strcmp(e->agent, agent))
            ok = row_take_locked(&rows[n++], e, !agent);
    }
    pthread_mutex_unlock(&cs->lock);
    if (!ok) {
        rows_free(rows, n);
        return false;
    }
    *ret = rows;
    *ret_count = n;
    return true;
}

json_t *computers_strings_json(const char *const *strings, size_t count)
{
    json_t *array = json_array();

    for (size_t i = 0; array && i < count; i++) {
        if (json_array_append_new(array, json_string(strings[i])) < 0) {
            json_decref(array);
            array = NULL;
        }
    }
    return array;
}

static json_t *row_json(struct row *row, int64_t now_ns)
{
    const struct computer_spec *spec = computer_spec(row->c);
    size_t live = computers_runs_live(STEAL(row->runs), row->run_count);
    json_t *allow = computers_strings_json(spec->allow, spec->allow_count);

    row->run_count = 0;
    if (!allow)
        return NULL;
    /* "o" takes the reference whether it succeeds or not. */
    return json_pack("{s:s, s:s*, s:s, s:s*, s:s, s:b, s:I, s:I, s:o, s:o, s:I, s:I, s:I, s:I}",
                     "computer", computer_id(row->c), "agent", row->agent[0] ? row->agent : NULL,
                     "kind", computer_kind(row->c), "image", spec->image, "state",
                     computer_is_swapped(row->c) ? "swapped"
                     : live                      ? "running"
                                                 : "idle",
                     "default", row->home, "created_ms_ago",
                     (json_int_t)((now_ns - row->made_ns) / CLOCK_NS_PER_MS), "idle_ms",
                     (json_int_t)(live ? 0 : (now_ns - row->used_ns) / CLOCK_NS_PER_MS), "labels",
                     STEAL(row->labels), "allow", allow, "memory_mb",
                     (json_int_t)(spec->memory_bytes >> 20), "disk_mb",
                     (json_int_t)(spec->disk_bytes >> 20), "pids", (json_int_t)spec->pids,
                     "runs_live", (json_int_t)live);
}

json_t *computers_list(struct computers *cs, struct agent *agent, struct error *err)
{
    int64_t now_ns = clock_now_ns();
    json_t *list = json_array();
    struct row *rows = NULL;
    size_t count = 0;
    bool ok = list && take_rows(cs, agent ? agent_name(agent) : NULL, &rows, &count);

    for (size_t i = 0; ok && i < count; i++)
        ok = json_array_append_new(list, row_json(&rows[i], now_ns)) == 0;
    rows_free(rows, count);
    if (ok)
        return list;
    json_decref(list);
    error_set(err, ERR_NOMEM, "list of computers");
    return NULL;
}

/* ---- all of one computer ---- */

json_t *computers_runs(struct computers *cs, struct agent *agent, const char *handle,
                       struct error *err)
{
    json_t *list = json_array();
    struct computers_entry *e;
    struct run **runs = NULL;
    size_t count = 0;
    bool ok = list != NULL;

    pthread_mutex_lock(&cs->lock);
    e = computers_find_locked(cs, agent_name(agent), handle);
    if (e)
        runs = computers_runs_locked(e, &count);
    pthread_mutex_unlock(&cs->lock);
    ok = ok && (runs || !count);
    for (size_t i = 0; runs && i < count; i++) {
        struct run_info info;

        run_info(runs[i], &info);
        ok = ok && json_array_append_new(
                       list, json_pack("{s:s, s:s, s:s, s:i}", "run", run_id(runs[i]), "command",
                                       run_title(runs[i]), "state", run_reason_name(info.reason),
                                       "value", info.value)) == 0;
        run_unref(runs[i]);
    }
    free(runs);
    if (ok)
        return list;
    json_decref(list);
    error_set(err, ERR_NOMEM, "list of runs");
    return NULL;
}
