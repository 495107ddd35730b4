#include "kernel/computer/run.h"

#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "kernel/base/clock.h"
#include "kernel/base/utf8.h"
#include "kernel/computer/computer_internal.h"

#define TITLE_BYTES 200u
#define NO_SIGNAL   0

struct run {
    /* never change after run_start() */
    struct id id;
    struct computer *c; /* held */
    struct guest_run *guest;
    char title[TITLE_BYTES + 1];
    int64_t deadline_ns;
    uint64_t refusal_seq;
    struct computer_strikes before;

    atomic_uint users; /* references of callers */
    atomic_uint refs;  /* all users are one, the loop until the end another, each post one */
    pthread_mutex_t lock;

    /* lock */
    bool timed_out;
    uint64_t sent; /* signals sent to it, as bits */
    enum run_reason reason;

    /* loop only */
    struct loop_timer timer;
    struct loop_post post;
    bool ended;
};

static void release(struct run *r)
{
    if (atomic_fetch_sub_explicit(&r->refs, 1, memory_order_acq_rel) != 1)
        return;
    guest_run_unref(r->guest);
    computer_run_end(r->c);
    pthread_mutex_destroy(&r->lock);
    free(r);
}

/* ---- why it ended ---- */

static enum run_reason reason_of(struct run *r, const struct guest_run_info *info, bool timed_out,
                                 uint64_t sent)
{
    struct computer_strikes now;
    /* A shell passes the signal that ended its command on as 128 more. */
    int sig = info->end == GUEST_RUN_SIGNAL ? info->value
              : info->value > 128           ? info->value - 128
                                            : NO_SIGNAL;

    if (info->end == GUEST_RUN_EXIT && info->value == 0)
        return RUN_EXIT; /* it got done whatever else happened */
    if (timed_out)
        return RUN_TIMEOUT;
    if (info->end == GUEST_RUN_LOST)
        return computer_was_destroyed(r->c) ? RUN_KILLED : RUN_LOST;
    if (info->output_over)
        return RUN_OUTPUT;
    if (sig > NO_SIGNAL && sig < 64 && (sent & (1ull << sig)))
        return RUN_KILLED;
    computer_strikes(r->c, &now);
    if (sig == SIGKILL && now.oom > r->before.oom)
        return RUN_OOM;
    if (now.pids > r->before.pids)
        return RUN_PIDS;
    if (now.disk_full || info->disk_full)
        return RUN_DISK;
    return info->end == GUEST_RUN_SIGNAL ? RUN_SIGNAL : RUN_EXIT;
}

/* Once, by whoever sees the end first, while the strikes still tell of this run. */
static enum run_reason judge(struct run *r, const struct guest_run_info *info)
{
    enum run_reason reason;
    bool timed_out;
    uint64_t sent;

    if (info->end == GUEST_RUN_LIVE)
        return RUN_LIVE;
    pthread_mutex_lock(&r->lock);
    reason = r->reason;
    timed_out = r->timed_out;
    sent = r->sent;
    pthread_mutex_unlock(&r->lock);
    if (reason != RUN_LIVE)
        return reason;
    reason = reason_of(r, info, timed_out, sent);
    pthread_mutex_lock(&r->lock);
    if (r->reason == RUN_LIVE)
        r->reason = reason;
    reason = r->reason;
    pthread_mutex_unlock(&r->lock);
    return reason;
}

/* ---- on the loop ---- */

static void on_ended(void *arg, struct guest_run *guest)
{
    struct run *r = arg;
    struct guest_run_info info;

    r->ended = true;
    loop_timer_stop(r->c->state->loop, &r->timer);
    guest_run_info(guest, &info);
    (void)judge(r, &info);
    release(r);
}

static void time_is_up(struct run *r)
{
    pthread_mutex_lock(&r->lock);
    r->timed_out = true;
    pthread_mutex_unlock(&r->lock);
    guest_run_signal(r->guest, SIGKILL, true);
}

static void on_deadline(struct loop_timer *timer)
{
    time_is_up(CONTAINER_OF(timer, struct run, timer));
}

static void on_arm(struct loop_post *post)
{
    struct run *r = CONTAINER_OF(post, struct run, post);

    /* Without memory for its timer it must not run on without a limit. */
    if (!r->ended && !loop_timer_start(r->c->state->loop, &r->timer, r->deadline_ns, on_deadline))
        time_is_up(r);
    release(r);
}

/* ---- starting ---- */

static bool is_plain(const char *word)
{
    static const char plain[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
                                "_-./=:,+@%^";

    return *word && strspn(word, plain) == strlen(word);
}

static void put_word(struct buf *text, const char *word)
{
    if (text->len > 0)
        buf_append_char(text, ' ');
    if (is_plain(word)) {
        buf_append_str(text, word);
        return;
    }
    buf_append_char(text, '\'');
    for (const char *p = word; *p; p++) {
        if (*p == '\'')
            buf_append_str(text, "'\\''");
        else
            buf_append_char(text, (unsigned char)*p < 0x20 || *p == 0x7f ? ' ' : *p);
    }
    buf_append_char(text, '\'');
}

/* What does not fit is cut; a name need not be more than good to recognise. */
static void make_title(struct run *r, const char *const *argv, bool shell)
{
    struct buf raw, clean = BUF_INIT;
    size_t len;

    buf_init(&raw, 4 * TITLE_BYTES);
    for (size_t i = 0; argv[i] && !raw.failed && raw.len < TITLE_BYTES; i++)
        put_word(&raw, i == 0 && shell ? "sh" : argv[i]);
    if (utf8_append_valid(&clean, buf_str(&raw), raw.len) >= 0) {
        len = utf8_cut(buf_str(&clean), clean.len, MIN(clean.len, TITLE_BYTES));
        memcpy(r->title, buf_str(&clean), len);
    }
    buf_fini(&raw);
    buf_fini(&clean);
}

static bool spawn(struct run *r, const struct run_spec *spec, const char *const *argv,
                  const struct wait *w, struct error *err)
{
    struct guest_run_spec gs = {
        .argv = argv,
        .cwd = spec->cwd ? spec->cwd : "/workspace",
        .pty = spec->pty,
        .rows = spec->rows,
        .cols = spec->cols,
        .merge = spec->merge,
        .stdin_open = spec->stdin_open,
        .control = spec->control,
        .lossless = spec->lossless,
        .last = spec->last,
        .ring_bytes = spec->ring_bytes,
        .max_output = spec->max_output,
    };
    char **env = computer_env(r->c, spec->env, err);
    struct guest *guest = computer_guest(r->c);

    if (!env)
        return false;
    if (!guest) {
        free(env);
        return error_set(err, ERR_LOST, "the computer has no guest");
    }
    gs.env = (const char *const *)env;
    if (!computer_spec(r->c)->brief) /* else it is new */
        computer_strikes(r->c, &r->before);
    r->refusal_seq = computer_refusal_seq(r->c);
    r->deadline_ns = clock_add_ns(clock_now_ns(), spec->timeout_ns);
    r->guest = guest_spawn(guest, &gs, w, err);
    free(env);
    return r->guest != NULL;
}

struct run *run_start(struct computer *c, const struct run_spec *spec, const struct wait *w,
                      struct error *err)
{
    const char *const shell[] = { "/bin/sh", "-c", spec->command, NULL };
    const char *const *argv = spec->command ? shell : spec->argv;
    struct run *r;

    if (!argv || !argv[0]) {
        error_set(err, ERR_INVALID, "there is nothing to run: send a command or argv");
        return NULL;
    }
    if (!computer_run_begin(c, err))
        return NULL;
    r = calloc(1, sizeof *r);
    if (!r) {
        computer_run_end(c);
        error_set(err, ERR_NOMEM, "a run");
        return NULL;
    }
    r->c = c;
    r->id = id_make("r");
    atomic_init(&r->users, 1);
    atomic_init(&r->refs, 1);
    pthread_mutex_init(&r->lock, NULL);
    make_title(r, argv, spec->command != NULL);
    if (!spawn(r, spec, argv, w, err)) {
        release(r);
        return NULL;
    }
    atomic_fetch_add(&r->refs, 1);
    guest_run_notify(r->guest, on_ended, r);
    if (spec->timeout_ns > 0) {
        atomic_fetch_add(&r->refs, 1);
        loop_post(c->state->loop, &r->post, on_arm);
    }
    return r;
}

/* ---- for everybody ---- */

struct run *run_ref(struct run *r)
{
    atomic_fetch_add_explicit(&r->users, 1, memory_order_relaxed);
    return r;
}

void run_unref(struct run *r)
{
    if (!r || atomic_fetch_sub_explicit(&r->users, 1, memory_order_acq_rel) != 1)
        return;
    guest_run_drain(r->guest); /* it goes on, but nobody will read any more */
    release(r);
}

const char *run_id(const struct run *r)
{
    return r->id.text;
}

struct computer *run_computer(struct run *r)
{
    return r->c;
}

struct guest_run *run_guest(struct run *r)
{
    return r->guest;
}

const char *run_title(const struct run *r)
{
    return r->title;
}

void run_info(struct run *r, struct run_info *ret)
{
    *ret = (struct run_info){ .refusal_seq = r->refusal_seq };
    guest_run_info(r->guest, &ret->guest);
    ret->reason = judge(r, &ret->guest);
    ret->value = ret->guest.value;
}

bool run_wait(struct run *r, unsigned streams, const uint64_t *beyond, const struct wait *w,
              struct error *err)
{
    return guest_run_wait(r->guest, streams, beyond, w, err);
}

void run_kill(struct run *r, int signal, bool tree)
{
    struct guest_run_info info;

    guest_run_info(r->guest, &info);
    if (info.end == GUEST_RUN_LIVE && signal > NO_SIGNAL && signal < 64) {
        pthread_mutex_lock(&r->lock);
        r->sent |= 1ull << signal;
        pthread_mutex_unlock(&r->lock);
    }
    guest_run_signal(r->guest, signal, tree); /* what it left behind may still be there */
}

const char *run_reason_name(enum run_reason reason)
{
    static const char *const names[] = {
        [RUN_LIVE] = "running",       [RUN_EXIT] = "exit", [RUN_SIGNAL] = "signal",
        [RUN_TIMEOUT] = "timeout",    [RUN_OOM] = "oom",   [RUN_PIDS] = "pids",
        [RUN_OUTPUT] = "output",      [RUN_DISK] = "disk", [RUN_KILLED] = "killed",
        [RUN_LOST] = "computer_lost",
    };

    return (size_t)reason < ARRAY_LEN(names) ? names[reason] : "unknown";
}
