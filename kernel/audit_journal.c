#include "kernel/audit_journal.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "kernel/base/fd.h"
#include "kernel/base/id.h"

#define HEAD_BYTES   4096u
#define CREATE_TRIES 3

static const char magic[8] = "AIOSjrn1";

/* The first page of the file.  `extent` holds offset and length of what waits in one word, so that
 * every change of the ring is a single store. */
struct journal_head {
    char magic[8];
    uint32_t ring_bytes;
    uint32_t zero;
    char server[ID_SIZE];
    _Atomic uint64_t extent;
};

/* As a record lies in the ring; the strings follow it. */
struct frame {
    uint32_t length; /* with this */
    uint32_t kind;
    uint64_t check; /* over everything after it */
    uint64_t sequence;
    int64_t wall_ns;
    uint64_t syscall;
    uint16_t text_len[AUDIT_FIELD_COUNT];
};

struct audit_journal {
    int fd;
    struct journal_head *head;
    uint8_t *ring;
    size_t map_bytes;
    uint32_t ring_bytes;
    char path[PATH_MAX];
};

static uint64_t pack(uint32_t at, uint32_t used)
{
    return (uint64_t)at << 32 | used;
}

/* Not against forgers, who could compute any checksum: against pages that a power cut left old. */
static uint64_t checksum(const uint8_t *data, size_t len)
{
    uint64_t sum = 0x9e3779b97f4a7c15u ^ len;

    while (len) {
        uint64_t word = 0;
        size_t n = MIN(len, sizeof word);

        memcpy(&word, data, n);
        sum = (sum ^ word) * 0xff51afd7ed558ccdu;
        sum ^= sum >> 32;
        data += n;
        len -= n;
    }
    return sum;
}

static uint64_t frame_check(const uint8_t *bytes, uint32_t length)
{
    size_t from = offsetof(struct frame, sequence);
    uint32_t kind;

    memcpy(&kind, bytes + offsetof(struct frame, kind), sizeof kind);
    return checksum(bytes + from, length - from) ^ kind;
}

static bool lock_now(int fd)
{
    int rc;

    do {
        rc = flock(fd, LOCK_EX | LOCK_NB);
    } while (rc < 0 && errno == EINTR);
    return rc == 0;
}

static bool map_file(struct audit_journal *j, size_t bytes)
{
    void *map = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, j->fd, 0);

    if (map == MAP_FAILED)
        return false;
    /* Page by page: otherwise the first touch brings in, and clears, megabytes at once. */
    (void)madvise(map, bytes, MADV_RANDOM);
    j->head = map;
    j->ring = (uint8_t *)map + HEAD_BYTES;
    j->map_bytes = bytes;
    j->ring_bytes = (uint32_t)(bytes - HEAD_BYTES);
    return true;
}

static struct audit_journal *journal_alloc(struct error *err)
{
    struct audit_journal *j = calloc(1, sizeof *j);

    if (!j) {
        error_set(err, ERR_NOMEM, "audit journal");
        return NULL;
    }
    j->fd = -1;
    return j;
}

static bool fill_new(struct audit_journal *j, const char *path, const char *server,
                     struct error *err)
{
    int rc = posix_fallocate(j->fd, 0, AUDIT_JOURNAL_BYTES);

    if (rc)
        return error_set_errno(err, rc, "reserve %u bytes for %s", AUDIT_JOURNAL_BYTES, path);
    if (!map_file(j, AUDIT_JOURNAL_BYTES))
        return error_set_errno(err, errno, "map %s", path);
    memcpy(j->head->magic, magic, sizeof magic);
    j->head->ring_bytes = j->ring_bytes;
    (void)snprintf(j->head->server, sizeof j->head->server, "%s", server);
    return true;
}

/* It gets its name last: nobody may take a half-made one for an orphan.  *ret_again: somebody who
 * tidied up took it for a leftover in the instant before it was locked. */
static bool create_file(struct audit_journal *j, const char *dir, bool *ret_again,
                        struct error *err)
{
    struct id server = id_make("server");
    char fresh[PATH_MAX];

    *ret_again = false;
    if (snprintf(fresh, sizeof fresh, "%s/" AUDIT_JOURNAL_FRESH "%s", dir, server.text) >=
            (int)sizeof fresh ||
        snprintf(j->path, sizeof j->path, "%s/" AUDIT_JOURNAL_PREFIX "%s", dir, server.text) >=
            (int)sizeof j->path)
        return error_set_errno(err, ENAMETOOLONG, "audit folder");
    j->fd = open(fresh, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (j->fd < 0)
        return error_set_errno(err, errno, "create %s", fresh);
    if (!lock_now(j->fd)) {
        *ret_again = true;
        return error_set_errno(err, errno, "lock %s", fresh);
    }
    if (!fill_new(j, fresh, server.text, err)) {
        (void)unlink(fresh);
        return false;
    }
    if (rename(fresh, j->path) < 0) {
        *ret_again = errno == ENOENT;
        return error_set_errno(err, errno, "rename %s", fresh);
    }
    return true;
}

struct audit_journal *audit_journal_create(const char *dir, struct error *err)
{
    for (int tries = 1;; tries++) {
        struct audit_journal *j = journal_alloc(err);
        struct error why = ERROR_INIT;
        bool again;

        if (!j)
            return NULL;
        if (create_file(j, dir, &again, &why))
            return j;
        audit_journal_close(j, false);
        if (!again || tries == CREATE_TRIES) {
            if (err)
                *err = why;
            return NULL;
        }
    }
}

static bool head_is_sound(const struct audit_journal *j)
{
    uint64_t extent = atomic_load_explicit(&j->head->extent, memory_order_acquire);
    uint32_t at = (uint32_t)(extent >> 32), used = (uint32_t)extent;

    return !memcmp(j->head->magic, magic, sizeof magic) && j->head->ring_bytes == j->ring_bytes &&
           id_is(j->head->server, "server") && at < j->ring_bytes && used <= j->ring_bytes;
}

/* A file that somebody else has unlinked meanwhile is not ours to move. */
static bool still_there(int fd, struct stat *ret)
{
    return fstat(fd, ret) == 0 && S_ISREG(ret->st_mode) && ret->st_nlink > 0;
}

enum audit_adopt audit_journal_adopt(const char *dir, const char *name, struct audit_journal **ret)
{
    struct audit_journal *j = journal_alloc(NULL);
    enum audit_adopt outcome = AUDIT_IN_USE;
    struct stat st;

    if (!j || snprintf(j->path, sizeof j->path, "%s/%s", dir, name) >= (int)sizeof j->path)
        goto out;
    j->fd = open(j->path, O_RDWR | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    if (j->fd < 0 || !lock_now(j->fd) || !still_there(j->fd, &st))
        goto out;
    outcome = AUDIT_DAMAGED;
    if (st.st_size <= HEAD_BYTES || st.st_size > AUDIT_JOURNAL_BYTES)
        goto out;
    if (!map_file(j, (size_t)st.st_size)) {
        outcome = AUDIT_IN_USE;
        goto out;
    }
    if (!head_is_sound(j))
        goto out;
    *ret = j;
    return AUDIT_ADOPTED;
out:
    audit_journal_close(j, false);
    return outcome;
}

void audit_journal_close(struct audit_journal *j, bool unlink_file)
{
    if (!j)
        return;
    if (j->head)
        (void)munmap(j->head, j->map_bytes);
    if (unlink_file)
        (void)unlink(j->path); /* before the lock is let go */
    fd_close(j->fd);
    free(j);
}

const char *audit_journal_server(const struct audit_journal *j)
{
    return j->head->server;
}

static uint64_t extent_of(const struct audit_journal *j)
{
    return atomic_load_explicit(&j->head->extent, memory_order_acquire);
}

size_t audit_journal_used(const struct audit_journal *j)
{
    return (uint32_t)extent_of(j);
}

size_t audit_journal_capacity(const struct audit_journal *j)
{
    return j->ring_bytes;
}

static void ring_store(struct audit_journal *j, size_t at, const uint8_t *data, size_t len)
{
    size_t first = MIN(len, j->ring_bytes - at);

    memcpy(j->ring + at, data, first);
    memcpy(j->ring, data + first, len - first);
}

static void ring_load(const struct audit_journal *j, size_t at, uint8_t *data, size_t len)
{
    size_t first = MIN(len, j->ring_bytes - at);

    memcpy(data, j->ring + at, first);
    memcpy(data + first, j->ring, len - first);
}

bool audit_journal_put(struct audit_journal *j, const struct audit_record *record)
{
    uint64_t extent = atomic_load_explicit(&j->head->extent, memory_order_relaxed);
    uint32_t at = (uint32_t)(extent >> 32), used = (uint32_t)extent;
    _Alignas(struct frame) uint8_t bytes[AUDIT_RECORD_BYTES];
    struct frame *frame = (struct frame *)(void *)bytes;
    size_t length = sizeof *frame;

    memset(frame, 0, sizeof *frame); /* padding goes into the checksum too */
    for (size_t i = 0; i < AUDIT_FIELD_COUNT; i++) {
        const struct audit_text *text = &record->text[i];

        assert(length + text->len <= sizeof bytes);
        if (text->len)
            memcpy(bytes + length, text->data, text->len);
        frame->text_len[i] = (uint16_t)text->len;
        length += text->len;
    }
    if (length > j->ring_bytes - used)
        return false;
    frame->length = (uint32_t)length;
    frame->kind = (uint32_t)record->kind;
    frame->sequence = record->sequence;
    frame->wall_ns = record->wall_ns;
    frame->syscall = record->syscall;
    frame->check = frame_check(bytes, frame->length);
    ring_store(j, (at + used) % j->ring_bytes, bytes, length);
    atomic_store_explicit(&j->head->extent, pack(at, used + (uint32_t)length),
                          memory_order_release);
    return true;
}

bool audit_journal_sync(struct audit_journal *j, struct error *err)
{
    if (fdatasync(j->fd) < 0)
        return error_set_errno(err, errno, "sync %s", j->path);
    return true;
}

void audit_journal_begin(const struct audit_journal *j, struct audit_cursor *ret)
{
    uint64_t extent = extent_of(j);

    *ret = (struct audit_cursor){ .at = extent >> 32, .left = (uint32_t)extent };
}

enum audit_next audit_journal_next(const struct audit_journal *j, struct audit_cursor *cursor,
                                   uint8_t *scratch, struct audit_record *ret)
{
    struct frame frame;
    size_t text_at = sizeof frame;

    if (!cursor->left)
        return AUDIT_END;
    if (cursor->left < sizeof frame)
        return AUDIT_TORN;
    ring_load(j, cursor->at, (uint8_t *)&frame, sizeof frame);
    if (frame.length < sizeof frame || frame.length > MIN(cursor->left, AUDIT_RECORD_BYTES))
        return AUDIT_TORN;
    ring_load(j, cursor->at, scratch, frame.length);
    if (frame_check(scratch, frame.length) != frame.check)
        return AUDIT_TORN;
    *ret = (struct audit_record){ .sequence = frame.sequence,
                                  .wall_ns = frame.wall_ns,
                                  .kind = frame.kind,
                                  .syscall = frame.syscall };
    for (size_t i = 0; i < AUDIT_FIELD_COUNT; i++) {
        if (frame.text_len[i] > frame.length - text_at)
            return AUDIT_TORN;
        ret->text[i] = (struct audit_text){ (const char *)scratch + text_at, frame.text_len[i] };
        text_at += frame.text_len[i];
    }
    cursor->at = (cursor->at + frame.length) % j->ring_bytes;
    cursor->left -= frame.length;
    cursor->passed += frame.length;
    return AUDIT_NEXT;
}

void audit_journal_release(struct audit_journal *j, size_t bytes)
{
    uint64_t extent = extent_of(j);
    uint32_t at = (uint32_t)(extent >> 32), used = (uint32_t)extent;

    assert(bytes <= used);
    used -= (uint32_t)bytes;
    /* An empty ring starts over at its beginning, so that a quiet server touches few pages. */
    at = used ? (uint32_t)((at + bytes) % j->ring_bytes) : 0;
    atomic_store_explicit(&j->head->extent, pack(at, used), memory_order_release);
}
