/* Which versions each key has and in which object each value is. */
#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernel/base/json.h"
#include "kernel/storage_s3_internal.h"

/* Room for one more; a failure leaves everything as it was. */
static bool grow(void **array, size_t *cap, size_t count, size_t size)
{
    size_t more = *cap ? *cap * 2 : 8;
    void *bigger;

    if (count < *cap)
        return true;
    bigger = reallocarray(*array, more, size);
    if (!bigger)
        return false;
    *array = bigger;
    *cap = more;
    return true;
}

void s3_index_fini(struct s3_index *x)
{
    for (size_t i = 0; i < x->count; i++) {
        free(x->entries[i]->versions);
        free(x->entries[i]);
    }
    free(x->entries);
    free(x->objects);
    free(x->garbage);
    *x = (struct s3_index){ .count = 0 };
}

size_t s3_index_at(const struct s3_index *x, const char *key)
{
    size_t from = 0, to = x->count;

    while (from < to) {
        size_t middle = from + (to - from) / 2;

        if (strcmp(x->entries[middle]->key, key) < 0)
            from = middle + 1;
        else
            to = middle;
    }
    return from;
}

struct s3_entry *s3_index_find(const struct s3_index *x, const char *key)
{
    size_t at = s3_index_at(x, key);

    return at < x->count && !strcmp(x->entries[at]->key, key) ? x->entries[at] : NULL;
}

static struct s3_entry *entry_for(struct s3_index *x, const char *key)
{
    size_t at = s3_index_at(x, key), len = strlen(key);
    struct s3_entry *e;

    if (at < x->count && !strcmp(x->entries[at]->key, key))
        return x->entries[at];
    if (!grow((void **)&x->entries, &x->cap, x->count, sizeof(void *)))
        return NULL;
    e = calloc(1, sizeof *e + len + 1);
    if (!e)
        return NULL;
    memcpy(e->key, key, len + 1);
    memmove(x->entries + at + 1, x->entries + at, (x->count - at) * sizeof(void *));
    x->entries[at] = e;
    x->count++;
    return e;
}

static struct s3_object *object_of(const struct s3_index *x, uint64_t seq)
{
    size_t from = 0, to = x->object_count;

    while (from < to) {
        size_t middle = from + (to - from) / 2;

        if (x->objects[middle].seq < seq)
            from = middle + 1;
        else
            to = middle;
    }
    return from < x->object_count && x->objects[from].seq == seq ? &x->objects[from] : NULL;
}

bool s3_index_commit(struct s3_index *x, uint64_t seq, uint32_t epoch)
{
    size_t at = x->object_count;

    if (!grow((void **)&x->objects, &x->object_cap, x->object_count, sizeof *x->objects))
        return false;
    while (at > 0 && x->objects[at - 1].seq > seq) /* an index object names them by key */
        at--;
    if (at > 0 && x->objects[at - 1].seq == seq)
        return true;
    memmove(x->objects + at + 1, x->objects + at, (x->object_count - at) * sizeof *x->objects);
    x->objects[at] = (struct s3_object){ .seq = seq, .epoch = epoch };
    x->object_count++;
    return true;
}

bool s3_index_waste(struct s3_index *x, struct s3_ref ref)
{
    if (!grow((void **)&x->garbage, &x->garbage_cap, x->garbage_count, sizeof *x->garbage))
        return false;
    x->garbage[x->garbage_count++] = ref;
    return true;
}

static void hold(struct s3_index *x, const struct s3_version *v, int step)
{
    struct s3_object *o = v->ref.part == S3_IN_COMMIT ? object_of(x, v->ref.seq) : NULL;

    x->bytes += (uint64_t)step * v->bytes;
    x->versions += (uint64_t)step;
    if (o && !v->deleted && v->bytes > 0)
        o->live += (uint32_t)step;
}

/* The oldest versions go; a value with an object of its own leaves that behind. */
static bool trim(struct s3_index *x, struct s3_entry *e, uint64_t keep_from)
{
    size_t gone = 0;

    while (gone + 1 < e->count && e->versions[gone].version < keep_from) {
        const struct s3_version *v = &e->versions[gone];

        hold(x, v, -1);
        if (v->ref.part != S3_IN_COMMIT && !s3_index_waste(x, v->ref))
            return false;
        gone++;
    }
    if (gone > 0) {
        e->count -= gone;
        memmove(e->versions, e->versions + gone, e->count * sizeof *e->versions);
    }
    return true;
}

bool s3_index_add(struct s3_index *x, const char *key, const struct s3_version *v,
                  uint64_t keep_from)
{
    struct s3_entry *e = entry_for(x, key);
    bool lived;

    if (!e || !grow((void **)&e->versions, &e->cap, e->count, sizeof *e->versions))
        return false;
    lived = e->count > 0 && !e->versions[e->count - 1].deleted;
    e->versions[e->count++] = *v;
    hold(x, v, 1);
    if (lived != !v->deleted)
        x->live_keys += v->deleted ? (uint64_t)-1 : 1;
    return trim(x, e, keep_from);
}

bool s3_index_sweep(struct s3_index *x, uint64_t seq)
{
    size_t kept = 0;

    for (size_t i = 0; i < x->object_count; i++) {
        const struct s3_object *o = &x->objects[i];

        if (o->live > 0 || o->seq > seq) {
            x->objects[kept++] = *o;
        } else if (!s3_index_waste(x, (struct s3_ref){ o->seq, o->epoch, S3_IN_COMMIT })) {
            memmove(x->objects + kept, o, (x->object_count - i) * sizeof *o);
            x->object_count = kept + x->object_count - i;
            return false;
        }
    }
    x->object_count = kept;
    return true;
}

void s3_index_stat(const struct s3_entry *e, const struct s3_version *v, struct storage_stat *ret)
{
    *ret = (struct storage_stat){
        .version = v->version, .bytes = v->bytes, .wall_ns = v->wall_ns, .deleted = v->deleted
    };
    (void)snprintf(ret->key, sizeof ret->key, "%s", e->key);
    if (!v->deleted)
        sha256_hex(v->sha256, ret->sha256);
}

/* ---- as text: one line of JSON for each key, and for each piece of garbage ---- */

static bool write_key(struct buf *out, const char *key)
{
    json_t *text = json_string(key);
    char *dumped = text ? json_dumps(text, JSON_ENCODE_ANY) : NULL;
    bool ok = dumped && buf_append_str(out, dumped);

    free(dumped);
    json_decref(text);
    return ok;
}

bool s3_index_write(const struct s3_index *x, struct buf *out)
{
    bool ok = true;

    for (size_t i = 0; ok && i < x->count; i++) {
        const struct s3_entry *e = x->entries[i];

        ok = buf_append_char(out, '[') && write_key(out, e->key);
        for (size_t j = 0; ok && j < e->count; j++) {
            const struct s3_version *v = &e->versions[j];
            char hex[SHA256_HEX] = "";

            if (!v->deleted)
                sha256_hex(v->sha256, hex);
            ok =
                buf_printf(out, ",[%llu,%llu,%lld,\"%s\",%llu,%u,%lld,%llu]",
                           (unsigned long long)v->version, (unsigned long long)v->bytes,
                           (long long)v->wall_ns, hex, (unsigned long long)v->ref.seq, v->ref.epoch,
                           v->ref.part == S3_IN_COMMIT ? -1ll : (long long)v->ref.part,
                           (unsigned long long)v->offset);
        }
        ok = ok && buf_append_str(out, "]\n");
    }
    for (size_t i = 0; ok && i < x->garbage_count; i++)
        ok = buf_printf(out, "{\"gone\":[%llu,%u,%u]}\n", (unsigned long long)x->garbage[i].seq,
                        x->garbage[i].epoch, x->garbage[i].part);
    return ok;
}

/* Whether @value would be written as @text, which is how we wrote it. */
static bool says_the_same(const json_t *value, const char *text, size_t len, bool *ret_no_memory)
{
    char *again = json_dumps(value, JSON_COMPACT);
    bool same = again && strlen(again) == len && memcmp(again, text, len) == 0;

    *ret_no_memory = !again;
    free(again);
    return same;
}

json_t *s3_json(const char *text, size_t len, bool *ret_no_memory)
{
    while (len > 0 && text[len - 1] == '\n')
        len--;
    for (int attempt = 0; attempt < 2; attempt++) {
        json_t *value;

        errno = 0;
        value = json_loadb(text, len, 0, NULL);
        *ret_no_memory = errno == ENOMEM;
        if (value && says_the_same(value, text, len, ret_no_memory))
            return value;
        json_decref(value);
    }
    return NULL;
}

bool s3_digest_read(const char *hex, uint8_t digest[SHA256_BYTES])
{
    for (size_t i = 0; i < SHA256_BYTES * 2; i++) {
        char c = hex[i];
        int nibble = c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;

        if (nibble < 0)
            return false;
        digest[i / 2] = (uint8_t)(i % 2 ? digest[i / 2] | nibble : nibble << 4);
    }
    return hex[SHA256_BYTES * 2] == '\0';
}

bool s3_version_read(json_t *row, struct s3_version *v)
{
    json_int_t version, bytes, wall, seq, epoch, part, offset;
    const char *hex;

    if (json_unpack(row, "[I,I,I,s,I,I,I,I!]", &version, &bytes, &wall, &hex, &seq, &epoch, &part,
                    &offset) != 0 ||
        version < 1 || bytes < 0 || seq < 0 || epoch < 0 || epoch > UINT32_MAX || part < -1 ||
        part > (json_int_t)S3_SNAPSHOT - 1 || offset < 0)
        return false;
    *v = (struct s3_version){ .version = (uint64_t)version,
                              .bytes = (uint64_t)bytes,
                              .wall_ns = wall,
                              .deleted = !*hex,
                              .ref = { .seq = (uint64_t)seq,
                                       .epoch = (uint32_t)epoch,
                                       .part = part < 0 ? S3_IN_COMMIT : (uint32_t)part },
                              .offset = (uint64_t)offset };
    return v->deleted ? bytes == 0 : s3_digest_read(hex, v->sha256);
}

enum line { LINE_READ, LINE_BAD, LINE_NO_MEMORY };

static enum line read_line(struct s3_index *x, json_t *line)
{
    json_int_t seq, epoch, part;
    struct s3_version v, last = { .version = 0 };
    const char *key;

    if (json_is_object(line)) {
        if (json_unpack(line, "{s:[I,I,I!]!}", "gone", &seq, &epoch, &part) != 0 || seq < 0 ||
            epoch < 0 || epoch > UINT32_MAX || part < 0 || part > UINT32_MAX)
            return LINE_BAD;
        return s3_index_waste(x, (struct s3_ref){ (uint64_t)seq, (uint32_t)epoch, (uint32_t)part })
                   ? LINE_READ
                   : LINE_NO_MEMORY;
    }
    key = json_string_value(json_array_get(line, 0));
    if (!key || s3_index_find(x, key))
        return LINE_BAD;
    for (size_t i = 1; i < json_array_size(line); i++) {
        if (!s3_version_read(json_array_get(line, i), &v) || v.version <= last.version)
            return LINE_BAD;
        if ((v.ref.part == S3_IN_COMMIT && !s3_index_commit(x, v.ref.seq, v.ref.epoch)) ||
            !s3_index_add(x, key, &v, 0))
            return LINE_NO_MEMORY;
        last = v;
    }
    return last.version ? LINE_READ : LINE_BAD;
}

bool s3_index_read(struct s3_index *x, const char *text, size_t len, struct error *err)
{
    size_t number = 1;

    for (const char *at = text, *end = text + len; at < end; number++) {
        const char *newline = memchr(at, '\n', (size_t)(end - at));
        enum line result;
        bool no_memory;
        json_t *line;

        if (!newline)
            return error_set(err, ERR_IO, "an index in the bucket is cut off");
        line = s3_json(at, (size_t)(newline - at), &no_memory);
        result = no_memory ? LINE_NO_MEMORY : line ? read_line(x, line) : LINE_BAD;
        json_decref(line);
        if (result == LINE_NO_MEMORY)
            return error_set(err, ERR_NOMEM, "the index of a space");
        if (result == LINE_BAD)
            return error_set(err, ERR_IO, "line %zu of an index in the bucket is damaged", number);
        at = newline + 1;
    }
    return true;
}
