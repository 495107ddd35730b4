/*
 * clock - time: monotonic nanoseconds inside, wall-clock text outside.
 *
 * Threads: any.  Tests turn the clock with clock_fake().
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define CLOCK_NS_PER_US 1000ll
#define CLOCK_NS_PER_MS 1000000ll
#define CLOCK_NS_PER_S  1000000000ll
#define CLOCK_NEVER     INT64_MAX

/** Monotonic nanoseconds. */
int64_t clock_now_ns(void);

/** Nanoseconds since 1970. */
int64_t clock_wall_ns(void);

/** @now_ns + @delta_ns without overflow; CLOCK_NEVER stays. */
int64_t clock_add_ns(int64_t now_ns, int64_t delta_ns);

/** Milliseconds left until @deadline_ns, rounded up, 0 when passed, @max_ms at most. */
int clock_left_ms(int64_t deadline_ns, int max_ms);

/** "2026-11-21T20:23:15.123Z" into @buf of at least 32 bytes; returns @buf. */
const char *clock_iso8601(int64_t wall_ns, char *buf, size_t size);

struct tm;

/** Whether @tm's year, month and day are a day: timegm() takes the 31st of February for one in
 * March. */
bool clock_is_date(const struct tm *tm);

/** For tests: from now on clock_now_ns() returns @now_ns until clock_real(). */
void clock_fake(int64_t now_ns);
void clock_real(void);
