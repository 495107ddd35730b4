/* The family agent: how one stands, and putting one's work aside to take it up again. */
#include <string.h>

#include "kernel/context.h"
#include "kernel/llm.h"
#include "kernel/memory.h"
#include "kernel/storage.h"
#include "tools/toolkit.h"

/* ---- agent_status ---- */

static bool add(json_t *object, const char *key, json_t *value)
{
    return json_object_set_new(object, key, value) == 0;
}

/* Instead of what cannot be asked: the rest is worth telling. */
static json_t *no_part(const struct error *why)
{
    return json_pack("{s:s}", "unavailable", why->text);
}

static json_t *storage_part(struct tool_call *call)
{
    struct error why = ERROR_INIT;
    struct storage *s = kernel_storage(call->kernel, &why);
    struct storage_usage u;

    if (!s || !storage_usage(s, agent_name(call->agent), &call->wait, &u, &why))
        return no_part(&why);
    return json_pack("{s:I, s:I, s:I, s:I}", "bytes", (json_int_t)u.bytes, "keys",
                     (json_int_t)u.keys, "versions", (json_int_t)u.versions, "quota_bytes",
                     (json_int_t)u.quota_bytes);
}

static json_t *memory_part(struct tool_call *call)
{
    struct error why = ERROR_INIT;
    struct memory *m = kernel_memory(call->kernel, &why);
    struct memory_usage u;

    if (!m || !memory_usage(m, agent_name(call->agent), &u, &why))
        return no_part(&why);
    return json_pack("{s:I, s:I, s:I, s:I}", "notes", (json_int_t)u.notes, "resident_bytes",
                     (json_int_t)u.resident_bytes, "stored_bytes", (json_int_t)u.stored_bytes,
                     "quota_bytes", (json_int_t)u.quota_bytes);
}

static json_t *llm_part(struct tool_call *call)
{
    struct error why = ERROR_INIT;
    struct llm *l = kernel_llm(call->kernel, &why);
    struct llm_usage u;
    json_t *providers;

    if (!l)
        return no_part(&why);
    llm_usage(l, agent_name(call->agent), &u);
    providers = llm_status(l);
    return json_pack("{s:I, s:I, s:I, s:I, s:f, s:I, s:o?}", "calls", (json_int_t)u.calls,
                     "failures", (json_int_t)u.failures, "input_tokens", (json_int_t)u.input_tokens,
                     "output_tokens", (json_int_t)u.output_tokens, "cost", u.cost, "budget_tokens",
                     (json_int_t)u.budget_tokens, "providers", providers);
}

static json_t *queues_part(struct tool_call *call)
{
    json_t *queues = json_object();
    struct kernel_stats stats;
    bool ok = queues != NULL;

    kernel_stats(call->kernel, &stats);
    for (int class = 0; ok && class < SYSCALL_CLASS_COUNT; class ++)
        ok = add(queues, syscall_class_name((enum syscall_class) class),
                 json_pack("{s:I, s:I}", "waiting", (json_int_t)stats.classes[class].waiting,
                           "running", (json_int_t)stats.classes[class].running));
    return queues;
}

static bool agent_status(struct tool_call *call, const void *args, struct error *err)
{
    json_t *status = json_object();
    bool ok = status != NULL;

    (void)args;
    ok = ok && add(status, "agent", json_string(agent_name(call->agent))) &&
         add(status, "group", json_string(agent_group(call->agent))) &&
         add(status, "state", json_string(agent_state_name(agent_state(call->agent)))) &&
         add(status, "computers",
             computers_list(kernel_computers(call->kernel), call->agent, err)) &&
         add(status, "storage", storage_part(call)) && add(status, "memory", memory_part(call)) &&
         add(status, "llm", llm_part(call)) && add(status, "queues", queues_part(call));
    if (ok)
        return result_data(call->result, status, err);
    json_decref(status);
    return error_set(err, ERR_NOMEM, "status");
}

/* ---- agent_context ---- */

enum context_action { CONTEXT_SAVE, CONTEXT_RESTORE, CONTEXT_LIST, CONTEXT_DELETE };

static const char *const actions[] = { "save", "restore", "list", "delete", NULL };

struct context_args {
    int action;
    const char *name;
    json_t *messages;
    json_t *variables;
    bool computers;
    int64_t version;
};

static const struct json_field context_fields[] = {
    { .name = "action",
      .description = "What to do",
      .kind = JSON_KIND_ENUM,
      .required = true,
      .offset = offsetof(struct context_args, action),
      .choices = actions },
    { .name = "name",
      .description = "Of the context",
      .kind = JSON_KIND_STRING,
      .offset = offsetof(struct context_args, name),
      .min = 1,
      .max = CONTEXT_NAME_BYTES },
    { .name = "messages",
      .description = "save: an array, given back as it is",
      .kind = JSON_KIND_OBJECTS,
      .offset = offsetof(struct context_args, messages) },
    { .name = "variables",
      .description = "save: an object, given back as it is",
      .kind = JSON_KIND_FREE_OBJECT,
      .offset = offsetof(struct context_args, variables) },
    { .name = "computers",
      .description = "With the files of all your computers",
      .kind = JSON_KIND_BOOL,
      .offset = offsetof(struct context_args, computers),
      .fallback = 1 },
    { .name = "version",
      .description = "restore: default the newest",
      .kind = JSON_KIND_INT,
      .offset = offsetof(struct context_args, version),
      .min = 1,
      .max = INT64_MAX },
    { .name = NULL },
};

static bool answer(struct tool_call *call, const char *key, json_t *value, struct error *err)
{
    if (!value)
        return false;
    if (!key)
        return result_data(call->result, value, err);
    return result_data(call->result, json_pack("{s:o}", key, value), err);
}

static bool save(struct tool_call *call, const struct context_args *a, struct error *err)
{
    const struct context_parts parts = { .messages = a->messages,
                                         .variables = a->variables,
                                         .computers = a->computers };

    return answer(call, NULL,
                  context_save(call->kernel, call->agent, a->name, &parts, &call->wait, err), err);
}

static bool agent_context(struct tool_call *call, const void *args, struct error *err)
{
    const struct context_args *a = args;
    struct kernel *k = call->kernel;

    if (a->action != CONTEXT_LIST && !a->name)
        return error_set(err, ERR_INVALID, "%s needs a name; list tells what there is",
                         actions[a->action]);
    switch ((enum context_action)a->action) {
    case CONTEXT_SAVE:
        return save(call, a, err);
    case CONTEXT_RESTORE:
        return answer(call, NULL,
                      context_restore(k, call->agent, a->name, (uint64_t)MAX(a->version, 0),
                                      a->computers, &call->wait, err),
                      err);
    case CONTEXT_LIST:
        return answer(call, "contexts", context_list(k, call->agent, &call->wait, err), err);
    case CONTEXT_DELETE:
        return context_delete(k, call->agent, a->name, &call->wait, err) &&
               result_printf(call->result, err, "deleted context %s and its snapshots", a->name);
    }
    return error_set(err, ERR_INTERNAL, "action %d", a->action);
}

static const struct tool tools[] = {
    { .name = "agent_status",
      .title = "Your state and usage",
      .description = "Who you are here, your computers, what you use of storage, memory and models "
                     "and its limits, and how busy the kernel is.",
      .flags = TOOL_READS | TOOL_IDEMPOTENT | TOOL_QUICK,
      .handler = agent_status },
    { .name = "agent_context",
      .title = "Put work aside, take it up again",
      .description =
          "Saves your messages, variables and all computers' files under a name, in one step that "
          "survives a crash; restore gives them back, also in a later session: computers are made "
          "again with new handles (running programs are not; what ran is listed).",
      .fields = context_fields,
      .args_size = sizeof(struct context_args),
      .flags = TOOL_DESTROYS,
      .handler = agent_context },
};

const struct toolset toolset_agent = {
    .name = "agent", .tools = tools, .count = ARRAY_LEN(tools), .unlisted = true
};
