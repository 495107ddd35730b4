/*
 * llm_join - the rest of an answer, without what it repeats of the text before.
 *
 * A model that was asked to go on often begins with the last words once more, or with the whole
 * answer.  What comes is held back while it may still be such a repetition; a repetition is dropped
 * when it is 16 bytes or more, or the last words (or the beginning of one) from a letter on.
 * A model that really continues its own message repeats nothing but perhaps the white space that
 * could not be sent at the end of it: then only that is dropped.
 * Threads: one at a time.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "kernel/base/attr.h"
#include "kernel/base/buf.h"

#define LLM_JOIN_TAIL                                                           \
    1024u /* how far back a repetition may begin, but for one of the whole text \
           */

enum llm_join_mode { LLM_JOIN_PLAIN, LLM_JOIN_SPACE, LLM_JOIN_WORDS };

struct llm_join {
    enum llm_join_mode mode;
    const char *before; /* borrowed */
    size_t len;
    size_t from;               /* where the tail begins in `before` */
    bool alive[LLM_JOIN_TAIL]; /* what came agrees with `before` from this place of the tail on */
    bool whole;                /* … from its first byte on */
    size_t candidates;         /* how many of these are left */
    size_t best;               /* longest repetition that is complete */
    size_t seen;               /* bytes that came */
    struct buf held;
};

void llm_join_init(struct llm_join *j, enum llm_join_mode mode, const char *before, size_t len);
void llm_join_fini(struct llm_join *j);

/** What came; what of it is certain to be new is appended to @out.  False: out of memory. */
NODISCARD bool llm_join_push(struct llm_join *j, const char *text, size_t len, struct buf *out);

/** Nothing more comes. */
NODISCARD bool llm_join_end(struct llm_join *j, struct buf *out);
