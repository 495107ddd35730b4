/*
 * serve_host - one MCP host on the socket of `aios serve`, from its connection to its end.
 *
 * The first line may be a greeting, {"aios":{"agent":"NAME"}}, which `aios mcp --connect` and
 * libaios send; it is answered with one line, {"aios":{"agent":"NAME","version":"…"}} or
 * {"aios":{"error":"…"}}.  All else is MCP.  Who greets with a name is that agent, also the next
 * time; who does not gets a name that nobody else has, and all that it made goes with its
 * connection. A host of another user than the server's is known as "uUID.NAME", so that users never
 * meet.
 *
 * Threads: the loop's.  Ownership: serve_host_new() takes the descriptor; the host is freed by
 * itself after its end, or by serve_host_free().
 */
#pragma once

#include "kernel/kernel.h"

struct serve_host;

struct serve_options {
    struct kernel *kernel;
    const char *instructions;
    void (*on_end)(void *arg, struct serve_host *h); /* it is being freed; once */
    void *arg;
};

/** @options is borrowed for the host's life; @number tells hosts apart in names. */
NODISCARD struct serve_host *serve_host_new(struct loop *loop, const struct serve_options *options,
                                            int fd, uint32_t uid, uint64_t number,
                                            struct error *err);

/** At once; not from one of the loop's callbacks. */
void serve_host_free(struct serve_host *h);
