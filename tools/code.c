/* The family code: cells of a notebook in four languages. */
#include "tools/code_result.h"

#include <string.h>

#include "kernel/base/clock.h"

struct run_args {
    int language;
    const char *code, *context, *computer;
    bool restart;
    int64_t timeout_ms;
};

static const struct json_field run_fields[] = {
    { .name = "language",
      .kind = JSON_KIND_ENUM,
      .required = true,
      .offset = offsetof(struct run_args, language),
      .choices = code_language_names },
    { .name = "code",
      .description = "One cell. Empty: wait for the one still running",
      .kind = JSON_KIND_STRING,
      .offset = offsetof(struct run_args, code),
      .min = 0,
      .max = 1000000 },
    { .name = "context",
      .description = "Name of the notebook, which has a state of its own",
      .kind = JSON_KIND_STRING,
      .offset = offsetof(struct run_args, context),
      .min = 1,
      .max = CODE_NAME_MAX },
    { .name = "restart",
      .description = "End the context and what runs in it, begin anew",
      .kind = JSON_KIND_BOOL,
      .offset = offsetof(struct run_args, restart) },
    { .name = "timeout_ms",
      .description = "Interrupt the cell then (default: never)",
      .kind = JSON_KIND_INT,
      .offset = offsetof(struct run_args, timeout_ms),
      .min = 1,
      .max = 86400000 },
    TOOLKIT_COMPUTER_FIELD(struct run_args),
    { .name = NULL },
};

static bool name_ok(const char *name)
{
    static const char allowed[] =
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-.";

    return name[strspn(name, allowed)] == '\0';
}

/* Wait for the running cell and tell what it came to, or that it goes on. */
static bool finish(struct tool_call *call, struct code_context *ctx, const struct wait *w,
                   struct error *err)
{
    int64_t begun_ns = call->syscall ? call->syscall->submitted_ns : clock_now_ns();
    struct error late = ERROR_INIT;

    if (code_context_wait(ctx, w, &late))
        return code_result_finished(call, ctx, false, &call->wait, err);
    if (late.code == ERR_TIMEOUT)
        return code_result_running(call, ctx, clock_now_ns() - begun_ns, err);
    if (late.code == ERR_CANCELLED)
        code_context_interrupt(ctx, CODE_STOP_CANCEL);
    if (err)
        *err = late;
    return false;
}

static bool await_earlier(struct tool_call *call, const struct run_args *a,
                          struct code_context *ctx, const struct wait *w, struct error *err)
{
    if (code_context_state(ctx, NULL) != CODE_IDLE)
        return finish(call, ctx, w, err);
    return error_set(
        err, ERR_INVALID,
        "no cell is running in context \"%s\" of %s, and none has a result to tell; send \"code\"",
        code_context_name(ctx), code_language_names[a->language]);
}

static bool run_cell(struct tool_call *call, const struct run_args *a, struct code_context *ctx,
                     struct computer *c, const struct wait *w, struct error *err)
{
    enum code_stop stop;
    enum code_state state = code_context_state(ctx, &stop);

    /* One that was told to end will do so soon. */
    if (state == CODE_RUNNING && stop != CODE_STOP_NONE) {
        struct error late = ERROR_INIT;

        if (!code_context_wait(ctx, w, &late) && late.code != ERR_TIMEOUT) {
            if (err)
                *err = late;
            return false;
        }
        state = code_context_state(ctx, NULL);
    }
    if (state == CODE_RUNNING)
        return error_set(err, ERR_BUSY,
                         "context \"%s\" of %s is still running an earlier cell. Call code_run "
                         "with the same context and \"code\":\"\" to wait for its result, use "
                         "another context, or send \"restart\":true to end it",
                         code_context_name(ctx), code_language_names[a->language]);
    if (state == CODE_FINISHED && !code_result_finished(call, ctx, true, &call->wait, err))
        return false;
    if (!code_context_begin(ctx, c, a->code, a->timeout_ms * CLOCK_NS_PER_MS, &call->wait, err))
        return false;
    return finish(call, ctx, w, err);
}

static bool serve(struct tool_call *call, const struct run_args *a, struct code_context *ctx,
                  struct computer *c, const struct wait *w, struct error *err)
{
    bool empty = !a->code || a->code[0] == '\0';

    if (a->restart)
        code_context_reset(ctx);
    if (!empty)
        return run_cell(call, a, ctx, c, w, err);
    if (!a->restart)
        return await_earlier(call, a, ctx, w, err);
    return result_printf(call->result, err,
                         "Context \"%s\" of %s is ended; the next cell begins anew.",
                         code_context_name(ctx), code_language_names[a->language]);
}

static bool code_run(struct tool_call *call, const void *args, struct error *err)
{
    const struct run_args *a = args;
    const char *name = a->context ? a->context : "default";
    CLEANUP(computer_unrefp) struct computer *c = NULL;
    CLEANUP(code_context_unrefp) struct code_context *ctx = NULL;
    struct wait w = { .cancel = call->wait.cancel };
    bool ok;

    if (!name_ok(name))
        return error_set(err, ERR_INVALID,
                         "a context's name is made of letters, digits, \"_\", \"-\" and \".\"");
    c = toolkit_computer(call, a->computer, err);
    if (!c)
        return false;
    ctx = code_context_get(call, c, (enum code_language)a->language, name, err);
    if (!ctx)
        return false;
    w.deadline_ns = toolkit_answer_by(call, 0);
    tool_call_note(call, "%s in context %s", code_language_names[a->language], name);
    if (a->restart)
        code_context_kill(ctx); /* another call may be waiting for it */
    if (!code_context_enter(ctx, &w, err))
        return false;
    ok = serve(call, a, ctx, c, &w, err);
    code_context_leave(ctx);
    return ok;
}

static const struct tool tools[] = {
    { .name = "code_run",
      .title = "Run code",
      .description =
          "Run a cell of Python, JavaScript (node), bash or C in your computer, as in a notebook: "
          "variables, functions, imports and the working folder stay for the next cell of the same "
          "language and context. Answers with what was printed, the last expression's value, the "
          "traceback, and pictures (matplotlib, PIL, display(x)). Top-level await works. C: "
          "declarations stay, statements run at once, a last expression without \";\" is shown. A "
          "cell longer than 45 s goes on: call again with empty code for its result. timeout_ms "
          "interrupts a cell and keeps the state where possible. stdin has nobody to ask.",
      .fields = run_fields,
      .args_size = sizeof(struct run_args),
      .flags = TOOL_DESTROYS | TOOL_OPEN_WORLD,
      .handler = code_run },
};

const struct toolset toolset_code = { .name = "code", .tools = tools, .count = ARRAY_LEN(tools) };
