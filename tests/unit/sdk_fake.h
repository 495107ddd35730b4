/*
 * sdk_fake - a kernel that plays a script to libaios over a socket pair.
 *
 * It takes one line for each step, then says what the step says, with the line's id in the place of
 * every '$'.  What it heard is read after sdk_fake_end().  It allocates nothing, so that faults hit
 * the library alone.
 * Threads: the fake has its own; the functions are the test's.
 */
#pragma once

#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

#include "kernel/sdk/sdk.h"
#include "tests/support/check.h"

#define FAKE_STEPS   16
#define FAKE_LINE    8192
#define FAKE_WAIT_MS 20000

#define GREETED      "{\"aios\":{\"agent\":\"tester\",\"version\":\"1\"}}\n"
#define RESULT(body) "{\"jsonrpc\":\"2.0\",\"id\":$,\"result\":{" body "}}\n"
#define BLOCK(text)  "{\"type\":\"text\",\"text\":\"" text "\"}"
#define TEXT(text)   RESULT("\"content\":[" BLOCK(text) "]")
#define ERROR(text)  RESULT("\"content\":[" BLOCK(text) "],\"isError\":true")
#define REFUSAL(kind, text) \
    RESULT("\"content\":[" BLOCK(text) "],\"isError\":true,\"_meta\":{\"aios/error\":" kind "}")
#define DATA(json) RESULT("\"content\":[],\"structuredContent\":" json)

struct sdk_step {
    const char *say; /* NULL: nothing */
    bool unheard;    /* said without waiting for a line */
    bool bytewise;   /* said one byte at a time */
    bool hang_up;    /* afterwards */
};

struct sdk_fake {
    const struct sdk_step *steps;
    size_t count, heard;
    int fd;
    pthread_t thread;
    char lines[FAKE_STEPS][FAKE_LINE]; /* what it heard, without what did not fit */
};

/* One whole line; false at the end. */
static inline bool sdk_fake_hear(struct sdk_fake *f)
{
    char *line = f->lines[f->heard];
    size_t len = 0;
    char c;

    for (;;) {
        struct pollfd p = { .fd = f->fd, .events = POLLIN };

        if (poll(&p, 1, FAKE_WAIT_MS) <= 0 || recv(f->fd, &c, 1, 0) != 1)
            return false;
        if (c == '\n')
            break;
        if (len < FAKE_LINE - 1)
            line[len++] = c;
    }
    line[len] = '\0';
    f->heard++;
    return true;
}

static inline bool sdk_fake_send(const struct sdk_fake *f, const char *data, size_t len,
                                 bool bytewise)
{
    while (len > 0) {
        ssize_t n = send(f->fd, data, bytewise ? 1 : len, MSG_NOSIGNAL);

        if (n <= 0)
            return false;
        data += n;
        len -= (size_t)n;
    }
    return true;
}

static inline bool sdk_fake_say(const struct sdk_fake *f, const struct sdk_step *step)
{
    const char *line = f->heard ? f->lines[f->heard - 1] : "", *at = strstr(line, "\"id\":");
    const char *id = at ? at + 5 : "0";

    for (const char *say = step->say; say && *say;) {
        size_t plain = strcspn(say, "$");

        if (!sdk_fake_send(f, say, plain, step->bytewise))
            return false;
        say += plain;
        if (*say && !sdk_fake_send(f, id, strspn(id, "0123456789"), step->bytewise))
            return false;
        say += *say != '\0';
    }
    return true;
}

static inline void *sdk_fake_main(void *arg)
{
    struct sdk_fake *f = arg;

    for (size_t i = 0; i < f->count; i++) {
        const struct sdk_step *step = &f->steps[i];

        if ((!step->unheard && !sdk_fake_hear(f)) || !sdk_fake_say(f, step))
            return NULL;
        if (step->hang_up) {
            shutdown(f->fd, SHUT_RDWR);
            return NULL;
        }
    }
    /* To the end, as a kernel would. */
    while (f->heard < FAKE_STEPS && sdk_fake_hear(f))
        ;
    return NULL;
}

/* The library's end of a pair whose other end plays @steps. */
static inline int sdk_fake_begin(struct sdk_fake *f, const struct sdk_step *steps, size_t count)
{
    int pair[2];

    *f = (struct sdk_fake){ .steps = steps, .count = count };
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
    f->fd = pair[1];
    assert_int_equal(pthread_create(&f->thread, NULL, sdk_fake_main, f), 0);
    return pair[0];
}

static inline void sdk_fake_end(struct sdk_fake *f)
{
    pthread_join(f->thread, NULL);
    close(f->fd);
}

/* The one of a test. */
static struct sdk_fake fake;

/** Memory ran out while reading, jansson may have left out part of a key without a word: then what
 * was looked for is missing. */
static inline bool is_nomem(const struct aios_error *err)
{
    return err->code == AIOS_NOMEM || err->code == AIOS_PROTOCOL;
}

/** A connection to a kernel that greets and then plays the steps. */
#define CONNECT(...)                                                                             \
    sdk_attach(sdk_fake_begin(&fake, (const struct sdk_step[]){ { GREETED }, __VA_ARGS__ },      \
                              SDK_LEN(((const struct sdk_step[]){ { GREETED }, __VA_ARGS__ }))), \
               NULL, &err)

/** Ends both; what was heard can then be read. */
#define DISCONNECT(a)        \
    do {                     \
        aios_close(a);       \
        sdk_fake_end(&fake); \
    } while (0)

#define assert_sdk(cond, err)                                                \
    do {                                                                     \
        if (!(cond))                                                         \
            fail_msg("%s: code %d: %s", #cond, (int)(err).code, (err).text); \
    } while (0)

#define assert_failed(what, err, want)                                                      \
    do {                                                                                    \
        (err) = (struct aios_error){ .code = AIOS_OK };                                     \
        if (what)                                                                           \
            fail_msg("%s did not fail", #what);                                             \
        if ((err).code != (want))                                                           \
            fail_msg("%s: wanted code %d, got %d: %s", #what, (int)(want), (int)(err).code, \
                     (err).text);                                                           \
    } while (0)
