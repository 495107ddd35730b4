#include "tools/code_result.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "kernel/base/clock.h"
#include "kernel/base/utf8.h"

#define VALUE_ROOM   (8u << 10) /* of LIMIT_RESULT_TEXT_BYTES, when there is more than fits */
#define ERROR_ROOM   (6u << 10)
#define STATUS_ROOM  (2u << 10)
#define MORE_OF_IT   "print less at once, or write it to a file and read that with file_read"
#define CUT_SENTENCE 160u

/* Head and tail of @text, at most @room bytes. */
static bool put_cut(struct buf *out, const char *text, size_t len, size_t room)
{
    size_t head, tail;

    if (len <= room)
        return buf_append(out, text, len);
    room -= MIN(room, CUT_SENTENCE);
    head = utf8_cut(text, len, room - room / 3);
    tail = len - room / 3;
    while (tail < len && ((unsigned char)text[tail] & 0xc0) == 0x80)
        tail++;
    buf_append(out, text, head);
    buf_printf(out, "\n[… %zu bytes left out; " MORE_OF_IT "]\n", tail - head);
    return buf_append(out, text + tail, len - tail);
}

static bool tell(struct tool_call *call, const char *text, size_t len, size_t room,
                 struct error *err)
{
    CLEANUP(buf_fini) struct buf clean = BUF_INIT;
    CLEANUP(buf_fini) struct buf cut = BUF_INIT;

    if (!toolkit_clean(&clean, text, len) || !put_cut(&cut, buf_str(&clean), clean.len, room))
        return error_set(err, ERR_NOMEM, "what the cell came to");
    while (cut.len > 0 && cut.data[cut.len - 1] == '\n')
        cut.len--;
    return cut.len == 0 || result_text(call->result, cut.data, cut.len, NULL, err);
}

/* The word that an interactive shell says when it goes is no output of the cell. */
static void drop_farewell(struct code_outcome *o)
{
    static const char word[] = "exit\n";
    size_t len = sizeof word - 1;

    if (o->output.len >= len && memcmp(o->output.data + o->output.len - len, word, len) == 0)
        o->output.len -= len;
}

static bool tell_output(struct tool_call *call, const struct code_outcome *o, struct error *err)
{
    size_t room = LIMIT_RESULT_TEXT_BYTES - STATUS_ROOM - call->result->text_bytes;
    size_t others = MIN(o->value.len, VALUE_ROOM) + MIN(o->error.len, ERROR_ROOM);

    room -= MIN(room, others);
    if (o->output_lost > 0 &&
        !result_printf(call->result, err,
                       "[the oldest %" PRIu64 " bytes of output are no longer kept]",
                       o->output_lost))
        return false;
    return o->output.len == 0 || tell(call, buf_str(&o->output), o->output.len, room, err);
}

/* ---- pictures ---- */

static const char *mime_of(const struct buf *image)
{
    if (image->len > 8 && memcmp(image->data, "\x89PNG\r\n\x1a\n", 8) == 0)
        return "image/png";
    if (image->len > 3 && memcmp(image->data, "\xff\xd8\xff", 3) == 0)
        return "image/jpeg";
    return NULL;
}

static bool tell_images(struct tool_call *call, struct code_context *ctx,
                        const struct code_outcome *o, const struct wait *w, struct error *err)
{
    for (unsigned i = 0; i < o->images && !o->ended; i++) {
        CLEANUP(buf_fini) struct buf image = BUF_INIT;
        struct error late = ERROR_INIT;
        const char *mime = NULL;
        bool fetched = code_context_image(ctx, o->cell, i, &image, w, &late);

        if (!fetched && late.code == ERR_CANCELLED) {
            if (err)
                *err = late;
            return false;
        }
        if (fetched)
            mime = mime_of(&image);
        if (mime && result_image(call->result, image.data, image.len, mime, &late))
            continue;
        if (!result_printf(call->result, err, "[a picture is not shown: %s]",
                           late.code ? late.text : "it is neither PNG nor JPEG"))
            return false;
    }
    return true;
}

/* ---- the status line ---- */

static void put_duration(struct buf *out, int64_t ns)
{
    if (ns < 10 * CLOCK_NS_PER_MS)
        buf_printf(out, "%.1f ms", (double)ns / 1e6);
    else if (ns < CLOCK_NS_PER_S)
        buf_printf(out, "%lld ms", (long long)(ns / CLOCK_NS_PER_MS));
    else
        buf_printf(out, "%.1f s", (double)ns / 1e9);
}

static void put_end(struct buf *out, const struct run_info *end)
{
    switch (end->reason) {
    case RUN_EXIT:
        buf_printf(out, "ended with exit code %d", end->value);
        break;
    case RUN_SIGNAL:
        buf_printf(out, "crashed with signal %d (%s)", end->value, strsignal(end->value));
        break;
    case RUN_OOM:
        buf_append_str(out, "was killed because the computer's memory limit was reached");
        break;
    case RUN_PIDS:
        buf_append_str(out, "failed after the computer's limit of processes was reached");
        break;
    case RUN_OUTPUT:
        buf_append_str(out, "was killed because it wrote more than a run may");
        break;
    case RUN_DISK:
        buf_append_str(out, "failed with the computer's disk full");
        break;
    case RUN_LOST:
    case RUN_KILLED:
    case RUN_TIMEOUT:
    case RUN_LIVE:
        buf_append_str(out, "was ended");
        break;
    }
}

static void put_lost(struct buf *out, struct code_context *ctx, const struct code_outcome *o)
{
    const char *language = code_language_names[code_context_language(ctx)];

    if (o->broken) {
        buf_printf(out, "%s of this context was ended: it spoke a protocol of its own", language);
    } else if (o->stop == CODE_STOP_RESTART) {
        buf_append_str(out, "ended by restart");
    } else if (o->stop != CODE_STOP_NONE && o->end.reason == RUN_KILLED) {
        buf_append_str(out, o->stop == CODE_STOP_TIMEOUT ? "timeout after " : "cancelled after ");
        put_duration(out, o->took_ns);
        buf_append_str(out, "; it did not react to the interrupt and was killed");
    } else if (code_context_language(ctx) == CODE_BASH && o->end.reason == RUN_EXIT) {
        buf_printf(out, "the shell ended with exit status %d (exit, exec or set -e)", o->end.value);
    } else {
        buf_printf(out, "%s ", language);
        put_end(out, &o->end);
    }
    buf_append_str(out, ". The context's state is lost, files remain; the next cell begins anew");
}

static void put_status(struct buf *out, struct code_context *ctx, const struct code_outcome *o)
{
    buf_append_char(out, '[');
    if (o->ended) {
        put_lost(out, ctx, o);
    } else if (o->stop == CODE_STOP_TIMEOUT) {
        buf_append_str(out, "timeout: interrupted after ");
        put_duration(out, o->took_ns);
        buf_append_str(out, "; the context keeps its state");
    } else {
        if (o->error.len > 0)
            buf_append_str(out, "error, ");
        else if (o->has_status && o->status != 0)
            buf_printf(out, "exit status %" PRIu64 ", ", o->status);
        else
            buf_append_str(out, "ok, ");
        put_duration(out, o->took_ns);
    }
    buf_append_char(out, ']');
}

/* What the sandbox refused while the cell ran. */
static void put_refusals(struct buf *out, const struct code_outcome *o)
{
    for (size_t i = 0; i < o->refusal_count; i++)
        buf_printf(out, "\n[refused by the sandbox: %s(%s)]", o->refusals[i].name,
                   o->refusals[i].text);
    if (o->refusals_missed > 0)
        buf_printf(out, "\n[and %" PRIu64 " more refused system calls]", o->refusals_missed);
}

/* ---- for code.c ---- */

static bool tell_outcome(struct tool_call *call, struct code_context *ctx, bool earlier,
                         const struct code_outcome *o, const struct wait *w, struct error *err)
{
    CLEANUP(buf_fini) struct buf status = BUF_INIT;

    if (earlier && !result_printf(call->result, err, "[the cell that ran before came to this:]"))
        return false;
    if (o->began_anew && !result_printf(call->result, err,
                                        "[the %s of this context had ended since its last cell; "
                                        "this one began anew, without the earlier state]",
                                        code_language_names[code_context_language(ctx)]))
        return false;
    if (!tell_output(call, o, err) ||
        !tell(call, buf_str(&o->value), o->value.len, VALUE_ROOM, err) ||
        !tell(call, buf_str(&o->error), o->error.len, ERROR_ROOM, err) ||
        !tell_images(call, ctx, o, w, err))
        return false;
    if (o->note.len > 0)
        buf_printf(&status, "[%.*s]\n", (int)MIN(o->note.len, 600u), buf_str(&o->note));
    put_status(&status, ctx, o);
    put_refusals(&status, o);
    if (status.failed)
        return error_set(err, ERR_NOMEM, "what the cell came to");
    return result_text(call->result, status.data, status.len, NULL, err);
}

bool code_result_finished(struct tool_call *call, struct code_context *ctx, bool earlier,
                          const struct wait *w, struct error *err)
{
    struct code_outcome outcome = { .cell = 0 };
    bool ok = code_context_take(ctx, &outcome, err);

    if (ok && outcome.ended && code_context_language(ctx) == CODE_BASH &&
        outcome.end.reason == RUN_EXIT)
        drop_farewell(&outcome);
    ok = ok && tell_outcome(call, ctx, earlier, &outcome, w, err);
    code_outcome_fini(&outcome);
    return ok;
}

bool code_result_running(struct tool_call *call, struct code_context *ctx, int64_t waited_ns,
                         struct error *err)
{
    struct code_outcome outcome = { .cell = 0 };
    CLEANUP(buf_fini) struct buf status = BUF_INIT;
    bool ok = code_context_take(ctx, &outcome, err) && tell_output(call, &outcome, err);

    buf_append_str(&status, "[still running after ");
    put_duration(&status, waited_ns);
    buf_printf(&status,
               "; the cell goes on. Call code_run with {\"language\":\"%s\",\"context\":\"%s\","
               "\"code\":\"\"} to wait for the rest, or with \"restart\":true to end it]",
               code_language_names[code_context_language(ctx)], code_context_name(ctx));
    code_outcome_fini(&outcome);
    if (ok && status.failed)
        return error_set(err, ERR_NOMEM, "what the cell came to");
    return ok && result_text(call->result, status.data, status.len, NULL, err);
}
