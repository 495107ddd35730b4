/*
 * seccomp - the system call filter of a sandbox: a BPF program that the build compiled.
 *
 * policy.c is the readable table; seccomp_gen, run by the build, turns it into the array that
 * seccomp_filter() returns.  The product does not link libseccomp.
 *
 * Threads: any.  seccomp_install() is async-signal-safe, for the child between clone and exec.
 */
#pragma once

#include <linux/filter.h>
#include <stddef.h>

/** The compiled filter: constant, lives for ever. */
const struct sock_fprog *seccomp_filter(void);

/** Load it into the calling thread, which has no_new_privs set.  Returns the listener's
 *  descriptor (close-on-exec), or -1 with errno. */
int seccomp_install(const struct sock_fprog *filter);
