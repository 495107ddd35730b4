/*
 * run - one program in a computer, with a handle, a time limit and a stated reason for its end.
 *
 * A thin layer over guest_run: it adds the environment, the deadline (kept by the loop, so that it
 * holds when nobody is looking) and the judgement why the run ended.
 * Ownership: counted.  A run keeps its computer alive as an object, not as a machine.
 * Threads: any.  Blocking: run_start(), run_wait(), run_write().
 */
#pragma once

#include "kernel/computer/computer.h"

struct run;

enum run_reason {
    RUN_LIVE = 0,
    RUN_EXIT,    /* by itself; `value` is the exit code */
    RUN_SIGNAL,  /* by a signal that nobody here sent; `value` */
    RUN_TIMEOUT, /* its time was up and it was killed */
    RUN_OOM,     /* killed for memory */
    RUN_PIDS,    /* failed after the limit of processes had refused a fork */
    RUN_OUTPUT,  /* killed for writing too much */
    RUN_DISK,    /* failed with the disk full */
    RUN_KILLED,  /* run_kill() or the end of its computer on request */
    RUN_LOST,    /* the computer went away */
};

struct run_spec {
    const char *command;     /* for /bin/sh -c; or NULL with argv */
    const char *const *argv; /* NULL-terminated; or NULL with command */
    const char *const *env;  /* added to the computer's; NULL-terminated; may be NULL */
    const char *cwd;         /* NULL: /workspace */
    int64_t timeout_ns;      /* killed with all its descendants then; 0: no limit of its own */
    bool pty, merge, stdin_open, control, lossless;
    bool last; /* the computer ends with it: nobody needs it afterwards */
    uint16_t rows, cols;
    size_t ring_bytes;
    uint64_t max_output;
};

struct run_info {
    enum run_reason reason;
    int value;
    struct guest_run_info guest;
    uint64_t refusal_seq; /* computer_refusal_seq() when it started */
};

/** ERR_NOT_FOUND names a missing program or folder and what to do; ERR_LIMIT; ERR_LOST. */
NODISCARD struct run *run_start(struct computer *c, const struct run_spec *spec,
                                const struct wait *w, struct error *err);
struct run *run_ref(struct run *r);
void run_unref(struct run *r);
DEFINE_CLEANUP(struct run, run_unref)

const char *run_id(const struct run *r); /* "r_…" */
struct computer *run_computer(struct run *r);
struct guest_run *run_guest(struct run *r);

/** "true", or "sh -c 'make all'": for people, at most 200 bytes of valid UTF-8. */
const char *run_title(const struct run *r);

void run_info(struct run *r, struct run_info *ret);

/** As guest_run_wait(). */
NODISCARD bool run_wait(struct run *r, unsigned streams, const uint64_t *beyond,
                        const struct wait *w, struct error *err);

/** Send @signal to its process group, or with @tree to everything it started.  A run that ends by
 * it has reason RUN_KILLED. */
void run_kill(struct run *r, int signal, bool tree);

/** "exit", "signal", "timeout", "oom", "pids", "output", "disk", "killed", "computer_lost",
 * "running". */
const char *run_reason_name(enum run_reason reason);
