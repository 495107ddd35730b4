/*
 * code_place - a kernel with sandboxes and the tools, for the tests of code_run: one call at a
 * time, or several under way, each with its answer as one text.
 *
 * Threads: the test's own, which turns the loop.
 */
#pragma once

#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <time.h>

#include "images/guest/image.h"
#include "kernel/base/fd.h"
#include "kernel/toolmgr.h"
#include "sandbox/sandbox.h"
#include "tests/support/check.h"
#include "tools/toolkit.h"

#define ANSWER_BYTES (64u << 10)

struct place {
    char dir[64];
    struct config *config;
    struct loop *loop;
    struct kernel *k;
    struct agent *agent;
};

struct answer {
    struct place *p;
    struct syscall *sc; /* while it is under way */
    bool done, is_error;
    unsigned images;
    unsigned char image[64]; /* the beginning of the last one */
    char text[ANSWER_BYTES];
};

static inline bool place_back_end(struct place *p, struct error *err)
{
    struct computer_backend *b;
    char state[96], runtime[96], cache[96];

    (void)snprintf(state, sizeof state, "%s/state", p->dir);
    (void)snprintf(runtime, sizeof runtime, "%s/run", p->dir);
    (void)snprintf(cache, sizeof cache, "%s/cache", p->dir);
    {
        struct sandbox_config config = { .loop = p->loop,
                                         .state_dir = state,
                                         .runtime_dir = runtime,
                                         .cache_dir = cache,
                                         .guest_image = guest_image,
                                         .guest_image_len = guest_image_len };

        b = sandbox_backend_new(&config, err);
    }
    if (!b)
        return false;
    if (computers_add_backend(kernel_computers(p->k), b, err))
        return true;
    b->free(b);
    return false;
}

static inline void place_new(struct place *p, int64_t call_timeout_ms)
{
    struct error err = ERROR_INIT;
    json_t *overrides = json_pack("{s:{s:I},s:{s:b}}", "tool", "call_timeout_ms",
                                  (json_int_t)call_timeout_ms, "audit", "enabled", 0);

    *p = (struct place){ .dir = "/tmp/test_code.XXXXXX" };
    assert_non_null(mkdtemp(p->dir));
    assert_int_equal(chmod(p->dir, 0755), 0);
    p->config = config_parse(NULL, 0, "", overrides, &err);
    json_decref(overrides);
    assert_ok(p->config, err);
    p->loop = loop_new(&err);
    assert_ok(p->loop, err);
    p->k = kernel_new(p->loop, p->config, &err);
    assert_ok(p->k, err);
    assert_ok(place_back_end(p, &err), err);
    assert_ok(toolset_register(kernel_tools(p->k), NULL, &err), err);
    p->agent = kernel_agent(p->k, "default", NULL, &err);
    assert_ok(p->agent, err);
}

static inline void place_free(struct place *p)
{
    struct error err = ERROR_INIT;

    agent_unref(p->agent);
    kernel_free(p->k);
    loop_free(p->loop);
    config_free(p->config);
    if (!fd_remove_tree(AT_FDCWD, p->dir, &err))
        print_message("%s\n", err.text);
}

static inline void on_answer(struct syscall *sc)
{
    struct answer *a = sc->done_arg;
    size_t at = 0;

    for (size_t i = 0; i < sc->result.count; i++) {
        const struct result_block *block = &sc->result.blocks[i];

        if (block->kind == RESULT_IMAGE) {
            a->images++;
            memcpy(a->image, block->data.data, MIN(block->data.len, sizeof a->image));
            continue;
        }
        at += (size_t)snprintf(a->text + at, sizeof a->text - at, "%s%s", at ? "\n" : "",
                               buf_str(&block->data));
        assert_true(at < sizeof a->text);
    }
    a->is_error = sc->result.is_error;
    a->done = true;
    a->sc = NULL;
    syscall_free(sc);
}

/** Submit a call of the tool @name; takes @arguments. */
static inline void call_begin(struct place *p, struct answer *a, const char *name,
                              json_t *arguments)
{
    struct error err = ERROR_INIT;
    const struct tool *tool = toolmgr_find(kernel_tools(p->k), name);

    assert_non_null(tool);
    assert_non_null(arguments);
    memset(a, 0, sizeof *a);
    a->p = p;
    a->sc = syscall_new(SYSCALL_TOOL, p->agent, tool, arguments, &err);
    json_decref(arguments);
    assert_ok(a->sc, err);
    a->sc->done = on_answer;
    a->sc->done_arg = a;
    assert_ok(kernel_submit(p->k, a->sc, &err), err);
}

static inline void call_end(struct answer *a)
{
    struct timespec start, now;

    clock_gettime(CLOCK_MONOTONIC, &start);
    while (!a->done) {
        loop_turn(a->p->loop, 100);
        clock_gettime(CLOCK_MONOTONIC, &now);
        if (now.tv_sec - start.tv_sec > 100)
            fail_msg("no answer");
    }
}

static inline const char *call(struct place *p, struct answer *a, const char *name,
                               json_t *arguments)
{
    call_begin(p, a, name, arguments);
    call_end(a);
    return a->text;
}

/** Run @code in a context of this name, to its end; the answer's text. */
static inline const char *cell(struct place *p, struct answer *a, const char *language,
                               const char *context, const char *code)
{
    call(p, a, "code_run",
         json_pack("{s:s,s:s,s:s}", "language", language, "context", context, "code", code));
    return a->text;
}

/** The same with a time limit. */
static inline const char *cell_limited(struct place *p, struct answer *a, const char *language,
                                       const char *context, const char *code, int timeout_ms)
{
    call(p, a, "code_run",
         json_pack("{s:s,s:s,s:s,s:i}", "language", language, "context", context, "code", code,
                   "timeout_ms", timeout_ms));
    return a->text;
}
