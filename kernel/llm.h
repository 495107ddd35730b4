/*
 * llm - questions to language models: providers behind one interface, with retries, a breaker for
 * each, a chain to fall back on, and accounts for each agent.
 *
 * Providers (llm_provider.h): OpenAI-compatible, Anthropic Messages, and the host's own model
 * through MCP sampling.  They are tried in the order of llm.providers unless the request names one.
 * Secrets: keys come from the environment or a file, are read at first use, and stand in no log,
 *   audit record, event, error text or child's environment.
 * Threads: any.  Blocking: llm_query(), llm_embed(), llm_embed_many(), within the struct wait.
 */
#pragma once

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "kernel/base/buf.h"
#include "kernel/base/cancel.h"
#include "kernel/base/error.h"

struct config;
struct event_bus;
struct llm;
struct tool_peer;

/** Borrowed by llm_query(). */
struct llm_request {
    const char *agent;
    const char *provider; /* NULL: the chain */
    const char *model;    /* NULL: the provider's */
    const char *system;   /* NULL: none */
    /* [{"role": "system"|"user"|"assistant"|"tool", "content": text, or blocks {"type": "text",
     * "text"} and {"type": "image", "mime_type", "data"}; an assistant's "tool_calls": [{"id",
     * "name", "arguments"}]; a tool's "tool_call_id"}] */
    json_t *messages;
    json_t *tools;       /* [{"name", "description", "parameters"}]; NULL: none */
    json_t *tool_choice; /* "auto", "none", "required" or {"name"}; NULL */
    json_t *schema;      /* JSON Schema that the answer must fit; NULL: text */
    json_t *stop;        /* strings; NULL */
    int64_t max_tokens;  /* of the whole answer, so_far included; 0: the provider's */
    double temperature;  /* negative: the provider's */
    const char *so_far;  /* text of an answer that was cut, to be continued; NULL */

    /** Text as it comes; @text is not kept.  May be NULL. */
    void (*on_text)(void *arg, const char *text, size_t len);
    /** Asked after each piece of text, so that every turn gets on; true: stop here and return with
     *  ret->preempted.  Not asked once a tool call has begun.  May be NULL. */
    bool (*preempt)(void *arg);
    void *arg;

    const struct tool_peer *peer; /* for sampling; NULL: none */
    void *peer_arg;
};

struct llm_reply {
    struct buf text;    /* without so_far */
    json_t *tool_calls; /* [{"id", "name", "arguments": object}]; NULL: none */
    char finish[32];    /* "stop", "length", "tool_calls", "refused", "preempted", "other" */
    char provider[65], model[129];
    uint64_t input_tokens,
        output_tokens; /* as the provider counted; estimated when it does not say */
    bool estimated;
    double cost; /* in the currency of the configured prices; 0 without them */
    unsigned attempts;
    bool preempted;
};
void llm_reply_init(struct llm_reply *r);
void llm_reply_fini(struct llm_reply *r);

/** Never fails because of a provider that is down or misconfigured.  @bus may be NULL:
 *  "llm.breaker", "llm.fallback", "llm.budget". */
NODISCARD struct llm *llm_new(const struct config *config, struct event_bus *bus,
                              struct error *err);
void llm_free(struct llm *l);
DEFINE_CLEANUP(struct llm, llm_free)

/** @ret: from llm_reply_init(); after a failure ret->text is what on_text was given before it.
 *  At most llm.timeout_ms, all attempts together.  A structured answer (schema) is passed to
 *  on_text whole, is never preempted, and cannot have a so_far.
 *  ERR_UNSUPPORTED: no provider is configured (says how to).  ERR_LIMIT: the agent's budget.
 *  ERR_LOST: no provider answered (each with its reason).  ERR_INVALID: the request is wrong, or
 *  refused by a provider (its words).  ERR_NOT_FOUND: no provider of that name.  ERR_TIMEOUT,
 *  ERR_CANCELLED. */
NODISCARD bool llm_query(struct llm *l, const struct llm_request *request, const struct wait *w,
                         struct llm_reply *ret, struct error *err);

/** True when a provider with an embedding model is configured; its name and model. */
bool llm_can_embed(struct llm *l, char ret_provider[65], char ret_model[129]);

/** Whether a provider is configured at all (the host's model is none). */
bool llm_has_providers(const struct llm *l);

/** One vector of *ret_dims floats for each of @texts, in one block for free(), row by row. */
NODISCARD bool llm_embed(struct llm *l, const char *agent, const char *const *texts, size_t count,
                         const struct wait *w, float **ret, size_t *ret_dims, struct error *err);

/** One of several that want vectors; what llm_embed() is given and answers. */
struct llm_embed_call {
    const char *agent;
    const char *const *texts;
    size_t count;
    const struct wait *wait;

    float *rows; /* afterwards, where `ok` */
    size_t dims;
    bool ok;
    struct error err; /* ERR_NONE before */
};

/** The same for several, whose texts go into as few requests as hold them.  Each fails by itself:
 *  by its budget, its end, or a text that the provider refuses; those with it are then asked again
 *  without it.  What the provider counted is shared by the bytes of each. */
void llm_embed_many(struct llm *l, struct llm_embed_call *calls, size_t count);

struct llm_usage {
    uint64_t calls, failures, input_tokens, output_tokens;
    double cost;
    uint64_t budget_tokens; /* 0: none */
};
void llm_usage(struct llm *l, const char *agent, struct llm_usage *ret);

/** [{"name", "kind", "model", "state": "closed"|"open"|"half-open"|"misconfigured", "failures" (in
 *  a row), "attempts", "failed", "opened", "retry_in_ms", "last_error"}] or NULL. */
json_t *llm_status(struct llm *l);
