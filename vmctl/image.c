#include "vmctl/image.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "kernel/base/clock.h"
#include "kernel/base/fd.h"
#include "kernel/base/json.h"
#include "kernel/base/sha256.h"

#define RECORD_MAX   (16u << 20)
#define PIECE        (256u << 10)
#define LOCK_LOOK_MS 50 /* how often somebody else's lock is looked at */
#define PREFIX_MIN   4u
#define DEPTH_MAX    32u
#define SETTLED_S    2
#define UNFINISHED   ".tmp-"

static bool is_hash(const char *name)
{
    return strlen(name) == IMAGE_HASH_LEN && strspn(name, "0123456789abcdef") == IMAGE_HASH_LEN;
}

static char *join(const char *dir, const char *name, struct error *err)
{
    char *path = NULL;

    if (asprintf(&path, "%s/%s", dir, name) >= 0)
        return path;
    error_set(err, ERR_NOMEM, "a path");
    return NULL;
}

/* Its names in order; the count, or -1.  @names is freed with free_names(). */
static int read_names(const char *dir, struct dirent ***ret, struct error *err)
{
    int count = scandir(dir, ret, NULL, alphasort);

    if (count < 0)
        error_set_errno(err, errno, "read %.300s", dir);
    return count;
}

static void free_names(struct dirent **names, int count)
{
    for (int i = 0; i < count; i++)
        free(names[i]);
    free(names);
}

/* ---- records ---- */

json_t *image_record(const char *dir, const char *hash, struct error *err)
{
    CLEANUP(json_decrefp) json_t *record = NULL;
    char *path = NULL, *text;
    size_t len = 0;

    if (asprintf(&path, "%s/%s/" IMAGE_RECORD, dir, hash) < 0) {
        error_set(err, ERR_NOMEM, "a path");
        return NULL;
    }
    text = fd_read_file(AT_FDCWD, path, RECORD_MAX, &len, err);
    free(path);
    if (!text)
        return NULL;
    record = json_parse(text, len, NULL);
    free(text);
    if (!json_is_string(json_object_get(record, "name")) ||
        !json_is_array(json_object_get(record, "files"))) {
        error_set(err, ERR_PROTOCOL, "the record of image %.12s is damaged", hash);
        return NULL;
    }
    return STEAL(record);
}

bool image_list(const char *dir, image_fn *fn, void *arg, struct error *err)
{
    struct dirent **names;
    int count;

    if (access(dir, F_OK) != 0 && errno == ENOENT)
        return true;
    count = read_names(dir, &names, err);
    if (count < 0)
        return false;
    for (int i = 0; i < count; i++) {
        json_t *record;

        if (!is_hash(names[i]->d_name))
            continue;
        record = image_record(dir, names[i]->d_name, NULL);
        fn(arg, names[i]->d_name, record);
        json_decref(record);
    }
    free_names(names, count);
    return true;
}

struct wanted {
    const char *dir, *which;
    char found[IMAGE_HASH_LEN + 1];
    unsigned beginnings;
    struct timespec age; /* of the youngest with that name */
};

static void match(void *arg, const char *hash, const json_t *record)
{
    struct wanted *w = arg;
    const char *name = json_string_value(json_object_get(record, "name"));
    size_t len = strlen(w->which);
    struct stat st;
    char *path;

    if (len >= PREFIX_MIN && strncmp(hash, w->which, len) == 0) {
        w->beginnings++;
        memcpy(w->found, hash, sizeof w->found);
    }
    if (w->beginnings || !name || strcmp(name, w->which) != 0)
        return;
    path = join(w->dir, hash, NULL);
    if (path && stat(path, &st) == 0 &&
        (!w->found[0] || st.st_mtim.tv_sec > w->age.tv_sec ||
         (st.st_mtim.tv_sec == w->age.tv_sec && st.st_mtim.tv_nsec > w->age.tv_nsec))) {
        w->age = st.st_mtim;
        memcpy(w->found, hash, sizeof w->found);
    }
    free(path);
}

static char *search(const char *dir, const char *which, struct error *err)
{
    struct wanted w = { .dir = dir, .which = which };
    char *found;

    if (!image_list(dir, match, &w, err))
        return NULL;
    if (w.beginnings > 1) {
        error_set(err, ERR_INVALID, "\"%.100s\" is the beginning of %u images", which,
                  w.beginnings);
        return NULL;
    }
    if (!w.found[0]) {
        error_set(err, ERR_NOT_FOUND, "there is no image \"%.100s\"", which);
        return NULL;
    }
    found = strdup(w.found);
    if (!found)
        error_set(err, ERR_NOMEM, "an image's hash");
    return found;
}

/* Records are long, and the same image is asked for again and again.  Images come and go by renames
 * and removals in the store's folder, whose time tells of them; a time that is too young might not
 * tell of the next one. */
static struct {
    pthread_mutex_t lock;
    char *dir, *which, *hash;
    struct stat store;
} last = { .lock = PTHREAD_MUTEX_INITIALIZER };

static bool same_store(const struct stat *a, const struct stat *b)
{
    return a->st_dev == b->st_dev && a->st_ino == b->st_ino &&
           a->st_mtim.tv_sec == b->st_mtim.tv_sec && a->st_mtim.tv_nsec == b->st_mtim.tv_nsec;
}

static char *remembered(const char *dir, const char *which, const struct stat *store)
{
    char *found = NULL;

    pthread_mutex_lock(&last.lock);
    if (last.hash && !strcmp(last.dir, dir) && !strcmp(last.which, which) &&
        same_store(&last.store, store))
        found = strdup(last.hash);
    pthread_mutex_unlock(&last.lock);
    return found;
}

static void remember(const char *dir, const char *which, const struct stat *store, const char *hash)
{
    if (clock_wall_ns() / CLOCK_NS_PER_S - store->st_mtim.tv_sec < SETTLED_S)
        return;
    pthread_mutex_lock(&last.lock);
    free(last.dir);
    free(last.which);
    free(last.hash);
    last.dir = strdup(dir);
    last.which = strdup(which);
    last.hash = last.dir && last.which ? strdup(hash) : NULL;
    last.store = *store;
    pthread_mutex_unlock(&last.lock);
}

char *image_find(const char *dir, const char *which, struct error *err)
{
    struct stat store;
    bool there = stat(dir, &store) == 0;
    char *found = there ? remembered(dir, which, &store) : NULL;

    if (found)
        return found;
    found = search(dir, which, err);
    if (found && there)
        remember(dir, which, &store, found);
    return found;
}

/* ---- sums ---- */

static bool sum_file(int fd, char hex[SHA256_HEX], struct error *err)
{
    uint8_t digest[SHA256_BYTES];
    struct sha256 h;
    char *piece = malloc(PIECE);
    ssize_t n = 0;

    if (!piece)
        return error_set(err, ERR_NOMEM, "a buffer");
    sha256_init(&h);
    while ((n = fd_read_full(fd, piece, PIECE, err)) > 0)
        sha256_add(&h, piece, (size_t)n);
    free(piece);
    sha256_end(&h, digest);
    sha256_hex(digest, hex);
    return n == 0;
}

/* The sum of a regular file below @root, which nothing but a regular file has. */
static bool sum_at(int root, const char *path, uint64_t *ret_bytes, char hex[SHA256_HEX],
                   struct error *err)
{
    CLEANUP(fd_closep)
    int fd = openat(root, path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    struct stat st;

    if (fd < 0 || fstat(fd, &st) != 0)
        return error_set_errno(err, errno, "open %.300s", path);
    if (!S_ISREG(st.st_mode))
        return error_set(err, ERR_INVALID, "%.300s is not a file", path);
    *ret_bytes = (uint64_t)st.st_size;
    return sum_file(fd, hex, err);
}

/* What is wrong with a file, or NULL. */
static const char *compare(int root, json_t *file, struct error *err)
{
    const char *path = json_string_value(json_object_get(file, "path"));
    const char *sum = json_string_value(json_object_get(file, "sha256"));
    json_int_t bytes = json_integer_value(json_object_get(file, "bytes"));
    char hex[SHA256_HEX];
    uint64_t have;
    struct stat st;

    if (!path || !sum || path[0] == '/' || strstr(path, ".."))
        return "the record does not say what it should be";
    if (fstatat(root, path, &st, AT_SYMLINK_NOFOLLOW) != 0)
        return errno == ENOENT ? "missing" : strerror(errno);
    if (!S_ISREG(st.st_mode))
        return "not a file";
    if (st.st_size != bytes)
        return st.st_size < bytes ? "cut short" : "longer than it was";
    if (!sum_at(root, path, &have, hex, err))
        return "cannot be read";
    return strcmp(hex, sum) == 0 ? NULL : "other content than it had";
}

bool image_verify(const char *dir, const char *hash, image_damage_fn *fn, void *arg,
                  unsigned *ret_damaged, struct error *err)
{
    CLEANUP(json_decrefp) json_t *record = image_record(dir, hash, err);
    CLEANUP(fd_closep) int root = -1;
    char *path;
    json_t *file;
    size_t i;

    *ret_damaged = 0;
    if (!record)
        return false;
    path = join(dir, hash, err);
    if (!path)
        return false;
    root = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    free(path);
    if (root < 0)
        return error_set_errno(err, errno, "open image %.12s", hash);
    json_array_foreach (json_object_get(record, "files"), i, file) {
        struct error why = ERROR_INIT;
        const char *what = compare(root, file, &why);
        const char *name = json_string_value(json_object_get(file, "path"));

        if (!what)
            continue;
        ++*ret_damaged;
        fn(arg, name ? name : "?", why.code != ERR_NONE ? why.text : what);
    }
    return true;
}

/* ---- the lock ---- */

static bool sweep(const char *dir, struct error *err)
{
    struct dirent **names;
    int count = read_names(dir, &names, err);
    bool ok = true;

    if (count < 0)
        return false;
    for (int i = 0; i < count && ok; i++) {
        char *path;

        if (strlen(names[i]->d_name) <= IMAGE_HASH_LEN ||
            strncmp(names[i]->d_name + IMAGE_HASH_LEN, UNFINISHED, strlen(UNFINISHED)) != 0)
            continue;
        path = join(dir, names[i]->d_name, err);
        ok = path && fd_remove_tree(AT_FDCWD, path, err);
        free(path);
    }
    free_names(names, count);
    return ok;
}

static bool wait_for_lock(int fd, int64_t deadline_ns, void (*on_wait)(void *arg), void *arg,
                          struct error *err)
{
    while (flock(fd, LOCK_EX | LOCK_NB) != 0) {
        int left_ms = clock_left_ms(deadline_ns, LOCK_LOOK_MS);

        if (errno != EWOULDBLOCK && errno != EINTR)
            return error_set_errno(err, errno, "lock the images");
        if (on_wait)
            on_wait(arg);
        on_wait = NULL;
        if (left_ms == 0)
            return error_set(err, ERR_TIMEOUT, "another build or removal holds the images");
        (void)poll(NULL, 0, left_ms);
    }
    return true;
}

int image_lock(const char *dir, int64_t deadline_ns, void (*on_wait)(void *arg), void *arg,
               struct error *err)
{
    CLEANUP(fd_closep) int fd = -1;
    char *path;

    if (!fd_mkdirs(dir, 0755, err))
        return -1;
    path = join(dir, "lock", err);
    if (!path)
        return -1;
    fd = open(path, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0644);
    if (fd < 0)
        error_set_errno(err, errno, "open %.300s", path);
    free(path);
    if (fd < 0 || !wait_for_lock(fd, deadline_ns, on_wait, arg, err) || !sweep(dir, err))
        return -1;
    return fd_steal(&fd);
}

/* ---- changing it ---- */

static char *work_path(const char *dir, const char *hash, struct error *err)
{
    char *path = NULL;

    if (asprintf(&path, "%s/%s" UNFINISHED "%d", dir, hash, (int)getpid()) >= 0)
        return path;
    error_set(err, ERR_NOMEM, "a path");
    return NULL;
}

char *image_begin(const char *dir, const char *hash, struct error *err)
{
    char *path = work_path(dir, hash, err);

    if (!path)
        return NULL;
    if (mkdir(path, 0755) == 0)
        return path;
    error_set_errno(err, errno, "make %.300s", path);
    free(path);
    return NULL;
}

/* Out of sight at once, and then gone, so that a removal cut short leaves no half image. */
static bool take_away(const char *dir, const char *path, const char *hash, struct error *err)
{
    char *away = NULL;
    bool ok;

    if (asprintf(&away, "%s/%s" UNFINISHED "%d-old", dir, hash, (int)getpid()) < 0)
        return error_set(err, ERR_NOMEM, "a path");
    ok = rename(path, away) == 0 || error_set_errno(err, errno, "remove image %.12s", hash);
    ok = ok && fd_remove_tree(AT_FDCWD, away, err);
    free(away);
    return ok;
}

bool image_remove(const char *dir, const char *hash, struct error *err)
{
    char *path = join(dir, hash, err);
    bool ok = path && take_away(dir, path, hash, err);

    free(path);
    return ok;
}

/* Every file below @root/@path into @files, in order, and onto the disk. */
static bool sum_tree(int root, const char *path, unsigned depth, json_t *files, struct error *err)
{
    CLEANUP(fd_closep) int fd = openat(root, path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    struct dirent **names;
    bool ok = true;
    int count;

    if (fd < 0)
        return error_set_errno(err, errno, "open %.300s", path);
    if (depth == DEPTH_MAX)
        return error_set(err, ERR_LIMIT, "folders are too deep");
    count = scandirat(fd, ".", &names, NULL, alphasort);
    if (count < 0)
        return error_set_errno(err, errno, "read %.300s", path);
    for (int i = 0; i < count && ok; i++) {
        const char *name = names[i]->d_name;
        char below[4096], hex[SHA256_HEX];
        uint64_t bytes;
        struct stat st;

        if (!strcmp(name, ".") || !strcmp(name, ".."))
            continue;
        if ((size_t)snprintf(below, sizeof below, "%s%s%s", strcmp(path, ".") ? path : "",
                             strcmp(path, ".") ? "/" : "", name) >= sizeof below ||
            fstatat(root, below, &st, AT_SYMLINK_NOFOLLOW) != 0)
            ok = error_set(err, ERR_IO, "look at %.300s", name);
        else if (S_ISDIR(st.st_mode))
            ok = sum_tree(root, below, depth + 1, files, err);
        else
            ok = sum_at(root, below, &bytes, hex, err) &&
                 (json_array_append_new(files, json_pack("{s:s, s:I, s:s}", "path", below, "bytes",
                                                         (json_int_t)bytes, "sha256", hex)) == 0 ||
                  error_set(err, ERR_NOMEM, "the record of an image"));
    }
    free_names(names, count);
    return ok;
}

static bool write_record(const char *work, const char *hash, json_t *about, struct error *err)
{
    CLEANUP(json_decrefp) json_t *record = json_deep_copy(about);
    CLEANUP(json_decrefp) json_t *files = json_array();
    CLEANUP(buf_fini) struct buf text = BUF_INIT;
    CLEANUP(fd_closep) int root = open(work, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    char *path;
    bool ok;

    if (root < 0)
        return error_set_errno(err, errno, "open %.300s", work);
    if (!record || !files)
        return error_set(err, ERR_NOMEM, "the record of an image");
    if (!sum_tree(root, ".", 0, files, err))
        return false;
    if (json_object_set_new(record, "hash", json_string(hash)) != 0 ||
        json_object_set(record, "files", files) != 0 || !json_write(record, &text))
        return error_set(err, ERR_NOMEM, "the record of an image");
    path = join(work, IMAGE_RECORD, err);
    ok = path && fd_replace_file(path, text.data, text.len, 0644, err);
    free(path);
    /* One call for thousands of files. */
    return ok && (syncfs(root) == 0 || error_set_errno(err, errno, "write an image"));
}

bool image_seal(const char *dir, const char *hash, const char *work, json_t *about,
                struct error *err)
{
    CLEANUP(fd_closep) int store = -1;
    char *path;
    bool ok;

    if (!write_record(work, hash, about, err))
        return false;
    store = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    path = join(dir, hash, err);
    if (!path)
        return false;
    ok = access(path, F_OK) != 0 || take_away(dir, path, hash, err);
    if (ok && rename(work, path) != 0)
        ok = error_set_errno(err, errno, "name image %.12s", hash);
    free(path);
    return ok && (fsync(store) == 0 || error_set_errno(err, errno, "name image %.12s", hash));
}
