#include "kernel/event.h"

#include <assert.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernel/base/clock.h"
#include "kernel/base/limits.h"
#include "kernel/base/list.h"
#include "kernel/base/utf8.h"

#define RING_FIRST 16u

struct event_bus {
    atomic_size_t sub_count; /* so that publishing to nobody costs one load */
    pthread_mutex_t lock;    /* guards what follows, and every subscription's ring */
    struct list subs;
};

struct event_sub {
    struct event_bus *bus; /* constant, like the topic and the wake function */
    char topic[sizeof((struct event *)NULL)->topic];
    size_t topic_len;
    bool prefix;
    void (*wake)(void *arg);
    void *arg;

    struct list link; /* guarded by bus->lock, like all below */
    struct event *ring;
    size_t cap; /* grows up to LIMIT_EVENT_QUEUE */
    size_t head;
    size_t len;
    uint64_t dropped;
};

struct event_bus *event_bus_new(struct error *err)
{
    struct event_bus *bus = calloc(1, sizeof *bus);

    if (!bus) {
        error_set(err, ERR_NOMEM, "event bus");
        return NULL;
    }
    atomic_init(&bus->sub_count, 0);
    pthread_mutex_init(&bus->lock, NULL);
    list_init(&bus->subs);
    return bus;
}

void event_bus_free(struct event_bus *bus)
{
    if (!bus)
        return;
    assert(list_empty(&bus->subs));
    pthread_mutex_destroy(&bus->lock);
    free(bus);
}

static void copy_cut(char *to, size_t size, const char *from)
{
    size_t len = from ? strnlen(from, size) : 0;

    if (len == size)
        len = utf8_cut(from, len, size - 1);
    if (len)
        memcpy(to, from, len);
    to[len] = '\0';
}

static bool wants(const struct event_sub *sub, const char *topic)
{
    return !strncmp(topic, sub->topic, sub->topic_len) && (sub->prefix || !topic[sub->topic_len]);
}

/* Without memory for a larger ring the bound is simply where it is. */
static void grow_locked(struct event_sub *sub)
{
    size_t cap = sub->cap ? MIN(sub->cap * 2, LIMIT_EVENT_QUEUE) : RING_FIRST;
    struct event *ring = calloc(cap, sizeof *ring);

    if (!ring)
        return;
    for (size_t i = 0; i < sub->len; i++)
        ring[i] = sub->ring[(sub->head + i) % sub->cap];
    free(sub->ring);
    sub->ring = ring;
    sub->cap = cap;
    sub->head = 0;
}

static void deliver_locked(struct event_sub *sub, const struct event *event)
{
    if (sub->len == sub->cap && sub->cap < LIMIT_EVENT_QUEUE)
        grow_locked(sub);
    if (!sub->cap) {
        sub->dropped++;
        return;
    }
    if (sub->len == sub->cap) {
        sub->head = (sub->head + 1) % sub->cap;
        sub->len--;
        sub->dropped++;
    }
    sub->ring[(sub->head + sub->len++) % sub->cap] = *event;
    if (sub->len == 1 && sub->wake)
        sub->wake(sub->arg);
}

void event_publish(struct event_bus *bus, const char *topic, const char *agent, const char *subject,
                   const char *fmt, ...)
{
    struct event event = { .wall_ns = 0 };
    char text[sizeof event.text + 4]; /* so that a cut is seen and made between characters */
    va_list ap;

    if (!bus || !atomic_load_explicit(&bus->sub_count, memory_order_acquire))
        return;
    va_start(ap, fmt);
    if (vsnprintf(text, sizeof text, fmt, ap) < 0)
        text[0] = '\0';
    va_end(ap);
    event.wall_ns = clock_wall_ns();
    copy_cut(event.topic, sizeof event.topic, topic);
    copy_cut(event.agent, sizeof event.agent, agent);
    copy_cut(event.subject, sizeof event.subject, subject);
    copy_cut(event.text, sizeof event.text, text);

    pthread_mutex_lock(&bus->lock);
    LIST_FOR_EACH (node, &bus->subs) {
        struct event_sub *sub = LIST_ENTRY(node, struct event_sub, link);

        if (wants(sub, event.topic))
            deliver_locked(sub, &event);
    }
    pthread_mutex_unlock(&bus->lock);
}

struct event_sub *event_subscribe(struct event_bus *bus, const char *topic, void (*wake)(void *arg),
                                  void *arg, struct error *err)
{
    size_t len = strlen(topic);
    struct event_sub *sub;

    if (!len || len >= sizeof sub->topic) {
        error_set(err, ERR_INVALID, "an event topic has 1 to %zu characters",
                  sizeof sub->topic - 1);
        return NULL;
    }
    sub = calloc(1, sizeof *sub);
    if (!sub) {
        error_set(err, ERR_NOMEM, "event subscription");
        return NULL;
    }
    memcpy(sub->topic, topic, len + 1);
    sub->prefix = topic[len - 1] == '*';
    sub->topic_len = len - sub->prefix;
    sub->bus = bus;
    sub->wake = wake;
    sub->arg = arg;
    pthread_mutex_lock(&bus->lock);
    list_append(&bus->subs, &sub->link);
    atomic_fetch_add_explicit(&bus->sub_count, 1, memory_order_release);
    pthread_mutex_unlock(&bus->lock);
    return sub;
}

void event_unsubscribe(struct event_sub *sub)
{
    if (!sub)
        return;
    pthread_mutex_lock(&sub->bus->lock);
    list_remove(&sub->link);
    atomic_fetch_sub_explicit(&sub->bus->sub_count, 1, memory_order_release);
    pthread_mutex_unlock(&sub->bus->lock);
    free(sub->ring);
    free(sub);
}

bool event_next(struct event_sub *sub, struct event *ret, uint64_t *ret_dropped)
{
    bool found;

    pthread_mutex_lock(&sub->bus->lock);
    *ret_dropped = sub->dropped;
    sub->dropped = 0;
    found = sub->len > 0;
    if (found) {
        *ret = sub->ring[sub->head];
        sub->head = (sub->head + 1) % sub->cap;
        sub->len--;
    }
    pthread_mutex_unlock(&sub->bus->lock);
    return found;
}
