#include "kernel/computer/pool.h"

#include <assert.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "kernel/base/fd.h"
#include "kernel/base/log.h"

#define NICE           10
#define RETRY_FIRST_NS (1 * CLOCK_NS_PER_S)
#define RETRY_MOST_NS  (30 * CLOCK_NS_PER_S)
#define MEMINFO_MAX    16384u

struct pool {
    struct pool_config config; /* immutable */
    struct cancel stop;        /* raised when the pool goes */

    pthread_mutex_t lock; /* guards what follows */
    pthread_cond_t wake;
    pthread_t thread;
    bool started, stopping;
    bool unsure; /* one may have died */
    int busy;
    int64_t not_before_ns, retry_ns;
    size_t ready;
    void *items[POOL_SIZE_MAX];
};

struct pool *pool_new(const struct pool_config *config, struct error *err)
{
    struct pool *p;

    if (config->size < 1 || config->size > POOL_SIZE_MAX) {
        error_set(err, ERR_INVALID, "pool size %zu is not in 1..%d", config->size, POOL_SIZE_MAX);
        return NULL;
    }
    p = calloc(1, sizeof *p);
    if (!p) {
        error_set(err, ERR_NOMEM, "pool");
        return NULL;
    }
    p->config = *config;
    if (!p->config.make_ns)
        p->config.make_ns = POOL_MAKE_NS;
    if (!p->config.settle_ns)
        p->config.settle_ns = POOL_SETTLE_NS;
    p->retry_ns = RETRY_FIRST_NS;
    cancel_init(&p->stop);
    pthread_mutex_init(&p->lock, NULL);
    cond_init(&p->wake);
    return p;
}

static void put_off_locked(struct pool *p)
{
    p->not_before_ns = clock_add_ns(clock_now_ns(), p->retry_ns);
    p->retry_ns = MIN(p->retry_ns * 2, RETRY_MOST_NS);
}

/** Without the lock meanwhile: then the pool is empty. */
static void drop_dead_locked(struct pool *p)
{
    void *items[POOL_SIZE_MAX], *dead[POOL_SIZE_MAX];
    size_t count = p->ready, dead_count = 0, live_count = 0;

    memcpy(items, p->items, count * sizeof items[0]);
    p->ready = 0;
    p->unsure = false;
    pthread_mutex_unlock(&p->lock);
    for (size_t i = 0; i < count; i++) {
        if (p->config.alive(p->config.arg, items[i]))
            items[live_count++] = items[i];
        else
            dead[dead_count++] = items[i];
    }
    pthread_mutex_lock(&p->lock);
    memcpy(p->items, items, live_count * sizeof items[0]);
    p->ready = live_count;
    if (!dead_count)
        return;
    put_off_locked(p);
    pthread_mutex_unlock(&p->lock);
    while (dead_count)
        p->config.destroy(p->config.arg, dead[--dead_count]);
    pthread_mutex_lock(&p->lock);
}

/** Wait until an item is wanted; false when the pool goes. */
static bool wait_for_need_locked(struct pool *p)
{
    while (!p->stopping) {
        int64_t now_ns = clock_now_ns();

        if (p->unsure) {
            drop_dead_locked(p);
        } else if (p->ready >= p->config.size || p->busy > 0) {
            pthread_cond_wait(&p->wake, &p->lock);
        } else if (now_ns < p->not_before_ns) {
            struct timespec until = { .tv_sec = p->not_before_ns / CLOCK_NS_PER_S,
                                      .tv_nsec = p->not_before_ns % CLOCK_NS_PER_S };

            (void)pthread_cond_timedwait(&p->wake, &p->lock, &until);
        } else {
            return true;
        }
    }
    return false;
}

static uint64_t meminfo_bytes(const char *text, const char *key)
{
    const char *at = strstr(text, key);

    return at ? strtoull(at + strlen(key), NULL, 10) << 10 : 0;
}

/** Where it cannot be told, the limit on their number has to do. */
static bool has_memory(const struct pool *p, struct error *err)
{
    uint64_t available, kept;
    bool enough;
    char *text;

    if (!p->config.memory_each)
        return true;
    text = fd_read_file(AT_FDCWD, "/proc/meminfo", MEMINFO_MAX, NULL, NULL);
    if (!text)
        return true;
    available = meminfo_bytes(text, "MemAvailable:");
    kept = meminfo_bytes(text, "MemTotal:") / POOL_MEMORY_SHARE;
    enough = !kept || (available > kept && available - kept >= p->config.memory_each);
    free(text);
    return enough ||
           error_set(err, ERR_LIMIT, "%" PRIu64 " MiB are available, too few for one more",
                     available >> 20);
}

static void *fill(void *arg)
{
    struct pool *p = arg;

    (void)setpriority(PRIO_PROCESS, (id_t)gettid(), NICE);
    pthread_mutex_lock(&p->lock);
    while (wait_for_need_locked(p)) {
        struct wait w = { .deadline_ns = clock_add_ns(clock_now_ns(), p->config.make_ns),
                          .cancel = &p->stop };
        struct error err = ERROR_INIT;
        void *item;

        pthread_mutex_unlock(&p->lock);
        item = has_memory(p, &err) ? p->config.make(p->config.arg, &w, &err) : NULL;
        if (!item && !cancel_raised(&p->stop))
            log_line(err.code == ERR_LIMIT ? LOG_DEBUG : LOG_WARN, "pool", "error=%s",
                     LOG_ESC(err.text));
        pthread_mutex_lock(&p->lock);
        if (item)
            p->items[p->ready++] = item;
        else
            put_off_locked(p);
    }
    pthread_mutex_unlock(&p->lock);
    return NULL;
}

bool pool_start(struct pool *p)
{
    bool started;

    pthread_mutex_lock(&p->lock);
    if (!p->started && !p->stopping)
        p->started = pthread_create(&p->thread, NULL, fill, p) == 0;
    started = p->started;
    pthread_mutex_unlock(&p->lock);
    return started;
}

void *pool_take(struct pool *p)
{
    for (;;) {
        void *item = NULL;

        pthread_mutex_lock(&p->lock);
        /* The newest: its pages are the warmest.  All are looked at when they are taken. */
        if (p->ready) {
            item = p->items[--p->ready];
            p->not_before_ns = MAX(p->not_before_ns, clock_now_ns() + p->config.settle_ns);
            pthread_cond_signal(&p->wake);
        }
        pthread_mutex_unlock(&p->lock);
        if (!item)
            return NULL;
        if (p->config.alive(p->config.arg, item)) {
            pthread_mutex_lock(&p->lock);
            p->retry_ns = RETRY_FIRST_NS;
            pthread_mutex_unlock(&p->lock);
            return item;
        }
        p->config.destroy(p->config.arg, item);
    }
}

void pool_busy(struct pool *p, int change)
{
    pthread_mutex_lock(&p->lock);
    p->busy += change;
    assert(p->busy >= 0);
    if (!p->busy) {
        p->not_before_ns = MAX(p->not_before_ns, clock_now_ns() + p->config.settle_ns);
        pthread_cond_signal(&p->wake);
    }
    pthread_mutex_unlock(&p->lock);
}

void pool_check(struct pool *p)
{
    pthread_mutex_lock(&p->lock);
    p->unsure = true;
    pthread_cond_signal(&p->wake);
    pthread_mutex_unlock(&p->lock);
}

size_t pool_ready(struct pool *p)
{
    size_t ready;

    pthread_mutex_lock(&p->lock);
    ready = p->ready;
    pthread_mutex_unlock(&p->lock);
    return ready;
}

void pool_stop(struct pool *p)
{
    cancel_raise(&p->stop);
    pthread_mutex_lock(&p->lock);
    p->stopping = true;
    pthread_cond_signal(&p->wake);
    pthread_mutex_unlock(&p->lock);
}

void pool_free(struct pool *p)
{
    if (!p)
        return;
    pool_stop(p);
    if (p->started)
        (void)pthread_join(p->thread, NULL);
    /* They die side by side, so that many take no longer than one. */
    for (size_t i = 0; i < p->ready; i++)
        p->config.kill(p->config.arg, p->items[i]);
    for (size_t i = 0; i < p->ready; i++)
        p->config.destroy(p->config.arg, p->items[i]);
    pthread_cond_destroy(&p->wake);
    pthread_mutex_destroy(&p->lock);
    cancel_fini(&p->stop);
    free(p);
}
