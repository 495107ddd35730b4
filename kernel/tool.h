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

/** True: the result in call->result is the answer (also a program that failed), or the call has
 * been put aside by tool_call_yield().  False: @err says what to send instead, and becomes an
 * isError result. */
typedef bool tool_fn(struct tool_call *call, const void *args, struct error *err);

struct tool_batched;

/** Handles @count calls, 1 to TOOL_BATCH_MAX, in one go: for each sets `ok` and, where it failed,
 *  `err`.  The calls may be of different agents and of all tools that name this function.  Each has
 *  its own deadline and cancel token, and a failed or cancelled one must not spoil the others. */
typedef void tool_batch_fn(struct tool_batched *calls, size_t count);

#define TOOL_BATCH_MAX 32

struct tool {
    const char *name; /* [a-z_]+, family first: "terminal_run" */
    const char *title;
    const char *description; /* front-loaded, under 2 KiB */
    const struct json_field *fields;
    size_t args_size;
    unsigned flags;
    const struct json_field
        *output; /* NULL, or the struct whose JSON result_data() is always given */
    tool_fn *handler;
    enum syscall_class class;
    tool_batch_fn *batch; /* NULL, or what handles several waiting calls at once, as they are there:
                             nobody waits for more.  A single one still goes to `handler`. */
};

/** One family, as a group that `--tools` picks: toolset_terminal. */
struct toolset {
    const char *name; /* "terminal" */
    const struct tool *tools;
    size_t count;
    bool unlisted; /* answers, but is in the list only when it is named */
};

/** What a front end can be asked on behalf of the agent while a call runs. */
struct tool_peer {
    /** The client's roots (file URIs) as an array of strings: new reference, or NULL with
     *  ERR_UNSUPPORTED when the client has none.  Worker threads only; blocks within @w. */
    json_t *(*roots)(void *arg, const struct wait *w, struct error *err);
    /** The answer of the host's own model, as MCP's sampling/createMessage has it (@params and the
     *  result): new reference, or NULL.  ERR_UNSUPPORTED when the client does not offer it,
     *  ERR_DENIED when the person says no.  May be NULL.  Worker threads only; blocks within @w. */
    json_t *(*sample)(void *arg, const json_t *params, const struct wait *w, struct error *err);
    /** Asks the person.  @message is shown; @schema describes a flat form (an object of strings,
     *  numbers, booleans and enumerations).  True when it was accepted; *ret_content (may be NULL)
     *  is then what the form holds, an object: a new reference.  ERR_DENIED: declined or dismissed;
     *  ERR_UNSUPPORTED: this client cannot ask.  May be NULL.  Worker threads only; blocks within
     *  @w. */
    bool (*elicit)(void *arg, const char *message, const json_t *schema, json_t **ret_content,
                   const struct wait *w, struct error *err);
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

struct tool_batched {
    struct tool_call call;
    const void *args;
    bool ok;          /* what a tool_fn would return; false before the call */
    struct error err; /* why not, where it is false */
};

/*
 * Preemption.  Under a policy with a quantum (round robin) a handler that can put its work aside
 * asks between two steps whether its time is up:
 *
 *     struct progress *p = tool_call_resume(call);     what was put aside, or NULL: a new call
 *     …
 *     if (tool_call_preempted(call))
 *         return tool_call_yield(call, p, progress_free);
 *
 * The call then waits in its queue again, behind those that waited already, and the handler is
 * called once more, perhaps on another thread, with the same arguments, result and deadline.  When
 * it is cancelled or its time is up while it waits, the kernel completes it and frees what was put
 * aside; in every case it completes exactly once.
 */

/** True when the call has run for its quantum and another waits that could run in its place.
 * Always false under policies without a quantum, and for calls that run on the loop.  Cheap: an
 * atomic load or two, and the clock. */
bool tool_call_preempted(const struct tool_call *call);

/** Put the call aside.  The handler lets go of everything of the call and returns true at once.
 * @state (not NULL) is the kernel's until the next tool_call_resume(); @state_free, any thread,
 * releases it when that never comes.  Returns true.  Not in a batch. */
bool tool_call_yield(struct tool_call *call, void *state, void (*state_free)(void *state));

/** Take back what was put aside: the caller's from here on.  NULL when nothing was. */
NODISCARD void *tool_call_resume(struct tool_call *call);

/** What the call is doing right now, for progress notifications.  Any thread; cheap. */
void tool_call_note(struct tool_call *call, const char *fmt, ...) PRINTF_LIKE(2, 3);
