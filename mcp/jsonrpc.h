/*
 * jsonrpc - JSON-RPC 2.0 messages: taking one apart, and composing answers.
 *
 * Answers are composed as text, since they are on the path of every call.
 * Threads: one at a time.
 */
#pragma once

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

#include "kernel/base/buf.h"
#include "kernel/base/error.h"

enum jsonrpc_kind { JSONRPC_REQUEST, JSONRPC_NOTIFICATION, JSONRPC_RESPONSE, JSONRPC_BAD };

/* Codes of JSON-RPC 2.0 and of the protocol. */
enum {
    JSONRPC_PARSE_ERROR = -32700,
    JSONRPC_INVALID_REQUEST = -32600,
    JSONRPC_METHOD_NOT_FOUND = -32601,
    JSONRPC_INVALID_PARAMS = -32602,
    JSONRPC_INTERNAL_ERROR = -32603,
    JSONRPC_UNSUPPORTED_VERSION = -32022, /* modern era */
};

struct jsonrpc {
    enum jsonrpc_kind kind;
    json_t *root;       /* a reference; everything below is borrowed from it */
    json_t *id;         /* string or integer; NULL where there is none that is valid */
    const char *method; /* valid UTF-8 without NUL */
    json_t *params;     /* an object, or NULL */
    json_t *result;     /* RESPONSE */
    json_t *error;      /* RESPONSE */
    int code;           /* BAD: what to answer */
    char text[600];     /* BAD: likewise */
};

/** Always fills @ret; jsonrpc_fini() releases it. */
void jsonrpc_read(const char *line, size_t len, struct jsonrpc *ret);
void jsonrpc_fini(struct jsonrpc *m);

/* What composes returns false when memory ran out; then out->failed is set and what has been
 * appended is worth nothing. */

/** A JSON string literal of @text, which must be valid UTF-8. */
bool jsonrpc_put_string(struct buf *out, const char *text, size_t len);

/** {"jsonrpc":"2.0","id":@id,"result": — the caller adds the value and jsonrpc_end(). */
bool jsonrpc_begin_result(struct buf *out, const json_t *id);

/** The closing brace and the newline. */
bool jsonrpc_end(struct buf *out);

/** A whole error message; @id NULL leaves it out; @data NULL likewise (borrowed). */
bool jsonrpc_put_error(struct buf *out, const json_t *id, int code, const char *text,
                       const json_t *data);

/** {"jsonrpc":"2.0","method":@method,"params":@params} */
bool jsonrpc_put_notification(struct buf *out, const char *method, const json_t *params);
