/*
 * llm_breaker - leaves a provider alone that failed several times in a row.
 *
 * Closed: everyone may ask.  Open: nobody may, for a while.  Half-open: one may, and what becomes
 * of that one decides.  Threads: any.  Time is given, so that tests can turn it.
 */
#pragma once

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "kernel/base/attr.h"

enum llm_breaker_state { LLM_BREAKER_CLOSED, LLM_BREAKER_OPEN, LLM_BREAKER_HALF_OPEN };

struct llm_breaker {
    int64_t most;    /* failures in a row that open it; constant */
    int64_t open_ns; /* how long it stays so; constant */

    pthread_mutex_t lock; /* guards what follows */
    enum llm_breaker_state state;
    int64_t failures; /* in a row */
    int64_t until_ns; /* open: until then */
    bool probing;     /* half-open: the one is on its way */
    uint64_t opened;  /* how often */
};

void llm_breaker_init(struct llm_breaker *b, int64_t most, int64_t open_ns);
void llm_breaker_fini(struct llm_breaker *b);

/** True: ask, then tell exactly one of the outcomes below with *ret_probe.  False: not now;
 *  *ret_left_ns (0: a probe is on its way) tells for how long. */
NODISCARD bool llm_breaker_enter(struct llm_breaker *b, int64_t now_ns, bool *ret_probe,
                                 int64_t *ret_left_ns);

/** Each returns true when the breaker is in another state now. */
bool llm_breaker_succeeded(struct llm_breaker *b, bool probe);
bool llm_breaker_failed(struct llm_breaker *b, bool probe, int64_t now_ns);
/** Nothing was learned: it was cancelled. */
void llm_breaker_unknown(struct llm_breaker *b, bool probe);

struct llm_breaker_info {
    enum llm_breaker_state state;
    int64_t failures, left_ns;
    uint64_t opened;
};
void llm_breaker_info(struct llm_breaker *b, int64_t now_ns, struct llm_breaker_info *ret);
const char *llm_breaker_state_name(enum llm_breaker_state state);
