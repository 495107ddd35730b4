/*
 * aios - libaios, what a program links to be an agent of an AIOS kernel.
 *
 * The kernel runs as `aios serve`; a program connects to its socket, says who it is, and asks.
 * There are four kinds of queries (to models, tools, memory and storage), and on them four modules:
 * planning (what to do next), action (doing it), memory and storage.  JSON goes in and out as text.
 *
 * Ownership: what a function returns through a pointer is the caller's, for the function that its
 *   comment names; strings inside live as long as what they are in.
 * Threads: one at a time for each connection; several connections side by side are fine.
 * Blocking: every call that asks the kernel, until its answer or its time limit.
 * Errors: functions return true for success, or false with *err (which may be NULL) set.
 */
#ifndef AIOS_H
#define AIOS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif
#ifdef __GNUC__
#pragma GCC visibility push(default)
#endif

#define AIOS_SDK_VERSION 1

enum aios_code {
    AIOS_OK = 0,
    AIOS_INVALID, /* an argument is wrong; the text says which and what to give */
    AIOS_NOMEM,
    AIOS_NO_SERVER, /* nothing listens there */
    AIOS_DENIED,    /* the kernel does not let this program in */
    AIOS_REFUSED,   /* the kernel's answer is an error: its own words */
    AIOS_TIMEOUT,   /* no answer in time; the kernel was told to stop */
    AIOS_LOST,      /* the connection broke: connect again */
    AIOS_PROTOCOL,  /* what came is no answer */
};

struct aios_error {
    enum aios_code code;
    /* AIOS_REFUSED: what kind of no it is, where the kernel says: "invalid" (an argument), "limit",
     * "busy" (try again), "not_found", "exists" (it is there, or is another version), "denied",
     * "timeout", "cancelled", "io", "lost", "unsupported", "nomem", "protocol", "internal".  Else
     * "". */
    char kind[16];
    char text[1024];
};

/* ---- the connection ---- */

struct aios;

struct aios_options {
    const char *socket; /* NULL: $AIOS_SOCKET, else where `aios serve` listens by itself */
    const char *agent;  /* NULL: nobody in particular; what it makes ends with the connection */
    int64_t timeout_ms; /* for each question that names none; 0: 60 s */
};

/** @options NULL: all defaults. */
struct aios *aios_connect(const struct aios_options *options, struct aios_error *err);

/** NULL is allowed. */
void aios_close(struct aios *a);

/** Who the kernel takes us for. */
const char *aios_agent(const struct aios *a);

/** The library's version, "0.1.0". */
const char *aios_version(void);

/* ---- answers ---- */

struct aios_reply;

void aios_reply_free(struct aios_reply *r);

/** All text of the answer, "" for none. */
const char *aios_reply_text(const struct aios_reply *r);

/** The answer as JSON where it is data, else NULL.  What it holds stands beside each query. */
const char *aios_reply_json(const struct aios_reply *r);

/** The bytes that AIOS_STORAGE_GET has read, with a NUL after them; NULL for other answers. */
const void *aios_reply_value(const struct aios_reply *r, size_t *ret_len);

size_t aios_reply_images(const struct aios_reply *r);

/** The bytes of image @index and its type, such as "image/png"; NULL beyond the last. */
const void *aios_reply_image(const struct aios_reply *r, size_t index, size_t *ret_len,
                             const char **ret_type);

/* ---- queries ---- */

/** To a model.  Either @prompt or @messages.  The reply's JSON: text, tool_calls [{id, name,
 * arguments}], finish, provider, model, input_tokens, output_tokens. */
struct aios_llm_query {
    const char *prompt;
    const char *messages; /* JSON: [{"role": "user", "content": "…"}, …] */
    const char *system;
    const char *provider, *model; /* NULL: the kernel's choice */
    const char *tools;            /* JSON: [{"name", "description", "parameters"}]; NULL: none */
    const char *schema;           /* JSON Schema of the answer; NULL: text */
    int max_tokens;               /* 0: the provider's */
    double temperature;           /* negative or 0 with temperature_set false: the provider's */
    bool temperature_set;
    int64_t timeout_ms; /* 0: the connection's */
};

/** To a tool, by name: everything that the kernel offers. */
struct aios_tool_query {
    const char *tool;
    const char *arguments; /* JSON object; NULL: {} */
    int64_t timeout_ms;
};

enum aios_memory_op {
    AIOS_MEMORY_ADD,    /* text, tags, share.  JSON: id, version */
    AIOS_MEMORY_GET,    /* id, offset.  JSON: id, version, text, and where it goes on, next */
    AIOS_MEMORY_UPDATE, /* id, text, tags, share.  JSON: id, version */
    AIOS_MEMORY_REMOVE, /* id */
    AIOS_MEMORY_SEARCH, /* text, tags, since, until, limit, offset, semantic, shared */
};

struct aios_memory_query {
    enum aios_memory_op op;
    const char *id, *text;
    const char *const *tags;   /* NULL-terminated; NULL: none, or as they were */
    const char *share;         /* "private", "group" or "all"; NULL: private, or as it was */
    const char *since, *until; /* when it was changed: "2026-11-21T09:30Z", "7d" (ago) */
    bool semantic;             /* by meaning, not by words */
    bool shared;               /* also what others share */
    int limit;                 /* 0: the kernel's */
    int64_t offset;            /* SEARCH: notes to pass over; GET: byte to begin at */
    int64_t timeout_ms;
};

enum aios_storage_op {
    AIOS_STORAGE_PUT,    /* key, data, len, if_version.  JSON: version, bytes */
    AIOS_STORAGE_GET,    /* key and version, or token; offset, max.  JSON: version, bytes (of all),
                            offset, end; the bytes: aios_reply_value() */
    AIOS_STORAGE_LIST,   /* key: what they begin with; cursor.  JSON: keys [{key, version, bytes,
                            time}], and where there are more, cursor */
    AIOS_STORAGE_DELETE, /* key, if_version, purge.  JSON: version, unless purged */
    AIOS_STORAGE_VERSIONS, /* key.  JSON: versions [{version, bytes or deleted, time}], newest first
                            */
    AIOS_STORAGE_ROLLBACK, /* key; version or time.  JSON: version */
    AIOS_STORAGE_SHARE,    /* key, version, seconds.  JSON: token */
};

struct aios_storage_query {
    enum aios_storage_op op;
    const char *key, *cursor, *token;
    const void *data;
    size_t len;
    uint64_t version;    /* 0: the newest */
    bool conditional;    /* PUT, DELETE: only if the newest version is */
    uint64_t if_version; /* this one; 0: if there is none */
    bool purge;          /* forget the versions too */
    const char *time;    /* "2026-11-21T09:30:00Z" */
    int64_t seconds;     /* how long a token holds; 0: the kernel's */
    uint64_t offset;
    size_t max; /* 0: as much as fits an answer */
    int64_t timeout_ms;
};

/** NULL with *err: the question was not answered, or (AIOS_REFUSED) with an error. */
struct aios_reply *aios_llm(struct aios *a, const struct aios_llm_query *query,
                            struct aios_error *err);
struct aios_reply *aios_tool(struct aios *a, const struct aios_tool_query *query,
                             struct aios_error *err);
struct aios_reply *aios_memory(struct aios *a, const struct aios_memory_query *query,
                               struct aios_error *err);
struct aios_reply *aios_storage(struct aios *a, const struct aios_storage_query *query,
                                struct aios_error *err);

/** @text as a JSON string, quotes included, for free(): to make arguments without a JSON library.
 */
char *aios_quote(const char *text, struct aios_error *err);

/** The kernel's tools as JSON, [{"name", "description", "parameters"}], in the form that
 *  aios_llm_query.tools takes; for free().  @prefix: only those whose name begins so; NULL: all. */
char *aios_tools(struct aios *a, const char *prefix, struct aios_error *err);

/* ---- planning: what to do next ---- */

struct aios_plan;

struct aios_plan_options {
    const char *system; /* who the agent is and what it is for */
    const char *tools;  /* as aios_llm_query.tools; NULL: it can only speak */
    const char *provider, *model;
    int max_tokens;
};

struct aios_plan *aios_plan_new(const struct aios_plan_options *options, struct aios_error *err);
void aios_plan_free(struct aios_plan *p);

/** Adds to the conversation.  @role: "user" or "assistant". */
bool aios_plan_say(struct aios_plan *p, const char *role, const char *text, struct aios_error *err);

/* What the model wants. */
struct aios_step {
    const char *text;  /* what it says, "" for nothing; until the next step or aios_plan_free() */
    size_t call_count; /* tools it wants called; 0: it has finished */
};

/** Asks the model for the next step and adds it to the conversation. */
bool aios_plan_next(struct aios *a, struct aios_plan *p, struct aios_step *ret,
                    struct aios_error *err);

/** The tool and the arguments (JSON) of call @index of the last step. */
bool aios_plan_call(const struct aios_plan *p, size_t index, const char **ret_tool,
                    const char **ret_arguments);

/** The conversation so far as JSON, for free(). */
char *aios_plan_messages(const struct aios_plan *p, struct aios_error *err);

/* ---- action: doing it ---- */

/** May this call be made?  false: the model is told so. */
typedef bool aios_allow_fn(void *arg, const char *tool, const char *arguments);

/** Makes the calls of the last step, in order, and adds what came of each to the conversation; a
 * call that fails is told to the model, not to the caller.  @allow may be NULL. */
bool aios_act(struct aios *a, struct aios_plan *p, aios_allow_fn *allow, void *arg,
              struct aios_error *err);

/** Plans and acts until the model has finished or @max_steps have been taken (then AIOS_REFUSED).
 *  The last thing that it said, for free(). */
char *aios_pursue(struct aios *a, struct aios_plan *p, const char *goal, unsigned max_steps,
                  aios_allow_fn *allow, void *arg, struct aios_error *err);

/* ---- memory ---- */

/** The new note's id, for free().  @tags: NULL-terminated; may be NULL. */
char *aios_remember(struct aios *a, const char *text, const char *const *tags,
                    struct aios_error *err);

/** The notes that fit best, as text for a prompt, for free(); "" when there is none. */
char *aios_recall(struct aios *a, const char *text, int limit, struct aios_error *err);

/** The whole text of one note, for free(). */
char *aios_note(struct aios *a, const char *id, struct aios_error *err);
bool aios_forget(struct aios *a, const char *id, struct aios_error *err);

/* ---- storage ---- */

/** @ret_version may be NULL. */
bool aios_put(struct aios *a, const char *key, const void *data, size_t len, uint64_t *ret_version,
              struct aios_error *err);

/** Only if @if_version is the newest (0: if there is none): else AIOS_REFUSED of the kind "exists",
 * nothing changed. */
bool aios_put_if(struct aios *a, const char *key, const void *data, size_t len, uint64_t if_version,
                 uint64_t *ret_version, struct aios_error *err);

/** The whole newest value, with a NUL after it, for free().  @ret_len and @ret_version may be
 * NULL. */
void *aios_get(struct aios *a, const char *key, size_t *ret_len, uint64_t *ret_version,
               struct aios_error *err);
bool aios_delete(struct aios *a, const char *key, struct aios_error *err);

/** @key's content as it was in @version becomes its newest. */
bool aios_rollback(struct aios *a, const char *key, uint64_t version, struct aios_error *err);

/** A token with which any agent of this kernel can read @key for @seconds (0: the kernel's choice);
 * for free(). */
char *aios_share(struct aios *a, const char *key, int64_t seconds, struct aios_error *err);

/** What @token gives, as from aios_get(). */
void *aios_get_shared(struct aios *a, const char *token, size_t *ret_len, struct aios_error *err);

#ifdef __GNUC__
#pragma GCC visibility pop
#endif
#ifdef __cplusplus
}
#endif

#endif
