/*
 * event - a bus: what happens is published once and seen by every subscriber.
 *
 * A subscriber has a bounded queue; when it is full the oldest event is dropped and counted, the
 * publisher never waits. Threads: any; one subscription is polled by one thread at a time.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "kernel/base/error.h"

struct event_bus;
struct event_sub;

struct event {
    int64_t wall_ns;
    char topic[32]; /* "syscall.done", "computer.lost", "egress.denied" */
    char agent[65];
    char subject[129];
    char text[256];
};

NODISCARD struct event_bus *event_bus_new(struct error *err);
void event_bus_free(struct event_bus *bus); /* subscriptions are gone by then */
DEFINE_CLEANUP(struct event_bus, event_bus_free)

/** Free when nobody subscribes. */
void event_publish(struct event_bus *bus, const char *topic, const char *agent, const char *subject,
                   const char *fmt, ...) __attribute__((format(printf, 5, 6)));

/** @topic: exact, or a prefix ending in '*'.  @wake (may be NULL): called on the publisher's thread
 *  when the queue was empty, under the bus's lock, so that none comes after event_unsubscribe(): it
 *  posts or signals and calls nothing of the bus. */
NODISCARD struct event_sub *event_subscribe(struct event_bus *bus, const char *topic,
                                            void (*wake)(void *arg), void *arg, struct error *err);
void event_unsubscribe(struct event_sub *sub);

/** The oldest event; false when there is none.  *ret_dropped: lost since the last call. */
NODISCARD bool event_next(struct event_sub *sub, struct event *ret, uint64_t *ret_dropped);
