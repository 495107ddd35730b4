#include "sandbox/checkpoint.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "kernel/base/clock.h"
#include "kernel/base/fd.h"

#define COMPLETE_MAX 4096
#define LAST_WAIT_NS (1 * CLOCK_NS_PER_S)
#define LOOK_MAX_NS  (2 * CLOCK_NS_PER_S) /* for somebody to see whether a layer is needed */
#define LOOK_NS      CLOCK_NS_PER_MS

int checkpoint_read(const struct checkpoints *all, const char *id,
                    struct id lowers[MOUNTS_LOWERS_MAX], char ret_server[64])
{
    char path[ID_SIZE + 16], *save = NULL;
    char *text;
    int count = 0;

    (void)snprintf(path, sizeof path, "%s/complete", id);
    text = fd_read_file(all->dir_fd, path, COMPLETE_MAX, NULL, NULL);
    if (!text)
        return -1;
    for (char *line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
        if (!strncmp(line, "lower ", 6) && count < MOUNTS_LOWERS_MAX)
            (void)snprintf(lowers[count++].text, ID_SIZE, "%s", line + 6);
        else if (!strncmp(line, "server ", 7) && ret_server)
            (void)snprintf(ret_server, 64, "%s", line + 7);
    }
    free(text);
    return count;
}

static bool is_removed(const struct checkpoints *all, const char *id)
{
    return faccessat(all->removed_fd, id, F_OK, AT_SYMLINK_NOFOLLOW) == 0;
}

/** flock() that waits for @w: whoever looks whether a layer can go holds it for a moment only. */
static bool lock_within(int fd, int how, const struct wait *w)
{
    while (flock(fd, how | LOCK_NB) != 0) {
        if (errno != EWOULDBLOCK || !wait_pause(w, LOOK_NS, NULL))
            return false;
    }
    return true;
}

/** Lock @id's `complete`, waiting @patience_ns at most; -1 when it is not there or goes at this
 *  moment, or somebody else has it. */
static int lock_layer(const struct checkpoints *all, const char *id, int how, int64_t patience_ns)
{
    const struct wait w = { .deadline_ns = clock_add_ns(clock_now_ns(), patience_ns) };
    char path[ID_SIZE + 16];
    struct stat held, named;
    int fd;

    (void)snprintf(path, sizeof path, "%s/complete", id);
    fd = openat(all->dir_fd, path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0)
        return -1;
    if (lock_within(fd, how, &w) && fstat(fd, &held) == 0 &&
        fstatat(all->dir_fd, path, &named, AT_SYMLINK_NOFOLLOW) == 0 && held.st_ino == named.st_ino)
        return fd;
    fd_close(fd);
    return -1;
}

/* Closing alone would not do: a child that is being launched may have a copy of the descriptor. */
static void unlock_layer(int fd)
{
    if (fd >= 0)
        (void)flock(fd, LOCK_UN);
    fd_close(fd);
}

static void unlock_layerp(const int *fd)
{
    unlock_layer(*fd);
}

static bool add_layer(struct checkpoints *all, const char *id, struct checkpoint_hold *hold,
                      struct error *err)
{
    struct checkpoint_layer *layer = &hold->layers[hold->count];
    size_t size = strlen(all->path) + strlen(id) + sizeof "//" MOUNTS_LAYER;
    int fd = lock_layer(all, id, LOCK_SH, LOOK_MAX_NS);

    if (fd < 0)
        return error_set(err, ERR_NOT_FOUND, "checkpoint %s is not there any more", id);
    layer->path = malloc(size);
    if (!layer->path) {
        fd_close(fd);
        return error_set(err, ERR_NOMEM, "checkpoint %s", id);
    }
    (void)snprintf(layer->path, size, "%s/%s/" MOUNTS_LAYER, all->path, id);
    (void)snprintf(layer->id.text, sizeof layer->id.text, "%s", id);
    layer->lock_fd = fd;
    hold->count++;
    return true;
}

bool checkpoint_hold(struct checkpoints *all, const char *id, struct checkpoint_hold *ret,
                     struct error *err)
{
    struct id lowers[MOUNTS_LOWERS_MAX];
    struct checkpoint_hold hold = { .count = 0 };
    int count;
    bool ok;

    if (!*id || *id == '.' || strchr(id, '/') || strlen(id) >= ID_SIZE ||
        faccessat(all->dir_fd, id, F_OK, AT_SYMLINK_NOFOLLOW) != 0 || is_removed(all, id))
        return error_set(err, ERR_NOT_FOUND, "there is no checkpoint %.64s", id);
    ok = add_layer(all, id, &hold, err);
    count = ok ? checkpoint_read(all, id, lowers, NULL) : 0;
    if (count < 0 || count >= MOUNTS_LOWERS_MAX)
        ok = error_set(err, ERR_IO, "checkpoint %s is damaged", id);
    for (int i = 0; ok && i < count; i++)
        ok = add_layer(all, lowers[i].text, &hold, err);
    if (!ok) {
        checkpoint_release(all, &hold);
        return false;
    }
    *ret = hold;
    return true;
}

/* ---- removal ---- */

struct checkpoint_janitor {
    int dir_fd;
    pthread_mutex_t lock; /* guards what follows */
    pthread_cond_t done;
    pthread_mutex_t one; /* held by whoever deletes: one tree at a time */
    unsigned refs;
};

struct chore {
    struct checkpoint_janitor *janitor;
    char name[];
};

struct checkpoint_janitor *checkpoint_janitor_new(int dir_fd)
{
    struct checkpoint_janitor *j = calloc(1, sizeof *j);

    if (!j)
        return NULL;
    j->dir_fd = fcntl(dir_fd, F_DUPFD_CLOEXEC, 3);
    if (j->dir_fd < 0) {
        free(j);
        return NULL;
    }
    pthread_mutex_init(&j->lock, NULL);
    pthread_mutex_init(&j->one, NULL);
    cond_init(&j->done);
    j->refs = 1;
    return j;
}

static void janitor_unref(struct checkpoint_janitor *j)
{
    bool last;

    pthread_mutex_lock(&j->lock);
    last = --j->refs == 0;
    pthread_cond_signal(&j->done);
    pthread_mutex_unlock(&j->lock);
    if (!last)
        return;
    fd_close(j->dir_fd);
    pthread_cond_destroy(&j->done);
    pthread_mutex_destroy(&j->one);
    pthread_mutex_destroy(&j->lock);
    free(j);
}

void checkpoint_janitor_free(struct checkpoint_janitor *j)
{
    const struct wait w = { .deadline_ns = clock_add_ns(clock_now_ns(), LAST_WAIT_NS) };

    if (!j)
        return;
    pthread_mutex_lock(&j->lock);
    while (j->refs > 1 && wait_cond(&w, &j->done, &j->lock))
        continue;
    pthread_mutex_unlock(&j->lock);
    janitor_unref(j);
}

static void *do_chore(void *arg)
{
    struct chore *chore = arg;
    struct checkpoint_janitor *j = chore->janitor;

    pthread_mutex_lock(&j->one);
    (void)!fd_remove_tree(j->dir_fd, chore->name, NULL);
    pthread_mutex_unlock(&j->one);
    free(chore);
    janitor_unref(j);
    return NULL;
}

/** Delete @name beside whatever goes on; without memory or a thread for that, now. */
static void delete_later(struct checkpoints *all, const char *name)
{
    struct checkpoint_janitor *j = all->janitor;
    struct chore *chore = malloc(sizeof *chore + strlen(name) + 1);
    pthread_attr_t attr;
    pthread_t thread;
    bool started;

    if (!chore) {
        (void)!fd_remove_tree(all->dir_fd, name, NULL);
        return;
    }
    chore->janitor = j;
    memcpy(chore->name, name, strlen(name) + 1);
    pthread_mutex_lock(&j->lock);
    j->refs++;
    pthread_mutex_unlock(&j->lock);
    pthread_attr_init(&attr);
    pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
    started = pthread_create(&thread, &attr, do_chore, chore) == 0;
    pthread_attr_destroy(&attr);
    if (!started)
        (void)do_chore(chore);
}

struct names {
    struct id *at;
    size_t count, cap;
};

/** Every checkpoint, or what else is in a folder, by name; longer names are none of ours. */
static struct names list(int dirfd, const char *prefix)
{
    struct names names = { .at = NULL };
    int fd = openat(dirfd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *dir = fd < 0 ? NULL : fdopendir(fd);

    if (!dir) {
        fd_close(fd);
        return names;
    }
    for (struct dirent *e = readdir(dir); e; e = readdir(dir)) {
        size_t len = strlen(e->d_name);

        if (e->d_name[0] == '.' || len >= ID_SIZE ||
            strncmp(e->d_name, prefix, strlen(prefix)) != 0)
            continue;
        if (names.count == names.cap) {
            size_t cap = names.cap ? names.cap * 2 : 32;
            struct id *at = reallocarray(names.at, cap, sizeof *at);

            if (!at)
                break; /* the next sweep gets the rest */
            names.at = at;
            names.cap = cap;
        }
        memcpy(names.at[names.count++].text, e->d_name, len + 1);
    }
    closedir(dir);
    return names;
}

/** Does another checkpoint lie on it?  When that cannot be told, it does. */
static bool is_lower(const struct checkpoints *all, const char *id)
{
    struct names names = list(all->dir_fd, "");
    bool found = false;

    for (size_t i = 0; i < names.count && !found; i++) {
        struct id lowers[MOUNTS_LOWERS_MAX];
        int count = checkpoint_read(all, names.at[i].text, lowers, NULL);

        for (int k = 0; k < count && !found; k++)
            found = !strcmp(lowers[k].text, id);
    }
    free(names.at);
    return found;
}

/** Delete a checkpoint that is marked as removed, unless somebody needs it; then what only it had
 *  needed. */
static void try_delete(struct checkpoints *all, const char *id)
{
    struct id lowers[MOUNTS_LOWERS_MAX];
    char gone[32 + sizeof all->server + ID_SIZE];
    int count = checkpoint_read(all, id, lowers, NULL);
    CLEANUP(unlock_layerp) int lock_fd = lock_layer(all, id, LOCK_EX, 0);

    if (lock_fd < 0 && faccessat(all->dir_fd, id, F_OK, AT_SYMLINK_NOFOLLOW) != 0) {
        (void)unlinkat(all->removed_fd, id, 0);
        return;
    }
    if (lock_fd < 0 || is_lower(all, id))
        return;
    (void)snprintf(gone, sizeof gone, ".del-%s-%u-%s", all->server,
                   atomic_fetch_add(&all->deleted, 1), id);
    if (renameat(all->dir_fd, id, all->dir_fd, gone) != 0)
        return;
    (void)unlinkat(all->removed_fd, id, 0);
    delete_later(all, gone);
    /* A lower layer's own lowers are in this list too, so that this does not go deep. */
    for (int i = 0; i < count; i++) {
        if (is_removed(all, lowers[i].text))
            try_delete(all, lowers[i].text);
    }
}

void checkpoint_release(struct checkpoints *all, struct checkpoint_hold *hold)
{
    for (size_t i = 0; i < hold->count; i++) {
        unlock_layer(hold->layers[i].lock_fd);
        free(hold->layers[i].path);
    }
    for (size_t i = 0; i < hold->count; i++) {
        if (is_removed(all, hold->layers[i].id.text))
            try_delete(all, hold->layers[i].id.text);
    }
    hold->count = 0;
}

bool checkpoint_remove(struct checkpoints *all, const char *id, struct error *err)
{
    int fd;

    if (!*id || *id == '.' || strchr(id, '/') || strlen(id) >= ID_SIZE ||
        faccessat(all->dir_fd, id, F_OK, AT_SYMLINK_NOFOLLOW) != 0)
        return error_set(err, ERR_NOT_FOUND, "there is no checkpoint %.64s", id);
    fd = openat(all->removed_fd, id, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd < 0 && errno == EEXIST)
        return error_set(err, ERR_NOT_FOUND, "checkpoint %s is removed already", id);
    if (fd < 0)
        return error_set_errno(err, errno, "remove checkpoint %s", id);
    fd_close(fd);
    try_delete(all, id);
    return true;
}

/* ---- what killed servers left ---- */

/** ".new-SERVER-ID" and ".del-SERVER-NUMBER-ID". */
static bool is_leftover(const char *name, bool (*alive)(void *arg, const char *server), void *arg)
{
    char server[64];
    const char *dash = strchr(name + 5, '-');

    if ((strncmp(name, ".new-", 5) != 0 && strncmp(name, ".del-", 5) != 0) || !dash ||
        (size_t)(dash - name - 5) >= sizeof server)
        return false;
    (void)snprintf(server, sizeof server, "%.*s", (int)(dash - name - 5), name + 5);
    return !alive(arg, server);
}

static void sweep_halves(struct checkpoints *all, bool (*alive)(void *arg, const char *server),
                         void *arg)
{
    int fd = openat(all->dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *dir = fd < 0 ? NULL : fdopendir(fd);

    if (!dir) {
        fd_close(fd);
        return;
    }
    for (struct dirent *e = readdir(dir); e; e = readdir(dir)) {
        if (e->d_name[0] == '.' && strlen(e->d_name) > 5 && is_leftover(e->d_name, alive, arg))
            delete_later(all, e->d_name);
    }
    closedir(dir);
}

void checkpoint_sweep(struct checkpoints *all, bool (*alive)(void *arg, const char *server),
                      void *arg)
{
    struct names names;

    sweep_halves(all, alive, arg);
    names = list(all->dir_fd, CHECKPOINT_TEMPORARY "_");
    for (size_t i = 0; i < names.count; i++) {
        struct id lowers[MOUNTS_LOWERS_MAX];
        char server[64] = "";

        if (checkpoint_read(all, names.at[i].text, lowers, server) >= 0 && !alive(arg, server))
            (void)!checkpoint_remove(all, names.at[i].text, NULL);
    }
    free(names.at);
    names = list(all->removed_fd, "");
    for (size_t i = 0; i < names.count; i++)
        try_delete(all, names.at[i].text);
    free(names.at);
}
