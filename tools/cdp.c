#include "tools/cdp.h"

#include <inttypes.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "kernel/base/clock.h"
#include "kernel/base/json.h"
#include "kernel/base/list.h"
#include "kernel/base/utf8.h"

#define END_NS      (2 * CLOCK_NS_PER_S) /* from the end of its words to its own */
#define WRITE_NS    (10 * CLOCK_NS_PER_S)
#define READ_BYTES  (1u << 20)
#define LAST_WORDS  400u
#define STACK_BYTES (256u << 10)

struct cdp {
    /* never change */
    struct run *run;
    struct cdp_events events;
    void *arg;
    pthread_t reader;
    struct cancel stop;
    pthread_mutex_t write_lock; /* one message at a time; held for at most WRITE_NS */

    pthread_mutex_t lock;
    pthread_cond_t changed;
    /* lock */
    struct list calls;
    unsigned call_count;
    uint64_t last_id;
    bool over;
    char why[256];

    /* the reader's own */
    struct buf in, words;
    uint64_t at[WIRE_STREAM_COUNT];
    size_t scanned;
};

struct call {
    struct list link;
    uint64_t id;
    bool done;
    json_t *result;
    struct error err;
};

/* ---- writing ---- */

/* What it sees of half a message cannot be taken back. */
static bool send_bytes(struct cdp *cdp, const struct buf *message, struct error *err)
{
    struct wait w = { .cancel = &cdp->stop };
    struct error failed = ERROR_INIT;
    bool ok;

    pthread_mutex_lock(&cdp->write_lock);
    w.deadline_ns = clock_add_ns(clock_now_ns(), WRITE_NS);
    ok = guest_run_write(run_guest(cdp->run), WIRE_STREAM_CONTROL, message->data, message->len, &w,
                         &failed);
    pthread_mutex_unlock(&cdp->write_lock);
    if (ok)
        return true;
    if (cdp_running(cdp))
        run_kill(cdp->run, SIGKILL, true);
    /* Whatever the reason, nobody will speak to it again. */
    return error_set(err, ERR_LOST, "the browser has ended. The next call starts it anew");
}

static bool compose(struct buf *out, uint64_t id, const char *session, const char *method,
                    json_t *params)
{
    json_t *message = json_pack("{s:I,s:s}", "id", (json_int_t)id, "method", method);
    bool ok = message != NULL;

    if (ok && params)
        ok = json_object_set(message, "params", params) == 0;
    if (ok && session && *session)
        ok = json_object_set_new(message, "sessionId", json_string(session)) == 0;
    ok = ok && json_write(message, out) && buf_append_char(out, '\0');
    json_decref(message);
    return ok;
}

void cdp_post(struct cdp *cdp, const char *session, const char *method, json_t *params)
{
    CLEANUP(buf_fini) struct buf message = BUF_INIT;
    struct error ignored = ERROR_INIT;
    uint64_t id;

    pthread_mutex_lock(&cdp->lock);
    id = ++cdp->last_id;
    pthread_mutex_unlock(&cdp->lock);
    if (compose(&message, id, session, method, params))
        UNCHECKED(send_bytes(cdp, &message, &ignored));
    json_decref(params);
}

/* ---- calls ---- */

static void wake(void *arg)
{
    struct cdp *cdp = arg;

    pthread_mutex_lock(&cdp->lock);
    pthread_cond_broadcast(&cdp->changed);
    pthread_mutex_unlock(&cdp->lock);
}

void cdp_wake(struct cdp *cdp)
{
    wake(cdp);
}

static bool enter(struct cdp *cdp, struct call *call, struct error *err)
{
    bool ok = false;

    pthread_mutex_lock(&cdp->lock);
    if (cdp->over) {
        error_set(err, ERR_LOST, "the browser has ended: %s. The next call starts it anew",
                  cdp->why);
    } else if (cdp->call_count >= CDP_CALLS_MAX) {
        error_set(err, ERR_BUSY, "the browser has %u unanswered calls; try again later",
                  CDP_CALLS_MAX);
    } else {
        call->id = ++cdp->last_id;
        list_append(&cdp->calls, &call->link);
        cdp->call_count++;
        ok = true;
    }
    pthread_mutex_unlock(&cdp->lock);
    return ok;
}

/* Waits for the answer and leaves the list in any case. */
static bool await(struct cdp *cdp, struct call *call, const atomic_uint *interrupts,
                  unsigned interrupt, const struct wait *w, struct error *err)
{
    struct cancel_hook hook;
    bool time_left = true, interrupted = false, over;

    cancel_attach(w->cancel, &hook, wake, cdp);
    pthread_mutex_lock(&cdp->lock);
    while (!call->done && !cdp->over && time_left && !interrupted) {
        interrupted = interrupts && atomic_load(interrupts) != interrupt;
        if (!interrupted)
            time_left = wait_cond(w, &cdp->changed, &cdp->lock);
    }
    list_remove(&call->link);
    cdp->call_count--;
    over = cdp->over;
    if (over && !call->done)
        error_set(err, ERR_LOST, "the browser has ended: %s. The next call starts it anew",
                  cdp->why);
    pthread_mutex_unlock(&cdp->lock);
    cancel_detach(w->cancel, &hook);
    if (call->done)
        return true;
    if (over)
        return false;
    if (interrupted)
        return error_set(err, ERR_BUSY, "the page was interrupted");
    if (wait_check(w, err))
        return error_set(err, ERR_TIMEOUT, "the browser did not answer in time");
    return false;
}

json_t *cdp_ask(struct cdp *cdp, const char *session, const char *method, json_t *params,
                const atomic_uint *interrupts, const struct wait *w, struct error *err)
{
    CLEANUP(buf_fini) struct buf message = BUF_INIT;
    struct call call = { .err = ERROR_INIT };
    unsigned interrupt = interrupts ? atomic_load(interrupts) : 0;
    bool ok;

    if (!wait_check(w, err) || !enter(cdp, &call, err)) {
        json_decref(params);
        return NULL;
    }
    ok = compose(&message, call.id, session, method, params);
    json_decref(params);
    if (!ok || !send_bytes(cdp, &message, &call.err)) {
        if (!ok)
            error_set(&call.err, ERR_NOMEM, "a call to the browser");
        pthread_mutex_lock(&cdp->lock);
        list_remove(&call.link);
        cdp->call_count--;
        pthread_mutex_unlock(&cdp->lock);
        json_decref(call.result);
        if (err)
            *err = call.err;
        return NULL;
    }
    if (!await(cdp, &call, interrupts, interrupt, w, err))
        return NULL;
    if (!call.result && err)
        *err = call.err;
    return call.result;
}

json_t *cdp_call(struct cdp *cdp, const char *session, const char *method, json_t *params,
                 const struct wait *w, struct error *err)
{
    return cdp_ask(cdp, session, method, params, NULL, w, err);
}

/* ---- reading ---- */

static void explain(const struct cdp_message *m, struct error *err)
{
    enum error_code code = ERR_INVALID;

    if (m->error_code == -32001 || strstr(m->error, "Session with given id") ||
        strstr(m->error, "Cannot find context") || strstr(m->error, "context was destroyed") ||
        strstr(m->error, "navigated or closed") || strstr(m->error, "No target with given id"))
        code = ERR_NOT_FOUND;
    else if (strstr(m->error, "arget crashed"))
        code = ERR_LOST;
    error_set(err, code, "%.400s", m->error);
}

static void answer(struct cdp *cdp, const struct cdp_message *m)
{
    pthread_mutex_lock(&cdp->lock);
    LIST_FOR_EACH (node, &cdp->calls) {
        struct call *call = LIST_ENTRY(node, struct call, link);

        if (call->id != m->id || call->done)
            continue;
        call->done = true;
        if (m->result) {
            call->result = json_incref(m->result);
            (void)json_object_del(m->whole, "result"); /* it has one owner, and one thread */
        } else {
            explain(m, &call->err);
        }
        pthread_cond_broadcast(&cdp->changed);
        break;
    }
    pthread_mutex_unlock(&cdp->lock);
}

static bool dispatch(struct cdp *cdp)
{
    size_t at = 0;

    for (;;) {
        struct cdp_message m;
        size_t used;

        if (!memchr(cdp->in.data + at + cdp->scanned, '\0', cdp->in.len - at - cdp->scanned)) {
            cdp->scanned = cdp->in.len - at;
            break;
        }
        cdp->scanned = 0;
        if (cdp_message_read(cdp->in.data + at, cdp->in.len - at, &m, &used) != CDP_OK)
            return false;
        if (m.id)
            answer(cdp, &m);
        else if (m.method[0] && m.params)
            cdp->events.event(cdp->arg, m.session, m.method, m.params);
        json_decref(m.whole);
        at += used;
    }
    buf_consume(&cdp->in, at);
    return cdp->in.len <= CDP_MESSAGE_MAX;
}

/* Its standard error, of which the end is kept: why it did not start stands there. */
static bool listen(struct cdp *cdp)
{
    if (guest_run_read(run_guest(cdp->run), WIRE_STREAM_OUT, &cdp->at[WIRE_STREAM_OUT], READ_BYTES,
                       &cdp->words) < 0)
        return false;
    if (cdp->words.len > LAST_WORDS)
        buf_consume(&cdp->words, cdp->words.len - LAST_WORDS);
    return true;
}

static void read_all(struct cdp *cdp)
{
    const struct wait w = { .deadline_ns = CLOCK_NEVER, .cancel = &cdp->stop };
    unsigned streams = 1u << WIRE_STREAM_CONTROL | 1u << WIRE_STREAM_OUT;
    struct error err = ERROR_INIT;

    while (run_wait(cdp->run, streams, cdp->at, &w, &err)) {
        uint64_t heard = cdp->at[WIRE_STREAM_OUT];
        long n;

        n = guest_run_read(run_guest(cdp->run), WIRE_STREAM_CONTROL, &cdp->at[WIRE_STREAM_CONTROL],
                           READ_BYTES, &cdp->in);
        if (n < 0 || !listen(cdp) || (n > 0 && !dispatch(cdp)))
            break;
        /* At its end a stream is always ready. */
        if (n == 0 && cdp->at[WIRE_STREAM_OUT] == heard)
            break;
    }
}

static void say_why(struct cdp *cdp, char *why, size_t size)
{
    CLEANUP(buf_fini) struct buf words = BUF_INIT;
    struct run_info info;
    const char *text = "";

    run_info(cdp->run, &info);
    if (utf8_append_valid(&words, buf_str(&cdp->words), cdp->words.len) >= 0) {
        text = buf_str(&words);
        if (words.len > 120)
            text += words.len - 120;
        while (((unsigned char)*text & 0xc0) == 0x80)
            text++;
    }
    if (info.reason == RUN_LIVE || info.reason == RUN_KILLED)
        (void)snprintf(why, size, "it was ended");
    else if (info.reason == RUN_LOST)
        (void)snprintf(why, size, "its computer is gone");
    else if (info.reason == RUN_EXIT || info.reason == RUN_SIGNAL)
        (void)snprintf(why, size, "%s %d%s%s", run_reason_name(info.reason), info.value,
                       *text ? ": " : "", text);
    else
        (void)snprintf(why, size, "a limit of the computer: %s", run_reason_name(info.reason));
    for (char *c = why; *c; c++)
        if (*c == '\n')
            *c = ' ';
}

static void *reader(void *arg)
{
    struct cdp *cdp = arg;
    struct error late = ERROR_INIT;
    struct wait moment = { .cancel = &cdp->stop };
    struct run_info info;
    char why[sizeof cdp->why];

    read_all(cdp);
    guest_run_drain(run_guest(cdp->run));
    moment.deadline_ns = clock_add_ns(clock_now_ns(), END_NS);
    UNCHECKED(run_wait(cdp->run, 0, NULL, &moment, &late));
    /* Also of one that goes on after it closed its way to us, or said nonsense.  One that ended in
     * peace has helpers that still write its cookies down, and end by themselves. */
    run_info(cdp->run, &info);
    if (info.reason != RUN_EXIT || info.value != 0)
        run_kill(cdp->run, SIGKILL, true);
    say_why(cdp, why, sizeof why);
    pthread_mutex_lock(&cdp->lock);
    cdp->over = true;
    memcpy(cdp->why, why, sizeof why);
    pthread_cond_broadcast(&cdp->changed);
    pthread_mutex_unlock(&cdp->lock);
    cdp->events.lost(cdp->arg, why);
    return NULL;
}

/* ---- beginning and end ---- */

struct cdp *cdp_new(struct run *run, const struct cdp_events *events, void *arg, struct error *err)
{
    struct cdp *cdp = calloc(1, sizeof *cdp);
    pthread_attr_t attr;
    int failed;

    if (!cdp) {
        error_set(err, ERR_NOMEM, "the browser's connection");
        return NULL;
    }
    cdp->events = *events;
    cdp->arg = arg;
    list_init(&cdp->calls);
    buf_init(&cdp->in, CDP_MESSAGE_MAX + 2 * READ_BYTES);
    cancel_init(&cdp->stop);
    pthread_mutex_init(&cdp->write_lock, NULL);
    pthread_mutex_init(&cdp->lock, NULL);
    cond_init(&cdp->changed);
    cdp->run = run_ref(run);
    pthread_attr_init(&attr);
    pthread_attr_setstacksize(&attr, STACK_BYTES);
    failed = pthread_create(&cdp->reader, &attr, reader, cdp);
    pthread_attr_destroy(&attr);
    if (failed) {
        error_set_errno(err, failed, "a thread for the browser");
        cdp->reader = 0;
        cdp_free(cdp);
        return NULL;
    }
    return cdp;
}

void cdp_stop(struct cdp *cdp)
{
    cancel_raise(&cdp->stop);
}

void cdp_free(struct cdp *cdp)
{
    if (!cdp)
        return;
    cancel_raise(&cdp->stop);
    if (cdp->reader)
        (void)pthread_join(cdp->reader, NULL);
    run_unref(cdp->run);
    buf_fini(&cdp->in);
    buf_fini(&cdp->words);
    pthread_cond_destroy(&cdp->changed);
    pthread_mutex_destroy(&cdp->lock);
    pthread_mutex_destroy(&cdp->write_lock);
    cancel_fini(&cdp->stop);
    free(cdp);
}

bool cdp_running(struct cdp *cdp)
{
    struct run_info info;

    run_info(cdp->run, &info);
    return info.reason == RUN_LIVE;
}

bool cdp_alive(struct cdp *cdp)
{
    bool over;

    pthread_mutex_lock(&cdp->lock);
    over = cdp->over;
    pthread_mutex_unlock(&cdp->lock);
    return !over;
}

void cdp_why(struct cdp *cdp, char *buf, size_t size)
{
    pthread_mutex_lock(&cdp->lock);
    (void)snprintf(buf, size, "%s", cdp->over ? cdp->why : "");
    pthread_mutex_unlock(&cdp->lock);
}
