#include "vmctl/template_store.h"

#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "kernel/base/clock.h"
#include "kernel/base/fd.h"
#include "kernel/base/log.h"
#include "vmctl/overlay.h"
#include "vmctl/template_internal.h"

#define LOCK        "lock"
#define SUFFIX      ".template"
#define UNFINISHED  ".tmp-"
#define NAME_BYTES  (SHA256_HEX + 40)
#define FILES_MAX   256u /* looked at in one tidying */
#define CHUNK_BYTES (256u << 10)
#define PAGE_BYTES  4096u

/* A file is the header and its three parts.  A part is a row of runs: where it is, how long, and
 * the bytes; what no run covers is zero.  The sum is over all of that.  Numbers are the machine's:
 * a template is of no use to another. */
enum part { PART_MEMORY, PART_STATE, PART_DISK, PART_COUNT };

struct part_header {
    uint64_t bytes;  /* of the file that it was; the disk's is 0 when there is none */
    uint64_t stored; /* of its runs */
    uint8_t sum[SHA256_BYTES];
};

struct header {
    char magic[16];
    char key[SHA256_HEX - 1];
    struct part_header parts[PART_COUNT];
    uint8_t sum[SHA256_BYTES]; /* of what is above */
};

struct run {
    uint64_t at;
    uint64_t len; /* at most CHUNK_BYTES */
};

static_assert(sizeof(struct header) ==
                  16 + SHA256_HEX - 1 + PART_COUNT * (16 + SHA256_BYTES) + SHA256_BYTES,
              "no padding, which would be of no value");

static const char magic[16] = "AIOS template 1";

static void sum_header(const struct header *h, uint8_t ret[SHA256_BYTES])
{
    sha256_of(h, offsetof(struct header, sum), ret);
}

static int open_folder(const char *dir, struct error *err)
{
    int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    if (fd < 0)
        error_set_errno(err, errno, "open %s", dir);
    return fd;
}

static void name_of(const char *key, char ret[NAME_BYTES])
{
    assert(strlen(key) == SHA256_HEX - 1);
    (void)snprintf(ret, NAME_BYTES, "%s" SUFFIX, key);
}

static bool read_at(int fd, void *data, size_t len, uint64_t at, struct error *err)
{
    for (size_t done = 0; done < len;) {
        ssize_t n = pread(fd, (char *)data + done, len - done, (off_t)(at + done));

        if (n < 0 && errno != EINTR)
            return error_set_errno(err, errno, "read a template");
        if (n == 0)
            return error_set(err, ERR_PROTOCOL, "it is cut short");
        if (n > 0)
            done += (size_t)n;
    }
    return true;
}

static bool write_at(int fd, const void *data, size_t len, uint64_t at, struct error *err)
{
    for (size_t done = 0; done < len;) {
        ssize_t n = pwrite(fd, (const char *)data + done, len - done, (off_t)(at + done));

        if (n < 0 && errno != EINTR)
            return error_set_errno(err, errno, "write a template");
        if (n > 0)
            done += (size_t)n;
    }
    return true;
}

/* ---- writing ---- */

struct writer {
    int out;
    uint64_t at; /* in it */
    struct sha256 sum;
    const struct wait *w;
};

static bool put_run(struct writer *k, const uint8_t *data, const struct run *run, struct error *err)
{
    if (!write_at(k->out, run, sizeof *run, k->at, err) ||
        !write_at(k->out, data, run->len, k->at + sizeof *run, err))
        return false;
    sha256_add(&k->sum, run, sizeof *run);
    sha256_add(&k->sum, data, run->len);
    k->at += sizeof *run + run->len;
    return true;
}

static bool is_zero(const uint8_t *data, size_t len)
{
    return len == 0 || (data[0] == 0 && !memcmp(data, data + 1, len - 1));
}

/* The pages of a chunk that are not zero, neighbours together. */
static bool put_chunk(struct writer *k, const uint8_t *data, size_t len, uint64_t at,
                      struct error *err)
{
    size_t from = 0, to = 0;

    while (to < len) {
        size_t page = MIN(PAGE_BYTES, len - to);
        bool zero = is_zero(data + to, page);

        if (zero && from < to &&
            !put_run(k, data + from, &(struct run){ .at = at + from, .len = to - from }, err))
            return false;
        to += page;
        if (zero)
            from = to;
    }
    return from == to ||
           put_run(k, data + from, &(struct run){ .at = at + from, .len = to - from }, err);
}

static bool put_extent(struct writer *k, int fd, uint8_t *chunk, uint64_t from, uint64_t to,
                       struct error *err)
{
    while (from < to) {
        size_t len = (size_t)MIN(CHUNK_BYTES, to - from);

        if (!wait_check(k->w, err) || !read_at(fd, chunk, len, from, err) ||
            !put_chunk(k, chunk, len, from, err))
            return false;
        from += len;
    }
    return true;
}

static bool put_part(struct writer *k, int fd, struct part_header *ret, struct error *err)
{
    uint64_t begin = k->at;
    uint8_t *chunk;
    struct stat st;
    off_t from = 0;
    bool ok = true;

    sha256_init(&k->sum);
    memset(ret, 0, sizeof *ret);
    chunk = malloc(CHUNK_BYTES);
    if (!chunk)
        return error_set(err, ERR_NOMEM, "a template");
    if (fd >= 0 && fstat(fd, &st) == 0)
        ret->bytes = (uint64_t)st.st_size;
    /* Where a file system cannot tell what is a hole, all of it is one extent. */
    while (ok && from < (off_t)ret->bytes && (from = lseek(fd, from, SEEK_DATA)) >= 0) {
        off_t to = lseek(fd, from, SEEK_HOLE);

        ok = (to > from || error_set_errno(err, errno, "read a template")) &&
             put_extent(k, fd, chunk, (uint64_t)from, (uint64_t)to, err);
        from = to;
    }
    free(chunk);
    ret->stored = k->at - begin;
    sha256_end(&k->sum, ret->sum);
    return ok;
}

static bool write_file(const struct template *t, const char *key, int out, const struct wait *w,
                       struct error *err)
{
    const int fds[PART_COUNT] = { t->memory_fd, t->state_fd, t->frozen_fd };
    struct writer k = { .out = out, .at = sizeof(struct header), .w = w };
    struct header h;

    memcpy(h.magic, magic, sizeof h.magic);
    memcpy(h.key, key, sizeof h.key);
    for (int i = 0; i < PART_COUNT; i++) {
        if (!put_part(&k, fds[i], &h.parts[i], err))
            return false;
    }
    sum_header(&h, h.sum);
    return write_at(out, &h, sizeof h, 0, err) &&
           (fsync(out) == 0 || error_set_errno(err, errno, "write a template"));
}

/* ---- tidying, under the lock ---- */

struct kept {
    char name[NAME_BYTES];
    struct timespec used;
};

static int newer_first(const void *a, const void *b)
{
    const struct timespec *x = &((const struct kept *)a)->used,
                          *y = &((const struct kept *)b)->used;

    if (x->tv_sec != y->tv_sec)
        return x->tv_sec < y->tv_sec ? 1 : -1;
    return x->tv_nsec == y->tv_nsec ? 0 : x->tv_nsec < y->tv_nsec ? 1 : -1;
}

/* What a server that was killed has not finished, and all but the newest. */
static void tidy(int dirfd)
{
    struct kept *all = malloc(FILES_MAX * sizeof *all);
    int again = openat(dirfd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *folder = again >= 0 ? fdopendir(again) : NULL;
    size_t count = 0;

    if (!folder)
        fd_close(again);
    for (struct dirent *e; all && folder && (e = readdir(folder)) && count < FILES_MAX;) {
        size_t len = strlen(e->d_name);
        struct stat st;

        if (strstr(e->d_name, SUFFIX UNFINISHED)) {
            (void)unlinkat(dirfd, e->d_name, 0);
        } else if (len == SHA256_HEX - 1 + strlen(SUFFIX) &&
                   !strcmp(e->d_name + SHA256_HEX - 1, SUFFIX) &&
                   fstatat(dirfd, e->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0) {
            memcpy(all[count].name, e->d_name, len + 1);
            all[count++].used = st.st_mtim;
        }
    }
    if (count > TEMPLATE_STORE_MAX) {
        qsort(all, count, sizeof *all, newer_first);
        for (size_t i = TEMPLATE_STORE_MAX; i < count; i++)
            (void)unlinkat(dirfd, all[i].name, 0);
    }
    if (folder)
        (void)closedir(folder);
    free(all);
}

bool template_keep(const struct template *t, const char *dir, const char *key, const struct wait *w,
                   struct error *err)
{
    CLEANUP(fd_closep) int folder = -1;
    CLEANUP(fd_closep) int lock = -1;
    CLEANUP(fd_closep) int out = -1;
    char name[NAME_BYTES], unfinished[NAME_BYTES];
    long holder;
    bool ok;

    if (!fd_mkdirs(dir, 0700, err))
        return false;
    folder = open_folder(dir, err);
    if (folder < 0)
        return false;
    lock = fd_lock(folder, LOCK, &holder, err);
    if (lock < 0)
        return false;
    tidy(folder);
    name_of(key, name);
    (void)snprintf(unfinished, sizeof unfinished, "%s" SUFFIX UNFINISHED "%ld", key,
                   (long)getpid());
    out = openat(folder, unfinished, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (out < 0)
        return error_set_errno(err, errno, "make a file in %s", dir);
    ok = write_file(t, key, out, w, err) &&
         ((renameat(folder, unfinished, folder, name) == 0 && fsync(folder) == 0) ||
          error_set_errno(err, errno, "name a template"));
    if (ok)
        tidy(folder); /* what this one is too many of */
    else
        (void)unlinkat(folder, unfinished, 0);
    return ok || error_prefix(err, "keep a template in %s", dir);
}

/* ---- reading ---- */

static bool read_header(int fd, const char *key, struct header *ret, struct error *err)
{
    uint64_t rest, want = sizeof *ret;
    uint8_t sum[SHA256_BYTES];
    struct stat st;

    if (fstat(fd, &st) != 0)
        return error_set_errno(err, errno, "look at it");
    if (!S_ISREG(st.st_mode) || st.st_uid != geteuid() || st.st_mode & (S_IRWXG | S_IRWXO))
        return error_set(err, ERR_PROTOCOL, "it belongs to somebody else or is open to others");
    if (!read_at(fd, ret, sizeof *ret, 0, err))
        return false;
    sum_header(ret, sum);
    if (memcmp(ret->magic, magic, sizeof magic) != 0 || memcmp(sum, ret->sum, sizeof sum) != 0)
        return error_set(err, ERR_PROTOCOL, "its header is damaged");
    if (memcmp(ret->key, key, sizeof ret->key) != 0)
        return error_set(err, ERR_PROTOCOL, "it is another template");
    for (int i = 0; i < PART_COUNT; i++) {
        rest = (uint64_t)st.st_size - MIN(want, (uint64_t)st.st_size);
        if (ret->parts[i].stored > rest)
            return error_set(err, ERR_PROTOCOL, "it is cut short");
        want += ret->parts[i].stored;
    }
    return want == (uint64_t)st.st_size ||
           error_set(err, ERR_PROTOCOL, "it is longer than it should be");
}

/* @to is empty and of the right size.  Sums are taken of what was read on the way. */
static bool read_part(int fd, uint64_t at, const struct part_header *part, int to,
                      const struct wait *w, struct error *err)
{
    uint64_t rest = part->stored;
    uint8_t sum[SHA256_BYTES];
    uint8_t *chunk = malloc(CHUNK_BYTES);
    struct sha256 h;
    bool ok = true;

    if (!chunk)
        return error_set(err, ERR_NOMEM, "a template");
    sha256_init(&h);
    while (ok && rest) {
        struct run run;

        if (rest < sizeof run) {
            ok = error_set(err, ERR_PROTOCOL, "it is damaged");
            break;
        }
        ok = wait_check(w, err) && read_at(fd, &run, sizeof run, at, err);
        rest -= sizeof run;
        if (ok && (run.len > CHUNK_BYTES || run.len > rest || run.at > part->bytes ||
                   run.len > part->bytes - run.at))
            ok = error_set(err, ERR_PROTOCOL, "it is damaged");
        ok = ok && read_at(fd, chunk, run.len, at + sizeof run, err);
        if (!ok)
            break;
        sha256_add(&h, &run, sizeof run);
        sha256_add(&h, chunk, run.len);
        ok = write_at(to, chunk, run.len, run.at, err);
        at += sizeof run + run.len;
        rest -= run.len;
    }
    free(chunk);
    sha256_end(&h, sum);
    return ok && (!memcmp(sum, part->sum, sizeof sum) ||
                  error_set(err, ERR_PROTOCOL, "its sum is wrong: it is damaged"));
}

static bool set_size(int fd, uint64_t bytes, struct error *err)
{
    return ftruncate(fd, (off_t)bytes) == 0 ||
           error_set_errno(err, errno, "make a file of %" PRIu64 " bytes", bytes);
}

static bool read_file(struct template *t, int fd, const char *key, const struct wait *w,
                      struct error *err)
{
    CLEANUP(fd_closep) int overlay = -1;
    uint64_t at = sizeof(struct header);
    struct header h;
    int to[PART_COUNT] = { t->memory_fd, t->state_fd, -1 };

    if (!read_header(fd, key, &h, err))
        return false;
    if (h.parts[PART_MEMORY].bytes != (uint64_t)t->spec.argv.memory_mib << 20 ||
        !h.parts[PART_DISK].bytes != !t->disk_bytes)
        return error_set(err, ERR_PROTOCOL, "it is of another machine");
    if (t->disk_bytes) {
        overlay = overlay_make(t->overlay_dir, t->disk_bytes, err);
        if (overlay < 0 || !set_size(overlay, 0, err))
            return false;
        to[PART_DISK] = overlay;
    }
    for (int i = 0; i < PART_COUNT; i++) {
        if (to[i] < 0)
            continue;
        if (!set_size(to[i], h.parts[i].bytes, err) ||
            !read_part(fd, at, &h.parts[i], to[i], w, err))
            return false;
        at += h.parts[i].stored;
    }
    return template_freeze(t, overlay, err);
}

/* Unless somebody has put a better one there by now. */
static void distrust(int folder, const char *name, int fd, const struct error *why)
{
    struct stat ours, theirs;

    log_line(LOG_WARN, "template", "event=distrusted file=%s why=%s", name, LOG_ESC(why->text));
    if (fstat(fd, &ours) == 0 && fstatat(folder, name, &theirs, AT_SYMLINK_NOFOLLOW) == 0 &&
        ours.st_dev == theirs.st_dev && ours.st_ino == theirs.st_ino)
        (void)unlinkat(folder, name, 0);
}

struct template *template_load(const char *dir, const char *key, const struct vm_spec *spec,
                               const char *overlay_dir, const struct wait *w, struct error *err)
{
    CLEANUP(template_unrefp) struct template *t = NULL;
    CLEANUP(fd_closep) int folder = open_folder(dir, err);
    CLEANUP(fd_closep) int fd = -1;
    struct error why = ERROR_INIT;
    char name[NAME_BYTES];

    if (folder < 0)
        return NULL;
    name_of(key, name);
    fd = openat(folder, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    if (fd < 0) {
        error_set_errno(err, errno, "the template %s", name);
        return NULL;
    }
    (void)posix_fadvise(fd, 0, 0, POSIX_FADV_SEQUENTIAL);
    t = template_new(spec, overlay_dir, err);
    if (!t)
        return NULL;
    if (read_file(t, fd, key, w, &why)) {
        (void)futimens(fd, NULL); /* used just now */
        return STEAL(t);
    }
    if (why.code == ERR_PROTOCOL)
        distrust(folder, name, fd, &why);
    error_set(err, why.code, "the template %s: %s", name, why.text);
    return NULL;
}
