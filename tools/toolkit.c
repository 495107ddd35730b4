#include "tools/toolkit.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "kernel/base/clock.h"
#include "kernel/base/limits.h"

#define REFUSALS_SHOWN 8

struct computer *toolkit_computer(struct tool_call *call, const char *handle, struct error *err)
{
    return computers_get(kernel_computers(call->kernel), call->agent, handle, &call->wait, err);
}

static bool env_entry_ok(const char *name, const char *value, size_t value_len, struct error *err)
{
    if (name[0] == '\0' || strchr(name, '='))
        return error_set(err, ERR_INVALID,
                         "\"%s\" is not a name for an environment variable; send a name without "
                         "\"=\" that is not empty",
                         name);
    for (size_t i = 0; name[i]; i++)
        if ((unsigned char)name[i] < 0x20 || name[i] == 0x7f)
            return error_set(err, ERR_INVALID,
                             "the name of an environment variable holds a control character");
    for (size_t i = 0; i < value_len; i++)
        if (value[i] == '\0' || ((unsigned char)value[i] < 0x20 && !strchr("\t\n\r", value[i])))
            return error_set(err, ERR_INVALID,
                             "the value of environment variable %s holds a control character "
                             "(byte %d); only tab, newline and carriage return may appear",
                             name, value[i]);
    return true;
}

bool toolkit_env(const json_t *map, char ***ret, struct error *err)
{
    size_t bytes = 0;
    size_t count = json_object_size(map);
    size_t at = 0;
    const char *name;
    json_t *value;
    char **vector;
    char *text;

    if (!map) {
        *ret = NULL;
        return true;
    }
    json_object_foreach (unconst(map), name, value) {
        if (!env_entry_ok(name, json_string_value(value), json_string_length(value), err))
            return false;
        bytes += strlen(name) + json_string_length(value) + 2;
    }
    if (bytes > LIMIT_ARGV_BYTES)
        return error_set(err, ERR_LIMIT, "the environment has %zu bytes; at most %u are allowed",
                         bytes, LIMIT_ARGV_BYTES);
    vector = malloc((count + 1) * sizeof *vector + bytes);
    if (!vector)
        return error_set(err, ERR_NOMEM, "an environment of %zu variables", count);
    text = (char *)(vector + count + 1);
    json_object_foreach (unconst(map), name, value) {
        size_t name_len = strlen(name);
        size_t value_len = json_string_length(value);

        vector[at++] = text;
        memcpy(text, name, name_len);
        text[name_len] = '=';
        memcpy(text + name_len + 1, json_string_value(value), value_len);
        text[name_len + 1 + value_len] = '\0';
        text += name_len + value_len + 2;
    }
    vector[at] = NULL;
    *ret = vector;
    return true;
}

char **toolkit_strings(const json_t *array, struct error *err)
{
    size_t count = json_array_size(array);
    char **vector = calloc(count + 1, sizeof *vector);

    if (!vector) {
        error_set(err, ERR_NOMEM, "a list of %zu strings", count);
        return NULL;
    }
    for (size_t i = 0; i < count; i++)
        vector[i] = unconst(json_string_value(json_array_get(array, i)));
    return vector;
}

int64_t toolkit_answer_by(struct tool_call *call, int64_t wait_ms)
{
    int64_t most_ns = kernel_config(call->kernel)->tool.call_timeout_ms * CLOCK_NS_PER_MS;
    int64_t by_ns = clock_add_ns(call->syscall->submitted_ns, most_ns);

    if (wait_ms > 0)
        by_ns = MIN(by_ns, clock_add_ns(clock_now_ns(), wait_ms * CLOCK_NS_PER_MS));
    return MIN(by_ns, call->wait.deadline_ns);
}

/* ---- the status line ---- */

static bool put_duration(struct buf *out, int64_t ns)
{
    if (ns < 10 * CLOCK_NS_PER_MS)
        return buf_printf(out, "%.1f ms", (double)ns / 1e6);
    if (ns < CLOCK_NS_PER_S)
        return buf_printf(out, "%lld ms", (long long)(ns / CLOCK_NS_PER_MS));
    return buf_printf(out, "%.1f s", (double)ns / 1e9);
}

static bool put_end(struct buf *out, const struct run_info *info)
{
    switch (info->reason) {
    case RUN_LIVE:
        return buf_append_str(out, "still running");
    case RUN_EXIT:
        return buf_printf(out, "exit code %d", info->value);
    case RUN_SIGNAL:
        return buf_printf(out, "ended by signal %d", info->value);
    case RUN_TIMEOUT:
        return buf_append_str(out, "timeout: killed with everything it had started");
    case RUN_OOM:
        return buf_append_str(out, "oom: killed because the computer's memory limit was reached");
    case RUN_PIDS:
        return buf_printf(out,
                          "pids: failed (%d) after the computer's limit of processes was reached",
                          info->value);
    case RUN_OUTPUT:
        return buf_append_str(out, "output: killed because it wrote more than a run may");
    case RUN_DISK:
        return buf_printf(out, "disk: failed (%d) with the computer's disk full", info->value);
    case RUN_KILLED:
        return buf_printf(out, "killed by signal %d on request", info->value);
    case RUN_LOST:
        return buf_append_str(out, "computer_lost: the computer ended before the program did");
    }
    return true;
}

bool toolkit_status(const struct run_info *info, const char *run_id, struct buf *out)
{
    const struct guest_usage *usage = &info->guest.usage;

    buf_append_char(out, '[');
    put_end(out, info);
    buf_append_str(out, info->reason == RUN_LIVE ? " after " : ", ");
    put_duration(out, usage->wall_ns);
    if (info->reason != RUN_LIVE && info->reason != RUN_LOST) {
        buf_append_str(out, ", CPU ");
        put_duration(out, usage->cpu_ns);
        buf_printf(out, ", peak %.1f MiB", (double)usage->peak_bytes / 1048576.0);
    }
    if (info->reason == RUN_LIVE)
        buf_printf(
            out,
            "; run %s goes on. Call terminal_read {\"run\":\"%s\",\"wait_ms\":30000} for more, "
            "terminal_write to type, terminal_kill to stop it",
            run_id, run_id);
    buf_append_char(out, ']');
    return !out->failed;
}

/* What the sandbox refused since the run started, the same ones counted together. */
static bool put_refusals(struct buf *out, struct run *run, const struct run_info *info)
{
    struct computer_refusal seen[LIMIT_REFUSALS];
    unsigned counts[LIMIT_REFUSALS] = { 0 };
    uint64_t missed = 0;
    size_t kinds = 0;
    size_t n =
        computer_refusals(run_computer(run), info->refusal_seq, seen, ARRAY_LEN(seen), &missed);

    for (size_t i = 0; i < n; i++) {
        size_t k = 0;

        while (k < kinds &&
               (strcmp(seen[k].name, seen[i].name) != 0 || strcmp(seen[k].text, seen[i].text) != 0))
            k++;
        if (k == kinds)
            seen[kinds++] = seen[i];
        counts[k]++;
    }
    for (size_t k = 0; k < kinds && k < REFUSALS_SHOWN; k++) {
        buf_printf(out, "\n[refused by the sandbox: %s(%s)", seen[k].name, seen[k].text);
        if (counts[k] > 1)
            buf_printf(out, " %u times", counts[k]);
        buf_append_char(out, ']');
    }
    for (size_t k = 0; k < kinds; k++) {
        if (strcmp(seen[k].name, COMPUTER_REFUSAL_CONNECT) == 0) {
            buf_append_str(out,
                           "\n[computer_create with \"allow\" makes a computer that may connect]");
            break;
        }
    }
    if (kinds > REFUSALS_SHOWN || missed > 0)
        buf_printf(out, "\n[and %" PRIu64 " more refused system calls]",
                   (uint64_t)(kinds > REFUSALS_SHOWN ? kinds - REFUSALS_SHOWN : 0) + missed);
    return !out->failed;
}

/* Standard output from where it is wanted; *ret_note is set to where to go on, of a page. */
static bool put_stdout(struct buf *out, const struct toolkit_report *report, struct buf *note)
{
    struct toolkit_span span = { .begin = report->from };
    const char *id = run_id(report->run);

    if (!toolkit_output(out, report->run, WIRE_STREAM_OUT, report->page, &span))
        return false;
    if (report->page && span.begin > span.total)
        buf_printf(note, "[the output ends at byte %" PRIu64, span.total);
    else if (report->page && (span.begin > 0 || span.end < span.total))
        buf_printf(note, "[bytes %" PRIu64 " to %" PRIu64 " of %" PRIu64, span.begin, span.end,
                   span.total);
    if (report->page && span.end < span.total)
        buf_printf(note, "; go on with terminal_read {\"run\":\"%s\",\"offset\":%" PRIu64 "}", id,
                   span.end);
    if (note->len > 0)
        buf_append_str(note, "]\n");
    if (report->ret_end)
        *report->ret_end = MIN(span.end, span.total);
    return !note->failed;
}

bool toolkit_report(struct tool_call *call, const struct toolkit_report *report, struct error *err)
{
    CLEANUP(buf_fini) struct buf out = BUF_INIT;
    CLEANUP(buf_fini) struct buf tail = BUF_INIT;
    const char *id = run_id(report->run);
    struct toolkit_span span = { .begin = 0 };
    struct run_info info;

    run_info(report->run, &info);
    if (report->screen) {
        buf_append_str(&out, report->screen);
    } else {
        if (!put_stdout(&out, report, &tail))
            return error_set(err, ERR_NOMEM, "the output of run %s", id);
        if (report->with_stderr && info.guest.total[WIRE_STREAM_ERR] > 0) {
            if (out.len > 0 && out.data[out.len - 1] != '\n')
                buf_append_char(&out, '\n');
            buf_append_str(&out, "[stderr]\n");
            if (!toolkit_output(&out, report->run, WIRE_STREAM_ERR, false, &span))
                return error_set(err, ERR_NOMEM, "the output of run %s", id);
        }
    }
    if (out.len > 0 && out.data[out.len - 1] != '\n')
        buf_append_char(&out, '\n');
    toolkit_status(&info, id, &tail);
    put_refusals(&tail, report->run, &info);
    if (out.failed || tail.failed)
        return error_set(err, ERR_NOMEM, "the report of run %s", id);
    if (out.len > 0 && !result_text(call->result, out.data, out.len, NULL, err))
        return false;
    return result_text(call->result, buf_str(&tail), tail.len, NULL, err);
}
