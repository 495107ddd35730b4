/*
 * spawn - from a WIRE_SPAWN payload to a running program.
 *
 * The child shares the guest's memory until it executes the program (nothing is copied), but
 * unlike with vfork() the guest goes on meanwhile: a child that somebody inside stops before its
 * exec must not stop the guest.  So the child keeps to raw system calls, a stack of its own and a
 * plan that nobody changes, and says on a close-on-exec pipe how it went. Ownership: a spawn that
 * has started releases itself when the child no longer needs it. Threads: one.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/resource.h>
#include <sys/types.h>

#include "images/guest/evloop.h"

#define SPAWN_FDS 5 /* 0 to 2, and 3 and 4 for the control stream */

enum spawn_stage { SPAWN_STAGE_CWD = 1, SPAWN_STAGE_EXEC = 2, SPAWN_STAGE_RESOURCES = 3 };

struct inside;
struct spawn;

struct spawn_stack {
    uint8_t *base;
};

/** What the child works from; read-only once it runs. */
struct spawn_plan {
    char **argv;
    char **env;
    const char *cwd;
    const char *path;   /* PATH of env */
    int fds[SPAWN_FDS]; /* become 0, 1 …; -1: as the guest's own for 0 to 2, else closed */
    int report;
    bool terminal;    /* fds[0] becomes the controlling terminal */
    uid_t user;       /* 0: stays who the guest is; its group has the same number */
    rlim_t processes; /* 0: no limit */
};

struct spawn_request {
    uint32_t flags; /* WIRE_SPAWN_* */
    uint16_t rows, cols;
    struct spawn_plan plan; /* fds and report not set yet */
    void *memory;           /* holds all strings and arrays */
};

/** 0, EBADMSG or ENOMEM. */
int spawn_parse(const uint8_t *data, size_t len, struct spawn_request *ret);
void spawn_request_free(struct spawn_request *req);

/** How it went: @status 0 or an errno with its stage.  Called once, from the loop or spawn_poll().
 */
typedef void spawn_done_fn(void *arg, int status, enum spawn_stage stage);

/** Start the child.  0 or an errno.  Takes what @req holds on success; the descriptors in
 *  its plan stay the caller's and may be closed at once. */
int spawn_start(struct inside *in, struct spawn_request *req, spawn_done_fn *done, void *arg,
                struct spawn **ret, pid_t *ret_pid);

/** The child is known to be dead: say now how it went. */
void spawn_poll(struct spawn *s);

/** Nobody wants to know any more. */
void spawn_forget(struct spawn *s);

void spawn_stack_free(struct spawn_stack *stack);

/** What the child runs.  @arg: struct spawn_plan. */
int spawn_child(void *arg);
