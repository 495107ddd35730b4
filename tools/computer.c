/* The family computer: making, listing, saving, copying and ending an agent's computers. */
#include "tools/toolkit.h"

#include <stdlib.h>
#include <string.h>

#include "kernel/base/clock.h"

#define MIB (1024.0 * 1024.0)

/* ---- what a computer looks like in an answer ---- */

/* The listed object of one computer, as the answer of the call that made it. */
static bool answer_computer(struct tool_call *call, struct computer *c, struct error *err)
{
    json_t *all = computers_list(kernel_computers(call->kernel), call->agent, err);
    size_t i;
    json_t *one;

    if (!all)
        return false;
    json_array_foreach (all, i, one) {
        const char *handle = json_string_value(json_object_get(one, "computer"));

        if (!handle || strcmp(handle, computer_id(c)) != 0)
            continue;
        json_incref(one);
        json_decref(all);
        return result_data(call->result, one, err);
    }
    json_decref(all);
    return error_set(err, ERR_LOST,
                     "computer %s ended as soon as it was made; call computer_create "
                     "again",
                     computer_id(c));
}

/* ---- computer_create ---- */

struct create_args {
    const char *kind;
    json_t *allow;
    int64_t memory_mb, disk_mb, pids, idle_timeout_s;
    double cpus;
    json_t *labels, *env;
};

static const struct json_field create_fields[] = {
    { .name = "kind",
      .description = "\"sandbox\", which is the default",
      .kind = JSON_KIND_STRING,
      .offset = offsetof(struct create_args, kind),
      .min = 1,
      .max = 16 },
    { .name = "allow",
      .description = "Network rules HOST[:PORT], e.g. \"pypi.org\", \"*.example.org:443\", "
                     "\"10.0.0.0/8:5432\". Without a port: 80 and 443. Default: no network",
      .kind = JSON_KIND_STRINGS,
      .offset = offsetof(struct create_args, allow),
      .min = 0,
      .max = 256 },
    { .name = "memory_mb",
      .description = "Memory limit, files included (1024 unless configured otherwise)",
      .kind = JSON_KIND_INT,
      .offset = offsetof(struct create_args, memory_mb),
      .min = 16,
      .max = 1048576 },
    { .name = "disk_mb",
      .description = "What may be written; at most memory_mb (512 likewise)",
      .kind = JSON_KIND_INT,
      .offset = offsetof(struct create_args, disk_mb),
      .min = 1,
      .max = 1048576 },
    { .name = "cpus",
      .description = "CPU limit, e.g. 0.5 (default: none)",
      .kind = JSON_KIND_NUMBER,
      .offset = offsetof(struct create_args, cpus),
      .min = 0,
      .max = 1024 },
    { .name = "pids",
      .description = "Most processes and threads (512 likewise)",
      .kind = JSON_KIND_INT,
      .offset = offsetof(struct create_args, pids),
      .min = 4,
      .max = 100000 },
    { .name = "idle_timeout_s",
      .description = "Destroyed after so long without a call or a running program",
      .kind = JSON_KIND_INT,
      .offset = offsetof(struct create_args, idle_timeout_s),
      .min = 1,
      .max = 31536000 },
    { .name = "labels",
      .description = "Names of your own, shown by computer_list",
      .kind = JSON_KIND_MAP,
      .offset = offsetof(struct create_args, labels),
      .min = 0,
      .max = 16 },
    { .name = "env",
      .description = "Environment variables of every program",
      .kind = JSON_KIND_MAP,
      .offset = offsetof(struct create_args, env),
      .min = 0,
      .max = 256 },
    { .name = NULL },
};

static bool computer_create(struct tool_call *call, const void *args, struct error *err)
{
    const struct create_args *a = args;
    struct computers_request request = { .kind = a->kind, .labels = a->labels };
    char **allow = NULL;
    char **env = NULL;
    struct computer *c = NULL;
    bool ok = false;

    request.memory_bytes = (uint64_t)((double)a->memory_mb * MIB);
    request.disk_bytes = (uint64_t)((double)a->disk_mb * MIB);
    request.cpu_milli = (uint32_t)(a->cpus * 1000.0);
    request.pids = (uint32_t)a->pids;
    request.idle_ns = a->idle_timeout_s * CLOCK_NS_PER_S;
    if (a->cpus > 0 && request.cpu_milli < 10)
        return error_set(err, ERR_INVALID, "cpus must be at least 0.01");
    if (a->allow && !(allow = toolkit_strings(a->allow, err)))
        return false;
    request.allow = (const char *const *)allow;
    if (toolkit_env(a->env, &env, err)) {
        request.env = (const char *const *)env;
        c = computers_create(kernel_computers(call->kernel), call->agent, &request, &call->wait,
                             err);
        ok = c && answer_computer(call, c, err);
    }
    computer_unref(c);
    free(env);
    free(allow);
    return ok;
}

/* ---- computer_list ---- */

struct no_args {
    char unused;
};

static const struct json_field no_fields[] = { { .name = NULL } };

static bool computer_list(struct tool_call *call, const void *args, struct error *err)
{
    json_t *list = computers_list(kernel_computers(call->kernel), call->agent, err);
    json_t *object;

    (void)args;
    if (!list)
        return false;
    object = json_object();
    if (!object || json_object_set_new(object, "computers", list) != 0) {
        json_decref(object);
        return error_set(err, ERR_NOMEM, "the list of computers");
    }
    return result_data(call->result, object, err);
}

/* ---- computer_destroy ---- */

struct destroy_args {
    const char *computer;
};

static const struct json_field destroy_fields[] = {
    { .name = "computer",
      .description = "Handle, as computer_list shows it",
      .kind = JSON_KIND_STRING,
      .required = true,
      .offset = offsetof(struct destroy_args, computer),
      .min = 1,
      .max = 64 },
    { .name = NULL },
};

static bool computer_destroy_tool(struct tool_call *call, const void *args, struct error *err)
{
    const struct destroy_args *a = args;

    if (!computers_destroy(kernel_computers(call->kernel), call->agent, a->computer, err))
        return false;
    return result_printf(call->result, err,
                         "Computer %s is gone, with its files and everything that ran in it.",
                         a->computer);
}

/* ---- computer_snapshot ---- */

enum { SNAPSHOT_SAVE, SNAPSHOT_RESTORE, SNAPSHOT_LIST, SNAPSHOT_DELETE };
static const char *const snapshot_actions[] = { "save", "restore", "list", "delete", NULL };

struct snapshot_args {
    int action;
    const char *computer, *snapshot, *label;
};

static const struct json_field snapshot_fields[] = {
    { .name = "action",
      .description = "save a computer's files, restore them into a new computer, list, delete",
      .kind = JSON_KIND_ENUM,
      .required = true,
      .offset = offsetof(struct snapshot_args, action),
      .choices = snapshot_actions },
    TOOLKIT_COMPUTER_FIELD(struct snapshot_args),
    { .name = "snapshot",
      .description = "Handle from save; for restore and delete",
      .kind = JSON_KIND_STRING,
      .offset = offsetof(struct snapshot_args, snapshot),
      .min = 1,
      .max = 64 },
    { .name = "label",
      .description = "For save: a name of your own",
      .kind = JSON_KIND_STRING,
      .offset = offsetof(struct snapshot_args, label),
      .min = 0,
      .max = 128 },
    { .name = NULL },
};

static bool snapshot_save(struct tool_call *call, const struct snapshot_args *a, struct error *err)
{
    struct computers *cs = kernel_computers(call->kernel);
    CLEANUP(computer_unrefp) struct computer *c = toolkit_computer(call, a->computer, err);
    struct id id;

    if (!c || !computers_save(cs, call->agent, computer_id(c), a->label, &id, &call->wait, err))
        return false;
    return result_printf(
        call->result, err,
        "Saved the files of computer %s as snapshot %s. Programs are not part of "
        "it. computer_snapshot {\"action\":\"restore\",\"snapshot\":\"%s\"} makes a "
        "new computer from it.",
        computer_id(c), id.text, id.text);
}

static bool snapshot_list(struct tool_call *call, struct error *err)
{
    json_t *list = computers_checkpoints(kernel_computers(call->kernel), call->agent, err);
    CLEANUP(buf_fini) struct buf text = BUF_INIT;
    bool ok;

    if (!list)
        return false;
    ok = json_write(list, &text);
    json_decref(list);
    if (!ok)
        return error_set(err, ERR_NOMEM, "the list of snapshots");
    return result_text(call->result, buf_str(&text), text.len, NULL, err);
}

static bool computer_snapshot(struct tool_call *call, const void *args, struct error *err)
{
    const struct snapshot_args *a = args;
    struct computers *cs = kernel_computers(call->kernel);
    CLEANUP(computer_unrefp) struct computer *c = NULL;

    if (a->action == SNAPSHOT_SAVE)
        return snapshot_save(call, a, err);
    if (a->action == SNAPSHOT_LIST)
        return snapshot_list(call, err);
    if (!a->snapshot)
        return error_set(err, ERR_INVALID,
                         "\"snapshot\" is required for %s; computer_snapshot {\"action\":\"list\"} "
                         "shows yours",
                         snapshot_actions[a->action]);
    if (a->action == SNAPSHOT_DELETE) {
        if (!computers_checkpoint_delete(cs, call->agent, a->snapshot, err))
            return false;
        return result_printf(call->result, err, "Snapshot %s is deleted.", a->snapshot);
    }
    c = computers_restore(cs, call->agent, a->snapshot, NULL, &call->wait, err);
    if (!c)
        return false;
    return result_printf(call->result, err, "Computer %s has the files of snapshot %s.",
                         computer_id(c), a->snapshot);
}

/* ---- computer_fork ---- */

struct fork_args {
    const char *computer;
    json_t *labels;
};

static const struct json_field fork_fields[] = {
    TOOLKIT_COMPUTER_FIELD(struct fork_args),
    { .name = "labels",
      .description = "Names of your own for the copy",
      .kind = JSON_KIND_MAP,
      .offset = offsetof(struct fork_args, labels),
      .min = 0,
      .max = 16 },
    { .name = NULL },
};

static bool computer_fork(struct tool_call *call, const void *args, struct error *err)
{
    const struct fork_args *a = args;
    CLEANUP(computer_unrefp) struct computer *source = toolkit_computer(call, a->computer, err);
    CLEANUP(computer_unrefp) struct computer *copy = NULL;

    if (!source)
        return false;
    copy = computers_fork(kernel_computers(call->kernel), call->agent, computer_id(source),
                          a->labels, &call->wait, err);
    return copy && answer_computer(call, copy, err);
}

static const struct tool tools[] = {
    { .name = "computer_create",
      .title = "Create a computer",
      .description = "Make another computer: a Linux sandbox with its own files, processes and "
                     "(only if allowed here) network. You rarely need this: every tool uses your "
                     "default computer, made on first use without network. Pass the returned "
                     "handle as \"computer\" to other tools. It lives until computer_destroy, the "
                     "end of the session, or its idle timeout. Work in /workspace.",
      .fields = create_fields,
      .args_size = sizeof(struct create_args),
      .flags = 0,
      .handler = computer_create },
    { .name = "computer_list",
      .title = "List computers",
      .description = "Your computers with handle, state, limits, network rules and idle time.",
      .fields = no_fields,
      .args_size = sizeof(struct no_args),
      .flags = TOOL_READS | TOOL_IDEMPOTENT | TOOL_INLINE | TOOL_QUICK,
      .handler = computer_list },
    { .name = "computer_destroy",
      .title = "Destroy a computer",
      .description =
          "End a computer at once: its programs are killed and its files are lost. Save them "
          "with computer_snapshot first if they matter.",
      .fields = destroy_fields,
      .args_size = sizeof(struct destroy_args),
      .flags = TOOL_DESTROYS | TOOL_IDEMPOTENT | TOOL_QUICK,
      .handler = computer_destroy_tool },
    { .name = "computer_snapshot",
      .title = "Save and restore",
      .description =
          "Save a computer's files under a snapshot handle (save), make a new computer from one "
          "(restore), or list and delete them. Running programs are not saved. Snapshots outlive "
          "the "
          "computer and the session.",
      .fields = snapshot_fields,
      .args_size = sizeof(struct snapshot_args),
      .flags = TOOL_DESTROYS,
      .handler = computer_snapshot },
    { .name = "computer_fork",
      .title = "Fork a computer",
      .description =
          "A second computer with a copy of the first one's files, limits and network rules, "
          "to try something without risk. Changes in one are not seen in the other; "
          "running programs are not copied.",
      .fields = fork_fields,
      .args_size = sizeof(struct fork_args),
      .flags = 0,
      .handler = computer_fork },
};

const struct toolset toolset_computer = { .name = "computer",
                                          .tools = tools,
                                          .count = ARRAY_LEN(tools) };
