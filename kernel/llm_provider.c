/* A provider as the configuration describes it. */
#include "kernel/llm_provider.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

static const struct llm_dialect *const dialects[] = { &llm_openai, &llm_anthropic };

static const char *string_at(const json_t *entry, const char *key)
{
    const char *text = json_string_value(json_object_get(entry, key));

    return text && *text ? text : NULL;
}

/* The host part of what follows "http://". */
static bool is_loopback(const char *host)
{
    size_t len = strcspn(host, "/");
    size_t dots = 0;

    if (*host == '[')
        return strncmp(host, "[::1]", 5) == 0 && (host[5] == ':' || host[5] == '/' || !host[5]);
    len = MIN(len, strcspn(host, ":"));
    if (len == 9 && strncasecmp(host, "localhost", 9) == 0)
        return true;
    if (strncmp(host, "127.", 4) != 0) /* a name may begin so, too: 127.evil.example */
        return false;
    for (size_t i = 0; i < len; i++) {
        if (host[i] == '.')
            dots++;
        else if (host[i] < '0' || host[i] > '9')
            return false;
    }
    return dots == 3;
}

/* A key may not go where its owner did not send it: no user names, no odd schemes, and no TLS only
 * towards this machine. */
static bool check_url(const char *url, bool plain_http, struct error *err)
{
    for (const char *c = url; *c; c++)
        if (*c <= ' ' || *c > '~' || strchr("@?#\\\"<>", *c))
            return error_set(err, ERR_INVALID,
                             "base_url may hold no spaces, user names, queries or fragments");
    if (strncasecmp(url, "https://", 8) == 0 && url[8])
        return true;
    if (strncasecmp(url, "http://", 7) != 0 || !url[7])
        return error_set(err, ERR_INVALID, "base_url must begin with https:// (or http://)");
    if (plain_http || is_loopback(url + 7))
        return true;
    return error_set(err, ERR_INVALID,
                     "base_url has no TLS and is not this machine: key and questions would travel "
                     "readable; use https://, or set plain_http to true if that network is yours");
}

static bool copy(char **to, const char *from)
{
    *to = from ? strdup(from) : NULL;
    return *to || !from;
}

static bool copy_url(struct llm_provider *p, const char *from)
{
    size_t len;

    p->base_url = strdup(from);
    if (!p->base_url)
        return false;
    for (len = strlen(p->base_url); len > 0 && p->base_url[len - 1] == '/';)
        p->base_url[--len] = '\0';
    return true;
}

/* False when it does not fit. */
static bool copy_name(char *to, size_t size, const char *from)
{
    size_t len = from ? strlen(from) : 0;

    if (len >= size)
        return false;
    memcpy(to, from ? from : "", len + (from != NULL));
    return true;
}

static bool read_continuation(struct llm_provider *p, const char *word)
{
    static const char *const words[] = { "instruct", "prefill", "prefix", "final_message" };

    if (!word || strcmp(word, "auto") == 0)
        return true;
    for (size_t i = 0; i < ARRAY_LEN(words); i++)
        if (strcmp(words[i], word) == 0) {
            p->continuation = (enum llm_continuation)i;
            return true;
        }
    return false;
}

/* What the configuration's table has checked already is checked again where it would do harm. */
static bool check(struct llm_provider *p, const json_t *entry, struct error *err)
{
    const char *kind = string_at(entry, "kind");

    if (!copy_name(p->name, sizeof p->name, string_at(entry, "name")) || !*p->name)
        return error_set(err, ERR_INVALID, "it needs a \"name\" of at most 64 bytes");
    if (strcmp(p->name, LLM_SAMPLING) == 0)
        return error_set(err, ERR_INVALID,
                         "the name \"" LLM_SAMPLING "\" is the MCP host's own model");
    if (!copy_name(p->model, sizeof p->model, string_at(entry, "model")) ||
        !copy_name(p->embed_model, sizeof p->embed_model, string_at(entry, "embed_model")))
        return error_set(err, ERR_INVALID, "a model's name is at most 128 bytes");
    for (size_t i = 0; i < ARRAY_LEN(dialects); i++)
        if (kind && strcmp(kind, dialects[i]->kind) == 0)
            p->dialect = dialects[i];
    if (!p->dialect)
        return error_set(err, ERR_INVALID, "its \"kind\" must be openai or anthropic");
    if (*p->embed_model && p->dialect != &llm_openai)
        return error_set(err, ERR_INVALID, "embed_model needs the kind openai");
    p->continuation = p->dialect->continuation;
    if (!read_continuation(p, string_at(entry, "continuation")))
        return error_set(
            err, ERR_INVALID,
            "\"continuation\" must be auto, instruct, prefill, prefix or final_message");
    return !string_at(entry, "base_url") ||
           check_url(string_at(entry, "base_url"),
                     json_is_true(json_object_get(entry, "plain_http")), err);
}

bool llm_provider_read(struct llm_provider *p, const json_t *entry, struct error *err)
{
    const char *url = string_at(entry, "base_url");
    const char *key_env = string_at(entry, "key_env");
    const char *key_file = string_at(entry, "key_file");
    bool ok;

    *p = (struct llm_provider){ .dialect = NULL };
    pthread_mutex_init(&p->lock, NULL);
    if (!check(p, entry, &p->misconfigured) && p->misconfigured.code == ERR_NONE)
        p->misconfigured.code = ERR_INTERNAL;
    if (!p->dialect)
        p->dialect = dialects[0];
    if (!url) {
        url = p->dialect->base_url;
        key_env = key_env || key_file ? key_env : p->dialect->key_env;
    }
    ok = copy_url(p, url) && copy(&p->key_env, key_env) && copy(&p->key_file, key_file) &&
         copy(&p->ca_file, string_at(entry, "ca_file"));
    p->max_tokens = json_integer_value(json_object_get(entry, "max_tokens"));
    p->input_price = json_number_value(json_object_get(entry, "input_price"));
    p->output_price = json_number_value(json_object_get(entry, "output_price"));
    if (ok)
        return true;
    llm_provider_fini(p);
    return error_set(err, ERR_NOMEM, "a provider of models");
}

void llm_provider_fini(struct llm_provider *p)
{
    free(p->base_url);
    free(p->key_env);
    free(p->key_file);
    free(p->ca_file);
    pthread_mutex_destroy(&p->lock);
}
