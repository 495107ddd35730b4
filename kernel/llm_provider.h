/*
 * llm_provider - what the files of the LLM service share: a provider, the interface that its kind
 * implements, and the limits.  Nobody else includes this.
 *
 * Threads: a provider is constant once llm_new() has returned, but for what says otherwise.
 */
#pragma once

#include <pthread.h>
#include <stdatomic.h>

#include "kernel/llm.h"
#include "kernel/llm_answer.h"
#include "kernel/llm_breaker.h"

#define LLM_EVENT_BYTES   (1u << 20)  /* one event of a stream */
#define LLM_BODY_BYTES    (32u << 20) /* an answer that comes whole; vectors */
#define LLM_MESSAGES_MAX  10000u
#define LLM_TOOLS_MAX     512u
#define LLM_STOPS_MAX     16u
#define LLM_PROVIDERS_MAX 16u
#define LLM_KEY_BYTES     4096u
#define LLM_HEADERS_MAX   8u

/** The name by which a request asks for the model of the MCP host. */
#define LLM_SAMPLING "sampling"

/** How an answer that was cut is taken up again. */
enum llm_continuation {
    LLM_INSTRUCT,      /* the text so far, then a user's message that asks for the rest */
    LLM_PREFILL,       /* the text so far as the last message */
    LLM_PREFIX,        /* that message marked "prefix": true */
    LLM_FINAL_MESSAGE, /* that, with continue_final_message and without a generation prompt */
};

/** What a server has turned out not to know; found out by its refusal, once. */
enum llm_quirk {
    LLM_QUIRK_NO_PREFILL = 1,        /* the last message must be the user's */
    LLM_QUIRK_COMPLETION_TOKENS = 2, /* max_tokens is called max_completion_tokens */
    LLM_QUIRK_NO_STREAM_OPTIONS = 4, /* stream_options is unknown */
    LLM_QUIRK_NO_TEMPERATURE = 8,    /* it has a fixed one */
};

struct llm_provider {
    const struct llm_dialect *dialect;
    char name[65], model[129], embed_model[129]; /* "" for none */
    char *base_url;                              /* without a slash at its end */
    char *key_env, *key_file, *ca_file;          /* NULL: none */
    int64_t max_tokens;                          /* 0: none */
    double input_price, output_price;            /* of a million tokens */
    enum llm_continuation continuation;
    struct error misconfigured; /* ERR_NONE, or why it cannot be asked */

    struct llm_breaker breaker; /* has its own lock */
    atomic_uint quirks;         /* enum llm_quirk */
    _Atomic uint64_t calls, failures;

    pthread_mutex_t lock; /* guards what follows */
    char last_error[256];
};

/** One entry of llm.providers.  What is wrong with it is kept in p->misconfigured.  The breaker is
 *  the caller's.  ERR_NOMEM. */
NODISCARD bool llm_provider_read(struct llm_provider *p, const json_t *entry, struct error *err);
void llm_provider_fini(struct llm_provider *p);

/** What is asked, in full, of one provider. */
struct llm_prompt {
    const struct llm_request *request;
    const char *model;
    const char *so_far; /* request->so_far and what came since; "" for none */
    int64_t max_tokens; /* 0: not said */
    enum llm_continuation continuation;
    unsigned quirks;
};

/** A header's lines, in one place so that what holds the key can be cleared. */
struct llm_headers {
    const char *list[LLM_HEADERS_MAX + 1];
    size_t count;
    char secret[LLM_KEY_BYTES + 64]; /* the line with the key */
};

/** A kind of provider. */
struct llm_dialect {
    const char *kind;
    const char *base_url, *key_env; /* the maker's own */
    const char *path;
    enum llm_continuation continuation; /* unless the configuration says otherwise */
    bool trims; /* sends the text so far without the white space at its end */

    /** The request's JSON: a new reference.  ERR_NOMEM. */
    json_t *(*body)(const struct llm_prompt *prompt, struct error *err);
    /** @key: NULL for none. */
    void (*headers)(struct llm_headers *headers, const char *key);
    /** One event of the stream.  False with @err: answer->verdict says what it means. */
    llm_sse_fn *event; /* its argument is the struct llm_answer */
    /** An answer that came whole instead of as a stream. */
    bool (*whole)(struct llm_answer *answer, json_t *body, struct error *err);
    /** The quirk that a refusal with these words gives away, or 0. */
    unsigned (*quirk)(const struct llm_prompt *prompt, const char *words);
};

extern const struct llm_dialect llm_openai, llm_anthropic;

/** Refuses a request that no provider could understand.  ERR_INVALID. */
NODISCARD bool llm_request_check(const struct llm_request *request, struct error *err);

/** A guess at the tokens of what is asked: a quarter of its bytes. */
uint64_t llm_request_tokens(const struct llm_request *request);
static inline uint64_t llm_tokens_of(size_t bytes)
{
    return ((uint64_t)bytes + 3) / 4;
}

/** @object[@key] = @value (taken, NULL allowed); false: out of memory. */
NODISCARD bool llm_put(json_t *object, const char *key, json_t *value);
NODISCARD bool llm_put_str(json_t *object, const char *key, const char *text);

/** The text of every system message and request->system, for a provider that wants it apart;
 *  appended to @out.  */
NODISCARD bool llm_system_text(const struct llm_request *request, struct buf *out);

/** The words of the message that asks for the rest of an answer. */
extern const char llm_instruction[];

/** The answer of the host's own model through request->peer.  ret->text is appended to. */
NODISCARD enum llm_verdict llm_sample(const struct llm_prompt *prompt, const struct wait *w,
                                      struct llm_answer *answer, struct error *err);

/* ---- keys ---- */

/** The provider's key into @ret, or "" when it has none.  ERR_DENIED: it should have one and has
 *  not, or it is no key. */
NODISCARD bool llm_key_read(const struct llm_provider *p, char ret[LLM_KEY_BYTES],
                            struct error *err);

/** Overwrites @text's pieces of @key, and what looks like a masked or another key, in place. */
void llm_key_redact(char *text, const char *key);
void llm_key_clear(void *memory, size_t size);

/* ---- retrying ---- */

enum llm_verdict llm_retry_status(int status);

/** How long to wait before attempt @attempt (1 is the first retry): full jitter under a doubling
 *  bound, and never before @retry_after_ns (-1: not said).  @random: any 64 bits. */
int64_t llm_retry_delay(unsigned attempt, int64_t retry_after_ns, uint64_t random);

/** Waits for @ns, at most to @w's deadline.  False: ERR_CANCELLED, ERR_TIMEOUT. */
NODISCARD bool llm_retry_pause(const struct wait *w, int64_t ns, struct error *err);

/** What the body of an error says, for people, in at most @size bytes. */
void llm_retry_words(const char *body, size_t len, char *ret, size_t size);
