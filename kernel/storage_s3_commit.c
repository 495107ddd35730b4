/* The header of a commit: what each key became. */
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernel/storage_s3_internal.h"

#define MAGIC      "AIOS1 "
#define HEAD_BYTES (16u << 20) /* more than 256 changes can take */

static bool write_change(const struct s3_change *c, struct buf *out)
{
    char hex[SHA256_HEX] = "";
    json_t *row;
    char *text;
    bool ok;

    if (!c->v.deleted)
        sha256_hex(c->v.sha256, hex);
    row = json_pack("[s,[I,I,I,s,I,I,I,I],I]", c->key, (json_int_t)c->v.version,
                    (json_int_t)c->v.bytes, (json_int_t)c->v.wall_ns, hex, (json_int_t)c->v.ref.seq,
                    (json_int_t)c->v.ref.epoch,
                    c->v.ref.part == S3_IN_COMMIT ? (json_int_t)-1 : (json_int_t)c->v.ref.part,
                    (json_int_t)c->v.offset, (json_int_t)c->keep_from);
    text = row ? json_dumps(row, JSON_COMPACT) : NULL;
    ok = text && buf_append_str(out, text);
    free(text);
    json_decref(row);
    return ok;
}

bool s3_commit_head(const struct s3_change *changes, size_t count, struct buf *out)
{
    struct buf rows = BUF_INIT;
    uint64_t values = 0;
    bool ok = buf_append_char(&rows, '[');

    for (size_t i = 0; ok && i < count; i++) {
        ok = (i == 0 || buf_append_char(&rows, ',')) && write_change(&changes[i], &rows);
        if (changes[i].v.ref.part == S3_IN_COMMIT)
            values += changes[i].v.bytes;
    }
    ok = ok && buf_append_str(&rows, "]\n") &&
         buf_printf(out, MAGIC "%08zx %010llx\n", rows.len, (unsigned long long)values) &&
         buf_append(out, rows.data, rows.len);
    buf_fini(&rows);
    return ok;
}

static bool read_hex(const char *at, size_t digits, uint64_t *ret)
{
    *ret = 0;
    for (size_t i = 0; i < digits; i++) {
        char c = at[i];
        int nibble = c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;

        if (nibble < 0)
            return false;
        *ret = *ret << 4 | (unsigned)nibble;
    }
    return true;
}

bool s3_commit_length(const char *data, size_t len, size_t *ret_head, uint64_t *ret_whole,
                      struct error *err)
{
    uint64_t rows, values;

    if (len < S3_COMMIT_HEAD || memcmp(data, MAGIC, 6) != 0 || !read_hex(data + 6, 8, &rows) ||
        data[14] != ' ' || !read_hex(data + 15, 10, &values) || data[25] != '\n' ||
        rows > HEAD_BYTES)
        return error_set(err, ERR_IO, "an object in the bucket is not the commit it should be");
    *ret_head = S3_COMMIT_HEAD + (size_t)rows;
    *ret_whole = *ret_head + values;
    return true;
}

static bool damaged(uint64_t seq, struct error *err)
{
    return error_set(err, ERR_IO, "commit %llu in the bucket is damaged", (unsigned long long)seq);
}

bool s3_commit_replay(struct s3_index *x, uint64_t seq, uint32_t epoch, const char *data,
                      size_t len, struct error *err)
{
    uint64_t whole;
    size_t head;
    json_t *rows;
    bool ok = true, no_memory;

    if (!s3_commit_length(data, len, &head, &whole, err))
        return false;
    if (len < head)
        return damaged(seq, err);
    rows = s3_json(data + S3_COMMIT_HEAD, head - S3_COMMIT_HEAD, &no_memory);
    if (no_memory)
        return error_set(err, ERR_NOMEM, "the index of a space");
    if (!json_is_array(rows)) {
        json_decref(rows);
        return damaged(seq, err);
    }
    if (!s3_index_commit(x, seq, epoch))
        ok = error_set(err, ERR_NOMEM, "the index of a space");
    for (size_t i = 0; ok && i < json_array_size(rows); i++) {
        json_t *version;
        json_int_t keep_from;
        const struct s3_entry *e;
        struct s3_version v;
        const char *key;

        if (json_unpack(json_array_get(rows, i), "[s,o,I!]", &key, &version, &keep_from) != 0 ||
            !s3_version_read(version, &v) || keep_from < 0 || v.ref.seq != seq ||
            v.ref.epoch != epoch) {
            ok = damaged(seq, err);
            break;
        }
        e = s3_index_find(x, key);
        if (e && e->versions[e->count - 1].version >= v.version) {
            ok = damaged(seq, err);
            break;
        }
        if (v.ref.part == S3_IN_COMMIT)
            v.offset += head;
        if (!s3_index_add(x, key, &v, (uint64_t)keep_from))
            ok = error_set(err, ERR_NOMEM, "the index of a space");
    }
    json_decref(rows);
    return ok;
}
