#include "kernel/llm_join.h"

#include <ctype.h>
#include <string.h>

#define SURE_BYTES 16u /* as long as this it is a repetition wherever it begins */
#define WORD_BYTES 3u  /* and this from the beginning of a word on */

static bool is_space(char c)
{
    return c == ' ' || c == '\n' || c == '\t' || c == '\r';
}

void llm_join_init(struct llm_join *j, enum llm_join_mode mode, const char *before, size_t len)
{
    memset(j, 0, sizeof *j);
    buf_init(&j->held, 0);
    j->mode = len > 0 ? mode : LLM_JOIN_PLAIN;
    j->before = before;
    j->len = len;
    if (j->mode == LLM_JOIN_SPACE) {
        for (j->from = len; j->from > 0 && is_space(before[j->from - 1]);)
            j->from--;
    } else if (j->mode == LLM_JOIN_WORDS) {
        j->from = len > LLM_JOIN_TAIL ? len - LLM_JOIN_TAIL : 0;
        j->candidates = len - j->from;
        memset(j->alive, true, j->candidates);
        j->whole = j->from > 0;
        j->candidates += j->whole;
    }
}

void llm_join_fini(struct llm_join *j)
{
    buf_fini(&j->held);
}

/* A repetition from place @at of the text before on, to its end. */
static bool counts(const struct llm_join *j, size_t at)
{
    size_t len = j->len - at;
    unsigned char first = (unsigned char)j->before[at];

    if (len >= SURE_BYTES || at == 0)
        return len >= WORD_BYTES;
    return len >= WORD_BYTES && (isalpha(first) || first >= 0x80) && is_space(j->before[at - 1]);
}

static void complete(struct llm_join *j, size_t at)
{
    j->candidates--;
    if (counts(j, at))
        j->best = MAX(j->best, j->len - at);
}

/* One byte more: which places does what came still agree with? */
static void follow(struct llm_join *j, char c)
{
    size_t i = j->seen++;

    for (size_t n = 0; n < j->len - j->from; n++) {
        size_t at = j->from + n;

        if (!j->alive[n])
            continue;
        if (j->before[at + i] != c) {
            j->alive[n] = false;
            j->candidates--;
        } else if (at + i + 1 == j->len) {
            j->alive[n] = false;
            complete(j, at);
        }
    }
    if (!j->whole)
        return;
    if (j->before[i] != c) {
        j->whole = false;
        j->candidates--;
    } else if (i + 1 == j->len) {
        j->whole = false;
        complete(j, 0);
    }
}

static bool release(struct llm_join *j, struct buf *out)
{
    size_t drop = MIN(j->best, j->held.len);

    j->mode = LLM_JOIN_PLAIN;
    return buf_append(out, buf_str(&j->held) + drop, j->held.len - drop);
}

bool llm_join_push(struct llm_join *j, const char *text, size_t len, struct buf *out)
{
    size_t at = 0;

    if (j->mode == LLM_JOIN_SPACE) {
        while (at < len && j->from < j->len && text[at] == j->before[j->from]) {
            at++;
            j->from++;
        }
        if (at < len || j->from == j->len)
            j->mode = LLM_JOIN_PLAIN;
        return buf_append(out, text + at, len - at);
    }
    if (j->mode == LLM_JOIN_PLAIN)
        return buf_append(out, text, len);
    if (!buf_append(&j->held, text, len))
        return false;
    while (at < len && j->candidates > 0)
        follow(j, text[at++]);
    return j->candidates > 0 || release(j, out);
}

bool llm_join_end(struct llm_join *j, struct buf *out)
{
    return j->mode != LLM_JOIN_WORDS || release(j, out);
}
