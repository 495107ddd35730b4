/*
 * server - one MCP connection: messages in, syscalls to the kernel, answers out.
 *
 * Every message is judged by itself: a request whose _meta names a modern protocol version is
 * served statelessly, `initialize` opens the legacy conversation, and both may be mixed
 * (revision.h holds all that differs).
 *
 * Ownership: the server owns its descriptors and its requests in flight.
 * Threads: the loop thread.  Blocking: never; what the client does not read is bounded by
 *   LIMIT_MCP_OUT_BYTES, beyond which reading stops.
 */
#pragma once

#include "kernel/kernel.h"

struct mcp_server;

struct mcp_options {
    struct kernel *kernel;    /* borrowed */
    struct agent *agent;      /* borrowed; who the calls are for */
    int in_fd, out_fd;        /* taken on success; may be the same socket */
    const char *instructions; /* under 2 KiB; borrowed */
    /** The input has ended, or the output is broken: every call in flight has been cancelled and
     *  completed, and what was answered has been written.  Called once, on the loop. */
    void (*on_end)(void *arg);
    /** Once, when the first answer to a request has been written: the time for slow beginnings. */
    void (*on_first_answer)(void *arg);
    void *arg;
};

NODISCARD struct mcp_server *mcp_server_new(struct loop *loop, const struct mcp_options *options,
                                            struct error *err);

/** Cancels what is in flight and turns the loop until all of it has completed; kernel_free() comes
 *  after.  Not from one of the loop's callbacks, so not from on_end either. */
void mcp_server_free(struct mcp_server *s);
DEFINE_CLEANUP(struct mcp_server, mcp_server_free)
