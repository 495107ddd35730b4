#include "mcp/jsonrpc.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernel/base/json.h"
#include "mcp/jsonrpc_mend.h"

static void jsonrpc_bad(struct jsonrpc *m, int code, const char *text)
{
    m->kind = JSONRPC_BAD;
    m->code = code;
    snprintf(m->text, sizeof m->text, "%s", text);
}

/* Whether @text could be the name of a method: short, and printable. */
static bool method_ok(const json_t *method)
{
    const char *text = json_string_value(method);

    if (!text || json_string_length(method) != strlen(text) || strlen(text) > 256)
        return false;
    for (; *text; text++)
        if ((unsigned char)*text < 0x20 || *text == 0x7f)
            return false;
    return true;
}

/* As json_parse(), but what JavaScript writes for text that was cut in a character is taken too. */
static json_t *parse(const char *line, size_t len, struct error *err)
{
    json_t *root = json_parse(line, len, err);
    char *copy;

    if (root || err->code != ERR_INVALID || !memmem(line, len, "\\u", 2))
        return root;
    copy = malloc(len);
    if (copy) {
        memcpy(copy, line, len);
        if (jsonrpc_mend_surrogates(copy, len)) {
            struct error again = ERROR_INIT;

            root = json_parse(copy, len, &again);
        }
        free(copy);
    }
    return root;
}

/* Whoever waits for an answer to what cannot be read shall get it. */
static void keep_id(struct jsonrpc *m, const char *line, size_t len)
{
    json_t *id = jsonrpc_find_id(line, len);

    if (!id)
        return;
    m->root = json_pack("{s:o}", "id", id);
    m->id = json_object_get(m->root, "id");
}

void jsonrpc_read(const char *line, size_t len, struct jsonrpc *ret)
{
    struct error err = ERROR_INIT;
    json_t *id;
    json_t *method;
    json_t *version;

    memset(ret, 0, sizeof *ret);
    ret->root = parse(line, len, &err);
    if (!ret->root) {
        keep_id(ret, line, len);
        jsonrpc_bad(ret, err.code == ERR_NOMEM ? JSONRPC_INTERNAL_ERROR : JSONRPC_PARSE_ERROR,
                    err.text);
        return;
    }
    if (json_is_array(ret->root)) {
        jsonrpc_bad(ret, JSONRPC_INVALID_REQUEST,
                    "batches are not part of this protocol; send one message per line");
        return;
    }
    if (!json_is_object(ret->root)) {
        jsonrpc_bad(ret, JSONRPC_INVALID_REQUEST, "a message is a JSON object");
        return;
    }
    id = json_object_get(ret->root, "id");
    if (json_is_string(id) || json_is_integer(id))
        ret->id = id;
    version = json_object_get(ret->root, "jsonrpc");
    if (!json_is_string(version) || strcmp(json_string_value(version), "2.0") != 0) {
        jsonrpc_bad(ret, JSONRPC_INVALID_REQUEST, "\"jsonrpc\" must be \"2.0\"");
        return;
    }
    method = json_object_get(ret->root, "method");
    if (!method) {
        ret->result = json_object_get(ret->root, "result");
        ret->error = json_object_get(ret->root, "error");
        if (ret->result || ret->error)
            ret->kind = JSONRPC_RESPONSE;
        else
            jsonrpc_bad(ret, JSONRPC_INVALID_REQUEST,
                        "\"method\" is missing; a request has jsonrpc, id, method and params");
        return;
    }
    if (!method_ok(method)) {
        jsonrpc_bad(ret, JSONRPC_INVALID_REQUEST, "\"method\" must be a short string");
        return;
    }
    ret->method = json_string_value(method);
    ret->params = json_object_get(ret->root, "params");
    if (json_is_null(ret->params))
        ret->params = NULL;
    if (id && !ret->id) {
        jsonrpc_bad(ret, JSONRPC_INVALID_REQUEST, "\"id\" must be a string or an integer");
        return;
    }
    if (ret->params && !json_is_object(ret->params)) {
        jsonrpc_bad(ret, ret->id ? JSONRPC_INVALID_PARAMS : JSONRPC_INVALID_REQUEST,
                    "\"params\" must be an object");
        return;
    }
    ret->kind = ret->id ? JSONRPC_REQUEST : JSONRPC_NOTIFICATION;
}

void jsonrpc_fini(struct jsonrpc *m)
{
    json_decref(m->root);
    m->root = NULL;
}

bool jsonrpc_put_string(struct buf *out, const char *text, size_t len)
{
    static const char hex[] = "0123456789abcdef";
    size_t from = 0;

    /* Most text needs no escape at all: room for it in one step. */
    if (!buf_reserve(out, len + 2) || !buf_append_char(out, '"'))
        return false;
    for (size_t i = 0; i < len; i++) {
        unsigned char c = (unsigned char)text[i];
        char escape[7] = { '\\', 0 };

        if (c >= 0x20 && c != '"' && c != '\\')
            continue;
        switch (c) {
        case '"':
        case '\\':
            escape[1] = (char)c;
            break;
        case '\n':
            escape[1] = 'n';
            break;
        case '\r':
            escape[1] = 'r';
            break;
        case '\t':
            escape[1] = 't';
            break;
        default:
            snprintf(escape + 1, sizeof escape - 1, "u00%c%c", hex[c >> 4], hex[c & 15]);
            break;
        }
        if (!buf_append(out, text + from, i - from) || !buf_append_str(out, escape))
            return false;
        from = i + 1;
    }
    return buf_append(out, text + from, len - from) && buf_append_char(out, '"');
}

static bool put_id(struct buf *out, const json_t *id)
{
    if (json_is_integer(id))
        return buf_printf(out, "%" JSON_INTEGER_FORMAT, json_integer_value(id));
    return jsonrpc_put_string(out, json_string_value(id), json_string_length(id));
}

/* A value that cannot be written whole spoils the message, whatever is appended to it. */
static void put_value(struct buf *out, const json_t *value)
{
    if (!json_write(value, out))
        out->failed = true;
}

bool jsonrpc_begin_result(struct buf *out, const json_t *id)
{
    return buf_append_str(out, "{\"jsonrpc\":\"2.0\",\"id\":") && put_id(out, id) &&
           buf_append_str(out, ",\"result\":");
}

bool jsonrpc_end(struct buf *out)
{
    return buf_append(out, "}\n", 2);
}

bool jsonrpc_put_error(struct buf *out, const json_t *id, int code, const char *text,
                       const json_t *data)
{
    buf_append_str(out, "{\"jsonrpc\":\"2.0\"");
    if (id) {
        buf_append_str(out, ",\"id\":");
        put_id(out, id);
    }
    buf_printf(out, ",\"error\":{\"code\":%d,\"message\":", code);
    jsonrpc_put_string(out, text, strlen(text));
    if (data) {
        buf_append_str(out, ",\"data\":");
        put_value(out, data);
    }
    buf_append_char(out, '}');
    return jsonrpc_end(out) && !out->failed;
}

bool jsonrpc_put_notification(struct buf *out, const char *method, const json_t *params)
{
    buf_append_str(out, "{\"jsonrpc\":\"2.0\",\"method\":");
    jsonrpc_put_string(out, method, strlen(method));
    if (params) {
        buf_append_str(out, ",\"params\":");
        put_value(out, params);
    }
    return jsonrpc_end(out) && !out->failed;
}
