/*
 * llm_answer - an answer as it is put together from the pieces of a stream, whatever the provider.
 *
 * Text goes through the join (what a continued answer repeats is dropped), to reply->text, and on
 * to the request's on_text; tool calls are gathered until they are whole.
 * Threads: one at a time.
 */
#pragma once

#include "kernel/llm.h"
#include "kernel/llm_join.h"
#include "kernel/llm_sse.h"

#define LLM_ANSWER_BYTES (4u << 20) /* text, and the arguments of tool calls, of one answer */
#define LLM_CALLS_MAX    128u       /* tool calls of one answer */

/** What became of an attempt, and so what comes next. */
enum llm_verdict {
    LLM_OK,
    LLM_AGAIN,   /* the same provider may do better in a moment */
    LLM_NEXT,    /* this provider cannot; another may */
    LLM_REFUSED, /* it says that the request is wrong; another may see it otherwise */
    LLM_UNFIT,   /* it could not even be asked: misconfigured, or without its key */
    LLM_STOP,    /* cancelled, out of time, out of memory: nobody else is asked */
};

struct llm_fragment {
    int64_t index; /* the provider's */
    struct buf id, name, arguments;
};

struct llm_answer {
    const struct llm_request *request;
    struct buf *text; /* the reply's; of earlier attempts up to `text_before` */
    size_t text_before;
    struct llm_join join;
    struct llm_fragment *calls;
    size_t call_count;
    size_t call_bytes;
    char finish[32]; /* "" until the provider has told */
    char model[129]; /* "" likewise */
    uint64_t input_tokens, output_tokens;
    bool counted; /* the provider told both */
    bool ended;   /* it said that this is all */
    bool preempted;
    bool to_schema;           /* structured: passed on when it is whole, never preempted */
    int64_t schema_index;     /* Anthropic: the block that holds the structured answer; -1 none */
    enum llm_verdict verdict; /* what a failure means */
};

/** @so_far ("" for none) outlives the answer: nothing of it is passed on again. */
void llm_answer_init(struct llm_answer *a, const struct llm_request *request, struct buf *text,
                     enum llm_join_mode mode, const char *so_far);
void llm_answer_fini(struct llm_answer *a);

/** A piece of text.  ERR_LIMIT, ERR_NOMEM. */
NODISCARD bool llm_answer_text(struct llm_answer *a, const char *text, size_t len,
                               struct error *err);

/** A piece of the tool call @index; each of @id, @name, @arguments may be NULL and is appended. */
NODISCARD bool llm_answer_call(struct llm_answer *a, int64_t index, const char *id,
                               const char *name, const char *arguments, struct error *err);

/** The provider's word for why it ended, in ours: "stop", "length", "tool_calls", "refused" …*/
void llm_answer_finish(struct llm_answer *a, const char *reason);
void llm_answer_model(struct llm_answer *a, const char *model);

/** The stream is over: what was held back is passed on, and tool calls are read.  *ret_calls: a new
 *  reference, or NULL for none.  False: the answer is not whole after all. */
NODISCARD bool llm_answer_end(struct llm_answer *a, json_t **ret_calls, struct error *err);

/** Gives up on this attempt: takes back what nobody has seen. */
void llm_answer_drop(struct llm_answer *a);

/** False with @err and a->verdict. */
bool llm_answer_fail(struct llm_answer *a, enum llm_verdict verdict, enum error_code code,
                     struct error *err, const char *fmt, ...) PRINTF_LIKE(5, 6);
