/*
 * kernel_place - a kernel for the tests of kernel.c and kernel_submit.c, with tools that echo, wait
 * and fail, and with audit_append() and pthread_create() wrapped to look on and to fail.
 *
 * Threads: the test's own, but for the handlers.
 */
#pragma once

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <stdio.h>
#include <time.h>

#include "kernel/base/clock.h"
#include "kernel/base/fd.h"
#include "kernel/kernel.h"
#include "kernel/kernel_state.h"
#include "tests/support/check.h"

#define SEEN_MAX 16

/* ---- what is wrapped ---- */

struct seen {
    enum audit_kind kind;
    uint64_t syscall;
    char subject[32], decision[16], rule[96], detail[256];
};

static pthread_mutex_t seen_lock = PTHREAD_MUTEX_INITIALIZER;
static struct seen seen[SEEN_MAX]; /* the first that were appended, and what handlers note */
static size_t seen_count;
static atomic_bool audit_refuses;
static atomic_bool no_threads;

bool __real_audit_append(struct audit *a, const struct audit_entry *entry, struct error *err);
bool __wrap_audit_append(struct audit *a, const struct audit_entry *entry, struct error *err);
int __real_pthread_create(pthread_t *thread, const pthread_attr_t *attr, void *(*fn)(void *),
                          void *arg);
int __wrap_pthread_create(pthread_t *thread, const pthread_attr_t *attr, void *(*fn)(void *),
                          void *arg);

static inline void note_seen(enum audit_kind kind, const struct audit_entry *entry)
{
    pthread_mutex_lock(&seen_lock);
    if (seen_count < SEEN_MAX) {
        struct seen *s = &seen[seen_count++];

        *s = (struct seen){ .kind = kind, .syscall = entry->syscall };
        (void)snprintf(s->subject, sizeof s->subject, "%s", entry->subject ? entry->subject : "");
        (void)snprintf(s->decision, sizeof s->decision, "%s",
                       entry->decision ? entry->decision : "");
        (void)snprintf(s->rule, sizeof s->rule, "%s", entry->rule ? entry->rule : "");
        (void)snprintf(s->detail, sizeof s->detail, "%.255s", entry->detail ? entry->detail : "");
    }
    pthread_mutex_unlock(&seen_lock);
}

bool __wrap_audit_append(struct audit *a, const struct audit_entry *entry, struct error *err)
{
    if (atomic_load(&audit_refuses))
        return error_set(err, ERR_IO, "the disk is gone");
    note_seen(entry->kind, entry);
    return __real_audit_append(a, entry, err);
}

int __wrap_pthread_create(pthread_t *thread, const pthread_attr_t *attr, void *(*fn)(void *),
                          void *arg)
{
    return atomic_load(&no_threads) ? EAGAIN : __real_pthread_create(thread, attr, fn, arg);
}

static inline void assert_seen(size_t i, enum audit_kind kind, const char *subject,
                               const char *decision)
{
    assert_true(i < seen_count);
    if (seen[i].kind != kind || strcmp(seen[i].subject, subject) ||
        strcmp(seen[i].decision, decision))
        fail_msg("entry %zu is %d %s %s", i, (int)seen[i].kind, seen[i].subject, seen[i].decision);
}

/* ---- tools ---- */

struct args {
    const char *text;
    int64_t n;
};

static const struct json_field fields[] = {
    { "command", "Anything", JSON_KIND_STRING, false, offsetof(struct args, text), 0, 100 },
    { "n", "A number", JSON_KIND_INT, false, offsetof(struct args, n), 0, 1000000 },
    { .name = NULL },
};

static sem_t arrived; /* a gated handler has begun */
static sem_t gate;    /* and may go on */
static _Atomic pthread_t handler_thread __attribute__((unused));
static atomic_int handled;

static inline bool sem_get(sem_t *sem)
{
    struct timespec until;

    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += 60; /* only a bug makes anyone wait that long */
    while (sem_timedwait(sem, &until)) {
        if (errno != EINTR)
            return false;
    }
    return true;
}

static inline bool echo(struct tool_call *call, const void *arguments, struct error *err)
{
    const struct args *args = arguments;

    atomic_fetch_add(&handled, 1);
    note_seen(AUDIT_KIND_COUNT, &(struct audit_entry){ .subject = "handler" });
    handler_thread = pthread_self();
    assert(agent_name(call->agent) && call->kernel && call->syscall->state == SYSCALL_RUNNING);
    return result_printf(call->result, err, "%s", args->text ? args->text : "nothing");
}

static inline bool no_way(struct tool_call *call, const void *args, struct error *err)
{
    struct error ignored = ERROR_INIT;
    bool ok = result_printf(call->result, &ignored, "half an answer");

    (void)args;
    return ok && error_set(err, ERR_NOT_FOUND, "no such run; terminal_run makes one");
}

static inline bool speechless(struct tool_call *call, const void *args, struct error *err)
{
    (void)call;
    (void)args;
    (void)err;
    return false;
}

static inline bool gated(struct tool_call *call, const void *args, struct error *err)
{
    (void)args;
    sem_post(&arrived);
    (void)sem_get(&gate);
    return result_printf(call->result, err, "passed");
}

struct wake {
    pthread_mutex_t lock;
    pthread_cond_t cond;
};

static inline void wake_up(void *arg)
{
    struct wake *wake = arg;

    pthread_mutex_lock(&wake->lock);
    pthread_cond_broadcast(&wake->cond);
    pthread_mutex_unlock(&wake->lock);
}

/* Waits as every tool does: until @w's deadline, or until it is cancelled. */
static inline bool wait_out(const struct wait *w, struct error *err)
{
    struct wake wake = { .lock = PTHREAD_MUTEX_INITIALIZER };
    struct cancel_hook hook;

    cond_init(&wake.cond);
    cancel_attach(w->cancel, &hook, wake_up, &wake);
    sem_post(&arrived);
    pthread_mutex_lock(&wake.lock);
    while (wait_cond(w, &wake.cond, &wake.lock))
        continue;
    pthread_mutex_unlock(&wake.lock);
    cancel_detach(w->cancel, &hook);
    pthread_cond_destroy(&wake.cond);
    return wait_check(w, err);
}

static inline bool patient(struct tool_call *call, const void *args, struct error *err)
{
    (void)args;
    return wait_out(&call->wait, err);
}

/* Takes no notice of its deadline. */
static inline bool deaf(struct tool_call *call, const void *args, struct error *err)
{
    struct wait w = { .deadline_ns = CLOCK_NEVER, .cancel = call->wait.cancel };

    (void)args;
    return wait_out(&w, err);
}

static inline bool still_running(struct tool_call *call, const void *args, struct error *err)
{
    struct error why = ERROR_INIT;

    (void)args;
    if (wait_out(&call->wait, &why) || why.code == ERR_TIMEOUT)
        return result_printf(call->result, err, "still running");
    *err = why; /* it was cancelled: nobody waits for this any more */
    return false;
}

#define TOOL(tool_name, tool_handler, tool_flags)                                      \
    {                                                                                  \
        .name = tool_name, .title = "T", .description = "D", .fields = fields,         \
        .args_size = sizeof(struct args), .handler = tool_handler, .flags = tool_flags \
    }

static const struct tool t_inline __attribute__((unused)) = TOOL("inline", echo, TOOL_INLINE);
static const struct tool t_echo __attribute__((unused)) = TOOL("echo", echo, 0);
static const struct tool t_gated __attribute__((unused)) = TOOL("gated", gated, 0);
static const struct tool t_gated_quick __attribute__((unused)) =
    TOOL("gated_quick", gated, TOOL_QUICK);
static const struct tool t_no_way __attribute__((unused)) = TOOL("no_way", no_way, 0);
static const struct tool t_speechless __attribute__((unused)) =
    TOOL("speechless", speechless, TOOL_INLINE);
static const struct tool t_patient __attribute__((unused)) = TOOL("patient", patient, 0);
static const struct tool t_deaf __attribute__((unused)) = TOOL("deaf", deaf, 0);
static const struct tool t_still __attribute__((unused)) = TOOL("still", still_running, 0);

/* ---- a kernel for a test ---- */

struct place {
    char dir[64];
    struct config config;
    struct loop *loop;
    struct kernel *k;
    struct agent *agent;
    int done;
    enum syscall_state last_state;
    enum error_code last_code;
    char last_text[200];
    bool on_loop;
};

static inline struct config config_of(const char *audit_dir)
{
    return (struct config){
        .agent = { .name = "default", .group = "" },
        .computer = { .kind = "sandbox",
                      .memory_mb = 64,
                      .disk_mb = 16,
                      .pids = 16,
                      .max_per_agent = 2 },
        .sandbox = { .cgroup = "none" },
        .tool = { .calls = { .policy = "fifo", .queue = 1024, .workers = 8 },
                  .call_timeout_ms = 60000 },
        .audit = { .enabled = audit_dir != NULL, .dir = audit_dir ? audit_dir : "" },
        .log = { .level = "warn" },
        .source = "",
    };
}

static inline struct place *place_new(struct place *p, int64_t workers, int64_t queue,
                                      json_t *rules)
{
    struct error err = ERROR_INIT;

    *p = (struct place){ .dir = "/tmp/test_kernel.XXXXXX" };
    assert_non_null(mkdtemp(p->dir));
    p->config = config_of(p->dir);
    p->config.tool.calls.workers = workers;
    p->config.tool.calls.queue = queue;
    p->config.llm.calls = p->config.tool.calls;
    p->config.access.rules = rules;
    p->loop = loop_new(&err);
    assert_ok(p->loop, err);
    p->k = kernel_new(p->loop, &p->config, &err);
    assert_ok(p->k, err);
    kernel_open_audit(p->k); /* as the first syscall does, so that rows can be counted from it */
    p->agent = kernel_agent(p->k, "default", NULL, &err);
    assert_ok(p->agent, err);
    atomic_store(&handled, 0);
    sem_init(&arrived, 0, 0);
    sem_init(&gate, 0, 0);
    pthread_mutex_lock(&seen_lock);
    seen_count = 0;
    pthread_mutex_unlock(&seen_lock);
    return p;
}

static inline void place_free(struct place *p)
{
    struct error err = ERROR_INIT;

    agent_unref(p->agent);
    kernel_free(p->k);
    loop_free(p->loop);
    if (!fd_remove_tree(AT_FDCWD, p->dir, &err))
        print_message("%s\n", err.text);
    sem_destroy(&arrived);
    sem_destroy(&gate);
}

static inline void on_done(struct syscall *sc)
{
    struct place *p = sc->done_arg;

    p->done++;
    p->last_state = sc->state;
    p->last_code = sc->error.code;
    p->on_loop = loop_is_owner(p->loop);
    p->last_text[0] = '\0';
    if (sc->result.count)
        (void)snprintf(p->last_text, sizeof p->last_text, "%.199s",
                       buf_str(&sc->result.blocks[0].data));
    assert_true(sc->state == SYSCALL_DONE || sc->result.is_error);
    assert_true(sc->ended_ns >= sc->submitted_ns);
    syscall_free(sc);
}

static inline struct syscall *call_of(struct place *p, const struct tool *tool, const char *text)
{
    struct error err = ERROR_INIT;
    json_t *json = text ? json_pack("{s:s}", "command", text) : NULL;
    struct syscall *sc = syscall_new(SYSCALL_TOOL, p->agent, tool, json, &err);

    json_decref(json);
    assert_ok(sc, err);
    sc->done = on_done;
    sc->done_arg = p;
    return sc;
}

static inline struct syscall *submit(struct place *p, const struct tool *tool, const char *text)
{
    struct syscall *sc = call_of(p, tool, text);
    struct error err = ERROR_INIT;

    assert_ok(kernel_submit(p->k, sc, &err), err);
    return sc;
}

static inline void turn_until(struct place *p, int done)
{
    struct timespec start, now;

    clock_gettime(CLOCK_MONOTONIC, &start);
    while (p->done < done) {
        loop_turn(p->loop, 100);
        clock_gettime(CLOCK_MONOTONIC, &now);
        if (now.tv_sec - start.tv_sec > 60)
            fail_msg("%d of %d are done", p->done, done);
    }
    assert_int_equal(p->done, done);
}
