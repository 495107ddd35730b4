/* The family llm: asking a language model. */
#include "kernel/llm.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernel/base/clock.h"
#include "kernel/llm_job.h"
#include "tools/llm_saved.h"
#include "tools/toolkit.h"

#define SAMPLING  "sampling"
#define MARGIN_NS (500 * CLOCK_NS_PER_MS) /* in which the answer is written down */
#define KEEP_NS   (5 * CLOCK_NS_PER_S)    /* so long before its time a call is not put aside */

struct query_args {
    const char *prompt, *system, *model, *provider, *answer;
    json_t *messages, *tools, *schema, *stop;
    int64_t max_tokens;
    double temperature;
    bool data;
};

static const struct json_field query_fields[] = {
    { .name = "prompt",
      .description = "The question",
      .kind = JSON_KIND_STRING,
      .offset = offsetof(struct query_args, prompt),
      .min = 1 },
    { .name = "messages",
      .description = "Instead of prompt: [{role, content}]",
      .kind = JSON_KIND_OBJECTS,
      .offset = offsetof(struct query_args, messages) },
    { .name = "system", .kind = JSON_KIND_STRING, .offset = offsetof(struct query_args, system) },
    { .name = "model",
      .description = "Of that provider",
      .kind = JSON_KIND_STRING,
      .offset = offsetof(struct query_args, model),
      .min = 1,
      .max = 128 },
    { .name = "provider",
      .description = "See agent_status",
      .kind = JSON_KIND_STRING,
      .offset = offsetof(struct query_args, provider),
      .min = 1,
      .max = 64 },
    { .name = "max_tokens",
      .kind = JSON_KIND_INT,
      .offset = offsetof(struct query_args, max_tokens),
      .min = 1,
      .max = 1000000 },
    { .name = "temperature",
      .kind = JSON_KIND_NUMBER,
      .offset = offsetof(struct query_args, temperature),
      .min = 0,
      .max = 2,
      .fallback = -1 },
    { .name = "schema",
      .description = "JSON Schema for a JSON answer",
      .kind = JSON_KIND_FREE_OBJECT,
      .offset = offsetof(struct query_args, schema) },
    { .name = "tools",
      .description = "[{name, description, parameters}]",
      .kind = JSON_KIND_OBJECTS,
      .offset = offsetof(struct query_args, tools) },
    { .name = "data",
      .description = "Answer as JSON, with tool_calls",
      .kind = JSON_KIND_BOOL,
      .offset = offsetof(struct query_args, data) },
    { .name = "stop",
      .kind = JSON_KIND_STRINGS,
      .offset = offsetof(struct query_args, stop),
      .max = 16 },
    { .name = "answer",
      .description = "Alone: handle of an answer that was not finished",
      .kind = JSON_KIND_STRING,
      .offset = offsetof(struct query_args, answer),
      .min = 1,
      .max = 64 },
    { .name = NULL },
};

/* What is put aside when a call has had its turn: the text of all turns, and what they took. */
struct progress {
    struct buf text;
    uint64_t input_tokens, output_tokens;
    bool estimated;
    bool data; /* wanted as data */
};

static void progress_free(void *arg)
{
    struct progress *p = arg;

    if (!p)
        return;
    buf_fini(&p->text);
    free(p);
}

static void progress_freep(struct progress **p)
{
    progress_free(*p);
}

static bool progress_add(struct progress *p, const struct llm_reply *reply, struct error *err)
{
    p->input_tokens += reply->input_tokens;
    p->output_tokens += reply->output_tokens;
    p->estimated |= reply->estimated;
    return buf_append(&p->text, buf_str(&reply->text), reply->text.len) ||
           error_set(err, ERR_NOMEM, "an answer");
}

/* ---- the answer ---- */

static bool answer_data(struct tool_call *call, const struct progress *p,
                        const struct llm_reply *reply, struct error *err)
{
    json_t *data = json_pack(
        "{s:o, s:O*, s:s, s:s, s:s, s:I, s:I}", "text",
        json_string_lossy(buf_str(&p->text), p->text.len), "tool_calls", reply->tool_calls,
        "finish", reply->finish, "provider", reply->provider, "model", reply->model, "input_tokens",
        (json_int_t)p->input_tokens, "output_tokens", (json_int_t)p->output_tokens);

    return data ? result_data(call->result, data, err) : error_set(err, ERR_NOMEM, "an answer");
}

static bool answer(struct tool_call *call, const struct progress *p, const struct llm_reply *reply,
                   struct error *err)
{
    const char *note = "";

    /* What the model wants to call cannot be told as prose. */
    if (p->data || reply->tool_calls)
        return answer_data(call, p, reply, err);

    if (strcmp(reply->finish, "length") == 0)
        note = "; cut off at max_tokens";
    else if (strcmp(reply->finish, "refused") == 0)
        note = "; the model declined";
    return (p->text.len == 0 || result_text(call->result, p->text.data, p->text.len,
                                            "ask for a shorter answer, or for its parts", err)) &&
           result_printf(call->result, err, "[%s%s%s: %s%" PRIu64 " tokens in, %" PRIu64 " out%s]",
                         reply->provider, *reply->model ? ", " : "", reply->model,
                         p->estimated ? "about " : "", p->input_tokens, p->output_tokens, note);
}

/* The answer goes on without us.  @asked: NULL when that is kept already. */
static bool answer_later(struct tool_call *call, struct llm_job *job,
                         const struct llm_request *asked, bool data, struct error *err)
{
    size_t bytes = llm_job_progress(job);
    struct id id;

    if (asked)
        llm_saved_keep(call, job, asked, data);
    llm_job_park(job, &id);
    return result_printf(call->result, err,
                         "The model is still working (%zu bytes written so far). Fetch its "
                         "answer with llm_query {\"answer\": \"%s\"}.",
                         bytes, id.text);
}

/* ---- asking ---- */

/* Not shortly before it must answer: in the queue it would be timed out, and its text lost. */
static bool preempted(void *arg)
{
    return tool_call_preempted(arg) && toolkit_answer_by(arg, 0) - clock_now_ns() > KEEP_NS;
}

static bool can_sample(const struct tool_call *call, const struct query_args *a)
{
    return call->peer && call->peer->sample && (!a->provider || strcmp(a->provider, SAMPLING) == 0);
}

/* The host's own model, within this call: the host waits for our answer while we wait for its. */
static bool ask_host(struct tool_call *call, struct llm *l, struct llm_request *request,
                     struct progress *p, struct error *err)
{
    struct llm_reply reply;
    struct wait wait = { .deadline_ns = toolkit_answer_by(call, 0) - MARGIN_NS,
                         .cancel = call->wait.cancel };
    bool ok;

    request->peer = call->peer;
    request->peer_arg = call->peer_arg;
    llm_reply_init(&reply);
    tool_call_note(call, "asking the host's model");
    ok = llm_query(l, request, &wait, &reply, err) && progress_add(p, &reply, err) &&
         answer(call, p, &reply, err);
    llm_reply_fini(&reply);
    return ok;
}

/* @job is over: the answer, another turn, or its reason. */
static bool take(struct tool_call *call, struct llm_job *job, struct progress **p,
                 bool *ret_preempted, struct error *err)
{
    struct llm_reply reply;
    bool ok = llm_job_result(job, &reply, err);

    *ret_preempted = ok && reply.preempted;
    if (!ok) {
        (void)progress_add(*p, &reply, NULL);
    } else {
        ok = progress_add(*p, &reply, err);
        if (ok && *ret_preempted)
            tool_call_yield(call, STEAL(*p), progress_free);
        else
            ok = ok && answer(call, *p, &reply, err);
    }
    llm_reply_fini(&reply);
    return ok;
}

/* Waits for @job as long as this call may take; after that *job is NULL.  @asked: what must be kept
 * then, or NULL. */
static bool await(struct tool_call *call, struct llm_job **job, const struct llm_request *asked,
                  struct progress **p, struct error *err)
{
    struct wait wait = { .deadline_ns = toolkit_answer_by(call, 0) - MARGIN_NS,
                         .cancel = call->wait.cancel };
    struct error late = ERROR_INIT;
    bool again;

    if (llm_job_wait(*job, &wait, &late))
        return take(call, *job, p, &again, err);
    if (late.code == ERR_TIMEOUT)
        return answer_later(call, STEAL(*job), asked, (*p)->data, err);
    return error_set(err, late.code, "%s", late.text);
}

static bool ask_providers(struct tool_call *call, struct llm *l, const struct query_args *a,
                          struct llm_request *request, struct progress **p, struct error *err)
{
    CLEANUP(llm_job_freep) struct llm_job *job = NULL;
    struct error why = ERROR_INIT, late = ERROR_INIT;

    request->so_far = buf_str(&(*p)->text);
    job = llm_job_start(l, request, preempted, call, err);
    if (!job)
        return false;
    tool_call_note(call, "asking a model");
    if (await(call, &job, request, p, &why))
        return true;
    if ((why.code != ERR_LOST && why.code != ERR_UNSUPPORTED) || !can_sample(call, a) ||
        !kernel_config(call->kernel)->llm.sampling)
        return error_set(err, why.code, "%s", why.text);
    request->so_far = buf_str(&(*p)->text);
    request->provider = SAMPLING;
    if (ask_host(call, l, request, *p, &late))
        return true;
    if (late.code == ERR_UNSUPPORTED) /* which is no news */
        return error_set(err, why.code, "%s", why.text);
    return error_set(err, late.code, "%.240s; then %.240s", why.text, late.text);
}

static json_t *messages_of(const struct query_args *a, struct error *err)
{
    json_t *messages;

    if (!a->prompt == !a->messages) {
        error_set(err, ERR_INVALID, "send either \"prompt\" or \"messages\"");
        return NULL;
    }
    if (a->messages)
        return json_incref(a->messages);
    messages = json_pack("[{s:s, s:s}]", "role", "user", "content", a->prompt);
    if (!messages)
        error_set(err, ERR_NOMEM, "a question");
    return messages;
}

static bool ask(struct tool_call *call, struct llm *l, const struct query_args *a,
                struct progress **p, struct error *err)
{
    struct llm_request request = { .agent = agent_name(call->agent),
                                   .provider = a->provider,
                                   .model = a->model,
                                   .system = a->system,
                                   .tools = json_is_null(a->tools) ? NULL : a->tools,
                                   .schema = json_is_null(a->schema) ? NULL : a->schema,
                                   .stop = a->stop,
                                   .max_tokens = a->max_tokens,
                                   .temperature = a->temperature };
    bool ok;

    request.messages = messages_of(a, err);
    if (!request.messages)
        return false;
    if (llm_has_providers(l) && (!a->provider || strcmp(a->provider, SAMPLING) != 0))
        ok = ask_providers(call, l, a, &request, p, err);
    else
        ok = ask_host(call, l, &request, *p, err);
    json_decref(request.messages);
    return ok;
}

/* One that is not in memory, as @why says: the server was started again since. */
static bool fetch_saved(struct tool_call *call, struct llm *l, const char *handle,
                        struct progress **p, struct error *why, struct error *err)
{
    CLEANUP(llm_saved_fini) struct llm_saved saved;
    CLEANUP(llm_job_freep) struct llm_job *job = NULL;
    bool ok;

    if (!llm_saved_read(call, handle, &saved, why))
        return error_set(err, why->code, "%s", why->text);
    (*p)->data |= saved.data;
    if (!buf_append(&(*p)->text, saved.text, saved.len))
        return error_set(err, ERR_NOMEM, "an answer");
    if (saved.over) {
        ok = progress_add(*p, &saved.reply, err) && answer(call, *p, &saved.reply, err);
    } else {
        saved.request.so_far = buf_str(&(*p)->text);
        job = llm_job_start(l, &saved.request, NULL, NULL, err);
        if (!job || !llm_job_adopt(job, handle, err))
            return false;
        llm_saved_keep(call, job, &saved.request, (*p)->data);
        ok = await(call, &job, NULL, p, err);
    }
    if (ok && (job || saved.over))
        llm_saved_purge(call, handle);
    return ok;
}

static bool fetch(struct tool_call *call, struct llm *l, const struct query_args *a,
                  struct progress **p, struct error *err)
{
    CLEANUP(llm_job_freep) struct llm_job *job = NULL;
    struct error why = ERROR_INIT;
    bool ok;

    if (a->prompt || a->messages)
        return error_set(err, ERR_INVALID, "send \"answer\" alone, or a new question without it");
    job = llm_job_claim(l, agent_name(call->agent), a->answer, &why);
    if (!job && why.code == ERR_NOT_FOUND)
        return fetch_saved(call, l, a->answer, p, &why, err);
    if (!job)
        return error_set(err, why.code, "%s", why.text);
    (*p)->data |= llm_saved_data(job);
    if (!buf_append_str(&(*p)->text, llm_job_so_far(job))) /* of the turns before it was parked */
        return error_set(err, ERR_NOMEM, "an answer");
    ok = await(call, &job, NULL, p, err);
    if (ok && job) /* delivered, and not parked again */
        llm_saved_purge(call, a->answer);
    return ok;
}

static bool llm_query_tool(struct tool_call *call, const void *args, struct error *err)
{
    const struct query_args *a = args;
    CLEANUP(progress_freep) struct progress *p = tool_call_resume(call);
    struct llm *l = kernel_llm(call->kernel, err);

    if (!l)
        return false;
    if (!p)
        p = calloc(1, sizeof *p);
    if (!p)
        return error_set(err, ERR_NOMEM, "a question");
    p->data = a->data;
    return a->answer ? fetch(call, l, a, &p, err) : ask(call, l, a, &p, err);
}

static const struct tool tools[] = {
    { .name = "llm_query",
      .title = "Ask a language model",
      .description = "Ask another language model and get its answer, for a second opinion or work "
                     "on many texts. It sees only what you send. Without provider the configured "
                     "ones are tried in order. A long answer is fetched later by its handle.",
      .fields = query_fields,
      .args_size = sizeof(struct query_args),
      .flags = TOOL_READS | TOOL_OPEN_WORLD,
      .class = SYSCALL_LLM,
      .handler = llm_query_tool },
};

const struct toolset toolset_llm = {
    .name = "llm", .tools = tools, .count = ARRAY_LEN(tools), .unlisted = true
};
