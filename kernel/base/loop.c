#include "kernel/base/loop.h"

#include <assert.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <uv.h>

#include "kernel/base/clock.h"

#define HEAP_FIRST_SLOTS 16u
#define TURN_MAX_MS      60000 /* of a wait without end: then the waiter looks again */

struct loop {
    uv_loop_t uv;
    uv_async_t wake;
    uv_prepare_t before_wait; /* arms `alarm` for the earliest deadline */
    uv_check_t after_wait;    /* fires what is due */
    uv_timer_t alarm;
    pthread_t owner;

    /* A stack that any thread pushes on; the loop takes it whole and turns it around.  A push
     * on an empty stack wakes the loop, the others ride along. */
    _Atomic(struct loop_post *) posted;

    struct loop_timer **heap; /* the earliest deadline first */
    size_t heap_len;
    size_t heap_cap;
    int64_t armed_ns; /* what `alarm` is set to, CLOCK_NEVER when it is not */
    int64_t turn_ns;  /* when loop_turn() must have come back */
    bool running;
    bool stopped;
};

static void heap_place(struct loop *loop, size_t slot, struct loop_timer *timer)
{
    loop->heap[slot] = timer;
    timer->slot = slot + 1;
}

static void heap_up(struct loop *loop, size_t slot, struct loop_timer *timer)
{
    while (slot) {
        size_t parent = (slot - 1) / 2;

        if (loop->heap[parent]->deadline_ns <= timer->deadline_ns)
            break;
        heap_place(loop, slot, loop->heap[parent]);
        slot = parent;
    }
    heap_place(loop, slot, timer);
}

static void heap_down(struct loop *loop, size_t slot, struct loop_timer *timer)
{
    for (;;) {
        size_t child = slot * 2 + 1;

        if (child >= loop->heap_len)
            break;
        if (child + 1 < loop->heap_len &&
            loop->heap[child + 1]->deadline_ns < loop->heap[child]->deadline_ns)
            child++;
        if (timer->deadline_ns <= loop->heap[child]->deadline_ns)
            break;
        heap_place(loop, slot, loop->heap[child]);
        slot = child;
    }
    heap_place(loop, slot, timer);
}

static void heap_settle(struct loop *loop, size_t slot, struct loop_timer *timer)
{
    if (slot && loop->heap[(slot - 1) / 2]->deadline_ns > timer->deadline_ns)
        heap_up(loop, slot, timer);
    else
        heap_down(loop, slot, timer);
}

static void heap_remove(struct loop *loop, struct loop_timer *timer)
{
    size_t slot = timer->slot - 1;
    struct loop_timer *last = loop->heap[loop->heap_len - 1];

    assert(slot < loop->heap_len && loop->heap[slot] == timer);
    loop->heap_len--;
    timer->slot = 0;
    if (last != timer)
        heap_settle(loop, slot, last);
}

static void fire_due(struct loop *loop)
{
    size_t budget = loop->heap_len; /* a function that re-arms for the past waits its turn */
    int64_t now_ns;

    if (!budget)
        return;
    now_ns = clock_now_ns();
    while (budget-- && loop->heap_len && loop->heap[0]->deadline_ns <= now_ns) {
        struct loop_timer *timer = loop->heap[0];

        heap_remove(loop, timer);
        timer->fn(timer);
    }
}

static void on_alarm(uv_timer_t *alarm)
{
    struct loop *loop = alarm->data;

    loop->armed_ns = CLOCK_NEVER; /* on_after_wait() does the work */
}

static int64_t floor_ms(int64_t ns)
{
    return ns / CLOCK_NS_PER_MS;
}

static void on_before_wait(uv_prepare_t *handle)
{
    struct loop *loop = handle->data;
    int64_t next_ns = loop->turn_ns, ms;

    if (loop->heap_len)
        next_ns = MIN(next_ns, loop->heap[0]->deadline_ns);
    if (next_ns == loop->armed_ns)
        return;
    loop->armed_ns = next_ns;
    if (next_ns == CLOCK_NEVER) {
        uv_timer_stop(&loop->alarm);
        return;
    }
    /* libuv counts whole milliseconds of the same clock, cut off; so the deadline is rounded up
     * and the present down, or the loop would wake a little early and spin. */
    ms = floor_ms(clock_add_ns(next_ns, CLOCK_NS_PER_MS - 1)) - floor_ms(clock_now_ns());
    uv_timer_start(&loop->alarm, on_alarm, ms > 0 ? (uint64_t)ms : 0, 0);
}

static void on_after_wait(uv_check_t *handle)
{
    fire_due(handle->data);
}

/* One batch: what is posted meanwhile has woken the loop again. */
static bool run_posted(struct loop *loop)
{
    struct loop_post *post, *first = NULL;

    if (!atomic_load_explicit(&loop->posted, memory_order_relaxed))
        return false;
    post = atomic_exchange_explicit(&loop->posted, NULL, memory_order_acquire);
    while (post) {
        struct loop_post *next = post->next;

        post->next = first;
        first = post;
        post = next;
    }
    while (first) {
        post = first;
        first = post->next; /* the node is its owner's again once the function runs */
        post->fn(post);
    }
    return true;
}

static void on_wake(uv_async_t *handle)
{
    (void)run_posted(handle->data);
}

static void close_handle(uv_handle_t *handle, void *arg)
{
    (void)arg;
    if (!uv_is_closing(handle))
        uv_close(handle, NULL);
}

static void close_all(struct loop *loop)
{
    uv_walk(&loop->uv, close_handle, NULL);
    /* Close callbacks may start closing others; each is finished here, nothing is waited for. */
    while (uv_run(&loop->uv, UV_RUN_DEFAULT))
        continue;
}

struct loop *loop_new(struct error *err)
{
    struct loop *loop = calloc(1, sizeof *loop);
    int rc;

    if (!loop) {
        error_set(err, ERR_NOMEM, "event loop");
        return NULL;
    }
    rc = uv_loop_init(&loop->uv);
    if (rc) {
        error_set_errno(err, -rc, "event loop");
        free(loop);
        return NULL;
    }
    loop->owner = pthread_self();
    loop->armed_ns = CLOCK_NEVER;
    loop->turn_ns = CLOCK_NEVER;
    loop->before_wait.data = loop->after_wait.data = loop->alarm.data = loop->wake.data = loop;
    /* These three cannot fail. */
    uv_prepare_init(&loop->uv, &loop->before_wait);
    uv_check_init(&loop->uv, &loop->after_wait);
    uv_timer_init(&loop->uv, &loop->alarm);
    rc = uv_async_init(&loop->uv, &loop->wake, on_wake);
    if (rc) {
        error_set_errno(err, -rc, "event loop");
        close_all(loop);
        (void)uv_loop_close(&loop->uv);
        free(loop);
        return NULL;
    }
    uv_prepare_start(&loop->before_wait, on_before_wait);
    uv_check_start(&loop->after_wait, on_after_wait);
    return loop;
}

void loop_free(struct loop *loop)
{
    int rc;

    if (!loop)
        return;
    loop_assert_owner(loop);
    while (run_posted(loop))
        continue;
    while (loop->heap_len)
        heap_remove(loop, loop->heap[loop->heap_len - 1]);
    loop->turn_ns = CLOCK_NEVER;
    close_all(loop);
    rc = uv_loop_close(&loop->uv);
    assert(rc == 0);
    (void)rc;
    /* A close callback may have posted: its node must not be left with us. */
    while (run_posted(loop))
        continue;
    free(loop->heap);
    free(loop);
}

struct uv_loop_s *loop_uv(struct loop *loop)
{
    return &loop->uv;
}

void loop_run(struct loop *loop)
{
    loop_assert_owner(loop);
    loop->running = true;
    while (!loop->stopped)
        uv_run(&loop->uv, UV_RUN_DEFAULT);
    loop->running = false;
    loop->stopped = false;
}

void loop_turn(struct loop *loop, int wait_ms)
{
    loop_assert_owner(loop);
    loop->running = true;
    if (wait_ms > 0)
        loop->turn_ns = clock_add_ns(clock_now_ns(), wait_ms * CLOCK_NS_PER_MS);
    uv_run(&loop->uv, wait_ms ? UV_RUN_ONCE : UV_RUN_NOWAIT);
    loop->turn_ns = CLOCK_NEVER;
    loop->running = false;
}

void loop_stop(struct loop *loop)
{
    loop_assert_owner(loop);
    loop->stopped = true;
    if (loop->running)
        uv_stop(&loop->uv);
}

void loop_post(struct loop *loop, struct loop_post *post, loop_post_fn *fn)
{
    struct loop_post *head = atomic_load_explicit(&loop->posted, memory_order_relaxed);

    post->fn = fn;
    do {
        post->next = head;
    } while (!atomic_compare_exchange_weak_explicit(&loop->posted, &head, post,
                                                    memory_order_release, memory_order_relaxed));
    if (!head)
        uv_async_send(&loop->wake);
}

static bool heap_grow(struct loop *loop)
{
    size_t cap = MAX(loop->heap_cap * 2, HEAP_FIRST_SLOTS);
    struct loop_timer **heap = reallocarray(loop->heap, cap, sizeof(struct loop_timer *));

    if (!heap)
        return false;
    loop->heap = heap;
    loop->heap_cap = cap;
    return true;
}

bool loop_timer_start(struct loop *loop, struct loop_timer *timer, int64_t deadline_ns,
                      loop_timer_fn *fn)
{
    loop_assert_owner(loop);
    if (!timer->slot) {
        if (loop->heap_len == loop->heap_cap && !heap_grow(loop))
            return false;
        timer->deadline_ns = deadline_ns;
        timer->fn = fn;
        heap_up(loop, loop->heap_len++, timer);
        return true;
    }
    timer->deadline_ns = deadline_ns;
    timer->fn = fn;
    heap_settle(loop, timer->slot - 1, timer);
    return true;
}

void loop_timer_stop(struct loop *loop, struct loop_timer *timer)
{
    loop_assert_owner(loop);
    if (timer->slot)
        heap_remove(loop, timer);
}

bool loop_is_owner(const struct loop *loop)
{
    return pthread_equal(loop->owner, pthread_self());
}

bool loop_may_wait(const struct loop *loop)
{
    return !loop_is_owner(loop) || !loop->running;
}

bool loop_wait_cond(struct loop *loop, const struct wait *w, pthread_cond_t *cond,
                    pthread_mutex_t *lock)
{
    if (!loop_is_owner(loop))
        return wait_cond(w, cond, lock);
    assert(!loop->running);
    if (!wait_check(w, NULL))
        return false;
    pthread_mutex_unlock(lock);
    loop_turn(loop, clock_left_ms(w->deadline_ns, TURN_MAX_MS));
    pthread_mutex_lock(lock);
    return wait_check(w, NULL);
}

void loop_assert_owner(const struct loop *loop)
{
    assert(loop_is_owner(loop));
    (void)loop;
}
