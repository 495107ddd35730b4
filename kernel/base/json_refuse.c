#include "kernel/base/json_refuse.h"

#include <ctype.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "kernel/base/json_bounds.h"
#include "kernel/base/utf8.h"

#define SHOWN_BYTES 48u  /* of a key or a string that came, in an error */
#define EDIT_BYTES  40u  /* longer names are not compared for likeness */
#define TEXT_BYTES  320u /* one part of an error */

/* Errors are composed without allocating: one of them is that memory ran out. */
struct part {
    char text[TEXT_BYTES];
    size_t len;
};

static void PRINTF_LIKE(2, 3) part_add(struct part *p, const char *fmt, ...)
{
    size_t room = sizeof p->text - p->len;
    va_list ap;
    int n;

    va_start(ap, fmt);
    n = vsnprintf(p->text + p->len, room, fmt, ap);
    va_end(ap);
    if (n > 0)
        p->len += MIN((size_t)n, room - 1);
}

static void part_add_shown(struct part *p, const char *text, size_t len)
{
    size_t cut = utf8_cut(text, len, SHOWN_BYTES);

    part_add(p, "%.*s%s", (int)cut, text, cut < len ? "…" : "");
}

static void part_add_place(struct part *p, const struct json_place *at)
{
    if (!at)
        return;
    part_add_place(p, at->up);
    if (!at->key) {
        part_add(p, "[%zu]", at->index);
        return;
    }
    if (p->len)
        part_add(p, ".");
    part_add_shown(p, at->key, strlen(at->key));
}

/* "a.b[2]", or words for the whole. */
static struct part place_part(const struct json_place *at)
{
    struct part p = { .len = 0 };

    part_add_place(&p, at);
    if (!at)
        part_add(&p, "the value");
    return p;
}

/* What came instead. */
static struct part given_part(const json_t *value)
{
    struct part p = { .len = 0 };

    switch (json_typeof(value)) {
    case JSON_STRING:
        part_add(&p, "\"");
        part_add_shown(&p, json_string_value(value), json_string_length(value));
        part_add(&p, "\" (a string)");
        break;
    case JSON_INTEGER:
        part_add(&p, "%" JSON_INTEGER_FORMAT " (an integer)", json_integer_value(value));
        break;
    case JSON_REAL:
        part_add(&p, "%.15g (a number)", json_real_value(value));
        break;
    case JSON_TRUE:
        part_add(&p, "true (a boolean)");
        break;
    case JSON_FALSE:
        part_add(&p, "false (a boolean)");
        break;
    case JSON_NULL:
        part_add(&p, "null");
        break;
    case JSON_ARRAY:
        part_add(&p, "an array");
        break;
    case JSON_OBJECT:
        part_add(&p, "an object");
        break;
    }
    return p;
}

static void part_add_range(struct part *p, const struct json_field *f, const char *from,
                           const char *of, const char *unit)
{
    long long min = f->min, max = f->max;

    if (json_has_min(f) && json_has_max(f) && (min > 0 || !*unit)) {
        if (min == max)
            part_add(p, " %s exactly %lld%s", of, min, unit);
        else
            part_add(p, " %s %lld to %lld%s", from, min, max, unit);
    } else if (json_has_max(f)) {
        part_add(p, " %s at most %lld%s", of, max, unit);
    } else if (json_has_min(f)) {
        part_add(p, " %s at least %lld%s", of, min, unit);
    }
}

/* What should have come. */
static struct part wanted_part(const struct json_field *f)
{
    struct part p = { .len = 0 };

    switch (f->kind) {
    case JSON_KIND_STRING:
    case JSON_KIND_TEXT:
        part_add(&p, "a string");
        part_add_range(&p, f, "of", "of", " characters");
        break;
    case JSON_KIND_INT:
        part_add(&p, "an integer");
        part_add_range(&p, f, "from", "of", "");
        break;
    case JSON_KIND_NUMBER:
        part_add(&p, "a number");
        part_add_range(&p, f, "from", "of", "");
        break;
    case JSON_KIND_BOOL:
        part_add(&p, "true or false");
        break;
    case JSON_KIND_ENUM:
        part_add(&p, "one of ");
        for (size_t i = 0; f->choices[i]; i++)
            part_add(&p, "%s\"%s\"", i ? ", " : "", f->choices[i]);
        break;
    case JSON_KIND_STRINGS:
        part_add(&p, "an array of strings");
        part_add_range(&p, f, "with", "with", " entries");
        break;
    case JSON_KIND_INTS:
        part_add(&p, "an array of integers");
        part_add_range(&p, f, "with", "with", " entries");
        break;
    case JSON_KIND_MAP:
        part_add(&p, "an object whose values are strings");
        part_add_range(&p, f, "with", "with", " entries");
        break;
    case JSON_KIND_OBJECT:
    case JSON_KIND_FREE_OBJECT:
        part_add(&p, "an object");
        break;
    case JSON_KIND_OBJECTS:
        part_add(&p, "an array of objects");
        part_add_range(&p, f, "with", "with", " entries");
        break;
    case JSON_KIND_ANY:
        part_add(&p, "any value");
        break;
    }
    return p;
}

/* Letters and digits in lower case: timeoutMs and timeout_ms are one name. */
static size_t simplified(const char *name, char out[EDIT_BYTES])
{
    size_t n = 0;

    for (; *name && n < EDIT_BYTES; name++)
        if (*name != '_' && *name != '-')
            out[n++] = (char)tolower((unsigned char)*name);
    return n;
}

/* Insertions, deletions, replacements and swaps of neighbours that turn @a into @b. */
static unsigned edit_distance(const char *a, const char *b)
{
    unsigned rows[3][EDIT_BYTES + 1];
    char x[EDIT_BYTES], y[EDIT_BYTES];
    size_t m = simplified(a, x), n = simplified(b, y);

    for (unsigned j = 0; j <= n; j++)
        rows[0][j] = j;
    for (unsigned i = 1; i <= m; i++) {
        unsigned *now = rows[i % 3], *last = rows[(i + 2) % 3], *before = rows[(i + 1) % 3];

        now[0] = i;
        for (unsigned j = 1; j <= n; j++) {
            unsigned best = last[j - 1] + (x[i - 1] != y[j - 1]);

            best = MIN(best, last[j] + 1);
            best = MIN(best, now[j - 1] + 1);
            if (i > 1 && j > 1 && x[i - 1] == y[j - 2] && x[i - 2] == y[j - 1])
                best = MIN(best, before[j - 2] + 1);
            now[j] = best;
        }
    }
    return rows[m % 3][n];
}

static void consider(const char *candidate, const char *given, const char **best, unsigned *least)
{
    unsigned distance;

    if (strlen(given) > EDIT_BYTES || strlen(candidate) > EDIT_BYTES)
        return;
    distance = edit_distance(given, candidate);
    if (distance < *least && distance <= (strlen(candidate) + 2) / 3) {
        *least = distance;
        *best = candidate;
    }
}

bool json_refuse_unknown(const struct json_field *fields, const struct json_place *at,
                         const char *key, struct error *err)
{
    struct json_place here = { .up = at, .key = key };
    struct part name = place_part(&here), known = { .len = 0 }, hint = { .len = 0 };
    const char *best = NULL;
    unsigned least = EDIT_BYTES;

    for (const struct json_field *f = fields; f->name; f++) {
        part_add(&known, "%s%s", known.len ? ", " : "", f->name);
        consider(f->name, key, &best, &least);
    }
    if (best) {
        struct json_place meant = { .up = at, .key = best };
        struct part path = place_part(&meant);

        part_add(&hint, "; did you mean \"%s\"?", path.text);
    }
    if (!known.len)
        return error_set(err, ERR_INVALID, "unknown key \"%s\"; no keys are known here", name.text);
    return error_set(err, ERR_INVALID, "unknown key \"%s\"%s Known keys: %s", name.text,
                     best ? hint.text : ".", known.text);
}

static bool refuse(const struct json_field *f, const struct json_place *at,
                   const struct part *given, struct error *err)
{
    struct part name = place_part(at), wanted = wanted_part(f);

    return error_set(err, ERR_INVALID, "%s must be %s, but %s was given", name.text, wanted.text,
                     given->text);
}

bool json_refuse_value(const struct json_field *f, const struct json_place *at, const json_t *value,
                       struct error *err)
{
    struct part given = given_part(value);

    return refuse(f, at, &given, err);
}

bool json_refuse_missing(const struct json_field *f, const struct json_place *at, bool null,
                         struct error *err)
{
    static const char *const kinds[] = {
        [JSON_KIND_STRING] = "string",
        [JSON_KIND_TEXT] = "string",
        [JSON_KIND_INT] = "integer",
        [JSON_KIND_NUMBER] = "number",
        [JSON_KIND_BOOL] = "boolean",
        [JSON_KIND_ENUM] = "one of",
        [JSON_KIND_STRINGS] = "array of strings",
        [JSON_KIND_INTS] = "array of integers",
        [JSON_KIND_MAP] = "object of strings",
        [JSON_KIND_OBJECT] = "object",
        [JSON_KIND_OBJECTS] = "array of objects",
        [JSON_KIND_FREE_OBJECT] = "object",
        [JSON_KIND_ANY] = "any value",
    };
    struct part name = place_part(at), kind = { .len = 0 };

    part_add(&kind, "%s", kinds[f->kind]);
    if (f->kind == JSON_KIND_ENUM)
        kind = wanted_part(f);
    return error_set(err, ERR_INVALID, "\"%s\" is required (%s%s%s)%s", name.text, kind.text,
                     f->description ? ": " : "", f->description ? f->description : "",
                     null ? ", but null was given" : "");
}

bool json_refuse_count(const struct json_field *f, const struct json_place *at, size_t count,
                       struct error *err)
{
    struct part given = { .len = 0 };

    if (f->kind == JSON_KIND_STRING || f->kind == JSON_KIND_TEXT)
        part_add(&given, "a string of %zu characters", count);
    else
        part_add(&given, "one with %zu", count);
    return refuse(f, at, &given, err);
}

bool json_refuse_choice(const struct json_field *f, const struct json_place *at,
                        const json_t *value, struct error *err)
{
    const char *best = NULL;
    unsigned least = EDIT_BYTES;
    struct part name, wanted, given;

    if (json_is_string(value))
        for (size_t i = 0; f->choices[i]; i++)
            consider(f->choices[i], json_string_value(value), &best, &least);
    if (!best)
        return json_refuse_value(f, at, value, err);
    name = place_part(at);
    wanted = wanted_part(f);
    given = given_part(value);
    return error_set(err, ERR_INVALID, "%s must be %s, but %s was given; did you mean \"%s\"?",
                     name.text, wanted.text, given.text, best);
}

bool json_refuse_nul(const struct json_place *at, struct error *err)
{
    struct part name = place_part(at);

    return error_set(err, ERR_INVALID, "%s must not contain NUL characters", name.text);
}
