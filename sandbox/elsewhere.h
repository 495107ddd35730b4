/*
 * elsewhere - a new process begins beside its maker.
 *
 * The scheduler often leaves a fresh child on its maker's processor, behind it, for longer than a
 * launch takes, with another one idle.  While the two work beside each other, the child is kept off
 * the maker's; before it becomes anything else, it may run wherever its maker may.
 *
 * Best effort: without it, things only take longer.  Nothing is done where other programs leave no
 * second processor idle.
 *
 * Threads: any.  Async-signal-safe.
 */
#pragma once

#include <sched.h>
#include <sys/types.h>

struct elsewhere {
    cpu_set_t usual; /* where the caller may run */
    int cpus;        /* how many these are; 0: not known */
    long others;     /* how many others run just now */
};

/** Fills `e`, for the caller and what it is about to clone: before the clone, so that the child has
 *  it, too. */
void elsewhere_look(struct elsewhere *e);

/** Keeps `pid`, which has just been cloned, off the processor that runs the caller. */
void elsewhere_put(const struct elsewhere *e, pid_t pid);

/** Ends that; 0 is the caller.  The two processes see to it that it comes after elsewhere_put(). */
void elsewhere_end(const struct elsewhere *e, pid_t pid);
