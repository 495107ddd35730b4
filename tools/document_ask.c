#include <inttypes.h>
#include <signal.h>
#include <string.h>

#include "kernel/base/clock.h"
#include "kernel/base/utf8.h"
#include "tools/document_answer.h"
#include "tools/document_internal.h"

/* The driver answers this much before the call must, so that it can say what took so long. */
#define MARGIN_NS  (2 * CLOCK_NS_PER_S)
#define LEAST_NS   CLOCK_NS_PER_S
#define PIECE      (256u << 10)
#define STDERR_MAX 300u

/* document_parts.S: the parts of the driver and what loads them, NUL-terminated. */
extern const char document_text_boot[], document_text_parts[];

static bool send_all(struct run *run, const json_t *request, const struct wait *w,
                     struct error *err)
{
    CLEANUP(buf_fini) struct buf text = BUF_INIT;
    CLEANUP(buf_fini) struct buf message = BUF_INIT;

    if (!json_write(request, &text))
        return error_set(err, ERR_NOMEM, "the request");
    buf_printf(&message, "%08zu", strlen(document_text_parts));
    buf_append_str(&message, document_text_parts);
    buf_printf(&message, "%08zu", text.len);
    buf_append(&message, buf_str(&text), text.len);
    if (message.failed)
        return error_set(err, ERR_NOMEM, "the request");
    if (!guest_run_write(run_guest(run), WIRE_STREAM_MAIN, message.data, message.len, w, err))
        return false;
    guest_run_close_stdin(run_guest(run));
    return true;
}

/* Everything that it writes, until it has ended. */
static bool collect(struct run *run, struct buf *out, struct run_info *info, const struct wait *w,
                    struct error *err)
{
    uint64_t offset = 0;

    for (;;) {
        uint64_t beyond[WIRE_STREAM_COUNT] = { [WIRE_STREAM_OUT] = 0 };
        bool ended;
        long n;

        run_info(run, info);
        ended = info->reason != RUN_LIVE;
        do {
            n = guest_run_read(run_guest(run), WIRE_STREAM_OUT, &offset, PIECE, out);
        } while (n > 0 && out->len <= DOCUMENT_ANSWER_MAX);
        if (n < 0)
            return error_set(err, ERR_NOMEM, "what the document holds");
        if (out->len > DOCUMENT_ANSWER_MAX)
            return error_set(err, ERR_LIMIT, "the answer about the document is too long");
        if (ended)
            return true;
        beyond[WIRE_STREAM_OUT] = offset;
        if (!run_wait(run, info->guest.streams_ended ? 0 : 1u << WIRE_STREAM_OUT, beyond, w, err))
            return false;
    }
}

/* Why there is no answer. */
static bool explain(struct run *run, const struct run_info *info, struct error *err)
{
    CLEANUP(buf_fini) struct buf raw = BUF_INIT;
    CLEANUP(buf_fini) struct buf said = BUF_INIT;
    uint64_t offset = 0;
    size_t from;

    error_clear(err);
    if (info->reason == RUN_TIMEOUT)
        return error_set(err, ERR_TIMEOUT,
                         "the document took too long and was given up; take fewer pages, or a "
                         "smaller document");
    if (info->reason == RUN_OOM)
        return error_set(err, ERR_LIMIT,
                         "the document needs more memory than the computer has (computer_create "
                         "{\"memory_mb\":2048} makes a larger one)");
    if (info->reason == RUN_LOST)
        return error_set(err, ERR_LOST, "the computer ended while it worked on the document");
    if (guest_run_read(run_guest(run), WIRE_STREAM_ERR, &offset, LIMIT_RING_BYTES, &raw) < 0)
        return error_set(err, ERR_NOMEM, "why the document was not read");
    from = raw.len - MIN(raw.len, STDERR_MAX);
    if (!toolkit_clean(&said, buf_str(&raw) + from, raw.len - from))
        return error_set(err, ERR_NOMEM, "why the document was not read");
    return error_set(err, ERR_INTERNAL, "the program that works on documents ended by %s: %s",
                     run_reason_name(info->reason), buf_str(&said));
}

static bool tell(struct tool_call *call, const struct document_answer *a, struct error *err)
{
    CLEANUP(buf_fini) struct buf text = BUF_INIT;

    if (!toolkit_clean(&text, a->text, a->text_len))
        return error_set(err, ERR_NOMEM, "the text of the document");
    if (!a->ok)
        return error_set(err, a->code, "%s", buf_str(&text));
    for (size_t i = 0; i < a->image_count; i++)
        if (!result_image(call->result, a->images[i].data, a->images[i].len, a->images[i].mime_type,
                          err))
            return false;
    return text.len == 0 || result_text(call->result, text.data, text.len, NULL, err);
}

static struct run *start(struct computer *c, int64_t timeout_ns, const struct wait *w,
                         struct error *err)
{
    static const char *const argv[] = { "python3", "-I", "-S", "-c", document_text_boot, NULL };
    struct run_spec spec = {
        .argv = argv,
        .stdin_open = true,
        .lossless = true,
        .timeout_ns = timeout_ns,
    };
    struct error why = ERROR_INIT;
    struct run *run = run_start(c, &spec, w, &why);

    if (run)
        return run;
    if (why.code == ERR_NOT_FOUND)
        error_set(err, ERR_NOT_FOUND,
                  "python3 is not in this computer, so documents cannot be read here; "
                  "computer_create {\"image\":\"desktop\"} makes one that has all that documents "
                  "need, or install the Debian packages python3, poppler-utils and pandoc");
    else if (err)
        *err = why;
    return NULL;
}

static bool ask(struct tool_call *call, struct computer *c, json_t *request, struct error *err)
{
    int64_t until_ns = toolkit_answer_by(call, 0);
    int64_t room_ns = MAX(until_ns - clock_now_ns() - MARGIN_NS, LEAST_NS);
    struct wait w = { .deadline_ns = until_ns, .cancel = call->wait.cancel };
    CLEANUP(run_unrefp) struct run *run = NULL;
    CLEANUP(buf_fini) struct buf out = BUF_INIT;
    struct document_answer answer;
    struct run_info info = { .reason = RUN_LIVE };
    struct error why = ERROR_INIT;

    if (json_object_set_new(request, "seconds", json_real((double)room_ns / 1e9)) < 0)
        return error_set(err, ERR_NOMEM, "the request");
    run = start(c, room_ns + MARGIN_NS / 2, &w, err);
    if (!run)
        return false;
    if (!send_all(run, request, &w, &why) || !collect(run, &out, &info, &w, &why)) {
        run_info(run, &info);
        run_kill(run, SIGKILL, true);
        /* One that ends before it has read its request says why by its end. */
        if (info.reason != RUN_LIVE && why.code != ERR_CANCELLED)
            return explain(run, &info, err);
        if (err)
            *err = why;
        return false;
    }
    if (info.reason != RUN_EXIT || !document_answer_read(buf_str(&out), out.len, &answer, &why))
        return explain(run, &info, err);
    return tell(call, &answer, err);
}

bool document_ask(struct tool_call *call, const char *computer, json_t *request, struct error *err)
{
    CLEANUP(computer_unrefp) struct computer *c = NULL;
    bool ok = request != NULL;

    if (!ok)
        error_set(err, ERR_NOMEM, "the request");
    if (ok)
        c = toolkit_computer(call, computer, err);
    ok = c && ask(call, c, request, err);
    json_decref(request);
    return ok;
}
