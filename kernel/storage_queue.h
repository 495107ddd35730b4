/*
 * storage_queue - requests to write that wait for one another, for back ends with transactions.
 *
 * Whoever finds nobody writing leads: takes what waits and hands it to the back end, which puts it
 * into one transaction and answers each; the others wait for it.  Nobody waits for company: a group
 * is what came while the last one was being written.
 * Threads: any.  Blocking: until the request is answered; one that nobody has taken yet ends with
 * its struct wait, and the back end minds the waits of those that it was handed.
 */
#pragma once

#include <pthread.h>
#include <stdatomic.h>

#include "kernel/base/list.h"
#include "kernel/storage_backend.h"

#define STORAGE_GROUP       64u        /* requests, */
#define STORAGE_GROUP_BYTES (8u << 20) /* and bytes where there are several */

struct storage_waiter;

struct storage_request {
    struct list link; /* in the queue until it is taken or given up */
    struct storage_waiter *waiter;
    struct storage_write *write;
    const struct storage_limits *limits;
    struct cancel_hook hook;
};

/** Answers each of 1 to STORAGE_GROUP @requests, in their order: its write's ok, or failed and err.
 *  On one thread at a time. */
typedef void storage_run_fn(struct storage_backend *b, struct storage_request **requests,
                            size_t count);

struct storage_queue {
    struct storage_backend *b;
    storage_run_fn *run;
    pthread_mutex_t lock; /* guards waiting, leading, and what requests wait for */
    struct list waiting;
    bool leading; /* some thread writes */
    atomic_uint_fast64_t batches, batched;
};

void storage_queue_init(struct storage_queue *q, struct storage_backend *b, storage_run_fn *run);
void storage_queue_fini(struct storage_queue *q);

/** What storage_backend.write and write_many promise. */
bool storage_queue_write(struct storage_queue *q, const char *space, struct storage_op *ops,
                         size_t count, const struct storage_limits *limits, const struct wait *w,
                         size_t *ret_failed, struct error *err);
void storage_queue_write_many(struct storage_queue *q, struct storage_write *writes, size_t count,
                              const struct storage_limits *limits);

/** A transaction with @requests was committed. */
void storage_queue_committed(struct storage_queue *q, size_t requests);

/** Adds to batches and batched_ops. */
void storage_queue_stats(struct storage_queue *q, struct storage_stats *ret);
