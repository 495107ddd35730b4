/*
 * Whatever line comes in, what is composed in answer to it is one line of valid JSON that carries
 * its id; and any bytes, made valid, come back from a string literal of theirs as they were.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "kernel/base/json.h"
#include "kernel/base/utf8.h"
#include "mcp/jsonrpc.h"
#include "mcp/revision.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(bool holds)
{
    if (!holds)
        abort();
}

/* One whole line of JSON; a new reference. */
static json_t *parse_line(const struct buf *out)
{
    struct error err = ERROR_INIT;
    json_t *value;

    check(!out->failed && out->len > 0 && out->data[out->len - 1] == '\n');
    check(memchr(out->data, '\n', out->len) == out->data + out->len - 1);
    check(utf8_valid(out->data, out->len));
    value = json_parse(out->data, out->len, &err);
    check(json_is_object(value));
    return value;
}

static void check_answer(const struct buf *out, const json_t *id, const char *has)
{
    json_t *answer = parse_line(out);

    check(json_object_get(answer, has) != NULL);
    check(!id == !json_object_get(answer, "id"));
    check(!id || json_equal(id, json_object_get(answer, "id")));
    json_decref(answer);
}

/* A call that may bring an answer, and the question before it. */
static void check_input(const struct jsonrpc *m, const struct revision *r)
{
    const char *state = NULL, *text = NULL;
    const json_t *answer = NULL;
    struct buf out = BUF_INIT;

    check(!r->offers.sampling_tools || r->offers.sampling);
    if (!revision_get_input(m->params, &state, &answer, &text))
        check(text != NULL);
    else
        check((!answer || state) && (!answer || json_is_object(answer)));
    check(jsonrpc_begin_result(&out, m->id));
    check(revision_put_input("elicitation/create", m->params ? "{}" : NULL, "q_1", &out));
    check(jsonrpc_end(&out));
    check_answer(&out, m->id, "result");
    buf_fini(&out);
}

/* As the server does it: judge, then answer with a result. */
static void answer_request(const struct jsonrpc *m)
{
    struct revision_legacy legacy = { .version = REVISION_LEGACY_LATEST,
                                      .level = REVISION_LEVEL_NONE };
    struct buf out = BUF_INIT;
    enum revision_method method;
    struct revision r;
    const char *text = NULL;

    if (!revision_judge(&legacy, m, &r, &method, &out)) {
        check_answer(&out, m->id, "error");
        buf_fini(&out);
        return;
    }
    check(out.len == 0);
    check(r.era == REVISION_MODERN ? strcmp(r.version, REVISION_MODERN_VERSION) == 0
                                   : r.version == legacy.version);
    check(!r.token || json_is_string(r.token) || json_is_integer(r.token));
    check(jsonrpc_begin_result(&out, m->id));
    if (method == REVISION_INITIALIZE &&
        revision_initialize(&legacy, m->params, "x", &out, &text)) {
        check(legacy.initialized);
    } else if (method == REVISION_DISCOVER) {
        check(revision_discover(m->method, &out));
    } else {
        check(revision_open_result(&r, &out));
        check(buf_append_str(&out, "\"text\":") &&
              jsonrpc_put_string(&out, m->method, strlen(m->method)) && buf_append_char(&out, ','));
        check(revision_close_result(&r, true, &out));
    }
    check(jsonrpc_end(&out));
    check_answer(&out, m->id, "result");
    check_input(m, &r);
    buf_clear(&out);
    check(jsonrpc_put_notification(&out, m->method, m->params));
    json_decref(parse_line(&out));
    buf_fini(&out);
}

static void check_string(const uint8_t *data, size_t size)
{
    struct buf text = BUF_INIT, out = BUF_INIT;
    struct error err = ERROR_INIT;
    json_t *value;

    check(utf8_append_valid(&text, (const char *)data, size) >= 0);
    check(jsonrpc_put_string(&out, buf_str(&text), text.len));
    value = json_parse(out.data, out.len, &err);
    check(json_is_string(value) && json_string_length(value) == text.len);
    check(memcmp(json_string_value(value), buf_str(&text), text.len) == 0);
    json_decref(value);
    buf_fini(&text);
    buf_fini(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct buf out = BUF_INIT;
    struct jsonrpc m;

    check_string(data, size);
    jsonrpc_read((const char *)data, size, &m);
    switch (m.kind) {
    case JSONRPC_REQUEST:
        check(m.id && m.method && utf8_valid(m.method, strlen(m.method)));
        answer_request(&m);
        break;
    case JSONRPC_NOTIFICATION:
        check(!m.id && m.method);
        break;
    case JSONRPC_RESPONSE:
        check(!m.method && (m.result || m.error));
        break;
    case JSONRPC_BAD:
        check(jsonrpc_put_error(&out, m.id, m.code, m.text, NULL));
        check_answer(&out, m.id, "error");
        break;
    }
    jsonrpc_fini(&m);
    buf_fini(&out);
    return 0;
}
