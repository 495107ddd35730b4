#include "tools/terminal.h"

#include <stdatomic.h>
#include <stdlib.h>

#include "kernel/base/clock.h"
#include "kernel/base/limits.h"
#include "tools/screen.h"

#define QUIET_NS        (250 * CLOCK_NS_PER_MS)
#define FIRST_OUTPUT_NS (2 * CLOCK_NS_PER_S)
#define ANSWER_NS       (200 * CLOCK_NS_PER_MS)

struct terminal {
    atomic_uint refs;
    pthread_mutex_t lock;  /* guards what follows */
    struct screen *screen; /* NULL: not a pty */
    uint64_t fed;          /* offset up to which the screen has seen the output */
    uint64_t told;
};

void terminal_unref(struct terminal *t)
{
    if (!t || atomic_fetch_sub(&t->refs, 1) > 1)
        return;
    screen_free(t->screen);
    pthread_mutex_destroy(&t->lock);
    free(t);
}

static void terminal_drop(void *thing)
{
    terminal_unref(thing);
}

bool terminal_attach(struct tool_call *call, struct run *run, bool pty, int rows, int cols,
                     struct error *err)
{
    CLEANUP(terminal_unrefp) struct terminal *t = calloc(1, sizeof *t);

    if (!t)
        return error_set(err, ERR_NOMEM, "a terminal");
    atomic_init(&t->refs, 1);
    pthread_mutex_init(&t->lock, NULL);
    if (pty && !(t->screen = screen_new(rows, cols, err)))
        return false;
    if (!computers_attach(kernel_computers(call->kernel), run_computer(run), run_id(run), t,
                          terminal_drop, err))
        return false;
    (void)STEAL(t);
    return true;
}

static void take_ref(void *arg, void *thing)
{
    struct terminal *t = thing;

    atomic_fetch_add(&t->refs, 1);
    *(struct terminal **)arg = t;
}

struct terminal *terminal_get(struct tool_call *call, struct run *run)
{
    struct terminal *t = NULL;

    (void)computers_attached(kernel_computers(call->kernel), run_computer(run), run_id(run),
                             take_ref, &t);
    return t;
}

bool terminal_has_screen(const struct terminal *t)
{
    return t && t->screen;
}

bool terminal_screen(struct terminal *t, struct run *run, struct buf *out, struct error *err)
{
    CLEANUP(buf_fini) struct buf raw = BUF_INIT;
    struct wait wait = { .deadline_ns = clock_add_ns(clock_now_ns(), ANSWER_NS) };
    struct error ignored = ERROR_INIT;
    char answers[512];
    size_t n;
    bool ok;

    pthread_mutex_lock(&t->lock);
    ok = guest_run_read(run_guest(run), WIRE_STREAM_OUT, &t->fed, LIMIT_RING_BYTES, &raw) >= 0;
    if (ok) {
        screen_feed(t->screen, buf_str(&raw), raw.len);
        ok = screen_text(t->screen, out);
    }
    n = screen_answers(t->screen, answers, sizeof answers);
    pthread_mutex_unlock(&t->lock);
    /* A program that does not read its answers is not our trouble. */
    if (n > 0)
        UNCHECKED(guest_run_write(run_guest(run), WIRE_STREAM_MAIN, answers, n, &wait, &ignored));
    return ok || error_set(err, ERR_NOMEM, "the screen of run %s", run_id(run));
}

uint64_t terminal_told(struct terminal *t)
{
    uint64_t told;

    if (!t)
        return 0;
    pthread_mutex_lock(&t->lock);
    told = t->told;
    pthread_mutex_unlock(&t->lock);
    return told;
}

void terminal_tell(struct terminal *t, uint64_t offset)
{
    if (!t)
        return;
    pthread_mutex_lock(&t->lock);
    t->told = MAX(t->told, offset);
    pthread_mutex_unlock(&t->lock);
}

bool terminal_settle(struct tool_call *call, struct run *run, int64_t most_ns, struct error *err)
{
    int64_t end_ns = MIN(clock_add_ns(clock_now_ns(), most_ns), call->wait.deadline_ns);
    int64_t quiet_ns = FIRST_OUTPUT_NS;

    for (;;) {
        uint64_t beyond[WIRE_STREAM_COUNT] = { 0 };
        struct error timeout = ERROR_INIT;
        struct run_info info;
        struct wait wait = { .cancel = call->wait.cancel };

        run_info(run, &info);
        if (info.reason != RUN_LIVE || clock_now_ns() >= end_ns)
            return true;
        wait.deadline_ns = MIN(end_ns, clock_add_ns(clock_now_ns(), quiet_ns));
        beyond[WIRE_STREAM_OUT] = info.guest.total[WIRE_STREAM_OUT];
        /* A stream at its end is always ready: then only the run's end is worth waiting for. */
        if (run_wait(run, info.guest.streams_ended ? 0 : 1u << WIRE_STREAM_OUT, beyond, &wait,
                     &timeout)) {
            quiet_ns = QUIET_NS;
            continue;
        }
        if (timeout.code == ERR_TIMEOUT)
            return true;
        if (err)
            *err = timeout;
        return false;
    }
}
