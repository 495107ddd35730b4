/* What every back end decides in the same way. */
#include <inttypes.h>
#include <stdio.h>

#include "kernel/base/clock.h"
#include "kernel/storage_internal.h"

bool storage_rule_condition(const struct storage_op *op, uint64_t newest, bool live,
                            struct error *err)
{
    bool holds =
        op->if_version == STORAGE_ANY || op->if_version == newest || (op->if_version == 0 && !live);

    if (!holds && live)
        return error_set(err, ERR_EXISTS,
                         "version %" PRIu64
                         " of \"%s\" is there: read it again, make the change on that, "
                         "and retry with that version",
                         newest, op->key);
    if (!holds)
        return error_set(err, ERR_EXISTS,
                         "\"%s\" is not there (its last version was %" PRIu64
                         "): retry with version 0",
                         op->key, newest);
    if (op->kind == STORAGE_DELETE && !live)
        return error_set(err, ERR_NOT_FOUND, "there is no \"%s\"", op->key);
    return true;
}

bool storage_rule_count(struct storage_tally *tally, const struct storage_op *op, bool was_live,
                        uint64_t old_versions, uint64_t old_bytes,
                        const struct storage_limits *limits, struct error *err)
{
    bool puts = op->kind == STORAGE_PUT;

    tally->bytes += (puts ? op->len : 0) - old_bytes;
    tally->keys += (uint64_t)puts - (uint64_t)was_live;
    tally->versions += 1 - old_versions;
    if (puts && limits->quota_bytes && tally->bytes > limits->quota_bytes)
        return error_set(err, ERR_LIMIT,
                         "\"%s\" does not fit: the quota is %" PRIu64 " bytes, old versions and "
                         "deleted keys included, and it would be %" PRIu64,
                         op->key, limits->quota_bytes, tally->bytes);
    if (limits->total && old_versions == 0 && tally->versions > limits->total)
        return error_set(err, ERR_LIMIT,
                         "\"%s\" does not fit: at most %" PRIu64 " versions of all keys are kept",
                         op->key, limits->total);
    return true;
}

void storage_rule_digest(struct storage_op *op)
{
    uint8_t digest[SHA256_BYTES];

    if (!op->hashing)
        return;
    storage_hashing_end(op->hashing, digest);
    sha256_hex(digest, op->stat.sha256);
    op->hashing = NULL;
}

void storage_rule_stamp(struct storage_op *op, uint64_t version, int64_t last_wall_ns)
{
    (void)snprintf(op->stat.key, sizeof op->stat.key, "%s", op->key);
    op->stat.version = version;
    op->stat.bytes = op->kind == STORAGE_PUT ? op->len : 0;
    op->stat.wall_ns = MAX(clock_wall_ns(), last_wall_ns);
    op->stat.deleted = op->kind == STORAGE_DELETE;
    if (op->stat.deleted)
        op->stat.sha256[0] = '\0';
}
