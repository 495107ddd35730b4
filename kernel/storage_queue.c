#include "kernel/storage_queue.h"

#include <assert.h>

#include "kernel/base/clock.h"

#define MANY_AT_ONCE 32u

struct storage_waiter {
    struct storage_queue *q;
    pthread_cond_t cond; /* its thread waits here, under the queue's lock */
    size_t pending;      /* of its requests; guarded by the queue's lock */
};

struct group {
    struct storage_request *requests[STORAGE_GROUP];
    size_t count;
};

void storage_queue_init(struct storage_queue *q, struct storage_backend *b, storage_run_fn *run)
{
    *q = (struct storage_queue){ .b = b, .run = run };
    pthread_mutex_init(&q->lock, NULL);
    list_init(&q->waiting);
}

void storage_queue_fini(struct storage_queue *q)
{
    assert(list_empty(&q->waiting));
    pthread_mutex_destroy(&q->lock);
}

static size_t bytes_of(const struct storage_write *w)
{
    size_t bytes = 0;

    for (size_t i = 0; i < w->count; i++)
        bytes += w->ops[i].len;
    return bytes;
}

static void take_locked(struct storage_queue *q, struct group *g)
{
    size_t bytes = 0;

    g->count = 0;
    LIST_FOR_EACH_SAFE (node, &q->waiting) {
        struct storage_request *r = LIST_ENTRY(node, struct storage_request, link);

        bytes += bytes_of(r->write);
        if (g->count == STORAGE_GROUP || (g->count > 0 && bytes > STORAGE_GROUP_BYTES))
            break;
        list_remove(node);
        g->requests[g->count++] = r;
    }
}

static void lead_locked(struct storage_queue *q)
{
    struct group group;

    take_locked(q, &group);
    q->leading = true;
    pthread_mutex_unlock(&q->lock);
    q->run(q->b, group.requests, group.count);
    pthread_mutex_lock(&q->lock);
    q->leading = false;
    for (size_t i = 0; i < group.count; i++) {
        struct storage_waiter *w = group.requests[i]->waiter;

        if (--w->pending == 0)
            pthread_cond_signal(&w->cond);
    }
    if (!list_empty(&q->waiting))
        pthread_cond_signal(
            &LIST_ENTRY(q->waiting.next, struct storage_request, link)->waiter->cond);
}

/* Requests that nobody has taken yet end with their time; *ret_until_ns is when the next one would.
 */
static void give_up_locked(struct storage_waiter *waiter, struct storage_request *requests,
                           size_t count, int64_t *ret_until_ns)
{
    *ret_until_ns = CLOCK_NEVER;
    for (size_t i = 0; i < count; i++) {
        struct storage_request *r = &requests[i];

        if (!list_linked(&r->link))
            continue;
        if (wait_check(r->write->wait, &r->write->err)) {
            *ret_until_ns = MIN(*ret_until_ns, r->write->wait->deadline_ns);
            continue;
        }
        list_remove(&r->link);
        waiter->pending--;
    }
}

static void wake(void *arg)
{
    struct storage_waiter *w = arg;

    pthread_mutex_lock(&w->q->lock);
    pthread_cond_signal(&w->cond);
    pthread_mutex_unlock(&w->q->lock);
}

static void wait_for_leader(struct storage_queue *q, struct storage_waiter *waiter,
                            struct storage_request *requests, size_t count)
{
    struct wait w = { .cancel = NULL };

    for (size_t i = 0; i < count; i++)
        cancel_attach(requests[i].write->wait->cancel, &requests[i].hook, wake, waiter);
    pthread_mutex_lock(&q->lock);
    for (;;) {
        give_up_locked(waiter, requests, count, &w.deadline_ns);
        if (waiter->pending == 0 || !q->leading)
            break;
        (void)wait_cond(&w, &waiter->cond, &q->lock);
    }
    pthread_mutex_unlock(&q->lock);
    for (size_t i = 0; i < count; i++)
        cancel_detach(requests[i].write->wait->cancel, &requests[i].hook);
}

static void submit(struct storage_queue *q, struct storage_write *writes, size_t count,
                   const struct storage_limits *limits)
{
    struct storage_request requests[MANY_AT_ONCE];
    struct storage_waiter waiter = { .q = q };
    size_t sent = 0;

    cond_init(&waiter.cond);
    for (size_t i = 0; i < count; i++)
        if (writes[i].sent)
            requests[sent++] = (struct storage_request){ .waiter = &waiter,
                                                         .write = &writes[i],
                                                         .limits = limits };
    waiter.pending = sent;
    pthread_mutex_lock(&q->lock);
    for (size_t i = 0; i < sent; i++)
        list_append(&q->waiting, &requests[i].link);
    while (waiter.pending > 0) {
        if (!q->leading) {
            lead_locked(q);
            continue;
        }
        pthread_mutex_unlock(&q->lock);
        wait_for_leader(q, &waiter, requests, sent);
        pthread_mutex_lock(&q->lock);
    }
    /* It may have been woken to lead, and have nothing to do any more. */
    if (!q->leading && !list_empty(&q->waiting))
        pthread_cond_signal(
            &LIST_ENTRY(q->waiting.next, struct storage_request, link)->waiter->cond);
    pthread_mutex_unlock(&q->lock);
    pthread_cond_destroy(&waiter.cond);
}

void storage_queue_write_many(struct storage_queue *q, struct storage_write *writes, size_t count,
                              const struct storage_limits *limits)
{
    for (size_t i = 0; i < count; i += MANY_AT_ONCE)
        submit(q, writes + i, MIN(count - i, (size_t)MANY_AT_ONCE), limits);
}

bool storage_queue_write(struct storage_queue *q, const char *space, struct storage_op *ops,
                         size_t count, const struct storage_limits *limits, const struct wait *w,
                         size_t *ret_failed, struct error *err)
{
    struct storage_write write = {
        .space = space, .ops = ops, .count = count, .wait = w, .failed = count, .sent = true
    };

    submit(q, &write, 1, limits);
    if (write.ok)
        return true;
    if (ret_failed)
        *ret_failed = write.failed;
    if (err)
        *err = write.err;
    return false;
}

void storage_queue_committed(struct storage_queue *q, size_t requests)
{
    if (requests > 1) {
        atomic_fetch_add(&q->batches, 1);
        atomic_fetch_add(&q->batched, requests);
    }
}

void storage_queue_stats(struct storage_queue *q, struct storage_stats *ret)
{
    ret->batches += atomic_load(&q->batches);
    ret->batched_ops += atomic_load(&q->batched);
}
