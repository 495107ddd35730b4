/*
 * llm_service - the service itself, for the files that implement it.
 *
 * Threads: constant once llm_new() has returned, but for what has a lock or is atomic.
 */
#pragma once

#include "kernel/base/list.h"
#include "kernel/event.h"
#include "kernel/http.h"
#include "kernel/llm_account.h"
#include "kernel/llm_provider.h"

struct llm {
    struct http *http;
    struct event_bus *bus; /* may be NULL */
    struct llm_accounts *accounts;
    struct llm_provider *providers;
    size_t provider_count;
    int64_t timeout_ns, idle_ns;
    unsigned retries;
    bool sampling;

    pthread_mutex_t lock; /* guards what follows */
    struct list parked;   /* struct llm_job, the oldest first */
};

/** One question to one provider, once: key, headers, the exchange, and what to think of it. */
struct llm_exchange {
    struct llm *llm;
    struct llm_provider *provider;
    const char *path;
    const struct buf *body;
    const struct wait *wait;
    bool (*on_data)(void *arg, const char *data, size_t len); /* NULL: into reply.body */
    /** A 2xx answer came; @broken says why its end did not (NULL: it did).  False with @err: it is
     *  no answer, and *verdict says what that means. */
    bool (*finish)(void *arg, const struct http_reply *reply, const struct error *broken,
                   enum llm_verdict *verdict, struct error *err);
    void *arg;
    int64_t retry_after_ns; /* afterwards; -1: not said */
    int status;             /* afterwards; 0: none came */
    char words[300];        /* afterwards: those of a refusal, without any piece of the key */
};

/** @err, set unless it is LLM_OK, has no piece of the key in it. */
NODISCARD enum llm_verdict llm_exchange(struct llm_exchange *x, struct error *err);

/** One attempt: a verdict, with @err set unless it is LLM_OK. */
typedef enum llm_verdict llm_once_fn(void *arg, int64_t *ret_retry_after_ns, struct error *err);

/** Asks @p by @once until it answers or another one should be asked: breaker, retries, pauses.
 *  @last: there is no other one, so that a longer pause is worth it. */
NODISCARD enum llm_verdict llm_persist(struct llm *l, struct llm_provider *p, const char *agent,
                                       const struct wait *w, bool last, llm_once_fn *once,
                                       void *arg, struct error *err);

/** @w, but not beyond llm.timeout_ms from now. */
struct wait llm_wait(const struct llm *l, const struct wait *w);

/** llm_free(): ends every parked job. */
void llm_job_drop_all(struct llm *l);
