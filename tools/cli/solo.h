/*
 * solo - one sandbox for one command, without a kernel and on one thread.
 *
 * The caller of solo_run() owns the loop and turns it by waiting: so the sandbox is made, used and
 * answered for without a second thread and the hand-overs to it.
 * Ownership: solo_run() makes and releases all of struct solo.
 * Threads: the one that calls solo_run().
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

/** The command.  It may also end the process. */
typedef void solo_fn(struct solo *s, void *arg);

/** Returns when @fn has.  Every computer that @fn made must be gone by then. */
NODISCARD bool solo_run(const struct config *config, solo_fn *fn, void *arg, struct error *err);

/** A new sandbox; @w's cancel token should be @s's. */
NODISCARD struct computer *solo_computer(struct solo *s, const struct computer_spec *spec,
                                         const struct wait *w, struct error *err);
