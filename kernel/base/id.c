#include "kernel/base/id.h"

#include <assert.h>
#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#define ID_DIGITS     26 /* of five bits each: 128 bits and two that stay zero */
#define ID_PREFIX_MAX (ID_SIZE - 1 - ID_DIGITS - 1)

/* No i, l, o, u: an id read aloud or copied by hand stays the same id. */
static const char alphabet[] = "0123456789abcdefghjkmnpqrstvwxyz";

void id_random(void *bytes, size_t len)
{
    unsigned char *at = bytes;

    while (len) {
        ssize_t n = getrandom(at, len, 0);

        if (n < 0) {
            /* Only a kernel without the call, or a filter, can answer anything else; a
             * predictable handle would be worse than none. */
            if (errno != EINTR)
                abort();
            continue;
        }
        at += n;
        len -= (size_t)n;
    }
}

struct id id_make(const char *prefix)
{
    size_t len = strlen(prefix);
    unsigned char bytes[16];
    unsigned bits = 0, held = 0;
    struct id id;
    char *out;

    assert(len >= 1 && len <= ID_PREFIX_MAX);
    id_random(bytes, sizeof bytes);
    memcpy(id.text, prefix, len);
    out = id.text + len;
    *out++ = '_';
    for (size_t i = 0; i < sizeof bytes; i++) {
        bits = (bits << 8 | bytes[i]) & 0xffffu;
        held += 8;
        while (held >= 5) {
            held -= 5;
            *out++ = alphabet[bits >> held & 31];
        }
    }
    *out++ = alphabet[bits << (5 - held) & 31];
    *out = '\0';
    return id;
}

bool id_is(const char *text, const char *prefix)
{
    size_t len = strlen(prefix);

    if (strncmp(text, prefix, len) != 0 || text[len] != '_')
        return false;
    text += len + 1;
    return strspn(text, alphabet) == ID_DIGITS && text[ID_DIGITS] == '\0';
}
