/*
 * Stopping every process and having them go on, without a control group's freezer.
 */
#include "images/guest/machine.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

#include "images/guest/inside.h"

#define LOOK_AGAIN_NS 1000000
#define LOOKS_MAX     500 /* then what sits in the kernel will stop when it comes out */

struct freeze {
    struct lane lane;
    struct evloop_timer timer;
    int looks;
};

static void choose(struct inside *in, struct tree *t)
{
    if (in->pid1)
        tree_choose_all(t, 0);
    else
        tree_choose_below(t, getpid());
}

static bool is_stopped(const struct tree_process *p)
{
    return p->state == 'T' || p->state == 't';
}

static bool is_dead(const struct tree_process *p)
{
    return p->state == 'Z' || p->state == 'X' || p->state == 'x';
}

/* Stop whatever still runs.  Returns how many are stopped, and whether that is all of them. */
static uint32_t stop_all(struct inside *in, bool *ret_all)
{
    uint32_t stopped = 0;
    struct tree t;

    *ret_all = true;
    if (in->pid1)
        (void)kill(-1, SIGSTOP); /* at one blow: nobody can fork out of it */
    if (!tree_read(&t))
        return 0;
    choose(in, &t);
    for (size_t i = 0; i < t.count; i++) {
        const struct tree_process *p = &t.processes[i];

        if (!p->chosen || is_dead(p))
            continue;
        if (is_stopped(p)) {
            stopped++;
            continue;
        }
        *ret_all = false;
        if (!in->pid1)
            (void)kill(p->pid, SIGSTOP);
    }
    tree_free(&t);
    return stopped;
}

static void look(struct freeze *f)
{
    struct inside *in = f->lane.in;
    bool all;
    uint32_t stopped = stop_all(in, &all);
    uint8_t bytes[4];
    struct wire_out o = { .data = bytes, .cap = sizeof bytes };

    if (!all && ++f->looks < LOOKS_MAX) {
        evloop_start(&in->loop, &f->timer, LOOK_AGAIN_NS);
        return;
    }
    wire_put_u32(&o, stopped);
    lane_reply(&f->lane, 0, bytes, o.len);
    lane_finish(&f->lane);
}

static void on_timer(struct evloop_timer *t)
{
    look(CONTAINER_OF(t, struct freeze, timer));
}

static void drop(struct lane *lane, bool by_host)
{
    struct freeze *f = CONTAINER_OF(lane, struct freeze, lane);

    (void)by_host;
    evloop_stop(&f->timer);
    lane->in->machine.freeze = NULL;
}

/* Remember who was stopped on purpose, so that thawing leaves them so. */
static void remember_stopped(struct inside *in)
{
    struct machine *m = &in->machine;
    struct tree t;
    size_t kept = 0;

    tree_free(&m->stopped_before);
    if (!tree_read(&t))
        return;
    for (size_t i = 0; i < t.count; i++) {
        if (is_stopped(&t.processes[i]))
            t.processes[kept++] = t.processes[i];
    }
    t.count = kept;
    if (kept > 0)
        m->stopped_before = t;
    else
        tree_free(&t);
}

void machine_freeze(struct inside *in, uint32_t channel, struct wire_in *args)
{
    static const struct lane_ops ops = { .drop = drop };
    struct machine *m = &in->machine;
    struct freeze *f;

    if (args->len != 0 || m->freeze || in->inert) {
        lane_reply_to(in, channel, args->len ? EBADMSG : m->freeze ? EBUSY : EPERM, NULL, 0);
        return;
    }
    f = calloc(1, sizeof *f);
    if (!f) {
        lane_reply_to(in, channel, ENOMEM, NULL, 0);
        return;
    }
    if (!m->frozen)
        remember_stopped(in);
    m->frozen = true;
    m->freeze = f;
    f->timer.run = on_timer;
    f->lane.one_shot = true;
    lane_open(in, &f->lane, channel, &ops);
    look(f);
}

static bool was_stopped(const struct machine *m, pid_t pid)
{
    for (size_t i = 0; i < m->stopped_before.count; i++) {
        if (m->stopped_before.processes[i].pid == pid)
            return true;
    }
    return false;
}

static int continue_all(struct inside *in)
{
    struct tree t;

    if (in->pid1 && in->machine.stopped_before.count == 0)
        return kill(-1, SIGCONT) == 0 || errno == ESRCH ? 0 : errno;
    if (!tree_read(&t))
        return ENOMEM;
    choose(in, &t);
    for (size_t i = 0; i < t.count; i++) {
        if (t.processes[i].chosen && !was_stopped(&in->machine, t.processes[i].pid))
            (void)kill(t.processes[i].pid, SIGCONT);
    }
    tree_free(&t);
    return 0;
}

void machine_thaw(struct inside *in, uint32_t channel, struct wire_in *args)
{
    struct machine *m = &in->machine;
    int error = 0;

    if (args->len != 0)
        error = EBADMSG;
    else if (m->freeze)
        error = EBUSY;
    else if (!in->inert && m->frozen)
        error = continue_all(in);
    if (!error) {
        m->frozen = false;
        tree_free(&m->stopped_before);
    }
    lane_reply_to(in, channel, error, NULL, 0);
}
