#include "images/guest/names.h"

#include <stdlib.h>
#include <string.h>

#define SLACK 1024u /* names over what is wanted before the last ones are forgotten */

void names_init(struct names *n, size_t most)
{
    memset(n, 0, sizeof *n);
    n->most = most;
}

void names_free(struct names *n)
{
    free(n->text);
    free(n->starts);
    names_init(n, n->most);
}

const char *names_at(const struct names *n, size_t i)
{
    return n->text + n->starts[i];
}

static bool grow(void **array, size_t *cap, size_t need, size_t item)
{
    size_t more = *cap ? *cap : 64;
    void *bigger;

    if (need <= *cap)
        return true;
    while (more < need)
        more *= 2;
    if (more * item > NAMES_BYTES_MAX)
        return false;
    bigger = realloc(*array, more * item);
    if (!bigger)
        return false;
    *array = bigger;
    *cap = more;
    return true;
}

/* Heapsort: in place, no recursion, and the same time whatever the order; qsort() could not see the
 * text. */
static void sift(struct names *n, size_t at, size_t end)
{
    for (;;) {
        size_t child = 2 * at + 1;
        uint32_t held;

        if (child >= end)
            return;
        if (child + 1 < end && strcmp(names_at(n, child), names_at(n, child + 1)) < 0)
            child++;
        if (strcmp(names_at(n, at), names_at(n, child)) >= 0)
            return;
        held = n->starts[at];
        n->starts[at] = n->starts[child];
        n->starts[child] = held;
        at = child;
    }
}

static void sort(struct names *n)
{
    for (size_t i = n->count / 2; i-- > 0;)
        sift(n, i, n->count);
    for (size_t end = n->count; end > 1; end--) {
        uint32_t held = n->starts[0];

        n->starts[0] = n->starts[end - 1];
        n->starts[end - 1] = held;
        sift(n, 0, end - 1);
    }
}

bool names_finish(struct names *n)
{
    struct names kept;

    sort(n);
    if (n->count <= n->most)
        return true;
    names_init(&kept, n->most);
    for (size_t i = 0; i < n->most; i++) {
        if (!names_add(&kept, names_at(n, i))) {
            names_free(&kept);
            return false;
        }
    }
    names_free(n);
    *n = kept;
    return true;
}

bool names_add(struct names *n, const char *name)
{
    size_t len = strlen(name) + 1;
    void *text, *starts;
    bool ok;

    if (n->count >= 2 * n->most + SLACK && !names_finish(n))
        return false;
    text = n->text;
    starts = n->starts;
    ok = grow(&text, &n->text_cap, n->text_len + len, 1);
    n->text = text;
    ok = ok && grow(&starts, &n->cap, n->count + 1, sizeof *n->starts);
    n->starts = starts;
    if (!ok || !n->text)
        return false;
    memcpy(n->text + n->text_len, name, len);
    n->starts[n->count++] = (uint32_t)n->text_len;
    n->text_len += len;
    return true;
}
