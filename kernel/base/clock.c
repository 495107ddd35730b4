#include "kernel/base/clock.h"

#include <assert.h>
#include <stdatomic.h>
#include <stdio.h>
#include <time.h>

#define CLOCK_IS_REAL INT64_MIN

static _Atomic int64_t faked_ns = CLOCK_IS_REAL;

static int64_t read_ns(clockid_t id)
{
    struct timespec ts;

    clock_gettime(id, &ts);
    return (int64_t)ts.tv_sec * CLOCK_NS_PER_S + ts.tv_nsec;
}

int64_t clock_now_ns(void)
{
    int64_t fake = atomic_load_explicit(&faked_ns, memory_order_acquire);

    return fake == CLOCK_IS_REAL ? read_ns(CLOCK_MONOTONIC) : fake;
}

int64_t clock_wall_ns(void)
{
    return read_ns(CLOCK_REALTIME);
}

int64_t clock_add_ns(int64_t now_ns, int64_t delta_ns)
{
    int64_t sum;

    if (now_ns == CLOCK_NEVER)
        return CLOCK_NEVER;
    if (__builtin_add_overflow(now_ns, delta_ns, &sum))
        return delta_ns > 0 ? CLOCK_NEVER : INT64_MIN;
    return sum;
}

int clock_left_ms(int64_t deadline_ns, int max_ms)
{
    int64_t now_ns, left_ms;

    if (deadline_ns == CLOCK_NEVER)
        return max_ms;
    now_ns = clock_now_ns();
    if (deadline_ns <= now_ns)
        return 0;
    left_ms = (deadline_ns - now_ns - 1) / CLOCK_NS_PER_MS + 1;
    return left_ms < max_ms ? (int)left_ms : max_ms;
}

const char *clock_iso8601(int64_t wall_ns, char *buf, size_t size)
{
    int64_t seconds = wall_ns / CLOCK_NS_PER_S, ns = wall_ns % CLOCK_NS_PER_S;
    struct tm tm;
    time_t t;

    assert(size >= 32);
    if (ns < 0) {
        ns += CLOCK_NS_PER_S;
        seconds--;
    }
    t = (time_t)seconds;
    gmtime_r(&t, &tm);
    (void)snprintf(buf, size, "%04d-%02d-%02dT%02d:%02d:%02d.%03dZ", tm.tm_year + 1900,
                   tm.tm_mon + 1, tm.tm_mday, tm.tm_hour, tm.tm_min, tm.tm_sec,
                   (int)(ns / CLOCK_NS_PER_MS));
    return buf;
}

bool clock_is_date(const struct tm *tm)
{
    struct tm day = { .tm_year = tm->tm_year, .tm_mon = tm->tm_mon, .tm_mday = tm->tm_mday };

    (void)timegm(&day);
    return day.tm_mon == tm->tm_mon && day.tm_mday == tm->tm_mday;
}

void clock_fake(int64_t now_ns)
{
    atomic_store_explicit(&faked_ns, now_ns, memory_order_release);
}

void clock_real(void)
{
    atomic_store_explicit(&faked_ns, CLOCK_IS_REAL, memory_order_release);
}
