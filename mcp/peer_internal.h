/*
 * peer_internal - between the wait for an answer (peer.c) and what is asked (peer_tool.c).
 *
 * Threads: workers.
 */
#pragma once

#include "mcp/peer.h"

/** The client's answer to @method with @params (a JSON object as text, or NULL): a new reference;
 *  NULL with ERR_LOST, ERR_UNSUPPORTED, ERR_DENIED, ERR_LIMIT, ERR_TIMEOUT or ERR_CANCELLED. */
NODISCARD json_t *peer_ask(const struct peer_caller *caller, const char *method, const char *params,
                           const struct wait *w, struct error *err);
