/* browser_evaluate, browser_console, browser_network: looking into a page. */
#include "tools/browser_internal.h"

#include "kernel/base/base64.h"
#include "kernel/base/json.h"
#include "kernel/base/utf8.h"

#define EVALUATE_NS (15 * CLOCK_NS_PER_S)
#define ANSWER_MAX  (24u << 10)

/* ---- browser_evaluate ---- */

const struct json_field browser_evaluate_fields[] = {
    { .name = "expression",
      .description = "With ref a function: el => el.value",
      .kind = JSON_KIND_STRING,
      .required = true,
      .offset = offsetof(struct browser_evaluate_args, expression) },
    { .name = "ref",
      .description = "Element",
      .kind = JSON_KIND_STRING,
      .offset = offsetof(struct browser_evaluate_args, ref) },
    { .name = "frame",
      .description = "Name or URL part",
      .kind = JSON_KIND_STRING,
      .offset = offsetof(struct browser_evaluate_args, frame) },
    BROWSER_FIELDS(struct browser_evaluate_args),
    { .name = NULL },
};

static const struct browser_frame *frame_named(const struct browser_frames *frames,
                                               const char *name)
{
    for (size_t i = 0; i < frames->count; i++)
        if (!strcmp(frames->at[i].name, name) || !strcmp(frames->at[i].id, name))
            return &frames->at[i];
    for (size_t i = 0; i < frames->count; i++)
        if (strstr(frames->at[i].url, name))
            return &frames->at[i];
    return NULL;
}

static bool name_context(struct browser_tab *tab, const struct browser_frames *frames,
                         const char *name, const struct browser_frame **ret, int64_t *ret_context,
                         struct error *err)
{
    CLEANUP(buf_fini) struct buf known = BUF_INIT;
    const struct browser_frame *frame = frame_named(frames, name);
    struct browser_world *world;

    if (!frame) {
        for (size_t i = 0; i < frames->count && known.len < 300; i++)
            (void)buf_printf(&known, "%s%.100s", i ? ", " : "", frames->at[i].url);
        return error_set(err, ERR_NOT_FOUND, "no frame is called so or has that URL; there are %s",
                         buf_str(&known));
    }
    pthread_mutex_lock(&tab->browser->lock);
    world = browser_world_find_locked(tab, frame->session, frame->id, true);
    *ret_context = world ? world->context : 0;
    pthread_mutex_unlock(&tab->browser->lock);
    *ret = frame;
    return true;
}

static bool tell_value(const json_t *answer, struct buf *out, struct error *err)
{
    const json_t *thrown = json_object_get(answer, "exceptionDetails");
    const json_t *result = json_object_get(answer, "result");
    const json_t *value = json_object_get(result, "value");
    const char *text;

    if (thrown) {
        text =
            json_string_value(json_object_get(json_object_get(thrown, "exception"), "description"));
        if (!text)
            text = json_string_value(json_object_get(thrown, "text"));
        return error_set(err, ERR_INVALID, "it threw %.450s", text ? text : "something");
    }
    text = json_string_value(json_object_get(result, "unserializableValue"));
    if (!text && !value)
        text = json_string_value(json_object_get(result, "type"));
    if (json_is_string(value))
        (void)buf_append(out, json_string_value(value), json_string_length(value));
    else if (value)
        UNCHECKED(json_write(value, out));
    else
        (void)buf_append_str(out, text ? text : "undefined");
    (void)buf_append_char(out, '\n');
    return true;
}

static json_t *run_script(struct browser_tab *tab, const struct browser_frame *frame,
                          int64_t context, const char *expression, const struct wait *w,
                          struct error *err)
{
    json_t *params =
        browser_params(err, "{s:s,s:b,s:b,s:b,s:b}", "expression", expression, "returnByValue", 1,
                       "awaitPromise", 1, "userGesture", 1, "replMode", 1);

    if (params && context)
        (void)json_object_set_new(params, "contextId", json_integer(context));
    return params ? browser_frame_call(tab, frame, "Runtime.evaluate", params, w, err) : NULL;
}

static json_t *run_on(struct browser_tab *tab, const struct browser_evaluate_args *a,
                      struct browser_frame *frame, const struct wait *w, struct error *err)
{
    const struct browser_refs *refs = browser_tab_refs(tab);
    char object[BROWSER_ID_MAX + 1] = "";
    json_t *params, *answer;

    if (!refs) {
        error_set(err, ERR_NOT_FOUND, "no element has a ref yet: call browser_snapshot first");
        return NULL;
    }
    if (!refs->object(refs->arg, tab, a->ref, frame, object, w, err))
        return NULL;
    params = browser_params(err, "{s:s,s:s,s:[{s:s}],s:b,s:b,s:b}", "functionDeclaration",
                            a->expression, "objectId", object, "arguments", "objectId", object,
                            "returnByValue", 1, "awaitPromise", 1, "userGesture", 1);
    answer =
        params ? browser_frame_call(tab, frame, "Runtime.callFunctionOn", params, w, err) : NULL;
    cdp_post(tab->browser->cdp, frame->session, "Runtime.releaseObject",
             json_pack("{s:s}", "objectId", object));
    return answer;
}

bool browser_evaluate(struct tool_call *call, const void *args, struct error *err)
{
    const struct browser_evaluate_args *a = args;
    CLEANUP(browser_use_fini) struct browser_use use = { .note = "" };
    CLEANUP(browser_frames_fini) struct browser_frames frames = { .at = NULL };
    CLEANUP(browser_frame_fini) struct browser_frame owner = { .url = NULL };
    CLEANUP(buf_fini) struct buf text = BUF_INIT;
    struct wait w = { .cancel = call->wait.cancel };
    const struct browser_frame *frame = NULL;
    struct error failed = ERROR_INIT;
    struct browser_mark mark;
    int64_t most_ns;
    int64_t context = 0;
    json_t *answer;
    bool ok;

    if (a->ref && a->frame)
        return error_set(err, ERR_INVALID, "a ref says which frame; send one of them");
    if (!browser_use(call, a->computer, a->tab, false, &use, err))
        return false;
    most_ns = browser_patience(use.tab, EVALUATE_NS);
    w.deadline_ns = MIN(call->wait.deadline_ns, clock_add_ns(clock_now_ns(), most_ns));
    browser_mark(use.tab, &mark);
    if (a->frame && (!browser_frames(use.tab, &frames, &w, err) ||
                     !name_context(use.tab, &frames, a->frame, &frame, &context, err)))
        return false;
    answer = a->ref ? run_on(use.tab, a, &owner, &w, &failed)
                    : run_script(use.tab, frame, context, a->expression, &w, &failed);
    if (!answer) {
        if (failed.code == ERR_TIMEOUT || failed.code == ERR_CANCELLED)
            cdp_post(use.browser->cdp, frame ? frame->session : use.tab->session,
                     "Runtime.terminateExecution", NULL);
        if (failed.code == ERR_TIMEOUT)
            (void)snprintf(failed.text, sizeof failed.text,
                           "it was not done after %.1f s and was ended", (double)most_ns / 1e9);
        if (err)
            *err = failed;
        return false;
    }
    ok = tell_value(answer, &text, err);
    json_decref(answer);
    if (!ok)
        return false;
    (void)browser_changes(use.tab, &mark, "", &text);
    return browser_finish(call, &use, &text, err);
}

/* ---- browser_console ---- */

const struct json_field browser_console_fields[] = {
    { .name = "since",
      .description = "Last seen",
      .kind = JSON_KIND_INT,
      .offset = offsetof(struct browser_look_args, since) },
    { .name = "filter",
      .description = "Level or text",
      .kind = JSON_KIND_STRING,
      .offset = offsetof(struct browser_look_args, filter) },
    BROWSER_FIELDS(struct browser_look_args),
    { .name = NULL },
};

static bool wanted_message(const struct browser_message *m, const char *filter)
{
    return !filter || !strcmp(m->level, filter) || (m->text && strstr(m->text, filter)) ||
           strstr(m->source, filter);
}

/* Says how the next call goes on; false when there is nothing else to say. */
static void tell_end(struct buf *out, uint64_t from, uint64_t kept_from, uint64_t told, bool full)
{
    if (kept_from > from)
        (void)buf_printf(out, "(%" PRIu64 " older ones are no longer kept)\n", kept_from - from);
    (void)buf_printf(out, "%ssince: %" PRIu64 "\n", full ? "more follow; " : "", told);
}

bool browser_console(struct tool_call *call, const void *args, struct error *err)
{
    const struct browser_look_args *a = args;
    CLEANUP(browser_use_fini) struct browser_use use = { .note = "" };
    CLEANUP(buf_fini) struct buf text = BUF_INIT;
    uint64_t from = (uint64_t)MAX(a->since, 0), kept_from, seq;
    struct browser_tab *tab;

    if (!browser_use(call, a->computer, a->tab, true, &use, err))
        return false;
    tab = use.tab;
    pthread_mutex_lock(&use.browser->lock);
    from = MIN(from, tab->console_seq);
    kept_from = tab->console_seq > BROWSER_CONSOLE_MAX ? tab->console_seq - BROWSER_CONSOLE_MAX : 0;
    for (seq = MAX(from, kept_from); seq < tab->console_seq && text.len < ANSWER_MAX; seq++) {
        const struct browser_message *m = &tab->console[seq % BROWSER_CONSOLE_MAX];

        if (wanted_message(m, a->filter))
            (void)buf_printf(&text, "%" PRIu64 " %s: %s%s%s%s\n", m->seq, m->level,
                             m->text ? m->text : "", m->source[0] ? " (" : "", m->source,
                             m->source[0] ? ")" : "");
    }
    if (text.len == 0)
        (void)buf_append_str(&text, "no messages\n");
    tell_end(&text, from, kept_from, seq, seq < tab->console_seq);
    pthread_mutex_unlock(&use.browser->lock);
    return browser_finish(call, &use, &text, err);
}

/* ---- browser_network ---- */

const struct json_field browser_network_fields[] = {
    { .name = "since",
      .description = "Last seen",
      .kind = JSON_KIND_INT,
      .offset = offsetof(struct browser_look_args, since) },
    { .name = "filter",
      .description = "In the URL, type or status",
      .kind = JSON_KIND_STRING,
      .offset = offsetof(struct browser_look_args, filter) },
    { .name = "body",
      .description = "Number: show its response's body",
      .kind = JSON_KIND_INT,
      .offset = offsetof(struct browser_look_args, body) },
    BROWSER_FIELDS(struct browser_look_args),
    { .name = NULL },
};

static bool wanted_request(const struct browser_request *r, const char *filter)
{
    char status[16];

    if (!filter)
        return true;
    (void)snprintf(status, sizeof status, "%d", r->status);
    return (r->url && strstr(r->url, filter)) || !strcasecmp(r->type, filter) ||
           !strcmp(status, filter) ||
           (!strcmp(filter, "failed") && (r->failed[0] || r->status >= 400));
}

static void tell_request(const struct browser_request *r, struct buf *out)
{
    char status[24] = "pending";

    if (r->status)
        (void)snprintf(status, sizeof status, "%d", r->status);
    else if (r->over)
        (void)snprintf(status, sizeof status, "failed");
    (void)buf_printf(out, "%" PRIu64 " %s %s %s", r->seq, r->method, status, r->type);
    if (r->mime[0])
        (void)buf_printf(out, " %s", r->mime);
    if (r->over && !r->failed[0])
        (void)buf_printf(out, " %" PRIu64 " B %" PRId64 " ms", r->bytes, r->took_ms);
    if (r->failed[0])
        (void)buf_printf(out, " %s", r->failed);
    (void)buf_printf(out, " %s\n", r->url ? r->url : "");
}

static bool body_of(struct tool_call *call, struct browser_use *use, uint64_t seq, struct buf *out,
                    struct error *err)
{
    const struct browser_request *r = &use->tab->network[(seq - 1) % BROWSER_NETWORK_MAX];
    struct browser_frame frame = { .url = NULL };
    char id[BROWSER_ID_MAX + 1] = "";
    CLEANUP(buf_fini) struct buf raw = BUF_INIT;
    json_t *params, *answer;
    const json_t *body;
    bool ok;

    pthread_mutex_lock(&use->browser->lock);
    if (r->seq == seq) {
        memcpy(id, r->id, sizeof id);
        memcpy(frame.session, r->session, sizeof frame.session);
    }
    pthread_mutex_unlock(&use->browser->lock);
    if (!id[0])
        return error_set(err, ERR_NOT_FOUND,
                         "the browser has no body for request %" PRIu64
                         " (a redirect, or one of long ago); list them without \"body\"",
                         seq);
    params = browser_params(err, "{s:s}", "requestId", id);
    answer = params ? browser_frame_call(use->tab, &frame, "Network.getResponseBody", params,
                                         &call->wait, err)
                    : NULL;
    if (!answer)
        return false;
    body = json_object_get(answer, "body");
    if (json_is_true(json_object_get(answer, "base64Encoded"))) {
        struct error broken = ERROR_INIT;

        ok = base64_decode(&raw, json_string_value(body), json_string_length(body), &broken);
        if (ok && utf8_valid(buf_str(&raw), raw.len))
            (void)buf_append(out, buf_str(&raw), raw.len);
        else
            (void)buf_printf(out, "%zu bytes that are no text", raw.len);
    } else {
        (void)buf_append(out, json_is_string(body) ? json_string_value(body) : "",
                         json_string_length(body));
    }
    json_decref(answer);
    return true;
}

bool browser_network(struct tool_call *call, const void *args, struct error *err)
{
    const struct browser_look_args *a = args;
    CLEANUP(browser_use_fini) struct browser_use use = { .note = "" };
    CLEANUP(buf_fini) struct buf text = BUF_INIT;
    uint64_t from = (uint64_t)MAX(a->since, 0), kept_from, seq;
    struct browser_tab *tab;

    if (!browser_use(call, a->computer, a->tab, true, &use, err))
        return false;
    if (a->body > 0)
        return body_of(call, &use, (uint64_t)a->body, &text, err) &&
               browser_finish(call, &use, &text, err);
    tab = use.tab;
    pthread_mutex_lock(&use.browser->lock);
    from = MIN(from, tab->network_seq);
    kept_from = tab->network_seq > BROWSER_NETWORK_MAX ? tab->network_seq - BROWSER_NETWORK_MAX : 0;
    for (seq = MAX(from, kept_from); seq < tab->network_seq && text.len < ANSWER_MAX; seq++)
        if (wanted_request(&tab->network[seq % BROWSER_NETWORK_MAX], a->filter))
            tell_request(&tab->network[seq % BROWSER_NETWORK_MAX], &text);
    if (text.len == 0)
        (void)buf_append_str(&text, "no requests\n");
    tell_end(&text, from, kept_from, seq, seq < tab->network_seq);
    pthread_mutex_unlock(&use.browser->lock);
    return browser_finish(call, &use, &text, err);
}
