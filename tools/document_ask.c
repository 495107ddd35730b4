#include <inttypes.h>
#include <signal.h>
#include <string.h>

#include "kernel/base/clock.h"
#include "kernel/base/utf8.h"
#include "tools/document_driver.h"
#include "tools/document_internal.h"

/* The driver answers this much before the call must, so that it can say what took so long. */
#define MARGIN_NS  (2 * CLOCK_NS_PER_S)
#define LEAST_NS   CLOCK_NS_PER_S
#define STDERR_MAX 300u
#define DIED       64 /* document.py: the process of one request ended by this signal more */

static const char too_long[] =
    "the document took too long and was given up; take fewer pages, or a smaller document";

/* Why there is no answer. */
static bool explain(struct run *run, const struct run_info *info, struct error *err)
{
    CLEANUP(buf_fini) struct buf raw = BUF_INIT;
    CLEANUP(buf_fini) struct buf said = BUF_INIT;
    uint64_t offset = 0;
    size_t from;

    if (info->reason == RUN_OOM || (info->reason == RUN_EXIT && info->value == DIED + SIGKILL))
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

/* Rather than while it was at rest, or by whoever ended it. */
static bool ended_at_work(const struct run_info *info)
{
    return info->reason == RUN_OOM || info->reason == RUN_LOST || info->reason == RUN_LIVE ||
           (info->reason == RUN_EXIT && info->value >= DIED);
}

/* Asks one driver.  *ret_again: it had ended while it was at rest, and another may be asked. */
static bool try_one(struct tool_call *call, struct document_driver *d, const json_t *request,
                    const struct wait *w, bool *ret_again, struct error *err)
{
    CLEANUP(buf_fini) struct buf out = BUF_INIT;
    struct document_answer answer;
    struct run_info info = { .reason = RUN_LIVE };
    uint64_t before = d->offset;
    struct error why = ERROR_INIT;

    *ret_again = false;
    if (document_driver_ask(d, request, &out, w, &why)) {
        d->answered = document_answer_read(buf_str(&out), out.len, &answer, err);
        return d->answered && tell(call, &answer, err);
    }
    run_info(d->run, &info);
    if (why.code == ERR_LOST)
        *ret_again = d->warm && d->offset == before && !ended_at_work(&info);
    if (why.code == ERR_LOST && !*ret_again)
        return explain(d->run, &info, err);
    if (why.code == ERR_TIMEOUT)
        return error_set(err, ERR_TIMEOUT, "%s", too_long);
    if (err)
        *err = why;
    return false;
}

static bool ask(struct tool_call *call, struct computer *c, json_t *request, struct error *err)
{
    int64_t until_ns = toolkit_answer_by(call, 0);
    int64_t room_ns = MAX(until_ns - clock_now_ns() - MARGIN_NS, LEAST_NS);
    struct wait w = { .deadline_ns = clock_add_ns(clock_now_ns(), room_ns + MARGIN_NS / 2),
                      .cancel = call->wait.cancel };
    bool again = false, ok = false;

    if (json_object_set_new(request, "seconds", json_real((double)room_ns / 1e9)) < 0)
        return error_set(err, ERR_NOMEM, "the request");
    do {
        struct document_driver d;
        struct error why = ERROR_INIT;

        if (!document_driver_take(call, c, again, &d, &w, err))
            return false;
        ok = try_one(call, &d, request, &w, &again, &why);
        /* What it told, good or bad, came from a whole answer; without one it is of no use. */
        if (d.answered)
            document_driver_keep(call, c, &d);
        else
            document_driver_end(&d);
        if (!ok && !again && err)
            *err = why;
    } while (again);
    return ok;
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
