/* Keys: read when a question is asked, gone when it has been, and out of every text. */
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "kernel/base/fd.h"
#include "kernel/llm_provider.h"

#define PIECE_BYTES 8u /* so much of a key may not stand anywhere */
#define HIDDEN      "[key]"

void llm_key_clear(void *memory, size_t size)
{
    explicit_bzero(memory, size);
}

static bool is_key(const char *text, size_t len)
{
    for (size_t i = 0; i < len; i++)
        if (text[i] <= ' ' || text[i] > '~')
            return false;
    return len > 0;
}

static bool take(const struct llm_provider *p, const char *text, size_t len, const char *where,
                 char ret[LLM_KEY_BYTES], struct error *err)
{
    while (len > 0 && strchr(" \t\r\n", text[len - 1]))
        len--;
    if (len >= LLM_KEY_BYTES || !is_key(text, len))
        return error_set(err, ERR_DENIED,
                         "what %s holds is no key of provider %s: one line of up to %u visible "
                         "characters is expected",
                         where, p->name, LLM_KEY_BYTES - 1);
    memcpy(ret, text, len);
    ret[len] = '\0';
    return true;
}

bool llm_key_read(const struct llm_provider *p, char ret[LLM_KEY_BYTES], struct error *err)
{
    const char *value;
    char *text;
    size_t len;
    bool ok;

    *ret = '\0';
    if (p->key_file) {
        text = fd_read_file(AT_FDCWD, p->key_file, LLM_KEY_BYTES, &len, err);
        if (!text)
            return error_prefix(err, "the key of provider %s", p->name);
        ok = take(p, text, len, p->key_file, ret, err);
        llm_key_clear(text, len);
        free(text);
        return ok;
    }
    if (!p->key_env)
        return true;
    value = getenv(p->key_env);
    if (!value || !*value)
        return error_set(err, ERR_DENIED,
                         "its key is missing: set the environment variable %s where the server is "
                         "started, or key_file in the configuration",
                         p->key_env);
    return take(p, value, strlen(value), p->key_env, ret, err);
}

/* The longest piece of @key that begins at @text. */
static size_t piece_of(const char *text, const char *key)
{
    size_t best = 0;

    for (const char *at = key; *at; at++) {
        size_t n = 0;

        while (at[n] && text[n] == at[n])
            n++;
        best = MAX(best, n);
    }
    return best;
}

static bool part_of_word(char c)
{
    return c != '\0' && !strchr(" \t\r\n\"'`,;:()<>{}[]", c);
}

/* A server shows a key with its middle masked, or an old one: what looks like that goes, too. */
static size_t suspicious(const char *text, const char *from)
{
    size_t n = 0, stars = 0;

    if (text > from && part_of_word(text[-1]))
        return 0;
    while (part_of_word(text[n]))
        stars += text[n++] == '*';
    return (stars >= 3 && n > stars) || (strncmp(text, "sk-", 3) == 0 && n >= 8) ? n : 0;
}

void llm_key_redact(char *text, const char *key)
{
    size_t hidden = sizeof HIDDEN - 1, key_len = strlen(key);
    size_t least = MAX(MIN(PIECE_BYTES, key_len), 1u);

    for (char *at = text; *at; at++) {
        size_t n = suspicious(at, text);

        if (n == 0 && key_len > 0) {
            n = piece_of(at, key);
            if (n < least)
                n = 0;
        }
        if (n == 0)
            continue;
        if (n < hidden) { /* a key of a few letters: there is no room for more */
            memset(at, '*', n);
            at += n - 1;
            continue;
        }
        memmove(at + hidden, at + n, strlen(at + n) + 1);
        memcpy(at, HIDDEN, sizeof HIDDEN - 1);
        at += hidden - 1;
    }
}
