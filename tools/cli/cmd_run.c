/*
 * aios run: one command in a sandbox of its own, straight on the sandbox.
 *
 * One thread does it all, turning the loop while it waits; only what could keep it from doing so
 * has threads of its own: reading an input, and writing to whoever reads slowly.  What cannot
 * outlive the process is not taken down one by one: once the exit code is known the sandbox is
 * killed, its groups are removed, and _exit() does the rest.
 */
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <uv.h>

#include "kernel/base/clock.h"
#include "kernel/base/json.h"
#include "kernel/base/limits.h"
#include "kernel/base/log.h"
#include "tools/cli/run_order.h"
#include "tools/cli/run_stdio.h"
#include "tools/cli/solo.h"

#define START_NS (30 * CLOCK_NS_PER_S)

enum {
    EXIT_TIMEOUT = 124,
    EXIT_OURS = 125,
    EXIT_CANNOT = 126,
    EXIT_ABSENT = 127,
    EXIT_BY_SIGNAL = 128,
};

static const int passed_on[] = { SIGINT, SIGTERM, SIGHUP, SIGQUIT };

/* One per process, alive until _exit(). */
struct run_command {
    struct run_order order;
    struct run_stdio io;
    struct solo *solo;
    uv_signal_t signals[ARRAY_LEN(passed_on) + 1]; /* and SIGWINCH */
    struct computer *computer;
    struct run *run;
    unsigned signal_count;
    int signal; /* the first one, when it came before there was a run */
};

/* ---- the end ---- */

/* Also by the loop, when a signal asks for the third time. */
static _Noreturn void leave(struct run_command *c, int code)
{
    run_stdio_restore();
    if (c->computer)
        computer_destroy(c->computer);
    c->solo->backend->free(c->solo->backend);
    (void)fflush(stdout);
    _exit(code);
}

static int code_of_end(const struct guest_run_info *guest)
{
    return guest->end == GUEST_RUN_SIGNAL ? EXIT_BY_SIGNAL + guest->value : guest->value;
}

static int code_of(const struct run_info *info)
{
    switch (info->reason) {
    case RUN_TIMEOUT:
        return EXIT_TIMEOUT;
    case RUN_LOST:
        return EXIT_OURS;
    default:
        return code_of_end(&info->guest);
    }
}

/* ---- what is told at the end ---- */

static bool set(json_t *object, const char *key, json_t *value)
{
    return json_object_set_new(object, key, value) == 0;
}

static json_t *milliseconds(int64_t ns)
{
    int64_t us = ns / CLOCK_NS_PER_US; /* finer would be noise */

    return json_real((double)us / 1000.0);
}

/* One entry for each system call and argument, in the order of their first time. */
static bool add_refusal(json_t *list, const struct computer_refusal *refusal)
{
    size_t i;
    json_t *one;

    json_array_foreach (list, i, one) {
        if (strcmp(json_string_value(json_object_get(one, "syscall")), refusal->name) == 0 &&
            strcmp(json_string_value(json_object_get(one, "argument")), refusal->text) == 0)
            return set(one, "count",
                       json_integer(json_integer_value(json_object_get(one, "count")) + 1));
    }
    one = json_object();
    return json_array_append_new(list, one) == 0 &&
           set(one, "syscall", json_string(refusal->name)) &&
           set(one, "argument", json_string(refusal->text)) && set(one, "count", json_integer(1));
}

static json_t *list_refusals(struct run_command *c, uint64_t since)
{
    struct computer_refusal refusals[LIMIT_REFUSALS];
    json_t *list = json_array();
    size_t count = computer_refusals(c->computer, since, refusals, ARRAY_LEN(refusals), NULL);

    for (size_t i = 0; i < count; i++) {
        if (!add_refusal(list, &refusals[i])) {
            json_decref(list);
            return NULL;
        }
    }
    return list;
}

static void print_json(json_t *report)
{
    CLEANUP(buf_fini) struct buf line = BUF_INIT;

    if (json_write(report, &line))
        fprintf(stderr, "%s\n", buf_str(&line));
    else
        fprintf(stderr, "aios run: out of memory for the report\n");
}

static void report_json(struct run_command *c, const struct run_info *info)
{
    const struct guest_run_info *guest = &info->guest;
    json_t *report = json_object();
    json_t *usage = json_object();
    bool ok = set(usage, "wall_ms", milliseconds(guest->usage.wall_ns)) &&
              set(usage, "cpu_ms", milliseconds(guest->usage.cpu_ns)) &&
              set(usage, "peak_bytes", json_integer((json_int_t)guest->usage.peak_bytes));

    ok = set(report, "reason", json_string(run_reason_name(info->reason))) &&
         set(report, "exit_code",
             guest->end == GUEST_RUN_EXIT ? json_integer(guest->value) : json_null()) &&
         set(report, "signal",
             guest->end == GUEST_RUN_SIGNAL ? json_integer(guest->value) : json_null()) &&
         ok;
    ok = set(report, "usage", usage) && ok;
    ok = set(report, "refused", list_refusals(c, info->refusal_seq)) && ok;
    print_json(ok ? report : NULL);
    json_decref(report);
}

/* Why it ended, where the exit code does not say it. */
static void report_text(struct run_command *c, const struct run_info *info)
{
    const struct computer_spec *spec = computer_spec(c->computer);
    char why[200];

    switch (info->reason) {
    case RUN_TIMEOUT:
        fprintf(stderr, "aios run: killed: its %.3g s were up\n",
                (double)c->order.timeout_ns / (double)CLOCK_NS_PER_S);
        break;
    case RUN_OOM:
        fprintf(stderr, "aios run: killed for memory: the limit is %llu MiB (--memory)\n",
                (unsigned long long)(spec->memory_bytes >> 20));
        break;
    case RUN_PIDS:
        fprintf(stderr, "aios run: processes were refused: the limit is %u (--pids)\n", spec->pids);
        break;
    case RUN_DISK:
        fprintf(stderr, "aios run: its disk is full: the limit is %llu MiB (--disk)\n",
                (unsigned long long)(spec->disk_bytes >> 20));
        break;
    case RUN_LOST:
        computer_lost_reason(c->computer, why, sizeof why);
        fprintf(stderr, "aios run: the sandbox ended: %s\n", why);
        break;
    default:
        break;
    }
}

/* What failed before there was a run, or in passing its output on. */
static int report_failure(struct run_command *c, int code, const struct error *err)
{
    json_t *report;

    if (!c->order.json)
        return cli_fail("run", code, err);
    report = json_object();
    print_json(
        set(report, "reason", json_string("failed")) && set(report, "exit_code", json_null()) &&
                set(report, "signal", json_null()) && set(report, "error", json_string(err->text))
            ? report
            : NULL);
    json_decref(report);
    return code;
}

/* ---- signals, on the loop ---- */

static void on_signal(uv_signal_t *handle, int signum)
{
    struct run_command *c = handle->data;

    if (signum == SIGWINCH) {
        uint16_t rows, cols;

        run_stdio_size(&rows, &cols);
        if (c->run)
            guest_run_resize(run_guest(c->run), rows, cols);
        return;
    }
    c->signal_count++;
    if (!c->run) {
        c->signal = signum;
        cancel_raise(&c->solo->cancel);
    } else if (c->signal_count == 1) {
        run_kill(c->run, signum, false);
    } else {
        run_kill(c->run, SIGKILL, true);
    }
    /* It was killed already: we wait for whoever does not read our output. */
    if (c->run && c->signal_count > 2)
        leave(c, EXIT_BY_SIGNAL + signum);
}

static void watch(struct run_command *c, uv_signal_t *handle, int signum)
{
    if (uv_signal_init(loop_uv(c->solo->loop), handle) != 0)
        return;
    handle->data = c;
    (void)uv_signal_start(handle, on_signal, signum);
}

static void watch_all(struct run_command *c)
{
    for (size_t i = 0; i < ARRAY_LEN(passed_on); i++)
        watch(c, &c->signals[i], passed_on[i]);
    if (c->io.pty)
        watch(c, &c->signals[ARRAY_LEN(passed_on)], SIGWINCH);
}

/* ---- the command ---- */

static bool make_computer(struct run_command *c, const struct wait *w, struct error *err)
{
    struct computer_spec spec;

    if (!run_order_spec(&c->order, c->solo->config, &spec, err))
        return false;
    c->computer = solo_computer(c->solo, &spec, w, err);
    return c->computer != NULL;
}

/* 126 and 127 are about the command alone. */
static int code_of_refusal(struct run_command *c, const struct error *err, const struct wait *w)
{
    struct guest *guest = computer_guest(c->computer);
    struct wire_stat st;

    if (err->code != ERR_NOT_FOUND && err->code != ERR_DENIED && err->code != ERR_INVALID)
        return EXIT_OURS;
    if (!guest_stat(guest, "/", run_order_cwd(&c->order), true, &st, w, NULL) ||
        (st.mode & 0170000u) != 0040000u)
        return EXIT_OURS;
    return err->code == ERR_NOT_FOUND ? EXIT_ABSENT : EXIT_CANNOT;
}

/* The terminal inside is of the kind that we have here. */
static const char *term_entry(const struct run_command *c, char *buf, size_t size)
{
    const char *term = getenv("TERM");

    if (!c->io.pty || !term || strlen(term) + sizeof "TERM=" > size)
        return NULL;
    for (size_t i = 0; i < c->order.env.count; i++)
        if (strncmp(c->order.env.items[i], "TERM=", 5) == 0)
            return NULL;
    (void)snprintf(buf, size, "TERM=%s", term);
    return buf;
}

static bool start(struct run_command *c, const struct wait *w, int *ret_code, struct error *err)
{
    char term[128];
    const char *env[] = { term_entry(c, term, sizeof term), NULL };
    struct run_spec spec = {
        .argv = (const char *const *)c->order.argv,
        .env = env,
        .cwd = run_order_cwd(&c->order),
        .timeout_ns = c->order.timeout_ns,
        .pty = c->io.pty,
        .stdin_open = c->io.input,
        .lossless = true,
        .last = true,
        .max_output = UINT64_MAX,
    };

    *ret_code = EXIT_OURS;
    if (!make_computer(c, w, err))
        return false;
    if (spec.pty)
        run_stdio_size(&spec.rows, &spec.cols);
    c->run = run_start(c->computer, &spec, w, err);
    if (!c->run) {
        *ret_code = code_of_refusal(c, err, w);
        return false;
    }
    if (c->signal)
        run_kill(c->run, c->signal, false);
    run_stdio_raw(&c->io);
    return run_stdio_forward(&c->io, c->run, err);
}

static int finish(struct run_command *c)
{
    struct run_info info;

    run_info(c->run, &info);
    run_stdio_restore();
    if (c->order.json)
        report_json(c, &info);
    else
        report_text(c, &info);
    return code_of(&info);
}

/* Output that somebody reads slowly is passed on by a thread, so that signals are heard meanwhile.
 */
struct slow_output {
    struct run_command *c;
    enum run_stdio_end end;
    struct error err;
    struct loop_post done;
};

static void on_output_done(struct loop_post *post)
{
    loop_stop(CONTAINER_OF(post, struct slow_output, done)->c->solo->loop);
}

static void *output_main(void *arg)
{
    struct slow_output *slow = arg;

    slow->end = run_stdio_pump(&slow->c->io, slow->c->run, true, &slow->err);
    loop_post(slow->c->solo->loop, &slow->done, on_output_done);
    return NULL;
}

static enum run_stdio_end pump(struct run_command *c, struct error *err)
{
    struct slow_output slow = { .c = c, .err = ERROR_INIT };
    pthread_t thread;
    int rc;

    slow.end = run_stdio_pump(&c->io, c->run, false, err);
    if (slow.end != RUN_STDIO_BLOCKS)
        return slow.end;
    rc = pthread_create(&thread, NULL, output_main, &slow);
    if (rc != 0) {
        error_set_errno(err, rc, "start a thread for the output");
        return RUN_STDIO_FAILED;
    }
    loop_run(c->solo->loop);
    pthread_join(thread, NULL);
    *err = slow.err;
    return slow.end;
}

static void work(struct solo *s, void *arg)
{
    struct run_command *c = arg;
    const struct wait w = { .deadline_ns = clock_add_ns(clock_now_ns(), START_NS),
                            .cancel = &s->cancel };
    struct error err = ERROR_INIT;
    int code;

    c->solo = s;
    watch_all(c);
    if (!start(c, &w, &code, &err)) {
        if (err.code == ERR_CANCELLED)
            leave(c, EXIT_BY_SIGNAL + c->signal);
        leave(c, report_failure(c, code, &err));
    }
    switch (pump(c, &err)) {
    case RUN_STDIO_DONE:
        leave(c, finish(c));
    case RUN_STDIO_CLOSED:
        leave(c, EXIT_BY_SIGNAL + SIGPIPE);
    case RUN_STDIO_BLOCKS:
    case RUN_STDIO_FAILED:
        leave(c, report_failure(c, EXIT_OURS, &err));
    }
}

int cli_run(int argc, char **argv)
{
    static struct run_command c;
    CLEANUP(config_freep) struct config *config = NULL;
    struct error err = ERROR_INIT;
    enum log_level level;
    bool helped;
    bool ok;

    run_stdio_look(&c.io);
    ok = run_order_read(&c.order, argc, argv, &helped, &err);
    if (!ok || helped) {
        run_order_fini(&c.order);
        return ok ? CLI_OK : cli_fail("run", EXIT_OURS, &err);
    }
    config = config_load(c.order.config_path, NULL, &err);
    if (config && (c.order.allow.count > 0 || json_array_size(config->computer.allow) > 0))
        cli_need_names();
    if (config && log_level_parse(config->log.level, &level))
        log_set_level(level);
    /* Comes back only when nothing could be started. */
    if (!config || !solo_run(config, work, &c, &err))
        (void)report_failure(&c, EXIT_OURS, &err);
    run_order_fini(&c.order);
    return EXIT_OURS;
}
