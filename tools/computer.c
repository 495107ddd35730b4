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
    const char *from, *kind, *image;
    json_t *allow;
    int64_t memory_mb, disk_mb, pids, idle_timeout_s;
    double cpus;
    json_t *labels, *env;
};

static const struct json_field create_fields[] = {
    { .name = "from",
      .description = "Copy the files, limits and rules of this snapshot or computer (\"default\": "
                     "yours), not its programs. Only labels may be given besides",
      .kind = JSON_KIND_STRING,
      .offset = offsetof(struct create_args, from),
      .min = 1,
      .max = 64 },
    { .name = "kind",
      .description = "\"sandbox\" or \"vm\" (virtual machine)",
      .kind = JSON_KIND_STRING,
      .offset = offsetof(struct create_args, kind),
      .min = 1,
      .max = 16 },
    { .name = "image",
      .description = "What is installed, e.g. \"base\"",
      .kind = JSON_KIND_STRING,
      .offset = offsetof(struct create_args, image),
      .min = 1,
      .max = 64 },
    { .name = "allow",
      .description = "Network rules HOST[:PORT], e.g. \"pypi.org\", \"*.example.org:443\", "
                     "\"10.0.0.0/8:5432\". Without a port: 80 and 443. Default: no network",
      .kind = JSON_KIND_STRINGS,
      .offset = offsetof(struct create_args, allow),
      .min = 0,
      .max = 256 },
    { .name = "memory_mb",
      .description = "Memory limit; in a sandbox files count too",
      .kind = JSON_KIND_INT,
      .offset = offsetof(struct create_args, memory_mb),
      .min = 16,
      .max = 1048576 },
    { .name = "disk_mb",
      .description = "What may be written; in a sandbox at most memory_mb",
      .kind = JSON_KIND_INT,
      .offset = offsetof(struct create_args, disk_mb),
      .min = 1,
      .max = 1048576 },
    { .name = "cpus",
      .description = "CPU limit, e.g. 0.5",
      .kind = JSON_KIND_NUMBER,
      .offset = offsetof(struct create_args, cpus),
      .min = 0,
      .max = 1024 },
    { .name = "pids",
      .description = "Most processes",
      .kind = JSON_KIND_INT,
      .offset = offsetof(struct create_args, pids),
      .min = 4,
      .max = 100000 },
    { .name = "idle_timeout_s",
      .description = "Destroyed when idle for so long",
      .kind = JSON_KIND_INT,
      .offset = offsetof(struct create_args, idle_timeout_s),
      .min = 1,
      .max = 31536000 },
    { .name = "labels",
      .description = "Names of your own",
      .kind = JSON_KIND_MAP,
      .offset = offsetof(struct create_args, labels),
      .min = 0,
      .max = 16 },
    { .name = "env",
      .description = "Environment of every program",
      .kind = JSON_KIND_MAP,
      .offset = offsetof(struct create_args, env),
      .min = 0,
      .max = 256 },
    { .name = NULL },
};

static bool only_labels(const struct create_args *a, struct error *err)
{
    if (!a->kind && !a->image && !a->allow && !a->memory_mb && !a->disk_mb && !a->pids &&
        !a->idle_timeout_s && a->cpus == 0 && !a->env)
        return true;
    return error_set(err, ERR_INVALID,
                     "a copy has the limits and rules of what it is made from: give only labels "
                     "with \"from\", or leave \"from\" out");
}

/* A snapshot's handle begins with s_; anything else is asked for as a computer's. */
static struct computer *copy(struct tool_call *call, const struct create_args *a, struct error *err)
{
    struct computers *cs = kernel_computers(call->kernel);
    const char *computer = strcmp(a->from, "default") == 0 ? NULL : a->from;

    if (!only_labels(a, err))
        return NULL;
    return strncmp(a->from, "s_", 2) == 0
               ? computers_restore(cs, call->agent, a->from, a->labels, &call->wait, err)
               : computers_fork(cs, call->agent, computer, a->labels, &call->wait, err);
}

static struct computer *make(struct tool_call *call, const struct create_args *a, struct error *err)
{
    struct computers_request request = { .kind = a->kind, .image = a->image, .labels = a->labels };
    char **allow = NULL;
    char **env = NULL;
    struct computer *c = NULL;

    request.memory_bytes = (uint64_t)((double)a->memory_mb * MIB);
    request.disk_bytes = (uint64_t)((double)a->disk_mb * MIB);
    request.cpu_milli = (uint32_t)(a->cpus * 1000.0);
    request.pids = (uint32_t)a->pids;
    request.idle_ns = a->idle_timeout_s * CLOCK_NS_PER_S;
    if (a->cpus > 0 && request.cpu_milli < 10) {
        error_set(err, ERR_INVALID, "cpus must be at least 0.01");
        return NULL;
    }
    if (a->allow && !(allow = toolkit_strings(a->allow, err)))
        return NULL;
    request.allow = (const char *const *)allow;
    if (toolkit_env(a->env, &env, err)) {
        request.env = (const char *const *)env;
        c = computers_create(kernel_computers(call->kernel), call->agent, &request, &call->wait,
                             err);
    }
    free(env);
    free(allow);
    return c;
}

static bool computer_create(struct tool_call *call, const void *args, struct error *err)
{
    const struct create_args *a = args;
    CLEANUP(computer_unrefp)
    struct computer *c = a->from ? copy(call, a, err) : make(call, a, err);

    return c && answer_computer(call, c, err);
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

enum { SNAPSHOT_SAVE, SNAPSHOT_LIST, SNAPSHOT_DELETE };
static const char *const snapshot_actions[] = { "save", "list", "delete", NULL };

struct snapshot_args {
    int action;
    const char *computer, *snapshot, *label;
};

static const struct json_field snapshot_fields[] = {
    { .name = "action",
      .description = "What to do",
      .kind = JSON_KIND_ENUM,
      .required = true,
      .offset = offsetof(struct snapshot_args, action),
      .choices = snapshot_actions },
    TOOLKIT_COMPUTER_FIELD(struct snapshot_args),
    { .name = "snapshot",
      .description = "For delete",
      .kind = JSON_KIND_STRING,
      .offset = offsetof(struct snapshot_args, snapshot),
      .min = 1,
      .max = 64 },
    { .name = "label",
      .description = "For save",
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
    return result_printf(call->result, err,
                         "Saved the files of computer %s as snapshot %s. Programs are not part of "
                         "it. computer_create {\"from\":\"%s\"} makes a new computer from it.",
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

    if (a->action == SNAPSHOT_SAVE)
        return snapshot_save(call, a, err);
    if (a->action == SNAPSHOT_LIST)
        return snapshot_list(call, err);
    if (!a->snapshot)
        return error_set(err, ERR_INVALID,
                         "\"snapshot\" is required for delete; computer_snapshot "
                         "{\"action\":\"list\"} shows yours");
    return computers_checkpoint_delete(cs, call->agent, a->snapshot, err) &&
           result_printf(call->result, err, "Snapshot %s is deleted.", a->snapshot);
}

static const struct tool tools[] = {
    { .name = "computer_create",
      .title = "Create a computer",
      .description = "Make another Linux computer with its own files, processes and (only if "
                     "allowed here) network, or a copy of one. You rarely need this: every tool "
                     "uses your default computer, made on first use without network. Pass the "
                     "returned handle as \"computer\" to other tools. It lives until "
                     "computer_destroy or the end of the session. Work in /workspace.",
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
          "End a computer at once: its programs and files are lost. Save files that matter with "
          "computer_snapshot first.",
      .fields = destroy_fields,
      .args_size = sizeof(struct destroy_args),
      .flags = TOOL_DESTROYS | TOOL_IDEMPOTENT | TOOL_QUICK,
      .handler = computer_destroy_tool },
    { .name = "computer_snapshot",
      .title = "Snapshots",
      .description =
          "Save a computer's files, not its programs; list or delete what is saved. "
          "computer_create with \"from\" restores. Snapshots outlive computer and session.",
      .fields = snapshot_fields,
      .args_size = sizeof(struct snapshot_args),
      .flags = TOOL_DESTROYS,
      .handler = computer_snapshot },
};

const struct toolset toolset_computer = { .name = "computer",
                                          .tools = tools,
                                          .count = ARRAY_LEN(tools) };
