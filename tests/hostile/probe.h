/*
 * probe - one ordinary attempt at a time at something that a sandbox must refuse.
 *
 * A static program without sanitizers that the tests send into a computer of their own.  It prints
 * one line for each attempt, "NAME ERRNO" or "NAME OK detail", and never does harm where an attempt
 * succeeds.  Threads: one.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#define PROBE_LEN(a) (sizeof(a) / sizeof((a)[0]))
#define PROBE_PTR(p) ((long)(uintptr_t)(p))

/** A plain system call: refused, or without effect. */
struct probe_call {
    const char *name;
    long number;
    long args[6];
};

/** What needs preparation.  Returns 0 or the errno; after 0, probe_detail() has told more. */
struct probe_try {
    const char *name;
    int (*fn)(void);
};

/** What is started by its name alone, with arguments, and says its own lines. */
struct probe_deed {
    const char *name;
    int (*fn)(int argc, char **argv);
};

/* Each table ends with a NULL name. */
extern const struct probe_call probe_calls[];
extern const struct probe_try probe_tries_process[];
extern const struct probe_try probe_tries_socket[];
extern const struct probe_try probe_tries_file[];
extern const struct probe_try probe_facts[];
extern const struct probe_deed probe_deeds_file[];
extern const struct probe_deed probe_deeds_socket[];
extern const struct probe_deed probe_deeds_process[];
extern const struct probe_deed probe_deeds_memory[];

/** What is printed behind "NAME OK". */
void probe_detail(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/** Print "NAME ERRNO", or "NAME OK detail" for 0, in one write. */
void probe_say(const char *name, int error);

/** As a system call's result: 0, or the errno for -1. */
int probe_result(long rc);
