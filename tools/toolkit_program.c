/* Programs that a tool runs inside for what they print. */
#include <signal.h>

#include "tools/toolkit.h"

static bool feed(struct run *run, const struct toolkit_program *p, const struct wait *w,
                 struct error *err)
{
    bool ok = guest_run_write(run_guest(run), WIRE_STREAM_MAIN, p->input, p->input_len, w, err);

    guest_run_close_stdin(run_guest(run));
    return ok;
}

/* Until its end; every byte is read before that is looked at. */
static bool follow(struct run *run, const struct toolkit_program *p, struct buf *out,
                   struct run_info *info, const struct wait *w, struct error *err)
{
    uint64_t offset = 0;

    for (;;) {
        uint64_t beyond[WIRE_STREAM_COUNT] = { 0 };
        bool ended;

        run_info(run, info);
        ended = info->reason != RUN_LIVE;
        if (guest_run_read(run_guest(run), WIRE_STREAM_OUT, &offset, SIZE_MAX, out) < 0)
            return error_set(err, ERR_NOMEM, "the output of %s", run_title(run));
        if (out->len > p->max)
            return error_set(err, ERR_LIMIT, "%s printed more than %zu bytes", run_title(run),
                             p->max);
        if (ended)
            return true;
        beyond[WIRE_STREAM_OUT] = offset;
        if (!run_wait(run, info->guest.streams_ended ? 0 : 1u << WIRE_STREAM_OUT, beyond, w, err))
            return false;
    }
}

bool toolkit_program_in(struct computer *c, const struct toolkit_program *program, struct buf *out,
                        int *ret_code, const struct wait *w, struct error *err)
{
    const struct run_spec spec = {
        .argv = program->argv,
        .cwd = "/",
        .timeout_ns = program->timeout_ns,
        .merge = true,
        .lossless = true,
        .stdin_open = program->input != NULL,
    };
    CLEANUP(run_unrefp) struct run *run = run_start(c, &spec, w, err);
    struct run_info info;

    if (!run)
        return false;
    if ((program->input && !feed(run, program, w, err)) ||
        !follow(run, program, out, &info, w, err)) {
        run_kill(run, SIGKILL, true);
        return false;
    }
    if (info.reason == RUN_EXIT) {
        *ret_code = info.value;
        return true;
    }
    return error_set(err, info.reason == RUN_TIMEOUT ? ERR_TIMEOUT : ERR_IO, "%s ended: %s",
                     run_title(run), run_reason_name(info.reason));
}

bool toolkit_program(struct tool_call *call, struct computer *c,
                     const struct toolkit_program *program, struct buf *out, int *ret_code,
                     struct error *err)
{
    return toolkit_program_in(c, program, out, ret_code, &call->wait, err);
}
