/*
 * child - a program that one of our commands starts, and surely ends.
 *
 * Threads: one at a time.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "kernel/base/buf.h"
#include "kernel/base/error.h"

struct child {
    pid_t pid; /* 0: none */
    int pidfd;
    int in;  /* its standard input, -1 when it has none (any more); non-blocking */
    int out; /* its standard output; non-blocking */
};

/** Starts @argv[0] (looked up in PATH).  @with_input: a pipe, else /dev/null.  @quiet: its
 *  standard error goes where its output goes, else where ours goes. */
NODISCARD bool child_start(struct child *c, const char *const *argv, bool with_input, bool quiet,
                           struct error *err);

/** Close its input and wait @grace_ns for its end; then SIGTERM, and SIGKILL after as long again
 *  (1 s at most).  Returns the status as waitpid(2) has it. */
int child_stop(struct child *c, int64_t grace_ns);

/** Run it to its end and keep at most @max bytes of what it prints.  ERR_TIMEOUT when it was killed
 *  at @deadline_ns. */
NODISCARD bool child_capture(const char *const *argv, int64_t deadline_ns, size_t max,
                             struct buf *out, int *ret_status, struct error *err);
