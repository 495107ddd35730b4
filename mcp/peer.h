/*
 * peer - requests of ours to a legacy client, and the wait for its answer.
 *
 * Ownership: the server's; its tool_peer is valid until peer_free().
 * Threads: peer_tool()'s functions on workers; the rest on the loop.
 * Blocking: on workers only, within the caller's struct wait.
 */
#pragma once

#include "kernel/base/loop.h"
#include "kernel/tool.h"
#include "mcp/jsonrpc.h"

struct peer;

/** Appends @line to the client's input.  Loop. */
typedef void peer_send_fn(void *arg, const struct buf *message);

NODISCARD struct peer *peer_new(struct loop *loop, peer_send_fn *send, void *arg,
                                struct error *err);

/** Everybody who waits gets ERR_LOST, and so does who asks from now on.  Loop. */
void peer_close(struct peer *p);

/** Closes it, and waits for those who are still on their way out.  Nobody may ask any more: the
 * calls that it was given to have completed.  Loop, and not from one of its callbacks. */
void peer_free(struct peer *p);

/** What the client offers, from now on. */
void peer_offers(struct peer *p, bool roots);

/** An answer that came in; unknown ids are ignored. */
void peer_answer(struct peer *p, const struct jsonrpc *m);

/** For struct syscall's peer and peer_arg (the peer itself). */
const struct tool_peer *peer_tool(void);
