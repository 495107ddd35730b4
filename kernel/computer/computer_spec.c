#include <stdlib.h>
#include <string.h>

#include "kernel/computer/computer_internal.h"

/* Hands out pieces of one allocation: first counted, then cut. */
struct pieces {
    char *at; /* NULL while counting */
    size_t total;
};

static void *piece(struct pieces *p, size_t size, size_t align)
{
    void *at;

    p->total = (p->total + align - 1) / align * align;
    at = p->at ? p->at + p->total : NULL;
    p->total += size;
    return at;
}

static const char *piece_text(struct pieces *p, const char *text)
{
    size_t size = strlen(text) + 1;
    char *at = piece(p, size, 1);

    return at ? memcpy(at, text, size) : NULL;
}

/* @count strings, and a NULL behind them. */
static const char *const *piece_strings(struct pieces *p, const char *const *strings, size_t count)
{
    const char **at = piece(p, (count + 1) * sizeof *at, sizeof(void *));

    for (size_t i = 0; i < count; i++) {
        const char *text = piece_text(p, strings[i]);

        if (at)
            at[i] = text;
    }
    if (at)
        at[count] = NULL;
    return at;
}

static size_t count_of(const char *const *strings)
{
    size_t n = 0;

    while (strings && strings[n])
        n++;
    return n;
}

static struct computer_spec *lay_out(struct pieces *p, const struct computer_spec *from)
{
    struct computer_spec *to = piece(p, sizeof *to, sizeof(void *));
    const char *const *allow = piece_strings(p, from->allow, from->allow_count);
    const char *const *env = piece_strings(p, from->env, count_of(from->env));
    struct computer_dir *dirs = piece(p, from->dir_count * sizeof *dirs, sizeof(void *));
    const char *image = from->image ? piece_text(p, from->image) : NULL;

    for (size_t i = 0; i < from->dir_count; i++) {
        const char *path = piece_text(p, from->dirs[i].path);

        if (dirs)
            dirs[i] = (struct computer_dir){ .path = path, .writable = from->dirs[i].writable };
    }
    if (to) {
        *to = *from;
        to->allow = allow;
        to->env = env;
        to->dirs = dirs;
        to->image = image;
    }
    return to;
}

struct computer_spec *computer_spec_copy(const struct computer_spec *spec, struct error *err)
{
    struct pieces p = { .at = NULL };
    struct computer_spec *copy;

    (void)lay_out(&p, spec);
    p.at = calloc(1, p.total);
    if (!p.at) {
        error_set(err, ERR_NOMEM, "what a computer is to be like");
        return NULL;
    }
    p.total = 0;
    copy = lay_out(&p, spec);
    return copy;
}

/* ---- environments ---- */

static size_t name_length(const char *entry)
{
    const char *equals = strchr(entry, '=');

    return equals ? (size_t)(equals - entry) : 0;
}

/* Add @entry to the @count chosen ones, in the place of one with the same name. */
static size_t choose(const char **chosen, size_t count, const char *entry)
{
    size_t name = name_length(entry) + 1; /* with its "=" */

    for (size_t i = 0; i < count; i++) {
        if (strncmp(chosen[i], entry, name) == 0) {
            chosen[i] = entry;
            return count;
        }
    }
    chosen[count] = entry;
    return count + 1;
}

char **computer_env_merge(const char *const *base, const char *const *spec,
                          const char *const *extra, struct error *err)
{
    const char *const *sets[] = { base, spec, extra };
    size_t most = count_of(base) + count_of(spec) + count_of(extra), count = 0, bytes = 0;
    char **env, *text;
    const char **chosen = calloc(most + 1, sizeof *chosen);

    if (!chosen) {
        error_set(err, ERR_NOMEM, "an environment");
        return NULL;
    }
    for (size_t s = 0; s < ARRAY_LEN(sets); s++) {
        for (size_t i = 0; sets[s] && sets[s][i]; i++) {
            if (name_length(sets[s][i]) == 0) {
                error_set(err, ERR_INVALID,
                          "the environment entry \"%.100s\" is not of the form NAME=VALUE",
                          sets[s][i]);
                free(chosen);
                return NULL;
            }
            count = choose(chosen, count, sets[s][i]);
        }
    }
    for (size_t i = 0; i < count; i++)
        bytes += strlen(chosen[i]) + 1;
    env = malloc((count + 1) * sizeof *env + bytes);
    if (!env) {
        error_set(err, ERR_NOMEM, "an environment");
        free(chosen);
        return NULL;
    }
    text = (char *)(env + count + 1);
    for (size_t i = 0; i < count; i++) {
        size_t size = strlen(chosen[i]) + 1;

        env[i] = memcpy(text, chosen[i], size);
        text += size;
    }
    env[count] = NULL;
    free(chosen);
    return env;
}
