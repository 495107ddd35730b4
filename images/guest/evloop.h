/*
 * evloop - the guest's event loop: descriptors, work to be continued, and a few timers.
 *
 * Descriptors are watched edge-triggered, so that a reader who may not go on (no credit, full
 * queue) just stops, at no cost; whoever owns one remembers that it was ready.
 * Ownership: nothing; sources, work and timers live inside what uses them, which must take them out
 *   before it is freed.  Threads: one.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/epoll.h>

#include "kernel/base/list.h"

#define EVLOOP_BATCH 32

struct evloop_source {
    int fd; /* -1: not watched */
    void (*ready)(struct evloop_source *s, uint32_t events);
};

struct evloop_work {
    struct list link;
    void (*run)(struct evloop_work *w);
};

struct evloop_timer {
    struct list link;
    int64_t at_ns;
    void (*run)(struct evloop_timer *t);
};

struct evloop {
    int epoll;
    struct list work;
    struct evloop_work fence; /* in work while it is being run: what comes after it is for later */
    struct list timers;
    struct epoll_event batch[EVLOOP_BATCH];
    int batch_len;
};

bool evloop_init(struct evloop *loop);
void evloop_fini(struct evloop *loop);

/** Watch @fd, which stays the caller's. @events as epoll's, edge-triggered unless @level. */
bool evloop_watch(struct evloop *loop, struct evloop_source *s, int fd, uint32_t events,
                  bool level);
void evloop_change(struct evloop *loop, struct evloop_source *s, uint32_t events);

/** Stop watching; no event of this turn is delivered any more.  Harmless when not watched. */
void evloop_unwatch(struct evloop *loop, struct evloop_source *s);

/** Have @w run in this or the next turn; once, however often it is asked for. */
void evloop_post(struct evloop *loop, struct evloop_work *w);
void evloop_cancel(struct evloop_work *w);

void evloop_start(struct evloop *loop, struct evloop_timer *t, int64_t after_ns);
void evloop_stop(struct evloop_timer *t);

/** Wait for events (@hold_work: work does not keep it from waiting; @max_wait_ms -1: no bound),
 *  deliver them and run timers that are due. */
void evloop_poll(struct evloop *loop, bool hold_work, int max_wait_ms);

/** Run what was posted before this call while @may_run says so. */
void evloop_run_work(struct evloop *loop, bool (*may_run)(void *arg), void *arg);
