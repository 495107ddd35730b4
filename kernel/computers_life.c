#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernel/base/log.h"
#include "kernel/computer/egress.h"
#include "kernel/computers_internal.h"

/* ---- telling ---- */

bool computers_note(struct computers *cs, enum audit_kind kind, const char *agent,
                    const char *subject, const char *decision, const char *rule, const char *detail,
                    struct error *err)
{
    const struct audit_entry entry = { .kind = kind,
                                       .agent = agent,
                                       .subject = subject,
                                       .decision = decision,
                                       .rule = rule,
                                       .detail = detail };

    return audit_append(cs->audit, &entry, err);
}

/* For what has happened already, and nobody can be told. */
void computers_note_done(struct computers *cs, enum audit_kind kind, const char *agent,
                         const char *subject, const char *decision, const char *rule,
                         const char *detail)
{
    struct error err = ERROR_INIT;

    if (!computers_note(cs, kind, agent, subject, decision, rule, detail, &err))
        log_line(LOG_ERROR, "audit_failed", "subject=%s decision=%s why=%s", LOG_ESC(subject),
                 decision, LOG_ESC(err.text));
}

static void tell_refused(struct computers_entry *e, const char *id,
                         const struct computer_event *event)
{
    const char *name = event->name ? event->name : "", *text = event->text ? event->text : "";
    char detail[320];

    (void)snprintf(detail, sizeof detail, "%s%s%s", name, *text ? " " : "", text);
    if (event->pid) {
        size_t len = strlen(detail);

        (void)snprintf(detail + len, sizeof detail - len, " (process %" PRIu32 ")", event->pid);
    }
    computers_note_done(e->cs, AUDIT_REFUSED, e->agent, id, "deny", "system call policy", detail);
    event_publish(e->cs->bus, "computer.refused", e->agent, id, "%s", detail);
}

static void tell_egress(struct computers_entry *e, const char *id, const struct egress_event *event)
{
    static const struct {
        const char *decision, *topic;
    } words[] = {
        [EGRESS_ALLOWED] = { "allow", "egress.allowed" },
        [EGRESS_DENIED] = { "deny", "egress.denied" },
        [EGRESS_ENDED] = { "done", "egress.ended" },
    };
    bool v6 = strchr(event->host, ':') != NULL;
    char subject[300], detail[700];

    (void)snprintf(subject, sizeof subject, "%s%s%s:%u", v6 ? "[" : "", event->host, v6 ? "]" : "",
                   event->port);
    (void)snprintf(detail, sizeof detail, "%s%s%s%s%s", id, *event->address ? " address=" : "",
                   event->address, *event->reason ? " " : "", event->reason);
    if (event->what == EGRESS_ENDED) {
        size_t len = strlen(detail);

        (void)snprintf(detail + len, sizeof detail - len, " out=%" PRIu64 " in=%" PRIu64,
                       event->bytes_out, event->bytes_in);
    }
    computers_note_done(e->cs, AUDIT_EGRESS, e->agent, subject, words[event->what].decision,
                        event->rule, detail);
    event_publish(e->cs->bus, words[event->what].topic, e->agent, subject, "%s", detail);
}

/* ---- the hook ---- */

static void doom_locked(struct computers_entry *e)
{
    struct computers *cs = e->cs;

    list_append(&cs->doomed, &e->doomed);
    /* Without a thread it waits for the next reason to look, or for the end. */
    (void)!computers_reaper_by_locked(cs, 0, NULL);
}

static void on_lost(struct computers_entry *e, const char *id, const char *why)
{
    struct computers *cs = e->cs;
    bool known = false;

    pthread_mutex_lock(&cs->lock);
    if (!e->live && !e->reason[0]) {
        (void)snprintf(e->reason, sizeof e->reason, "%s", why); /* it is still being made */
    } else if (e->live && !e->ending) {
        computers_retire_locked(e, COMPUTERS_LOST, why);
        doom_locked(e);
        known = true;
    }
    pthread_mutex_unlock(&cs->lock);
    if (!known)
        return;
    computers_note_done(cs, AUDIT_COMPUTER, e->agent, id, "lost", NULL, why);
    event_publish(cs->bus, "computer.lost", e->agent, id, "%s", why);
    log_line(LOG_WARN, "computer_lost", "computer=%s agent=%s why=%s", id, e->agent, LOG_ESC(why));
}

void computers_hook(void *arg, struct computer *c, const struct computer_event *event)
{
    struct computers_entry *e = arg;

    /* Once the registry is going, its audit and its bus may be gone. */
    if (!computers_enter(e->cs, NULL))
        return;
    switch (event->kind) {
    case COMPUTER_EVENT_REFUSED:
        tell_refused(e, computer_id(c), event);
        break;
    case COMPUTER_EVENT_EGRESS:
        tell_egress(e, computer_id(c), event->egress);
        break;
    case COMPUTER_EVENT_LOST:
        on_lost(e, computer_id(c), event->text ? event->text : "for no known reason");
        break;
    }
    computers_leave(e->cs);
}

/* ---- ending ---- */

static void on_release(struct loop_post *post)
{
    struct computers_entry *e = CONTAINER_OF(post, struct computers_entry, release);

    json_decref(e->labels);
    free(e);
}

void computers_release(struct computers_entry *e)
{
    loop_post(e->cs->loop, &e->release, on_release);
}

/* Forget the oldest ends, and the runs that were kept with them. */
static void trim_ended_locked(struct computers *cs, struct list *ret_runs)
{
    /* At the end of all, whoever ends them frees them. */
    while (cs->ended_count > COMPUTERS_ENDED_KEPT && !cs->closing) {
        struct computers_entry *e = LIST_ENTRY(cs->ended.next, struct computers_entry, link);

        if (!e->unhooked)
            return; /* not finished yet */
        computers_take_runs_locked(e, ret_runs);
        list_remove(&e->link);
        cs->ended_count--;
        computers_release(e);
    }
}

static void on_unhook(struct loop_post *post)
{
    struct computers_entry *e = CONTAINER_OF(post, struct computers_entry, unhook);
    struct computer *c = STEAL(e->last);
    struct computers *cs = e->cs;
    struct list runs;

    /* Others may keep the object for long; it must not call us then. */
    computer_silence(c);
    computer_unref(c);
    list_init(&runs);
    pthread_mutex_lock(&cs->lock);
    e->unhooked = true;
    trim_ended_locked(cs, &runs);
    pthread_mutex_unlock(&cs->lock);
    computers_drop_runs(&runs);
}

void computers_let_go(struct computers_entry *e, struct computer *c)
{
    e->last = c;
    loop_post(e->cs->loop, &e->unhook, on_unhook);
}

void computers_retire_locked(struct computers_entry *e, enum computers_end end, const char *reason)
{
    struct computers *cs = e->cs;

    e->live = false;
    e->ending = true;
    e->end = end;
    (void)snprintf(e->reason, sizeof e->reason, "%s", reason);
    list_remove(&e->bucket);
    list_remove(&e->link);
    if (e->owner->home == e)
        e->owner->home = NULL;
    computers_count_down_locked(cs, STEAL(e->owner));
    list_append(&cs->ended, &e->link);
    cs->ended_count++;
}

/* The runs of a computer that was lost can still be read, those of the last few. */
static void trim_runs_locked(struct computers *cs, struct list *ret)
{
    unsigned kept = 0;

    for (struct list *node = cs->ended.prev; node != &cs->ended; node = node->prev) {
        struct computers_entry *e = LIST_ENTRY(node, struct computers_entry, link);

        if (e->c || list_empty(&e->runs))
            continue;
        if (e->end != COMPUTERS_LOST || ++kept > COMPUTERS_ENDED_RUNS)
            computers_take_runs_locked(e, ret);
    }
}

void computers_finish(struct computers_entry *e)
{
    struct computers *cs = e->cs;
    struct list things, runs;
    struct computer *c;

    list_init(&things);
    list_init(&runs);
    pthread_mutex_lock(&cs->lock);
    c = e->c;
    pthread_mutex_unlock(&cs->lock);
    computer_destroy(c);
    pthread_mutex_lock(&cs->lock);
    e->c = NULL;
    computers_take_things_locked(e, &things);
    trim_runs_locked(cs, &runs);
    pthread_mutex_unlock(&cs->lock);
    computers_drop_things(&things);
    computers_drop_runs(&runs);
    computers_let_go(e, c);
}

bool computers_destroy(struct computers *cs, struct agent *agent, const char *handle,
                       struct error *err)
{
    const char *name = agent_name(agent);
    struct computers_entry *e;
    struct id id;
    bool ok;

    if (!computers_enter(cs, err))
        return false;
    pthread_mutex_lock(&cs->lock);
    e = computers_find_locked(cs, name, handle);
    if (e && e->ending)
        e = NULL;
    if (e) {
        e->ending = true; /* nobody else begins to */
        id = e->id;
    }
    pthread_mutex_unlock(&cs->lock);
    if (!e) {
        computers_leave(cs);
        return computers_not_found(cs, name, handle, err);
    }
    ok = computers_note(cs, AUDIT_COMPUTER, name, id.text, "destroyed", NULL, "on request", err);
    pthread_mutex_lock(&cs->lock);
    e->ending = false;
    if (ok)
        computers_retire_locked(e, COMPUTERS_DESTROYED, "it was destroyed");
    pthread_mutex_unlock(&cs->lock);
    if (ok) {
        computers_finish(e);
        event_publish(cs->bus, "computer.destroyed", name, id.text, "on request");
    }
    computers_leave(cs);
    return ok;
}
