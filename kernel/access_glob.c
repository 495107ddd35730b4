#include "kernel/access_glob.h"

#include <stdlib.h>
#include <string.h>

/* The literal pieces between the stars: n stars make n + 1 pieces, some of them empty. */
struct access_glob {
    size_t count;
    char *bytes; /* the pieces, one after another, behind `ends` */
    size_t ends[];
};

struct access_glob *access_glob_new(const char *pattern, struct error *err)
{
    size_t len = strlen(pattern), count = 1, filled = 0;
    struct access_glob *g;

    if (!len) {
        error_set(err, ERR_INVALID, "a pattern is empty; \"*\" is one for anything");
        return NULL;
    }
    for (size_t i = 0; i < len; i++)
        count += pattern[i] == '*'; /* escaped ones are counted too, which does no harm */
    g = calloc(1, sizeof *g + count * sizeof g->ends[0] + len);
    if (!g) {
        error_set(err, ERR_NOMEM, "a pattern");
        return NULL;
    }
    g->bytes = (char *)&g->ends[count];
    for (size_t i = 0; i < len; i++) {
        if (pattern[i] == '*') {
            g->ends[g->count++] = filled;
            continue;
        }
        if (pattern[i] == '\\') {
            i++;
            if (pattern[i] != '*' && pattern[i] != '\\') {
                free(g);
                error_set(
                    err, ERR_INVALID,
                    "in the pattern \"%.200s\" a backslash stands before neither '*' nor '\\'",
                    pattern);
                return NULL;
            }
        }
        g->bytes[filled++] = pattern[i];
    }
    g->ends[g->count++] = filled;
    return g;
}

void access_glob_free(struct access_glob *g)
{
    free(g);
}

static const char *piece(const struct access_glob *g, size_t i, size_t *ret_len)
{
    size_t from = i ? g->ends[i - 1] : 0;

    *ret_len = g->ends[i] - from;
    return g->bytes + from;
}

bool access_glob_matches(const struct access_glob *g, const char *text, size_t len)
{
    size_t first_len, last_len, at;
    const char *first = piece(g, 0, &first_len);
    const char *last = piece(g, g->count - 1, &last_len);

    if (g->count == 1)
        return len == first_len && !memcmp(text, first, len);
    if (len < first_len + last_len || memcmp(text, first, first_len) != 0 ||
        memcmp(text + len - last_len, last, last_len) != 0)
        return false;
    /* What lies between: taking each piece as early as it can be had leaves most to the others. */
    at = first_len;
    for (size_t i = 1; i + 1 < g->count; i++) {
        size_t piece_len;
        const char *want = piece(g, i, &piece_len), *found;

        if (!piece_len)
            continue;
        found = memmem(text + at, len - last_len - at, want, piece_len);
        if (!found)
            return false;
        at = (size_t)(found - text) + piece_len;
    }
    return true;
}
