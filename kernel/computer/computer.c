#include "kernel/computer/computer.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernel/base/clock.h"
#include "kernel/base/fd.h"
#include "kernel/base/limits.h"
#include "kernel/base/utf8.h"
#include "kernel/computer/computer_internal.h"
#include "kernel/computer/egress.h"

/* ---- hooks ---- */

static void call_hook(struct computer_state *st, const struct computer_event *event)
{
    pthread_mutex_lock(&st->hook_lock);
    if (st->c && st->hooks.on_event)
        st->hooks.on_event(st->hooks.arg, st->c, event);
    pthread_mutex_unlock(&st->hook_lock);
}

/* As much of @text as fits, made valid UTF-8. */
static void copy_clean(char *to, size_t size, const char *text)
{
    CLEANUP(buf_fini) struct buf clean = BUF_INIT;
    size_t len = 0;

    if (text && utf8_append_valid(&clean, text, strnlen(text, size)) >= 0) {
        len = utf8_cut(buf_str(&clean), clean.len, MIN(size - 1, clean.len));
        memcpy(to, buf_str(&clean), len);
    }
    to[len] = '\0';
}

static void remember_refusal(struct computer_state *st, const char *name, const char *text,
                             struct computer_refusal *ret)
{
    copy_clean(ret->name, sizeof ret->name, name);
    copy_clean(ret->text, sizeof ret->text, text);
    pthread_mutex_lock(&st->lock);
    ret->seq = ++st->refusal_seq;
    st->refusals[(ret->seq - 1) % LIMIT_REFUSALS] = *ret;
    pthread_mutex_unlock(&st->lock);
}

static void on_egress_event(void *arg, const struct egress_event *egress)
{
    const struct computer_event event = { .kind = COMPUTER_EVENT_EGRESS, .egress = egress };
    struct computer_refusal refusal;
    char text[sizeof refusal.text];

    /* The program may keep the proxy's words to itself: the agent is told with its run. */
    if (egress->what == EGRESS_DENIED) {
        (void)snprintf(text, sizeof text, "%s:%u: %s", egress->host, egress->port, egress->reason);
        remember_refusal(arg, COMPUTER_REFUSAL_CONNECT, text, &refusal);
    }
    call_hook(arg, &event);
}

static void report_lost(struct computer_state *st, const char *why)
{
    struct guest *guest;
    bool first, asked;

    pthread_mutex_lock(&st->lock);
    first = !st->lost[0];
    asked = st->destroy_asked;
    if (first)
        (void)snprintf(st->lost, sizeof st->lost, "%s", why[0] ? why : "for no known reason");
    guest = st->guest;
    pthread_mutex_unlock(&st->lock);
    if (!first)
        return;
    if (!guest)
        return; /* its making fails, and that is answer enough */
    guest_close(guest, why);
    if (!asked) {
        const struct computer_event event = { .kind = COMPUTER_EVENT_LOST, .text = why };

        call_hook(st, &event);
    }
}

/* ---- what the guest tells, on the loop ---- */

static void on_guest_egress(void *arg, struct channel *ch)
{
    struct computer_state *st = arg;

    if (!st->egress) {
        struct egress_config config = { .loop = st->loop,
                                        .on_event = on_egress_event,
                                        .event_arg = st };

        pthread_mutex_lock(&st->lock);
        config.rules = st->rules;
        pthread_mutex_unlock(&st->lock);
        st->egress = egress_new(&config, NULL);
    }
    if (st->egress)
        egress_accept(st->egress, ch);
    else
        channel_close(ch); /* out of memory: the program sees its connection closed */
}

static void on_guest_lost(void *arg, const char *why)
{
    report_lost(arg, why);
}

static const struct guest_events guest_events = {
    .on_egress = on_guest_egress,
    .on_lost = on_guest_lost,
};

/* ---- making ---- */

static void state_free(struct computer_state *st)
{
    if (!st)
        return;
    egress_free(st->egress);
    guest_free(st->guest);
    egress_rules_free(st->rules);
    free(st->spec);
    free(st->base_env);
    pthread_mutex_destroy(&st->hook_lock);
    pthread_mutex_destroy(&st->lock);
    pthread_cond_destroy(&st->changed);
    free(st);
}

/* Both copies of what a spec asks for, or neither. */
static bool take_spec(const struct computer_spec *spec, struct computer_spec **ret_spec,
                      struct egress_rules **ret_rules, struct error *err)
{
    CLEANUP(egress_rules_freep) struct egress_rules *rules = NULL;
    char **env = computer_env_merge(NULL, spec->env, NULL, err); /* is it well formed? */

    if (!env)
        return false;
    free(env);
    rules = egress_rules_new(spec->allow, spec->allow_count, err);
    if (!rules)
        return false;
    *ret_spec = computer_spec_copy(spec, err);
    if (!*ret_spec)
        return false;
    *ret_rules = STEAL(rules);
    return true;
}

bool computer_init(struct computer *c, const struct computer_ops *ops,
                   const struct computer_spec *spec, const char *const *base_env,
                   const struct computer_hooks *hooks, struct error *err)
{
    struct computer_state *st = calloc(1, sizeof *st);

    if (!st)
        return error_set(err, ERR_NOMEM, "a computer");
    pthread_mutex_init(&st->hook_lock, NULL);
    pthread_mutex_init(&st->lock, NULL);
    cond_init(&st->changed);
    st->base_env = computer_env_merge(base_env, NULL, NULL, err);
    if (!st->base_env || !take_spec(spec, &st->spec, &st->rules, err)) {
        state_free(st);
        return false;
    }
    st->id = id_make("c");
    st->created_ns = clock_now_ns();
    st->loop = hooks->loop;
    st->hooks = *hooks;
    st->c = c;
    st->refs = 1;
    st->holds = 1;
    c->ops = ops;
    c->state = st;
    return true;
}

static void on_end_state(struct loop_post *post)
{
    state_free(CONTAINER_OF(post, struct computer_state, end));
}

void computer_fini(struct computer *c)
{
    struct computer_state *st = STEAL(c->state);

    if (!st)
        return;
    pthread_mutex_lock(&st->hook_lock);
    st->c = NULL; /* the back end frees it now; what the loop still hears is for nobody */
    pthread_mutex_unlock(&st->hook_lock);
    if (!st->guest) {
        state_free(st); /* the loop has never heard of it */
        return;
    }
    guest_close(st->guest, "it could not be made");
    loop_post(st->loop, &st->end, on_end_state);
}

bool computer_attach(struct computer *c, int stream, const struct wait *w, struct error *err)
{
    struct computer_state *st = c->state;
    /* The guest takes a copy, so that the caller keeps the stream when there is no answer. */
    int copy = fcntl(stream, F_DUPFD_CLOEXEC, 3);
    struct guest *guest;
    bool ok;

    assert(!st->guest);
    if (copy < 0)
        return error_set_errno(err, errno, "the guest's stream");
    guest = guest_new(st->loop, copy, &guest_events, st, err);
    if (!guest) {
        fd_close(copy);
        return false;
    }
    ok = !w || guest_ready(guest, w, err);
    pthread_mutex_lock(&st->lock);
    if (ok && st->lost[0])
        ok = error_set(err, ERR_LOST, "%s", st->lost);
    if (ok)
        st->guest = guest;
    pthread_mutex_unlock(&st->lock);
    if (!ok) {
        guest_free(guest);
        return error_prefix(err, "waiting for the guest to report");
    }
    fd_close(stream);
    return true;
}

/* What an adoption replaces is released where the broker that uses it lives. */
struct retired {
    struct loop_post post;
    struct computer_state *st;
    struct computer *c;
    struct computer_spec *spec;
    struct egress_rules *rules;
};

static void on_retire(struct loop_post *post)
{
    struct retired *old = CONTAINER_OF(post, struct retired, post);

    egress_free(STEAL(old->st->egress)); /* the next connection makes one with the new rules */
    egress_rules_free(old->rules);
    free(old->spec);
    computer_release(old->c);
    free(old);
}

bool computer_adopt(struct computer *c, const struct computer_spec *spec,
                    const struct computer_hooks *hooks, struct error *err)
{
    struct computer_state *st = c->state;
    struct computer_spec *new_spec;
    struct egress_rules *new_rules;
    struct retired *old = calloc(1, sizeof *old);

    assert(hooks->loop == st->loop);
    if (!old)
        return error_set(err, ERR_NOMEM, "a computer");
    if (!take_spec(spec, &new_spec, &new_rules, err)) {
        free(old);
        return false;
    }
    pthread_mutex_lock(&st->hook_lock);
    st->hooks = *hooks;
    pthread_mutex_unlock(&st->hook_lock);
    pthread_mutex_lock(&st->lock);
    old->spec = st->spec;
    old->rules = st->rules;
    st->spec = new_spec;
    st->rules = new_rules;
    pthread_mutex_unlock(&st->lock);
    old->st = st;
    old->c = c;
    computer_hold(c);
    loop_post(st->loop, &old->post, on_retire);
    return true;
}

void computer_silence(struct computer *c)
{
    struct computer_state *st = c->state;

    pthread_mutex_lock(&st->hook_lock);
    st->hooks.on_event = NULL;
    pthread_mutex_unlock(&st->hook_lock);
}

/* ---- counting ---- */

void computer_hold(struct computer *c)
{
    struct computer_state *st = c->state;

    pthread_mutex_lock(&st->lock);
    st->holds++;
    pthread_mutex_unlock(&st->lock);
}

static void on_end(struct loop_post *post)
{
    struct computer_state *st = CONTAINER_OF(post, struct computer_state, end);
    struct computer *c = st->c;

    st->c = NULL;
    state_free(st);
    free(c);
}

void computer_release(struct computer *c)
{
    struct computer_state *st = c->state;
    bool last;

    pthread_mutex_lock(&st->lock);
    last = --st->holds == 0;
    pthread_mutex_unlock(&st->lock);
    /* The broker lives on the loop; and there the guest can be freed without waiting for a call of
     * ours that may be going on. */
    if (last)
        loop_post(st->loop, &st->end, on_end);
}

struct computer *computer_ref(struct computer *c)
{
    struct computer_state *st = c->state;

    pthread_mutex_lock(&st->lock);
    if (st->refs++ == 0)
        st->holds++; /* a run has handed out its computer once more */
    pthread_mutex_unlock(&st->lock);
    return c;
}

void computer_unref(struct computer *c)
{
    bool last;

    if (!c)
        return;
    pthread_mutex_lock(&c->state->lock);
    last = --c->state->refs == 0;
    pthread_mutex_unlock(&c->state->lock);
    if (!last)
        return;
    computer_destroy(c);
    computer_release(c);
}

/* ---- what it is ---- */

const char *computer_id(const struct computer *c)
{
    return c->state->id.text;
}

const char *computer_kind(const struct computer *c)
{
    return c->ops->kind;
}

int64_t computer_created_ns(const struct computer *c)
{
    return c->state->created_ns;
}

struct guest *computer_guest(struct computer *c)
{
    struct computer_state *st = c->state;
    struct guest *guest;

    pthread_mutex_lock(&st->lock);
    guest = st->guest;
    pthread_mutex_unlock(&st->lock);
    return guest;
}

const struct computer_spec *computer_spec(const struct computer *c)
{
    struct computer_state *st = c->state;
    const struct computer_spec *spec;

    pthread_mutex_lock(&st->lock);
    spec = st->spec;
    pthread_mutex_unlock(&st->lock);
    return spec;
}

char **computer_env(struct computer *c, const char *const *extra, struct error *err)
{
    struct computer_state *st = c->state;
    char **env;

    pthread_mutex_lock(&st->lock);
    env = computer_env_merge((const char *const *)st->base_env, st->spec->env, extra, err);
    pthread_mutex_unlock(&st->lock);
    return env;
}

void computer_lost_reason(struct computer *c, char *buf, size_t size)
{
    struct computer_state *st = c->state;

    pthread_mutex_lock(&st->lock);
    (void)snprintf(buf, size, "%s", st->lost);
    pthread_mutex_unlock(&st->lock);
}

bool computer_run_begin(struct computer *c, struct error *err)
{
    struct computer_state *st = c->state;
    bool ok;

    pthread_mutex_lock(&st->lock);
    ok = st->runs < LIMIT_RUNS;
    if (ok) {
        st->runs++;
        st->holds++;
    }
    pthread_mutex_unlock(&st->lock);
    return ok || error_set(err, ERR_LIMIT,
                           "this computer has %u runs already, ended ones that are still kept "
                           "included",
                           LIMIT_RUNS);
}

void computer_run_end(struct computer *c)
{
    pthread_mutex_lock(&c->state->lock);
    c->state->runs--;
    pthread_mutex_unlock(&c->state->lock);
    computer_release(c);
}

bool computer_was_destroyed(struct computer *c)
{
    struct computer_state *st = c->state;
    bool on_request;

    pthread_mutex_lock(&st->lock);
    on_request = st->on_request;
    pthread_mutex_unlock(&st->lock);
    return on_request;
}

/* ---- what was refused ---- */

void computer_report_refusal(struct computer *c, const char *name, const char *text, uint32_t pid)
{
    struct computer_state *st = c->state;
    struct computer_refusal refusal;
    const struct computer_event event = {
        .kind = COMPUTER_EVENT_REFUSED, .name = refusal.name, .text = refusal.text, .pid = pid
    };

    remember_refusal(st, name, text, &refusal);
    call_hook(st, &event);
}

uint64_t computer_refusal_seq(struct computer *c)
{
    struct computer_state *st = c->state;
    uint64_t seq;

    pthread_mutex_lock(&st->lock);
    seq = st->refusal_seq;
    pthread_mutex_unlock(&st->lock);
    return seq;
}

size_t computer_refusals(struct computer *c, uint64_t since, struct computer_refusal *ret,
                         size_t max, uint64_t *ret_missed)
{
    struct computer_state *st = c->state;
    uint64_t oldest, first;
    size_t n = 0;

    pthread_mutex_lock(&st->lock);
    oldest = st->refusal_seq > LIMIT_REFUSALS ? st->refusal_seq - LIMIT_REFUSALS : 0;
    first = MAX(since, oldest);
    if (ret_missed)
        *ret_missed = first - since;
    for (uint64_t seq = first + 1; seq <= st->refusal_seq && n < max; seq++)
        ret[n++] = st->refusals[(seq - 1) % LIMIT_REFUSALS];
    pthread_mutex_unlock(&st->lock);
    return n;
}

void computer_report_lost(struct computer *c, const char *why)
{
    report_lost(c->state, why);
}
