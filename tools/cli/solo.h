/*
 * solo - one sandbox for one command, without a kernel: the loop here, the work on a thread.
 *
 * Everything that waits for a computer must not run on the loop's thread, so that a command is a
 * function on a worker while the caller of solo_run() turns the loop.
 * Ownership: solo_run() makes and releases all of struct solo.
 * Threads: solo_run() on the thread that shall own the loop; the rest on the worker.
 */
#pragma once

#include "kernel/base/cancel.h"
#include "kernel/computer/computer.h"
#include "kernel/config.h"

struct solo {
    const struct config *config; /* borrowed */
    struct loop *loop;
    struct computer_backend *backend;
    struct computer_hooks hooks; /* nobody is told of events */
    struct cancel cancel;        /* raised when the making is to be given up */
};

/** The command.  When it returns the loop is stopped; it may also end the process. */
typedef void solo_fn(struct solo *s, void *arg);

/** Called on the loop's thread before the loop runs: for signals.  May be NULL. */
typedef void solo_ready_fn(struct solo *s, void *arg);

/** Returns when @fn has.  Every computer that @fn made must be gone by then. */
NODISCARD bool solo_run(const struct config *config, solo_ready_fn *ready, solo_fn *fn, void *arg,
                        struct error *err);

/** A new sandbox; @w's cancel token should be @s's. */
NODISCARD struct computer *solo_computer(struct solo *s, const struct computer_spec *spec,
                                         const struct wait *w, struct error *err);
