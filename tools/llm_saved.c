#include "tools/llm_saved.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernel/base/clock.h"
#include "kernel/base/json.h"
#include "kernel/base/log.h"
#include "kernel/base/utf8.h"
#include "kernel/storage.h"
#include "tools/toolkit.h"

#define EVERY_NS  CLOCK_NS_PER_S        /* the text is not written more often */
#define AGAIN_NS  (30 * CLOCK_NS_PER_S) /* nor sooner after storage has failed */
#define ANSWER_NS (100 * CLOCK_NS_PER_MS)
#define KEPT_NS   (24 * 3600 * CLOCK_NS_PER_S)
#define KEPT_MAX  32u /* of an agent; more than it may have parked in memory */
#define LOOK_MAX  (2 * KEPT_MAX)
#define PURGE_MAX 8u /* at a time */
#define VALUE_MAX (64u << 20)

/* The place of one agent's answers. */
struct place {
    struct storage *storage; /* NULL: not available */
    char space[96];
};

struct keeper {
    struct place place;
    char key[ID_SIZE];
    struct buf request; /* JSON */
    bool data;
    int64_t next_ns;
};

static void tell(const char *what, const char *key, const struct error *err)
{
    log_line(LOG_DEBUG, "llm.saved", "%s %s: %s", what, key, LOG_ESC(err->text));
}

static void place_init(struct place *p, struct tool_call *call, const char *key)
{
    struct error err = ERROR_INIT;

    (void)snprintf(p->space, sizeof p->space, "~generation.%s", agent_name(call->agent));
    p->storage = kernel_storage(call->kernel, &err);
    if (!p->storage)
        tell("no storage for", key, &err);
}

/* Within which a call can still write or remove something before it answers. */
static struct wait call_wait(struct tool_call *call)
{
    return (struct wait){ .deadline_ns = toolkit_answer_by(call, 0) - ANSWER_NS,
                          .cancel = call->wait.cancel };
}

/* ---- writing ---- */

static bool add_member(struct buf *out, const char *name, json_t *value)
{
    bool ok = value && buf_printf(out, ",\"%s\":", name) && json_write(value, out);

    json_decref(value);
    return ok;
}

static bool add_text(struct buf *out, const struct llm_job_text *now)
{
    CLEANUP(buf_fini) struct buf text = BUF_INIT;

    return buf_append_str(&text, now->so_far) && buf_append(&text, now->text, now->len) &&
           add_member(
               out, "text",
               json_string_lossy(buf_str(&text), utf8_cut(buf_str(&text), text.len, text.len)));
}

static json_t *reply_json(const struct llm_reply *r)
{
    return json_pack("{s:s, s:s, s:s, s:I, s:I, s:b, s:O*}", "finish", r->finish, "provider",
                     r->provider, "model", r->model, "input_tokens", (json_int_t)r->input_tokens,
                     "output_tokens", (json_int_t)r->output_tokens, "estimated", r->estimated,
                     "tool_calls", r->tool_calls);
}

/* llm_job_keep_fn. */
static void write_text(void *arg, const struct llm_job_text *now)
{
    struct keeper *k = arg;
    CLEANUP(buf_fini) struct buf value = BUF_INIT;
    struct error err = ERROR_INIT;
    bool due = now->over || clock_now_ns() >= k->next_ns, ok;

    if (!k->place.storage || !due)
        return;
    ok = (buf_append_str(&value, "{\"request\":") &&
          buf_append(&value, k->request.data, k->request.len) && add_text(&value, now) &&
          (!now->reply || add_member(&value, "reply", reply_json(now->reply))) &&
          buf_append_char(&value, '}')) ||
         error_set(&err, ERR_NOMEM, "an answer");
    ok = ok && storage_put(k->place.storage, k->place.space, k->key, value.data, value.len,
                           STORAGE_ANY, &now->wait, NULL, &err);
    if (!ok)
        tell("cannot write", k->key, &err);
    k->next_ns = clock_add_ns(clock_now_ns(), !ok ? AGAIN_NS : now->first ? 0 : EVERY_NS);
}

static bool put(json_t *to, const char *key, json_t *value)
{
    return json_object_set_new(to, key, value) == 0;
}

static bool put_text(json_t *to, const char *key, const char *text)
{
    return !text || put(to, key, json_string(text));
}

static bool put_json(json_t *to, const char *key, json_t *value)
{
    return !value || put(to, key, json_incref(value));
}

static bool request_json(const struct llm_request *r, bool data, struct buf *out)
{
    json_t *all = json_object();
    bool ok = all && put_text(all, "provider", r->provider) && put_text(all, "model", r->model) &&
              put_text(all, "system", r->system) && put_json(all, "messages", r->messages) &&
              put_json(all, "tools", r->tools) && put_json(all, "schema", r->schema) &&
              put_json(all, "stop", r->stop) &&
              put(all, "max_tokens", json_integer(r->max_tokens)) &&
              put(all, "temperature", json_real(r->temperature)) &&
              put(all, "data", json_boolean(data)) && json_write(all, out);

    json_decref(all);
    return ok;
}

/* ---- room ---- */

static void remove_one(const struct place *p, const char *key, const struct wait *w)
{
    struct error err = ERROR_INIT;

    if (!storage_purge(p->storage, p->space, key, w, NULL, &err))
        tell("cannot remove", key, &err);
}

/* Those that nobody has fetched for a day, and the oldest beyond KEPT_MAX. */
static void remove_old(const struct keeper *k, const struct wait *w)
{
    const struct place *p = &k->place;
    int64_t before_ns = clock_wall_ns() - KEPT_NS;
    const struct storage_stat *oldest = NULL;
    struct storage_page page;
    struct error err = ERROR_INIT;
    size_t removed = 0;

    if (!storage_list(p->storage, p->space, "", NULL, LOOK_MAX, w, &page, &err)) {
        tell("cannot look for what is older than", k->key, &err);
        return;
    }
    for (size_t i = 0; i < page.count && removed < PURGE_MAX; i++) {
        const struct storage_stat *stat = &page.items[i];

        if (strcmp(stat->key, k->key) == 0)
            continue;
        if (stat->wall_ns < before_ns) {
            remove_one(p, stat->key, w);
            removed++;
        } else if (!oldest || stat->wall_ns < oldest->wall_ns) {
            oldest = stat;
        }
    }
    if (removed == 0 && page.count > KEPT_MAX && oldest)
        remove_one(p, oldest->key, w);
    storage_page_fini(&page);
}

/* ---- keeping ---- */

static void keeper_free(void *arg)
{
    struct keeper *k = arg;

    buf_fini(&k->request);
    free(k);
}

void llm_saved_keep(struct tool_call *call, struct llm_job *job, const struct llm_request *asked,
                    bool data)
{
    struct wait wait = call_wait(call);
    struct keeper *k = calloc(1, sizeof *k);

    if (!k) {
        log_line(LOG_DEBUG, "llm.saved", "no memory to keep %s", llm_job_id(job));
        return;
    }
    buf_init(&k->request, 0);
    (void)snprintf(k->key, sizeof k->key, "%s", llm_job_id(job));
    k->data = data;
    place_init(&k->place, call, k->key);
    if (k->place.storage && !request_json(asked, data, &k->request)) {
        log_line(LOG_DEBUG, "llm.saved", "no memory to keep %s", k->key);
        k->place.storage = NULL;
    }
    llm_job_keep(job, write_text, k, keeper_free, &wait);
    if (k->place.storage)
        remove_old(k, &wait);
}

bool llm_saved_data(struct llm_job *job)
{
    const struct keeper *k = llm_job_kept(job);

    return k && k->data;
}

/* ---- reading ---- */

static void copy_name(const json_t *from, const char *key, char *to, size_t size)
{
    const char *text = json_string_value(json_object_get(from, key));

    (void)snprintf(to, size, "%s", text ? text : "");
}

static uint64_t count_of(const json_t *from, const char *key)
{
    return (uint64_t)MAX(json_integer_value(json_object_get(from, key)), 0);
}

static void read_reply(const json_t *from, struct llm_reply *ret)
{
    copy_name(from, "finish", ret->finish, sizeof ret->finish);
    copy_name(from, "provider", ret->provider, sizeof ret->provider);
    copy_name(from, "model", ret->model, sizeof ret->model);
    ret->input_tokens = count_of(from, "input_tokens");
    ret->output_tokens = count_of(from, "output_tokens");
    ret->estimated = json_is_true(json_object_get(from, "estimated"));
    ret->tool_calls = json_incref(json_object_get(from, "tool_calls"));
}

static void read_value(const struct tool_call *call, struct llm_saved *ret)
{
    const json_t *from = json_object_get(ret->value, "request");
    const json_t *text = json_object_get(ret->value, "text");
    const json_t *reply = json_object_get(ret->value, "reply");
    const json_t *temperature = json_object_get(from, "temperature");

    ret->request = (struct llm_request){
        .agent = agent_name(call->agent),
        .provider = json_string_value(json_object_get(from, "provider")),
        .model = json_string_value(json_object_get(from, "model")),
        .system = json_string_value(json_object_get(from, "system")),
        .messages = json_object_get(from, "messages"),
        .tools = json_object_get(from, "tools"),
        .schema = json_object_get(from, "schema"),
        .stop = json_object_get(from, "stop"),
        .max_tokens = json_integer_value(json_object_get(from, "max_tokens")),
        .temperature = json_is_number(temperature) ? json_number_value(temperature) : -1,
    };
    ret->data = json_is_true(json_object_get(from, "data"));
    ret->over = reply != NULL;
    if (reply)
        read_reply(reply, &ret->reply);
    if (!json_is_string(text) || (ret->request.schema && !ret->over))
        return; /* a structured answer is asked for anew */
    ret->text = json_string_value(text);
    ret->len = json_string_length(text);
}

bool llm_saved_read(struct tool_call *call, const char *handle, struct llm_saved *ret,
                    struct error *err)
{
    CLEANUP(buf_fini) struct buf value = BUF_INIT;
    struct wait wait = call_wait(call);
    struct error why = ERROR_INIT;
    struct place place = { .storage = NULL };

    *ret = (struct llm_saved){ .text = "" };
    llm_reply_init(&ret->reply);
    if (!id_is(handle, "q"))
        return false;
    place_init(&place, call, handle);
    if (!place.storage)
        return false;
    if (storage_get(place.storage, place.space, handle, 0, 0, VALUE_MAX, &value, &wait, NULL, &why))
        ret->value = json_parse(buf_str(&value), value.len, &why);
    if (ret->value) {
        read_value(call, ret);
        return true;
    }
    if (why.code != ERR_NOT_FOUND) {
        tell("cannot read", handle, &why);
        error_prefix(err, "storage cannot tell (%.160s)", why.text);
    }
    return false;
}

void llm_saved_fini(struct llm_saved *saved)
{
    llm_reply_fini(&saved->reply);
    json_decref(saved->value);
}

void llm_saved_purge(struct tool_call *call, const char *handle)
{
    struct wait wait = call_wait(call);
    struct place place = { .storage = NULL };
    struct error err = ERROR_INIT;

    place_init(&place, call, handle);
    if (place.storage && !storage_purge(place.storage, place.space, handle, &wait, NULL, &err) &&
        err.code != ERR_NOT_FOUND)
        tell("cannot remove", handle, &err);
}
