/* The family terminal: starting programs, reading, typing, stopping. */
#include "tools/terminal.h"

#include <ctype.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "kernel/base/clock.h"
#include "kernel/base/limits.h"
#include "tools/terminal_keys.h"

#define WAIT_MS_MAX  45000
#define KILL_WAIT_NS (2 * CLOCK_NS_PER_S)
#define GREP_WAIT_NS (10 * CLOCK_NS_PER_S)
#define SETTLE_NS    (5 * CLOCK_NS_PER_S)

#define RUN_FIELD(type)                                                                     \
    {                                                                                       \
        .name = "run", .description = "Handle from terminal_run", .kind = JSON_KIND_STRING, \
        .required = true, .offset = offsetof(type, run), .min = 1, .max = 64                \
    }

/* ---- terminal_run ---- */

struct run_args {
    const char *command, *cwd, *computer;
    json_t *argv, *env;
    struct json_text stdin_text;
    int64_t timeout_ms, wait_ms, rows, cols;
    bool pty, background;
};

static const struct json_field run_fields[] = {
    { .name = "command",
      .description = "For /bin/sh; or use argv",
      .kind = JSON_KIND_STRING,
      .offset = offsetof(struct run_args, command),
      .min = 1,
      .max = 131072 },
    { .name = "argv",
      .description = "Program and arguments, without a shell",
      .kind = JSON_KIND_STRINGS,
      .offset = offsetof(struct run_args, argv),
      .min = 1,
      .max = 4096 },
    { .name = "cwd",
      .description = "Default /workspace",
      .kind = JSON_KIND_STRING,
      .offset = offsetof(struct run_args, cwd),
      .min = 1,
      .max = 4096 },
    { .name = "env",
      .description = "Variables to add",
      .kind = JSON_KIND_MAP,
      .offset = offsetof(struct run_args, env),
      .min = 0,
      .max = 256 },
    { .name = "stdin",
      .description = "Its whole standard input",
      .kind = JSON_KIND_TEXT,
      .offset = offsetof(struct run_args, stdin_text) },
    { .name = "timeout_ms",
      .description = "Kill it and all it started then (default: never)",
      .kind = JSON_KIND_INT,
      .offset = offsetof(struct run_args, timeout_ms),
      .min = 1,
      .max = 86400000 },
    { .name = "wait_ms",
      .description = "Answer then at the latest; it goes on",
      .kind = JSON_KIND_INT,
      .offset = offsetof(struct run_args, wait_ms),
      .min = 1,
      .max = WAIT_MS_MAX,
      .fallback = WAIT_MS_MAX },
    { .name = "pty",
      .description = "Show the screen of a terminal, for vim, top, REPLs; answers when it is still",
      .kind = JSON_KIND_BOOL,
      .offset = offsetof(struct run_args, pty) },
    { .name = "background",
      .description = "Answer at once; stdin stays open for terminal_write",
      .kind = JSON_KIND_BOOL,
      .offset = offsetof(struct run_args, background) },
    { .name = "rows",
      .kind = JSON_KIND_INT,
      .offset = offsetof(struct run_args, rows),
      .min = 2,
      .max = 200,
      .fallback = 24 },
    { .name = "cols",
      .kind = JSON_KIND_INT,
      .offset = offsetof(struct run_args, cols),
      .min = 10,
      .max = 400,
      .fallback = 80 },
    TOOLKIT_COMPUTER_FIELD(struct run_args),
    { .name = NULL },
};

/* Output, or the screen of a pty, from @from on; what was told is remembered. */
static bool answer_run(struct tool_call *call, struct run *run, struct terminal *t, uint64_t from,
                       bool page, struct error *err)
{
    CLEANUP(buf_fini) struct buf screen = BUF_INIT;
    uint64_t end = 0;
    struct toolkit_report report = { .run = run, .from = from, .page = page, .ret_end = &end };
    struct run_info info;

    if (terminal_has_screen(t)) {
        if (!terminal_screen(t, run, &screen, err))
            return false;
        report.screen = buf_str(&screen);
        run_info(run, &info);
        end = info.guest.total[WIRE_STREAM_OUT];
    }
    if (!toolkit_report(call, &report, err))
        return false;
    terminal_tell(t, end);
    return true;
}

/* Until the run ends or it is time to answer.  A lost computer is an end like others. */
static bool await_run(struct tool_call *call, struct run *run, int64_t by_ns, struct error *err)
{
    struct wait wait = { .deadline_ns = by_ns, .cancel = call->wait.cancel };
    struct error late = ERROR_INIT;

    if (run_wait(run, 0, NULL, &wait, &late) || late.code == ERR_TIMEOUT)
        return true;
    if (late.code == ERR_CANCELLED)
        run_kill(run, SIGKILL, true);
    if (err)
        *err = late;
    return false;
}

static bool feed_stdin(struct tool_call *call, struct run *run, const struct json_text *text,
                       int64_t by_ns, struct error *err)
{
    struct wait wait = { .deadline_ns = by_ns, .cancel = call->wait.cancel };
    struct error late = ERROR_INIT;

    /* A program may end, or never read: neither is the caller's mistake. */
    if (!guest_run_write(run_guest(run), WIRE_STREAM_MAIN, text->data, text->len, &wait, &late) &&
        late.code == ERR_CANCELLED) {
        run_kill(run, SIGKILL, true);
        if (err)
            *err = late;
        return false;
    }
    guest_run_close_stdin(run_guest(run));
    return true;
}

static bool check_run(const struct run_args *a, struct error *err)
{
    if (!a->command == !a->argv)
        return error_set(
            err, ERR_INVALID,
            "send either \"command\" (a shell command line) or \"argv\" (a list), not %s",
            a->command ? "both" : "neither");
    if (a->cwd && a->cwd[0] != '/')
        return error_set(err, ERR_INVALID, "cwd must be an absolute path, such as /workspace");
    if (a->stdin_text.data && (a->pty || a->background))
        return error_set(err, ERR_INVALID,
                         "\"stdin\" does not go with %s; use terminal_write to type into the run",
                         a->pty ? "pty" : "background");
    return true;
}

static bool terminal_run(struct tool_call *call, const void *args, struct error *err)
{
    const struct run_args *a = args;
    CLEANUP(computer_unrefp) struct computer *computer = NULL;
    CLEANUP(run_unrefp) struct run *run = NULL;
    CLEANUP(terminal_unrefp) struct terminal *t = NULL;
    struct run_spec spec = { .command = a->command, .cwd = a->cwd, .pty = a->pty, .merge = true };
    int64_t by_ns = toolkit_answer_by(call, a->wait_ms);
    char **argv = NULL;
    char **env = NULL;

    if (!check_run(a, err))
        return false;
    computer = toolkit_computer(call, a->computer, err);
    if (!computer || !toolkit_env(a->env, &env, err))
        return false;
    if (a->argv && !(argv = toolkit_strings(a->argv, err))) {
        free(env);
        return false;
    }
    spec.argv = (const char *const *)argv;
    spec.env = (const char *const *)env;
    spec.timeout_ns = a->timeout_ms * CLOCK_NS_PER_MS;
    spec.stdin_open = a->stdin_text.data || a->background || a->pty;
    spec.rows = (uint16_t)a->rows;
    spec.cols = (uint16_t)a->cols;
    run = run_start(computer, &spec, &call->wait, err);
    free(argv);
    free(env);
    if (!run)
        return false;
    tool_call_note(call, "running %s", run_title(run));
    if (!computers_run_add(kernel_computers(call->kernel), call->agent, run, err) ||
        !terminal_attach(call, run, a->pty, (int)a->rows, (int)a->cols, err)) {
        run_kill(run, SIGKILL, true);
        return false;
    }
    if (a->stdin_text.data && !feed_stdin(call, run, &a->stdin_text, by_ns, err))
        return false;
    if (a->pty) {
        if (!terminal_settle(call, run, by_ns - clock_now_ns(), err)) {
            run_kill(run, SIGKILL, true); /* nobody has been told its handle */
            return false;
        }
    } else if (!a->background && !await_run(call, run, by_ns, err)) {
        return false;
    }
    t = terminal_get(call, run);
    return answer_run(call, run, t, 0, false, err);
}

/* ---- terminal_read ---- */

struct read_args {
    const char *run, *grep;
    int64_t offset, wait_ms, tail;
};

static const struct json_field read_fields[] = {
    RUN_FIELD(struct read_args),
    { .name = "offset",
      .description = "Byte to begin at (default: what no answer has shown yet)",
      .kind = JSON_KIND_INT,
      .offset = offsetof(struct read_args, offset),
      .min = 0,
      .max = INT64_MAX,
      .fallback = -1 },
    { .name = "wait_ms",
      .description = "Wait for new output or the end",
      .kind = JSON_KIND_INT,
      .offset = offsetof(struct read_args, wait_ms),
      .min = 0,
      .max = WAIT_MS_MAX },
    { .name = "tail",
      .description = "Only the last lines",
      .kind = JSON_KIND_INT,
      .offset = offsetof(struct read_args, tail),
      .min = 1,
      .max = 100000 },
    { .name = "grep",
      .description = "Only lines that match this extended regex, numbered",
      .kind = JSON_KIND_STRING,
      .offset = offsetof(struct read_args, grep),
      .min = 1,
      .max = 1000 },
    { .name = NULL },
};

/* The text of the last @lines lines. */
static const char *tail_of(const struct buf *text, int64_t lines)
{
    const char *at = buf_str(text) + text->len;

    if (text->len > 0 && at[-1] == '\n')
        at--;
    while (at > buf_str(text)) {
        if (at[-1] == '\n' && --lines == 0)
            break;
        at--;
    }
    return at;
}

/* The computer's own grep does the matching, within its limits: a pattern cannot hurt the host. */
static bool grep_text(struct tool_call *call, struct run *of, const char *pattern,
                      const struct buf *text, struct buf *out, struct error *err)
{
    const char *const argv[] = { "grep", "-nE", "-e", pattern, NULL };
    struct run_spec spec = {
        .argv = argv, .merge = true, .stdin_open = true, .cwd = "/", .timeout_ns = GREP_WAIT_NS
    };
    struct wait wait = { .deadline_ns = clock_add_ns(clock_now_ns(), GREP_WAIT_NS),
                         .cancel = call->wait.cancel };
    CLEANUP(run_unrefp) struct run *run = run_start(run_computer(of), &spec, &wait, err);
    struct error ignored = ERROR_INIT;
    uint64_t offset = 0;
    size_t sent = 0;
    struct run_info info;

    if (!run)
        return error_prefix(err, "search the output");
    do {
        uint64_t beyond[WIRE_STREAM_COUNT] = { 0 };
        size_t piece = MIN(text->len - sent, 65536u);

        /* Feed and drain in turns.  Not lossless: with a full output it would stop reading, too. */
        if (piece > 0 && guest_run_write(run_guest(run), WIRE_STREAM_MAIN, text->data + sent, piece,
                                         &wait, &ignored))
            sent += piece;
        else
            sent = text->len;
        if (sent == text->len)
            guest_run_close_stdin(run_guest(run));
        if (guest_run_read(run_guest(run), WIRE_STREAM_OUT, &offset, SIZE_MAX, out) < 0)
            return error_set(err, ERR_NOMEM, "the matching lines");
        run_info(run, &info);
        beyond[WIRE_STREAM_OUT] = offset;
        if (sent == text->len && info.reason == RUN_LIVE &&
            !run_wait(run, info.guest.streams_ended ? 0 : 1u << WIRE_STREAM_OUT, beyond, &wait,
                      err)) {
            run_kill(run, SIGKILL, true);
            return false;
        }
    } while (sent < text->len || info.reason == RUN_LIVE);
    if (guest_run_read(run_guest(run), WIRE_STREAM_OUT, &offset, SIZE_MAX, out) < 0)
        return error_set(err, ERR_NOMEM, "the matching lines");
    if (info.reason == RUN_EXIT && info.value > 1)
        return error_set(err, ERR_INVALID, "%.300s", buf_str(out));
    return true;
}

/* With tail or grep: part of what is kept of the output. */
static bool answer_part(struct tool_call *call, const struct read_args *a, struct run *run,
                        uint64_t from, struct error *err)
{
    CLEANUP(buf_fini) struct buf raw = BUF_INIT;
    CLEANUP(buf_fini) struct buf text = BUF_INIT;
    CLEANUP(buf_fini) struct buf found = BUF_INIT;
    CLEANUP(buf_fini) struct buf status = BUF_INIT;
    const char *show;
    struct run_info info;
    uint64_t offset = from;

    if (guest_run_read(run_guest(run), WIRE_STREAM_OUT, &offset, LIMIT_RING_BYTES, &raw) < 0 ||
        !toolkit_clean(&text, buf_str(&raw), raw.len))
        return error_set(err, ERR_NOMEM, "the output of run %s", a->run);
    if (a->grep && text.len > 0 && !grep_text(call, run, a->grep, &text, &found, err))
        return false;
    show = a->grep ? buf_str(&found) : buf_str(&text);
    if (a->tail > 0)
        show = tail_of(a->grep ? &found : &text, a->tail);
    run_info(run, &info);
    toolkit_status(&info, a->run, &status);
    if (*show == '\0' && a->grep)
        show = "(no line matches)\n";
    return (*show == '\0' || result_text(call->result, show, strlen(show),
                                         "narrow it with \"grep\" or \"tail\"", err)) &&
           result_text(call->result, buf_str(&status), status.len, NULL, err);
}

static bool terminal_read(struct tool_call *call, const void *args, struct error *err)
{
    const struct read_args *a = args;
    CLEANUP(run_unrefp)
    struct run *run = computers_run_get(kernel_computers(call->kernel), call->agent, a->run, err);
    CLEANUP(terminal_unrefp) struct terminal *t = NULL;
    uint64_t from;
    struct run_info info;

    if (!run)
        return false;
    t = terminal_get(call, run);
    from = a->offset >= 0 ? (uint64_t)a->offset : terminal_told(t);
    run_info(run, &info);
    if (a->wait_ms > 0 && info.reason == RUN_LIVE) {
        struct wait wait = { .deadline_ns = toolkit_answer_by(call, a->wait_ms),
                             .cancel = call->wait.cancel };
        uint64_t beyond[WIRE_STREAM_COUNT] = { 0 };
        struct error late = ERROR_INIT;

        tool_call_note(call, "waiting for %s", run_title(run));
        beyond[WIRE_STREAM_OUT] = from;
        if (!run_wait(run, info.guest.streams_ended ? 0 : 1u << WIRE_STREAM_OUT, beyond, &wait,
                      &late) &&
            late.code != ERR_TIMEOUT) {
            if (err)
                *err = late;
            return false;
        }
        if (terminal_has_screen(t) &&
            !terminal_settle(call, run, wait.deadline_ns - clock_now_ns(), err))
            return false;
    }
    if (a->tail > 0 || a->grep)
        return answer_part(call, a, run, a->offset >= 0 ? from : 0, err);
    return answer_run(call, run, t, from, a->offset >= 0, err);
}

/* ---- terminal_write ---- */

struct write_args {
    const char *run;
    struct json_text text;
    json_t *keys;
    bool close;
};

static const struct json_field write_fields[] = {
    RUN_FIELD(struct write_args),
    { .name = "text",
      .description = "As it is; end a line with \\n",
      .kind = JSON_KIND_TEXT,
      .offset = offsetof(struct write_args, text) },
    { .name = "keys",
      .description = "Pressed after the text: Enter, Tab, Escape, Up, C-c, M-x, F1 …",
      .kind = JSON_KIND_STRINGS,
      .offset = offsetof(struct write_args, keys),
      .min = 1,
      .max = 100 },
    { .name = "close",
      .description = "Close its standard input afterwards",
      .kind = JSON_KIND_BOOL,
      .offset = offsetof(struct write_args, close) },
    { .name = NULL },
};

static bool compose_keys(const struct write_args *a, struct buf *out, struct error *err)
{
    size_t i;
    json_t *key;

    if (a->text.data && !buf_append(out, a->text.data, a->text.len))
        return error_set(err, ERR_NOMEM, "the text to type");
    json_array_foreach (a->keys, i, key)
        if (!terminal_key(out, json_string_value(key), err))
            return false;
    return true;
}

static bool terminal_write(struct tool_call *call, const void *args, struct error *err)
{
    const struct write_args *a = args;
    CLEANUP(run_unrefp)
    struct run *run = computers_run_get(kernel_computers(call->kernel), call->agent, a->run, err);
    CLEANUP(terminal_unrefp) struct terminal *t = NULL;
    CLEANUP(buf_fini) struct buf bytes = BUF_INIT;
    struct wait wait = { .deadline_ns = toolkit_answer_by(call, 0), .cancel = call->wait.cancel };
    struct run_info info;

    if (!run)
        return false;
    if (!a->text.data && !a->keys && !a->close)
        return error_set(err, ERR_INVALID, "send \"text\", \"keys\" or \"close\"");
    run_info(run, &info);
    if (info.reason != RUN_LIVE)
        return error_set(
            err, ERR_INVALID,
            "run %s has ended (%s); terminal_read shows its output, terminal_run starts another",
            a->run, run_reason_name(info.reason));
    if (!compose_keys(a, &bytes, err))
        return false;
    if (bytes.len > 0 &&
        !guest_run_write(run_guest(run), WIRE_STREAM_MAIN, bytes.data, bytes.len, &wait, err))
        return error_prefix(
            err, "type into run %s (a run has an open stdin with pty or background)", a->run);
    if (a->close)
        guest_run_close_stdin(run_guest(run));
    t = terminal_get(call, run);
    if (!terminal_settle(call, run, SETTLE_NS, err))
        return false;
    return answer_run(call, run, t, terminal_told(t), false, err);
}

/* ---- terminal_kill ---- */

struct kill_args {
    const char *run, *signal;
};

static const struct json_field kill_fields[] = {
    RUN_FIELD(struct kill_args),
    { .name = "signal",
      .description = "TERM (default), INT, KILL, HUP, QUIT, USR1, USR2, STOP, CONT …",
      .kind = JSON_KIND_STRING,
      .offset = offsetof(struct kill_args, signal),
      .min = 1,
      .max = 16 },
    { .name = NULL },
};

/* The number of a signal's name, with or without SIG; 0 for none. */
static int signal_number(const char *name)
{
    char *end;
    long number = strtol(name, &end, 10);

    if (*end == '\0' && number >= 1 && number <= 64)
        return (int)number;
    if (strncasecmp(name, "SIG", 3) == 0)
        name += 3;
    for (int sig = 1; sig < 32; sig++) {
        const char *abbrev = sigabbrev_np(sig);

        if (abbrev && strcasecmp(abbrev, name) == 0)
            return sig;
    }
    return 0;
}

static bool terminal_kill(struct tool_call *call, const void *args, struct error *err)
{
    const struct kill_args *a = args;
    CLEANUP(run_unrefp)
    struct run *run = computers_run_get(kernel_computers(call->kernel), call->agent, a->run, err);
    CLEANUP(terminal_unrefp) struct terminal *t = NULL;
    struct wait wait = { .deadline_ns = clock_add_ns(clock_now_ns(), KILL_WAIT_NS),
                         .cancel = call->wait.cancel };
    struct error late = ERROR_INIT;
    int sig = a->signal ? signal_number(a->signal) : SIGTERM;
    bool ends =
        sig == SIGKILL || sig == SIGTERM || sig == SIGINT || sig == SIGHUP || sig == SIGQUIT;

    if (!run)
        return false;
    if (sig == 0)
        return error_set(err, ERR_INVALID, "\"%s\" is not a signal; send TERM, INT, KILL, HUP …",
                         a->signal);
    run_kill(run, sig, sig == SIGKILL || sig == SIGTERM);
    if (ends && !run_wait(run, 0, NULL, &wait, &late) && late.code == ERR_CANCELLED) {
        if (err)
            *err = late;
        return false;
    }
    t = terminal_get(call, run);
    return answer_run(call, run, t, terminal_told(t), false, err);
}

static const struct tool tools[] = {
    { .name = "terminal_run",
      .title = "Run a command",
      .description =
          "Run a command in your computer; answers with its output, exit code, duration and "
          "memory. Each run is a new process: cd and variables do not carry over, files do. After "
          "45 s (or wait_ms) it answers \"still running\" with a run handle: terminal_read waits "
          "for more, terminal_kill stops it. Long output is cut in the middle; terminal_read pages "
          "it. pty shows the screen of interactive programs. You are not root: pip, npm and "
          "apt-get download work where network rules allow, apt-get install does not.",
      .fields = run_fields,
      .args_size = sizeof(struct run_args),
      .flags = TOOL_DESTROYS | TOOL_OPEN_WORLD,
      .handler = terminal_run },
    { .name = "terminal_read",
      .title = "Read a run's output",
      .description =
          "More output of a run, live or ended: what is new, page after page from a byte offset, "
          "the last lines (tail), or only matching lines (grep, over all that is kept: the last 1 "
          "MiB). wait_ms waits for new output or the end. A pty run shows its screen.",
      .fields = read_fields,
      .args_size = sizeof(struct read_args),
      .flags = TOOL_READS,
      .handler = terminal_read },
    { .name = "terminal_write",
      .title = "Type into a run",
      .description = "Type text and press keys in a run started with pty or background, then see "
                     "what came of it.",
      .fields = write_fields,
      .args_size = sizeof(struct write_args),
      .flags = TOOL_DESTROYS | TOOL_OPEN_WORLD,
      .handler = terminal_write },
    { .name = "terminal_kill",
      .title = "Stop a run",
      .description = "Send a signal to a run. TERM and KILL reach everything it started.",
      .fields = kill_fields,
      .args_size = sizeof(struct kill_args),
      .flags = TOOL_DESTROYS | TOOL_IDEMPOTENT | TOOL_QUICK,
      .handler = terminal_kill },
};

const struct toolset toolset_terminal = { .name = "terminal",
                                          .tools = tools,
                                          .count = ARRAY_LEN(tools) };
