/* What a tab's pages wrote to the console and asked of the network, in bounded records. */
#include "tools/browser_internal.h"

#include <math.h>
#include <stdlib.h>

#include "kernel/base/json.h"
#include "kernel/base/utf8.h"

#define ARGUMENTS_MAX 16u

static const char *text_of(const json_t *object, const char *key)
{
    const char *text = json_string_value(json_object_get(object, key));

    return text ? text : "";
}

static char *cut(const char *text, size_t most)
{
    size_t len = strlen(text);

    return strndup(text, utf8_cut(text, len, MIN(len, most)));
}

/* ---- console ---- */

static void add_message(struct browser_tab *tab, const char *level, const char *text,
                        const char *url, json_int_t line)
{
    struct browser_message *m = &tab->console[tab->console_seq % BROWSER_CONSOLE_MAX];

    free(m->text);
    *m = (struct browser_message){ .seq = ++tab->console_seq, .text = cut(text, BROWSER_TEXT_MAX) };
    (void)snprintf(m->level, sizeof m->level, "%s", level);
    if (*url) {
        size_t len = strlen(url);

        (void)snprintf(m->source, sizeof m->source, "%.*s:%lld",
                       (int)utf8_cut(url, len, MIN(len, 150)), url, (long long)line + 1);
    }
}

/* {a: 1, b: "x"} of what the browser shows of an object. */
static bool add_preview(struct buf *out, const json_t *preview)
{
    const json_t *all = json_object_get(preview, "properties");
    bool array = !strcmp(text_of(preview, "subtype"), "array");
    size_t i;
    const json_t *one;

    if (!json_is_array(all))
        return false;
    (void)buf_append_str(out, array ? "[" : "{");
    json_array_foreach (all, i, one) {
        bool string = !strcmp(text_of(one, "type"), "string");

        (void)buf_append_str(out, i ? ", " : "");
        if (!array)
            (void)buf_printf(out, "%s: ", text_of(one, "name"));
        (void)buf_printf(out, string ? "\"%s\"" : "%s", text_of(one, "value"));
    }
    (void)buf_append_str(out, json_is_true(json_object_get(preview, "overflow")) ? ", …" : "");
    (void)buf_append_str(out, array ? "]" : "}");
    return true;
}

static void add_value(struct buf *out, const json_t *value)
{
    const json_t *plain = json_object_get(value, "value");
    const char *type = text_of(value, "type");

    if (json_is_string(plain))
        (void)buf_append_str(out, json_string_value(plain));
    else if (plain)
        UNCHECKED(json_write(plain, out));
    else if (*text_of(value, "unserializableValue"))
        (void)buf_append_str(out, text_of(value, "unserializableValue"));
    else if (strcmp(text_of(value, "subtype"), "error") != 0 &&
             add_preview(out, json_object_get(value, "preview")))
        return;
    else if (*text_of(value, "description"))
        (void)buf_append_str(out, text_of(value, "description"));
    else
        (void)buf_append_str(out, type);
}

static void on_console(struct browser_tab *tab, const json_t *params)
{
    CLEANUP(buf_fini) struct buf text = BUF_INIT;
    const json_t *args = json_object_get(params, "args");
    const json_t *frame =
        json_array_get(json_object_get(json_object_get(params, "stackTrace"), "callFrames"), 0);
    const char *type = text_of(params, "type");

    buf_init(&text, 64u << 10);
    for (size_t i = 0; i < MIN(json_array_size(args), ARGUMENTS_MAX); i++) {
        if (i > 0)
            (void)buf_append_char(&text, ' ');
        add_value(&text, json_array_get(args, i));
    }
    add_message(tab, !strcmp(type, "assert") ? "error" : type, buf_str(&text),
                text_of(frame, "url"), json_integer_value(json_object_get(frame, "lineNumber")));
}

static void on_exception(struct browser_tab *tab, const json_t *params)
{
    const json_t *details = json_object_get(params, "exceptionDetails");
    const char *text = text_of(json_object_get(details, "exception"), "description");

    add_message(tab, "error", *text ? text : text_of(details, "text"), text_of(details, "url"),
                json_integer_value(json_object_get(details, "lineNumber")));
}

static void on_log(struct browser_tab *tab, const json_t *params)
{
    const json_t *entry = json_object_get(params, "entry");

    add_message(tab, text_of(entry, "level"), text_of(entry, "text"), text_of(entry, "url"),
                json_integer_value(json_object_get(entry, "lineNumber")) - 1);
}

/* ---- network ---- */

static struct browser_request *request_find(struct browser_tab *tab, const json_t *params)
{
    const char *id = text_of(params, "requestId");

    for (unsigned i = 0; i < BROWSER_NETWORK_MAX; i++)
        if (tab->network[i].seq && !strcmp(tab->network[i].id, id))
            return &tab->network[i];
    return NULL;
}

static double seconds(const json_t *params)
{
    double s = json_number_value(json_object_get(params, "timestamp"));

    return isfinite(s) ? s : 0;
}

static void finish(struct browser_request *r, const json_t *params)
{
    double ms = (seconds(params) - r->began_s) * 1000;

    r->over = true;
    r->took_ms = ms > 0 && ms < 1e12 ? (int64_t)ms : 0;
}

static void set_response(struct browser_request *r, const json_t *response)
{
    json_int_t status = json_integer_value(json_object_get(response, "status"));

    r->status = status > 0 && status < 1000 ? (int)status : 0;
    browser_copy(r->mime, sizeof r->mime, json_object_get(response, "mimeType"));
}

static void on_request(struct browser_tab *tab, const char *session, const json_t *params)
{
    const json_t *request = json_object_get(params, "request");
    const json_t *redirect = json_object_get(params, "redirectResponse");
    struct browser_request *r = request_find(tab, params);

    if (r && redirect) {
        set_response(r, redirect);
        finish(r, params);
        r->id[0] = '\0'; /* the next one has it */
    }
    r = &tab->network[tab->network_seq % BROWSER_NETWORK_MAX];
    free(r->url);
    *r = (struct browser_request){ .seq = ++tab->network_seq,
                                   .url = cut(text_of(request, "url"), BROWSER_TEXT_MAX),
                                   .began_s = seconds(params) };
    browser_copy(r->id, sizeof r->id, json_object_get(params, "requestId"));
    browser_copy(r->method, sizeof r->method, json_object_get(request, "method"));
    browser_copy(r->type, sizeof r->type, json_object_get(params, "type"));
    (void)snprintf(r->session, sizeof r->session, "%s", session);
}

static void on_network(struct browser_tab *tab, const char *session, const char *method,
                       const json_t *params)
{
    struct browser_request *r = request_find(tab, params);

    if (!strcmp(method, "requestWillBeSent"))
        on_request(tab, session, params);
    else if (!r)
        return;
    else if (!strcmp(method, "responseReceived"))
        set_response(r, json_object_get(params, "response"));
    else if (!strcmp(method, "loadingFinished")) {
        double bytes = json_number_value(json_object_get(params, "encodedDataLength"));

        r->bytes = bytes > 0 && bytes < 1e15 ? (uint64_t)bytes : 0;
        finish(r, params);
    } else if (!strcmp(method, "loadingFailed")) {
        const char *blocked = text_of(params, "blockedReason");

        browser_copy(r->failed, sizeof r->failed,
                     json_object_get(params, *blocked ? "blockedReason" : "errorText"));
        finish(r, params);
    } else {
        return;
    }
    tab->network_ns = clock_now_ns();
}

unsigned browser_pending_locked(const struct browser_tab *tab)
{
    unsigned pending = 0;

    for (unsigned i = 0; i < BROWSER_NETWORK_MAX; i++) {
        const struct browser_request *r = &tab->network[i];

        pending += r->seq && !r->over && strcmp(r->type, "EventSource") != 0 &&
                   strcmp(r->type, "WebSocket") != 0 && strcmp(r->type, "Media") != 0 &&
                   strcmp(r->type, "Ping") != 0;
    }
    return pending;
}

/* ---- both ---- */

bool browser_record_locked(struct browser_tab *tab, const char *session, const char *method,
                           const json_t *params)
{
    if (!strncmp(method, "Network.", 8))
        on_network(tab, session, method + 8, params);
    else if (!strcmp(method, "Runtime.consoleAPICalled"))
        on_console(tab, params);
    else if (!strcmp(method, "Runtime.exceptionThrown"))
        on_exception(tab, params);
    else if (!strcmp(method, "Log.entryAdded"))
        on_log(tab, params);
    else
        return false;
    return true;
}

void browser_records_fini(struct browser_tab *tab)
{
    for (unsigned i = 0; i < BROWSER_CONSOLE_MAX; i++)
        free(tab->console[i].text);
    for (unsigned i = 0; i < BROWSER_NETWORK_MAX; i++)
        free(tab->network[i].url);
}
