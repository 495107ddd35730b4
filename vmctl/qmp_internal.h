/*
 * qmp_internal - what the two halves of a QMP connection share: qmp.c moves bytes on the loop,
 * qmp_call.c sends commands and waits for what comes back.
 *
 * Threads: functions whose name ends in _locked are called with `lock` held.
 */
#pragma once

#include <pthread.h>
#include <stdatomic.h>
#include <uv.h>

#include "kernel/base/buf.h"
#include "kernel/base/list.h"
#include "vmctl/qmp.h"
#include "vmctl/qmp_message.h"

#define QMP_HANDSHAKE_ID 0u

/* A command on its way out; its descriptor goes with the first byte. */
struct outgoing {
    struct list link;
    size_t len, at;
    int fd;
    char bytes[];
};

/* A command that waits for its answer; lives on the asking thread's stack. */
struct pending {
    struct list link;
    uint64_t id;
    bool answered;
    struct qmp_message answer;
};

struct kept_event {
    char name[48];
    json_t *data;
};

struct qmp {
    struct loop *loop; /* constant, as are the two below */
    struct qmp_hooks hooks;
    void *arg;
    atomic_uint refs;

    pthread_mutex_t call_lock; /* held by the loop while it calls a hook */

    /* The loop's own. */
    uv_poll_t poll;
    bool polling;
    int polled;
    struct qmp_reader reader;

    pthread_mutex_t lock; /* guards everything below */
    pthread_cond_t changed;
    int stream;
    struct loop_post post;
    bool posted, let_go, freed;
    bool greeted, ready, lost;
    bool oob;
    char version[48];
    char why[192];
    uint64_t next_id;
    uint64_t passing_id; /* the getfd that QEMU has not answered, 0 for none: one at a time, because
                            QEMU keeps what came last */
    struct list pending;
    size_t pending_count;
    struct list out; /* of struct outgoing */
    size_t out_bytes;
    uint64_t event_count;
    struct kept_event events[QMP_EVENTS_KEPT];
};

/** End the connection; the first reason wins. */
void qmp_lose_locked(struct qmp *q, const char *why);
void qmp_lose_errno_locked(struct qmp *q, const char *what, int os_errno);

/** Have the loop look at @q soon. */
void qmp_kick_locked(struct qmp *q);

/** One command as a line; consumes @args. */
NODISCARD bool qmp_compose(struct buf *line, const char *verb, const char *command, json_t *args,
                           uint64_t id, struct error *err);

/** Send it, with a copy of @fd unless that is -1. */
NODISCARD bool qmp_send_locked(struct qmp *q, const struct buf *line, int fd, struct error *err);

/** Send what has not been sent; the loop does the rest when the socket takes no more. */
void qmp_flush_locked(struct qmp *q);

/** One that has been sent, or will not be. */
void qmp_drop_locked(struct qmp *q, struct outgoing *o);

bool qmp_lost_error_locked(struct qmp *q, struct error *err);
