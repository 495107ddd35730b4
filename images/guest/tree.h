/*
 * tree - the processes of a run, or all of them, found by reading /proc.
 *
 * Ownership: a list is released with tree_free().  Threads: one.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

struct tree_process {
    pid_t pid, parent, group, session;
    char state; /* as in /proc/PID/stat: R, S, D, T, Z … */
    bool kernel;
    bool chosen;
};

struct tree {
    struct tree_process *processes; /* by pid, ascending */
    size_t count, cap;
};

/** Everything but the caller.  False without memory or /proc. */
bool tree_read(struct tree *t);
void tree_free(struct tree *t);

/** Choose what belongs to @root: itself, its session, its process group, and all descendants of
 * these. */
void tree_choose_run(struct tree *t, pid_t root);

/** The same once @root itself is gone, and its number perhaps somebody else's. */
void tree_choose_left(struct tree *t, pid_t root);

/** Choose the descendants of @root, without it. */
void tree_choose_below(struct tree *t, pid_t root);

/** Choose everything that is not a kernel thread. */
void tree_choose_all(struct tree *t, pid_t root);

/** Send @signal to the chosen ones, again and again until no new ones are found; for SIGKILL they
 * are stopped first, so that they cannot multiply meanwhile.  @choose marks them in a fresh list.
 */
void tree_signal(int signal, void (*choose)(struct tree *t, pid_t root), pid_t root);
