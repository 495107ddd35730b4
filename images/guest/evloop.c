#include "images/guest/evloop.h"

#include <limits.h>
#include <stddef.h>
#include <unistd.h>

#include "images/guest/sys.h"

bool evloop_init(struct evloop *loop)
{
    loop->epoll = epoll_create1(EPOLL_CLOEXEC);
    list_init(&loop->work);
    list_init(&loop->timers);
    loop->batch_len = 0;
    return loop->epoll >= 0;
}

void evloop_fini(struct evloop *loop)
{
    if (loop->epoll >= 0)
        close(loop->epoll);
    loop->epoll = -1;
}

bool evloop_watch(struct evloop *loop, struct evloop_source *s, int fd, uint32_t events, bool level)
{
    struct epoll_event ev = { .events = events | (level ? 0u : EPOLLET), .data.ptr = s };

    if (epoll_ctl(loop->epoll, EPOLL_CTL_ADD, fd, &ev) != 0) {
        s->fd = -1;
        return false;
    }
    s->fd = fd;
    return true;
}

void evloop_change(struct evloop *loop, struct evloop_source *s, uint32_t events)
{
    struct epoll_event ev = { .events = events, .data.ptr = s };

    (void)epoll_ctl(loop->epoll, EPOLL_CTL_MOD, s->fd, &ev);
}

void evloop_unwatch(struct evloop *loop, struct evloop_source *s)
{
    if (s->fd < 0)
        return;
    (void)epoll_ctl(loop->epoll, EPOLL_CTL_DEL, s->fd, NULL);
    s->fd = -1;
    for (int i = 0; i < loop->batch_len; i++) {
        if (loop->batch[i].data.ptr == s)
            loop->batch[i].data.ptr = NULL;
    }
}

void evloop_post(struct evloop *loop, struct evloop_work *w)
{
    if (!list_linked(&w->link))
        list_append(&loop->work, &w->link);
}

void evloop_cancel(struct evloop_work *w)
{
    list_remove(&w->link);
}

void evloop_start(struct evloop *loop, struct evloop_timer *t, int64_t after_ns)
{
    t->at_ns = sys_now_ns() + after_ns;
    if (!list_linked(&t->link))
        list_append(&loop->timers, &t->link);
}

void evloop_stop(struct evloop_timer *t)
{
    list_remove(&t->link);
}

static int wait_ms(const struct evloop *loop, bool hold_work, int max_wait_ms)
{
    int64_t now_ns, least_ns = INT64_MAX;
    int64_t ms;

    if (!hold_work && !list_empty(&loop->work))
        return 0;
    if (list_empty(&loop->timers))
        return max_wait_ms;
    LIST_FOR_EACH (node, &loop->timers) {
        const struct evloop_timer *t = LIST_ENTRY(node, struct evloop_timer, link);

        least_ns = MIN(least_ns, t->at_ns);
    }
    now_ns = sys_now_ns();
    ms = least_ns <= now_ns ? 0 : (least_ns - now_ns + 999999) / 1000000;
    if (ms > INT_MAX)
        ms = INT_MAX;
    return max_wait_ms >= 0 && ms > max_wait_ms ? max_wait_ms : (int)ms;
}

static void run_timers(struct evloop *loop)
{
    int64_t now_ns;
    bool again;

    if (list_empty(&loop->timers))
        return;
    now_ns = sys_now_ns();
    do { /* a timer's function may stop others, so the list is begun anew after each */
        again = false;
        LIST_FOR_EACH (node, &loop->timers) {
            struct evloop_timer *t = LIST_ENTRY(node, struct evloop_timer, link);

            if (t->at_ns > now_ns)
                continue;
            list_remove(&t->link);
            t->run(t);
            again = true;
            break;
        }
    } while (again);
}

void evloop_poll(struct evloop *loop, bool hold_work, int max_wait_ms)
{
    int n =
        epoll_wait(loop->epoll, loop->batch, EVLOOP_BATCH, wait_ms(loop, hold_work, max_wait_ms));

    loop->batch_len = n > 0 ? n : 0;
    for (int i = 0; i < loop->batch_len; i++) {
        struct evloop_source *s = loop->batch[i].data.ptr;

        if (s)
            s->ready(s, loop->batch[i].events);
    }
    loop->batch_len = 0;
    run_timers(loop);
}

void evloop_run_work(struct evloop *loop, bool (*may_run)(void *arg), void *arg)
{
    if (list_empty(&loop->work))
        return;
    /* What posts itself again comes after the fence: everybody has a turn before. */
    list_append(&loop->work, &loop->fence.link);
    for (;;) {
        struct evloop_work *w = LIST_ENTRY(loop->work.next, struct evloop_work, link);

        if (w == &loop->fence || !may_run(arg))
            break;
        list_remove(&w->link);
        w->run(w);
    }
    list_remove(&loop->fence.link);
}
