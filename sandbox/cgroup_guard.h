/*
 * cgroup_guard - lets a group that is frozen go on when the server is killed meanwhile.
 *
 * What a freezer of version 1 holds does not even die, so it would outlive the server until the
 * next one's sweep.  For as long as a group is frozen a small process therefore waits for the end
 * of the server, and then thaws it. Threads: one guard belongs to one caller at a time.
 */
#pragma once

#include <stdbool.h>
#include <sys/types.h>

/** Zeroed: none. */
struct cgroup_guard {
    pid_t pid;
    int fd; /* its end of the pipe is at its end when we are gone */
};

/** Watch over @group below @base_fd (the freezer's hierarchy).  False: it cannot be. */
bool cgroup_guard_start(struct cgroup_guard *guard, int base_fd, const char *group);

/** The group goes on by our own will.  Harmless on none. */
void cgroup_guard_end(struct cgroup_guard *guard);
