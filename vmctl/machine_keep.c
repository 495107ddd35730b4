/*
 * Checkpoints on disk.  DIR/ID/ holds `state`, and `disk` and `frozen` where the machine has them,
 * and `header`: a line with the sum of the rest, which is JSON and has the sums of the files. While
 * it is being made it is called ID.tmp-PID, and locked by its maker; who finds it unlocked may
 * remove it.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "kernel/base/fd.h"
#include "kernel/base/json.h"
#include "kernel/base/sha256.h"
#include "vmctl/machine.h"

#define HEADER     "header"
#define HEADER_MAX (64u << 10)
#define HALF       ".tmp-"
#define PIECE      (256u << 10)
#define NAME_SIZE  160u
#define VERSION    1

static const char *const parts[] = { "state", "disk", "frozen" };
enum { STATE, DISK, FROZEN, PARTS };

static int *part_of(struct machine_keep_files *f, size_t i)
{
    int *const all[PARTS] = { &f->state, &f->disk, &f->frozen };

    return all[i];
}

static bool is_id(const char *id, struct error *err)
{
    if (*id && *id != '.' && !strchr(id, '/') && !strstr(id, HALF) && strlen(id) < ID_SIZE)
        return true;
    return error_set(err, ERR_NOT_FOUND, "there is no checkpoint %.64s", id);
}

static void half_name(char name[NAME_SIZE], const char *id)
{
    (void)snprintf(name, NAME_SIZE, "%.100s" HALF "%d", id, (int)getpid());
}

static int open_dir(int at, const char *name, struct error *err)
{
    int fd = openat(at, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

    if (fd < 0)
        error_set_errno(err, errno, "open %.200s", name);
    return fd;
}

/* ---- sums ---- */

static bool sum(int fd, uint64_t *ret_bytes, char hex[SHA256_HEX], const struct wait *w,
                struct error *err)
{
    uint8_t digest[SHA256_BYTES];
    struct sha256 h;
    char *piece = malloc(PIECE);
    ssize_t n = 0;

    if (!piece)
        return error_set(err, ERR_NOMEM, "a buffer");
    sha256_init(&h);
    *ret_bytes = 0;
    while (wait_check(w, err) && (n = pread(fd, piece, PIECE, (off_t)*ret_bytes)) > 0) {
        sha256_add(&h, piece, (size_t)n);
        *ret_bytes += (uint64_t)n;
    }
    free(piece);
    sha256_end(&h, digest);
    sha256_hex(digest, hex);
    if (n < 0)
        return error_set_errno(err, errno, "read a checkpoint");
    return n == 0 && wait_check(w, err);
}

static void sum_text(const char *text, size_t len, char hex[SHA256_HEX])
{
    uint8_t digest[SHA256_BYTES];

    sha256_of(text, len, digest);
    sha256_hex(digest, hex);
}

/* ---- making one ---- */

bool machine_keep_begin(const char *dir, const char *id, bool disk, bool frozen,
                        struct machine_keep_files *ret, struct error *err)
{
    struct machine_keep_files files = { .folder = -1, .state = -1, .disk = -1, .frozen = -1 };
    const bool wanted[PARTS] = { true, disk, frozen };
    CLEANUP(fd_closep) int at = -1;
    char name[NAME_SIZE];
    bool ok = true;

    if (!is_id(id, NULL))
        return error_set(err, ERR_INVALID, "\"%.64s\" cannot be the name of a checkpoint", id);
    if (!fd_mkdirs(dir, 0700, err))
        return false;
    at = open_dir(AT_FDCWD, dir, err);
    if (at < 0)
        return false;
    if (faccessat(at, id, F_OK, AT_SYMLINK_NOFOLLOW) == 0)
        return error_set(err, ERR_EXISTS, "there is a checkpoint %s already", id);
    half_name(name, id);
    if (mkdirat(at, name, 0700) != 0)
        return error_set_errno(err, errno, "make a checkpoint in %s", dir);
    files.folder = open_dir(at, name, err);
    ok = files.folder >= 0;
    if (ok && flock(files.folder, LOCK_EX | LOCK_NB) != 0)
        ok = error_set_errno(err, errno, "lock a checkpoint that begins");
    for (size_t i = 0; ok && i < PARTS; i++) {
        if (!wanted[i])
            continue;
        *part_of(&files, i) =
            openat(files.folder, parts[i], O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
        if (*part_of(&files, i) < 0)
            ok = error_set_errno(err, errno, "make a checkpoint in %s", dir);
    }
    if (!ok)
        machine_keep_close(dir, id, &files);
    else
        *ret = files;
    return ok;
}

void machine_keep_close(const char *dir, const char *id, struct machine_keep_files *files)
{
    char path[NAME_SIZE];

    for (size_t i = 0; i < PARTS; i++)
        fd_close(fd_steal(part_of(files, i)));
    if (files->folder >= 0) {
        CLEANUP(fd_closep) int at = open_dir(AT_FDCWD, dir, NULL);

        half_name(path, id);
        if (at >= 0)
            (void)!fd_remove_tree(at, path, NULL);
    }
    fd_close(fd_steal(&files->folder));
}

static json_t *describe(struct machine_keep_files *files, const struct machine_keep_about *about,
                        const struct wait *w, struct error *err)
{
    CLEANUP(json_decrefp)
    json_t *json = json_pack("{s:i, s:s, s:s, s:s, s:i, s:i}", "version", VERSION, "qemu",
                             about->qemu, "shape", about->shape, "image", about->image,
                             "memory_mib", (int)about->memory_mib, "cpus", (int)about->cpus);

    for (size_t i = 0; i < PARTS; i++) {
        int fd = *part_of(files, i);
        char hex[SHA256_HEX];
        uint64_t bytes;

        if (fd < 0)
            continue;
        if (!sum(fd, &bytes, hex, w, err))
            return NULL;
        if (fsync(fd) != 0) {
            error_set_errno(err, errno, "write a checkpoint to the disk");
            return NULL;
        }
        if (!json || json_object_set_new(
                         json, parts[i],
                         json_pack("{s:I, s:s}", "bytes", (json_int_t)bytes, "sha256", hex)) != 0) {
            error_set(err, ERR_NOMEM, "a checkpoint's header");
            return NULL;
        }
    }
    if (!json)
        error_set(err, ERR_NOMEM, "a checkpoint's header");
    return STEAL(json);
}

static bool write_header(int folder, const json_t *json, struct error *err)
{
    CLEANUP(buf_fini) struct buf text = BUF_INIT, all = BUF_INIT;
    CLEANUP(fd_closep) int fd = -1;
    char hex[SHA256_HEX];

    if (!json_write(json, &text))
        return error_set(err, ERR_NOMEM, "a checkpoint's header");
    sum_text(text.data, text.len, hex);
    if (!buf_printf(&all, "%s\n%s", hex, text.data))
        return error_set(err, ERR_NOMEM, "a checkpoint's header");
    fd = openat(folder, HEADER, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd < 0)
        return error_set_errno(err, errno, "write a checkpoint's header");
    if (!fd_write_all(fd, all.data, all.len, err))
        return false;
    return (fsync(fd) == 0 && fsync(folder) == 0) ||
           error_set_errno(err, errno, "write a checkpoint to the disk");
}

bool machine_keep_end(const char *dir, const char *id, struct machine_keep_files *files,
                      const struct machine_keep_about *about, const struct wait *w,
                      struct error *err)
{
    CLEANUP(json_decrefp) json_t *json = describe(files, about, w, err);
    CLEANUP(fd_closep) int at = open_dir(AT_FDCWD, dir, err);
    char name[NAME_SIZE];

    half_name(name, id);
    if (!json || at < 0 || !write_header(files->folder, json, err))
        return false;
    if (renameat(at, name, at, id) != 0)
        return error_set_errno(err, errno, "name checkpoint %s", id);
    fd_close(fd_steal(&files->folder));
    return fsync(at) == 0 || error_set_errno(err, errno, "write a checkpoint to the disk");
}

/* ---- opening one ---- */

static bool damaged(const char *id, const char *how, struct error *err)
{
    return error_set(err, ERR_PROTOCOL, "checkpoint %s is damaged: %s", id, how);
}

static json_t *read_header(int folder, const char *id, struct error *err)
{
    size_t len = 0;
    char *text = fd_read_file(folder, HEADER, HEADER_MAX, &len, NULL);
    char hex[SHA256_HEX];
    json_t *json = NULL;

    if (text && len > SHA256_HEX) {
        sum_text(text + SHA256_HEX, len - SHA256_HEX, hex);
        if (strncmp(hex, text, SHA256_HEX - 1) == 0)
            json = json_parse(text + SHA256_HEX, len - SHA256_HEX, NULL);
    }
    free(text);
    if (!json)
        damaged(id, "its header is not what was written", err);
    return json;
}

static bool open_part(int folder, const char *id, const char *name, const json_t *about, int *ret,
                      const struct wait *w, struct error *err)
{
    const char *want = json_string_value(json_object_get(about, "sha256"));
    json_int_t bytes = json_integer_value(json_object_get(about, "bytes"));
    char hex[SHA256_HEX], how[80];
    struct stat st;
    uint64_t have;

    *ret = openat(folder, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
    if (*ret < 0 || fstat(*ret, &st) != 0 || st.st_size != bytes) {
        (void)snprintf(how, sizeof how, "its %s is %s", name, *ret < 0 ? "missing" : "cut short");
        return damaged(id, how, err);
    }
    if (!sum(*ret, &have, hex, w, err))
        return false;
    (void)snprintf(how, sizeof how, "its %s is not what was written", name);
    return (want && !strcmp(hex, want)) || damaged(id, how, err);
}

static bool copy_about(const json_t *json, const char *id, struct machine_keep_about *ret,
                       struct error *err)
{
    const char *qemu = json_string_value(json_object_get(json, "qemu"));
    const char *shape = json_string_value(json_object_get(json, "shape"));
    const char *image = json_string_value(json_object_get(json, "image"));
    json_int_t mib = json_integer_value(json_object_get(json, "memory_mib"));
    json_int_t cpus = json_integer_value(json_object_get(json, "cpus"));

    if (json_integer_value(json_object_get(json, "version")) != VERSION || !qemu || !shape ||
        !image || mib < 1 || mib > UINT32_MAX || cpus < 1 || cpus > UINT32_MAX)
        return error_set(err, ERR_UNSUPPORTED, "checkpoint %s is of another version", id);
    *ret = (struct machine_keep_about){ .qemu = strdup(qemu),
                                        .shape = strdup(shape),
                                        .image = strdup(image),
                                        .memory_mib = (uint32_t)mib,
                                        .cpus = (uint32_t)cpus };
    if (ret->qemu && ret->shape && ret->image)
        return true;
    machine_keep_about_fini(ret);
    return error_set(err, ERR_NOMEM, "a checkpoint");
}

void machine_keep_about_fini(struct machine_keep_about *about)
{
    free(about->qemu);
    free(about->shape);
    free(about->image);
    *about = (struct machine_keep_about){ .qemu = NULL };
}

bool machine_keep_open(const char *dir, const char *id, struct machine_keep_files *ret,
                       struct machine_keep_about *ret_about, const struct wait *w,
                       struct error *err)
{
    struct machine_keep_files files = { .folder = -1, .state = -1, .disk = -1, .frozen = -1 };
    CLEANUP(json_decrefp) json_t *json = NULL;
    CLEANUP(fd_closep) int at = -1;
    CLEANUP(fd_closep) int folder = -1;
    bool ok = true;

    if (!is_id(id, err))
        return false;
    at = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    folder = at < 0 ? -1 : openat(at, id, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (folder < 0)
        return error_set(err, ERR_NOT_FOUND, "there is no checkpoint %s", id);
    json = read_header(folder, id, err);
    if (!json)
        return false;
    for (size_t i = 0; ok && i < PARTS; i++) {
        const json_t *about = json_object_get(json, parts[i]);

        if (about)
            ok = open_part(folder, id, parts[i], about, part_of(&files, i), w, err);
        else if (i == STATE)
            ok = damaged(id, "its header names no state", err);
    }
    ok = ok && copy_about(json, id, ret_about, err);
    if (ok)
        *ret = files;
    else
        machine_keep_close(dir, id, &files);
    return ok;
}

/* ---- removal ---- */

bool machine_keep_remove(const char *dir, const char *id, struct error *err)
{
    static atomic_uint removed;
    CLEANUP(fd_closep) int at = -1;
    char gone[NAME_SIZE];

    if (!is_id(id, err))
        return false;
    at = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    /* Out of sight at once, so that a removal that is cut short leaves no half. */
    (void)snprintf(gone, sizeof gone, "%.64s" HALF "%d-old-%u", id, (int)getpid(),
                   atomic_fetch_add(&removed, 1));
    if (at < 0 || renameat(at, id, at, gone) != 0)
        return error_set(err, ERR_NOT_FOUND, "there is no checkpoint %s", id);
    return fd_remove_tree(at, gone, err);
}

void machine_keep_sweep(const char *dir)
{
    CLEANUP(fd_closep) int at = open_dir(AT_FDCWD, dir, NULL);
    struct dirent **names;
    int count = at < 0 ? -1 : scandirat(at, ".", &names, NULL, alphasort);

    for (int i = 0; i < count; i++) {
        CLEANUP(fd_closep) int folder = -1;

        if (strstr(names[i]->d_name, HALF)) {
            folder = open_dir(at, names[i]->d_name, NULL);
            if (folder >= 0 && flock(folder, LOCK_EX | LOCK_NB) == 0)
                (void)!fd_remove_tree(at, names[i]->d_name, NULL);
        }
        free(names[i]);
    }
    if (count >= 0)
        free(names);
}
