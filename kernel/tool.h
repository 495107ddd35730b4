/*
 * tool - one constant, read-only record per tool, and what its handler is given.
 *
 * Threads: records are constant.  A handler runs on a worker (or, with TOOL_INLINE, perhaps on the
 *   loop) and owns its struct tool_call until it returns.
 * Blocking: a handler may block within call->wait, except with TOOL_INLINE.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "kernel/base/cancel.h"
#include "kernel/base/json.h"
#include "kernel/result.h"

struct kernel;
struct agent;
struct syscall;
struct tool_call;

/** Which of the kernel's queues a call waits in. */
enum syscall_class {
    SYSCALL_TOOL,
    SYSCALL_LLM,
    SYSCALL_MEMORY,
    SYSCALL_STORAGE,
    SYSCALL_CLASS_COUNT
};

enum tool_flags {
    TOOL_READS = 1,      /* changes nothing (readOnlyHint) */
    TOOL_DESTROYS = 2,   /* may remove or overwrite (destructiveHint) */
    TOOL_IDEMPOTENT = 4, /* the same call again changes nothing more */
    TOOL_OPEN_WORLD = 8, /* can reach beyond the computer (network) */
    TOOL_INLINE = 16,    /* takes microseconds, never blocks: may run on the loop thread */
    TOOL_QUICK = 32,     /* short: may use the workers kept free of waiting calls */
    TOOL_HOST = 64,      /* touches the host's files: hosts should always ask the person */
};

/** True: the result in call->result is the answer (also a program that failed).  False: @err says
 *  what to send instead, and becomes an isError result. */
typedef bool tool_fn(struct tool_call *call, const void *args, struct error *err);

struct tool {
    const char *name; /* [a-z_]+, family first: "terminal_run" */
    const char *title;
    const char *description; /* front-loaded, under 2 KiB */
    const struct json_field *fields;
    size_t args_size;
    unsigned flags;
    enum syscall_class class;
    const struct json_field
        *output; /* NULL, or the struct whose JSON result_data() is always given */
    tool_fn *handler;
};

/** One family, as a group that `--tools` picks: toolset_terminal. */
struct toolset {
    const char *name; /* "terminal" */
    const struct tool *tools;
    size_t count;
};

/** What a front end can be asked on behalf of the agent while a call runs. */
struct tool_peer {
    /** The client's roots (file URIs) as an array of strings: new reference, or NULL with
     *  ERR_UNSUPPORTED when the client has none.  Worker threads only; blocks within @w. */
    json_t *(*roots)(void *arg, const struct wait *w, struct error *err);
};

struct tool_call {
    struct kernel *kernel;
    struct agent *agent;
    struct wait wait; /* deadline (45 s for front ends that need an answer) and cancel token */
    struct result *result;
    const struct tool *tool;
    struct syscall *syscall;
    const struct tool_peer *peer; /* NULL: none */
    void *peer_arg;
};

/** What the call is doing right now, for progress notifications.  Any thread; cheap. */
void tool_call_note(struct tool_call *call, const char *fmt, ...) PRINTF_LIKE(2, 3);
