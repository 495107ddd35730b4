/*
 * code_context - a language's interpreter in a computer, kept alive between cells: a notebook.
 *
 * One cell runs at a time.  What it comes to is kept until a call takes it, whoever started it; its
 * time limit is kept by the loop, so that it holds while nobody looks.
 * Ownership: counted.  The last reference ends the interpreter.
 * Threads: any, one lock inside.  Between code_context_enter() and _leave() the caller alone starts
 *   cells and takes results.
 * Blocking: functions with a struct wait.
 */
#pragma once

#include "kernel/base/limits.h"
#include "tools/code_drivers.h"
#include "tools/toolkit.h"

#define CODE_NAME_MAX     64u
#define CODE_REFUSALS_MAX 4u

struct code_context;

enum code_state {
    CODE_IDLE,     /* nothing runs, nothing is to be told */
    CODE_RUNNING,  /* a cell */
    CODE_FINISHED, /* its outcome waits to be taken */
};

enum code_stop { CODE_STOP_NONE, CODE_STOP_TIMEOUT, CODE_STOP_CANCEL, CODE_STOP_RESTART };

/** What came of a cell.  Zero-initialise. */
struct code_outcome {
    struct buf output; /* what it printed, as it came */
    struct buf value, error, note;
    uint64_t output_lost; /* bytes of output that are no longer kept */
    uint64_t cell;
    uint64_t status; /* of a shell's last command */
    bool has_status;
    unsigned images; /* that code_context_image() can fetch */
    int64_t took_ns;
    int64_t timeout_ns;  /* that the cell was given; 0: none */
    enum code_stop stop; /* who asked it to end */
    bool ended;          /* the interpreter is gone, and the state with it; `end` says how */
    bool broken;         /* it was ended because it broke the protocol */
    bool began_anew;     /* an interpreter had ended since the last cell; `end` says how, unless
                            `ended` */
    struct run_info end;
    struct computer_refusal refusals[CODE_REFUSALS_MAX]; /* system calls that were refused */
    size_t refusal_count;
    uint64_t refusals_missed;
};

void code_outcome_fini(struct code_outcome *outcome);

/** The context of this name in @c, made if it is not there yet; a reference.  ERR_LIMIT names those
 *  that there are. */
NODISCARD struct code_context *code_context_get(struct tool_call *call, struct computer *c,
                                                enum code_language language, const char *name,
                                                struct error *err);

/** For code_context_get(). */
NODISCARD struct code_context *code_context_new(struct loop *loop, enum code_language language,
                                                const char *name, struct error *err);
struct code_context *code_context_ref(struct code_context *ctx);
void code_context_unref(struct code_context *ctx);
DEFINE_CLEANUP(struct code_context, code_context_unref)

enum code_language code_context_language(const struct code_context *ctx);
const char *code_context_name(const struct code_context *ctx);

/** Its computer is gone: no timer is left behind.  Never blocks. */
void code_context_retire(struct code_context *ctx);

/** False when nothing is kept in it and nobody uses it. */
bool code_context_used(struct code_context *ctx);

/** Wait for whoever is inside.  ERR_BUSY when @w's time is up. */
NODISCARD bool code_context_enter(struct code_context *ctx, const struct wait *w,
                                  struct error *err);
void code_context_leave(struct code_context *ctx);

/** How it is.  *ret_stop: who asked the running cell to end; may be NULL. */
enum code_state code_context_state(struct code_context *ctx, enum code_stop *ret_stop);

/** Start @code as a cell, and the interpreter first if there is none.  Only when CODE_IDLE. */
NODISCARD bool code_context_begin(struct code_context *ctx, struct computer *c, const char *code,
                                  int64_t timeout_ns, const struct wait *w, struct error *err);

/** Until no cell runs.  ERR_TIMEOUT, ERR_CANCELLED. */
NODISCARD bool code_context_wait(struct code_context *ctx, const struct wait *w, struct error *err);

/** Interrupt the running cell, soon harder; its outcome is dropped if @stop is CODE_STOP_CANCEL. */
void code_context_interrupt(struct code_context *ctx, enum code_stop stop);

/** End the interpreter at once, also while another caller is inside. */
void code_context_kill(struct code_context *ctx);

/** End it and forget everything. */
void code_context_reset(struct code_context *ctx);

/** The outcome of the finished cell, or of the running one only the output up to now (`cell` and
 *  `output` are set).  To be given to code_outcome_fini() in any case. */
NODISCARD bool code_context_take(struct code_context *ctx, struct code_outcome *ret,
                                 struct error *err);

/** Fetch one picture of the cell @cell, which was the last. */
NODISCARD bool code_context_image(struct code_context *ctx, uint64_t cell, unsigned index,
                                  struct buf *out, const struct wait *w, struct error *err);
