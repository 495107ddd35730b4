#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernel/base/clock.h"
#include "kernel/base/log.h"
#include "kernel/computers_internal.h"

#define STOP_NS        (2 * CLOCK_NS_PER_S)
#define STOP_THREADS   64u
#define LIVE_CHECK_MIN (CLOCK_NS_PER_S / 100)
#define LIVE_CHECK_MAX (60 * CLOCK_NS_PER_S)

/* ---- the reaper ---- */

static int64_t due_ns(const struct computers_entry *e)
{
    return clock_add_ns(e->used_ns, e->idle_ns);
}

bool computers_runs_keep_it_locked(struct computers *cs, struct computers_entry **e)
{
    int64_t used_ns = (*e)->used_ns;
    struct id id = (*e)->id;
    struct run **runs;
    size_t count;
    bool live;

    runs = computers_runs_locked(*e, &count);
    if (!count)
        return false;
    pthread_mutex_unlock(&cs->lock);
    live = !runs || computers_runs_live(runs, count) > 0;
    pthread_mutex_lock(&cs->lock);
    *e = computers_by_id_locked(cs, id.text);
    if (*e && ((*e)->used_ns != used_ns || (*e)->ending))
        *e = NULL;
    return live;
}

/* Told and left to the reaper.  Opens the lock. */
static void retire_locked(struct computers *cs, struct computers_entry *e, enum computers_end end,
                          const char *reason)
{
    char agent[COMPUTERS_AGENT_BYTES];
    struct id id = e->id;

    memcpy(agent, e->agent, sizeof agent);
    computers_retire_locked(e, end, reason);
    list_append(&cs->doomed, &e->doomed);
    pthread_mutex_unlock(&cs->lock);
    computers_note_done(cs, AUDIT_COMPUTER, agent, id.text, "destroyed", NULL, reason);
    event_publish(cs->bus, "computer.destroyed", agent, id.text, "%s", reason);
    pthread_mutex_lock(&cs->lock);
}

static void retire_idle_locked(struct computers *cs, struct computers_entry *e)
{
    char reason[96];

    (void)snprintf(reason, sizeof reason, "it was idle for %lld s",
                   (long long)(e->idle_ns / CLOCK_NS_PER_S));
    retire_locked(cs, e, COMPUTERS_IDLE, reason);
}

/* Deals with one computer that is due, if there is one.  *ret_next: when to look again. */
static bool reap_one_locked(struct computers *cs, int64_t *ret_next)
{
    int64_t now_ns = clock_now_ns();

    *ret_next = CLOCK_NEVER;
    LIST_FOR_EACH (node, &cs->entries) {
        struct computers_entry *e = LIST_ENTRY(node, struct computers_entry, link);

        if (e->ending || e->idle_ns == CLOCK_NEVER)
            continue;
        if (due_ns(e) > now_ns) {
            *ret_next = MIN(*ret_next, due_ns(e));
            continue;
        }
        if (!computers_runs_keep_it_locked(cs, &e)) {
            if (e)
                retire_idle_locked(cs, e);
        } else if (e) {
            int64_t again_ns = MAX(MIN(e->idle_ns / 4, LIVE_CHECK_MAX), LIVE_CHECK_MIN);

            e->used_ns = MAX(e->used_ns, now_ns - MAX(e->idle_ns - again_ns, 0));
        }
        return true; /* the list may be another by now */
    }
    return false;
}

static void *reaper_main(void *arg)
{
    struct computers *cs = arg;
    int64_t next_ns, swap_ns;

    pthread_mutex_lock(&cs->lock);
    while (!cs->closing) {
        if (!list_empty(&cs->doomed)) {
            struct computers_entry *e = LIST_ENTRY(cs->doomed.next, struct computers_entry, doomed);

            list_remove(&e->doomed);
            pthread_mutex_unlock(&cs->lock);
            computers_finish(e);
            pthread_mutex_lock(&cs->lock);
        } else if (!reap_one_locked(cs, &next_ns) && !computers_swap_one_locked(cs, &swap_ns)) {
            struct wait w = { .deadline_ns = MIN(next_ns, swap_ns) };

            cs->reaper_next_ns = w.deadline_ns;
            if (!cs->closing && list_empty(&cs->doomed))
                (void)wait_cond(&w, &cs->reaper_wake, &cs->lock);
        }
    }
    pthread_mutex_unlock(&cs->lock);
    return NULL;
}

static bool start_reaper_locked(struct computers *cs, struct error *err)
{
    sigset_t all, before;
    int rc;

    /* Signals are the loop thread's. */
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    rc = pthread_create(&cs->reaper, NULL, reaper_main, cs);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (rc)
        return error_set_errno(err, rc, "start a thread for idle computers");
    cs->reaper_started = true;
    return true;
}

bool computers_reaper_by_locked(struct computers *cs, int64_t deadline_ns, struct error *err)
{
    if (!cs->reaper_started && !start_reaper_locked(cs, err))
        return false;
    if (deadline_ns < cs->reaper_next_ns) {
        cs->reaper_next_ns = deadline_ns;
        pthread_cond_signal(&cs->reaper_wake);
    }
    return true;
}

/* ---- the end of one agent ---- */

static struct computers_entry *any_of_locked(struct computers *cs, const char *agent)
{
    LIST_FOR_EACH (node, &cs->entries) {
        struct computers_entry *e = LIST_ENTRY(node, struct computers_entry, link);

        if (!e->ending && !strcmp(e->agent, agent))
            return e;
    }
    return NULL;
}

void computers_end_agent(struct computers *cs, const char *agent)
{
    struct computers_entry *e;

    pthread_mutex_lock(&cs->lock);
    /* It runs already when there are computers that can be idle; the others are few. */
    UNCHECKED(computers_reaper_by_locked(cs, clock_now_ns(), NULL));
    while ((e = any_of_locked(cs, agent)))
        retire_locked(cs, e, COMPUTERS_STOPPED, "its agent's connection ended");
    pthread_cond_signal(&cs->reaper_wake);
    pthread_mutex_unlock(&cs->lock);
}

/* ---- the end of all ---- */

struct stop {
    struct computers_entry **entries;
    size_t count;
    atomic_size_t next;
};

static void *stop_main(void *arg)
{
    struct stop *stop = arg;
    size_t i;

    while ((i = atomic_fetch_add(&stop->next, 1)) < stop->count)
        computers_finish(stop->entries[i]);
    return NULL;
}

/* In parallel: each may take its time to end. */
static void stop_all(struct stop *stop)
{
    pthread_t threads[STOP_THREADS];
    size_t started = 0, wanted = MIN(stop->count, STOP_THREADS);

    /* One thread less is as good, only slower; and we are one ourselves. */
    while (started + 1 < wanted && pthread_create(&threads[started], NULL, stop_main, stop) == 0)
        started++;
    (void)stop_main(stop);
    while (started)
        pthread_join(threads[--started], NULL);
}

/* Everything that still has a machine.  Without memory for a list they go one by one. */
static void retire_all_locked(struct computers *cs, struct stop *stop)
{
    size_t cap = 0;

    while (!list_empty(&cs->entries))
        computers_retire_locked(LIST_ENTRY(cs->entries.next, struct computers_entry, link),
                                COMPUTERS_STOPPED, "the server ended");
    LIST_FOR_EACH (node, &cs->ended)
        cap += LIST_ENTRY(node, struct computers_entry, link)->c != NULL;
    stop->entries = cap ? calloc(cap, sizeof(struct computers_entry *)) : NULL;
    LIST_FOR_EACH (node, &cs->ended) {
        struct computers_entry *e = LIST_ENTRY(node, struct computers_entry, link);

        if (e->c && stop->entries)
            stop->entries[stop->count++] = e;
    }
}

/* One that the list had no room for. */
static struct computers_entry *unfinished(struct computers *cs)
{
    struct computers_entry *found = NULL;

    pthread_mutex_lock(&cs->lock);
    LIST_FOR_EACH (node, &cs->ended) {
        struct computers_entry *e = LIST_ENTRY(node, struct computers_entry, link);

        found = e->c ? e : found;
    }
    pthread_mutex_unlock(&cs->lock);
    return found;
}

static void stop_machines(struct computers *cs)
{
    struct stop stop = { .count = 0 };

    pthread_mutex_lock(&cs->lock);
    retire_all_locked(cs, &stop);
    pthread_mutex_unlock(&cs->lock);
    for (size_t i = 0; i < stop.count; i++)
        computers_note_done(cs, AUDIT_COMPUTER, stop.entries[i]->agent, stop.entries[i]->id.text,
                            "destroyed", NULL, stop.entries[i]->reason);
    stop_all(&stop);
    free(stop.entries);
    for (struct computers_entry *e = unfinished(cs); e; e = unfinished(cs))
        computers_finish(e);
}

static bool wait_until_left(struct computers *cs)
{
    struct wait w = { .deadline_ns = clock_add_ns(clock_now_ns(), STOP_NS) };
    bool left;

    pthread_mutex_lock(&cs->lock);
    cs->closing = true;
    pthread_cond_broadcast(&cs->changed);
    pthread_cond_signal(&cs->reaper_wake);
    while (cs->inside && wait_cond(&w, &cs->changed, &cs->lock))
        continue;
    left = cs->inside == 0;
    pthread_mutex_unlock(&cs->lock);
    return left;
}

static void on_release_all(struct loop_post *post)
{
    struct computers *cs = CONTAINER_OF(post, struct computers, release);

    pthread_cond_destroy(&cs->changed);
    pthread_cond_destroy(&cs->reaper_wake);
    cancel_fini(&cs->stop);
    pthread_mutex_destroy(&cs->records_lock);
    pthread_mutex_destroy(&cs->lock);
    free(cs);
}

void computers_free(struct computers *cs)
{
    struct list runs;
    bool left;

    if (!cs)
        return;
    left = wait_until_left(cs);
    cancel_raise(&cs->stop);
    if (cs->reaper_started)
        pthread_join(cs->reaper, NULL);
    stop_machines(cs);
    list_init(&runs);
    LIST_FOR_EACH (node, &cs->ended)
        computers_take_runs_locked(LIST_ENTRY(node, struct computers_entry, link), &runs);
    computers_drop_runs(&runs);
    if (!left) {
        /* A call is stuck in a back end: what it uses stays where it is. */
        log_line(LOG_ERROR, "computers_stuck", "inside=%u", cs->inside);
        return;
    }
    for (size_t i = cs->backend_count; i-- > 0;) /* a later one may use an earlier one */
        cs->backends[i]->free(cs->backends[i]);
    /* On the loop, after what ended computers have left there: their last events find us closed,
     * but find us. */
    LIST_FOR_EACH_SAFE (node, &cs->ended)
        computers_release(LIST_ENTRY(node, struct computers_entry, link));
    loop_post(cs->loop, &cs->release, on_release_all);
}
