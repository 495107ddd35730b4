/*
 * storage_fake - a back end that does what the test says, and counts what it is asked.
 *
 * Threads: the test's own.
 */
#pragma once

#include <stdio.h>

#include "kernel/base/sha256.h"
#include "kernel/storage_backend.h"
#include "tests/support/check.h"

static struct {
    struct storage_backend base;
    enum error_code fails; /* every call, with this */
    unsigned writes, reads, stats, lists;
    uint64_t version;
    char value[64];
    struct storage_limits limits; /* of the last write */
    char after[STORAGE_KEY_BYTES + 1];
} fake;

static inline bool down(struct error *err)
{
    return fake.fails && !error_set(err, fake.fails, "the server is away");
}

static inline bool fake_write(struct storage_backend *b, const char *space, struct storage_op *ops,
                              size_t count, const struct storage_limits *limits,
                              const struct wait *w, size_t *ret_failed, struct error *err)
{
    (void)b;
    (void)space;
    (void)w;
    fake.writes++;
    fake.limits = *limits;
    if (down(err)) {
        *ret_failed = count - 1;
        return false;
    }
    for (size_t i = 0; i < count; i++) {
        assert_true(ops[i].kind == STORAGE_DELETE || strlen(ops[i].stat.sha256) == 64);
        storage_rule_stamp(&ops[i], ++fake.version, 0);
        (void)snprintf(fake.value, sizeof fake.value, "%.*s", (int)MIN(ops[i].len, 60u),
                       ops[i].data ? (const char *)ops[i].data : "");
    }
    return true;
}

static inline void fake_fill(const char *key, struct storage_stat *ret)
{
    uint8_t digest[SHA256_BYTES];
    struct sha256 h;

    *ret = (struct storage_stat){ .version = fake.version, .bytes = strlen(fake.value) };
    (void)snprintf(ret->key, sizeof ret->key, "%s", key);
    sha256_init(&h);
    sha256_add(&h, fake.value, strlen(fake.value));
    sha256_end(&h, digest);
    sha256_hex(digest, ret->sha256);
}

static inline bool fake_read(struct storage_backend *b, const char *space, const char *key,
                             uint64_t version, uint64_t offset, size_t max, struct buf *out,
                             const struct wait *w, struct storage_stat *ret, struct error *err)
{
    size_t len = strlen(fake.value);

    (void)b;
    (void)space;
    (void)version;
    (void)w;
    fake.reads++;
    if (down(err)) {
        (void)buf_append_str(out, "half");
        return false;
    }
    fake_fill(key, ret);
    offset = MIN(offset, len);
    return buf_append(out, fake.value + offset, MIN(max, len - offset));
}

static inline bool fake_stat(struct storage_backend *b, const char *space, const char *key,
                             uint64_t version, int64_t at_wall_ns, const struct wait *w,
                             struct storage_stat *ret, struct error *err)
{
    (void)b;
    (void)space;
    (void)version;
    (void)at_wall_ns;
    (void)w;
    fake.stats++;
    if (down(err))
        return false;
    fake_fill(key, ret);
    return true;
}

static inline bool fake_list(struct storage_backend *b, const char *space, const char *prefix,
                             const char *after, size_t limit, const struct wait *w,
                             struct storage_page *ret, bool *ret_more, struct error *err)
{
    (void)b;
    (void)space;
    (void)limit;
    (void)w;
    fake.lists++;
    if (down(err))
        return false;
    (void)snprintf(fake.after, sizeof fake.after, "%s", after);
    ret->items = calloc(1, sizeof *ret->items);
    if (!ret->items)
        return error_set(err, ERR_NOMEM, "page");
    fake_fill(prefix[0] ? prefix : "k", ret->items);
    ret->count = 1;
    *ret_more = true;
    return true;
}

static inline bool fake_versions(struct storage_backend *b, const char *space, const char *key,
                                 uint64_t before, size_t limit, const struct wait *w,
                                 struct storage_page *ret, bool *ret_more, struct error *err)
{
    char text[24];

    (void)snprintf(text, sizeof text, "%llu", (unsigned long long)before);
    return fake_list(b, space, key, text, limit, w, ret, ret_more, err);
}

static inline bool fake_usage(struct storage_backend *b, const char *space, const struct wait *w,
                              struct storage_usage *ret, struct error *err)
{
    (void)b;
    (void)space;
    (void)w;
    ret->bytes = 1;
    return !down(err);
}

static inline void fake_free(struct storage_backend *b)
{
    (void)b;
}

static inline struct storage_backend *fake_new(const struct config *config, const char *state_dir,
                                               struct error *err)
{
    (void)config;
    (void)state_dir;
    if (down(err))
        return NULL;
    fake.base = (struct storage_backend){ .name = "fake",
                                          .write = fake_write,
                                          .read = fake_read,
                                          .stat = fake_stat,
                                          .list = fake_list,
                                          .versions = fake_versions,
                                          .usage = fake_usage,
                                          .free = fake_free };
    return &fake.base;
}
