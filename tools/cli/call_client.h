/*
 * call_client - a small MCP client on a server's standard input and output.
 *
 * Requests go one at a time.  What the server asks meanwhile is answered: ping with {}, all else
 * with "method not found"; notifications are dropped.
 *
 * Ownership: call_client_free() ends the server: its input is closed, after 3 s comes SIGTERM,
 *   then SIGKILL.
 * Threads: one.  Blocking: until the answer or the deadline.
 */
#pragma once

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "kernel/base/error.h"

struct call_client;

/** Start @argv (NULL-terminated) and shake hands (2025-11-25). */
NODISCARD struct call_client *call_client_new(const char *const *argv, int64_t deadline_ns,
                                              struct error *err);
void call_client_free(struct call_client *c);
DEFINE_CLEANUP(struct call_client, call_client_free)

/** The result, a new reference.  @params (may be NULL) is taken in any case.  A JSON-RPC error is
 *  ERR_INVALID when the server blames the request (unknown tool, wrong parameters), else
 *  ERR_IO, with its message; ERR_TIMEOUT, ERR_PROTOCOL, ERR_LOST. */
NODISCARD json_t *call_client_request(struct call_client *c, const char *method, json_t *params,
                                      int64_t deadline_ns, struct error *err);

/** Every tool of all pages, as an array. */
NODISCARD json_t *call_client_tools(struct call_client *c, int64_t deadline_ns, struct error *err);
