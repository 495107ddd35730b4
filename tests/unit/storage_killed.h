/*
 * storage_killed - a kernel that is killed while it writes to a server: what was answered is there,
 * and what was not is there whole or not at all.  For the tests of back ends on servers, beside
 * storage_suite.h.
 *
 * Threads: none may be running; the writer is a child.
 */
#pragma once

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/unit/storage_suite.h"

#define KILLED_ROUNDS 4
#define KILLED_AFTER  12         /* answers, and however far it gets until the signal */
#define KILLED_LARGE  (3u << 19) /* every fifth value, more than a commit carries with it */

static inline size_t killed_value(unsigned number, char *data)
{
    size_t len = number % 5 == 0 ? KILLED_LARGE : 64;

    memset(data, 'a' + (int)(number % 26), len);
    (void)snprintf(data, 32, "%u", number);
    return len;
}

/* Both keys get the same number, which is also their version. */
static inline void killed_child(unsigned number, int pipe)
{
    char *data = malloc(KILLED_LARGE);
    struct wait w = suite_wait();

    suite_open(NULL);
    for (; data; number++) {
        size_t len = killed_value(number, data);
        struct storage_op ops[] = {
            { .kind = STORAGE_PUT, .key = "a", .data = data, .len = len, .if_version = number - 1 },
            { .kind = STORAGE_PUT, .key = "b", .data = data, .len = len, .if_version = number - 1 },
        };

        if (!storage_batch(place.s, place.space, ops, 2, &w, NULL, NULL) ||
            write(pipe, &number, sizeof number) != (ssize_t)sizeof number)
            break;
    }
    _exit(1);
}

static inline unsigned killed_check(const char *key, unsigned answered, char *scratch)
{
    CLEANUP(buf_fini) struct buf out = BUF_INIT;
    struct wait w = suite_wait();
    struct error err = ERROR_INIT;
    struct storage_stat stat;
    unsigned number;

    assert_ok(storage_get(place.s, place.space, key, 0, 0, SIZE_MAX, &out, &w, &stat, &err), err);
    number = (unsigned)strtoul(buf_str(&out), NULL, 10);
    assert_int_equal(stat.version, number);
    assert_int_equal(killed_value(number, scratch), out.len);
    assert_memory_equal(scratch, out.data, out.len);
    assert_true(number == answered || number == answered + 1);
    return number;
}

static inline void loses_nothing_when_it_is_killed(void **state)
{
    char *scratch = malloc(KILLED_LARGE);
    unsigned last = 0;

    (void)state;
    assert_non_null(scratch);
    for (unsigned round = 0; round < KILLED_ROUNDS; round++) {
        unsigned number, answered = last;
        int ends[2];
        pid_t child;

        storage_close(place.s);
        place.s = NULL;
        assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
        child = fork();
        assert_true(child >= 0);
        if (child == 0)
            killed_child(last + 1, ends[1]);
        (void)close(ends[1]);
        while (read(ends[0], &number, sizeof number) == (ssize_t)sizeof number) {
            answered = number;
            if (number == last + KILLED_AFTER + round)
                assert_int_equal(kill(child, SIGKILL), 0);
        }
        (void)close(ends[0]);
        assert_int_equal(waitpid(child, NULL, 0), child);
        assert_true(answered >= last + KILLED_AFTER + round); /* it did not end by itself */
        suite_open(NULL);
        last = killed_check("a", answered, scratch);
        assert_int_equal(killed_check("b", answered, scratch), last);
    }
    free(scratch);
}
