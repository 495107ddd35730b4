#include "tools/cli/serve_socket.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "kernel/base/fd.h"
#include "kernel/base/paths.h"

#define BACKLOG 64

static bool address_of(const char *path, struct sockaddr_un *ret, struct error *err)
{
    *ret = (struct sockaddr_un){ .sun_family = AF_UNIX };
    if (strlen(path) >= sizeof ret->sun_path)
        return error_set(err, ERR_INVALID, "the socket's path is longer than %zu bytes: %s",
                         sizeof ret->sun_path - 1, path);
    memcpy(ret->sun_path, path, strlen(path) + 1);
    return true;
}

char *serve_socket_path(struct error *err)
{
    return paths_get(PATHS_RUNTIME, "aios.sock", err);
}

/* ---- the server's side ---- */

static bool take_lock(struct serve_socket *s, struct error *err)
{
    char lock_path[sizeof((struct sockaddr_un *)NULL)->sun_path + 8];
    struct error why = ERROR_INIT;
    long holder;

    (void)snprintf(lock_path, sizeof lock_path, "%s.lock", s->path);
    s->lock_fd = fd_lock(AT_FDCWD, lock_path, &holder, &why);
    if (s->lock_fd >= 0)
        return true;
    if (why.code == ERR_BUSY)
        return error_set(err, ERR_BUSY,
                         "a server (process %ld) listens at %s already; end it, or choose another "
                         "place with --socket",
                         holder, s->path);
    return error_set(err, why.code, "%s", why.text);
}

static bool make_folder(const char *path, struct error *err)
{
    char *folder = strdup(path);
    char *slash = folder ? strrchr(folder, '/') : NULL;
    bool ok = true;

    if (!folder)
        return error_set(err, ERR_NOMEM, "a path");
    if (slash && slash > folder) {
        *slash = '\0';
        ok = fd_mkdirs(folder, 0700, err);
    }
    free(folder);
    return ok;
}

static bool listen_at(struct serve_socket *s, const struct sockaddr_un *address, mode_t mode,
                      struct error *err)
{
    CLEANUP(fd_closep)
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

    if (fd < 0)
        return error_set_errno(err, errno, "a socket");
    /* We hold the lock: whoever made it is gone. */
    if (unlink(s->path) != 0 && errno != ENOENT)
        return error_set_errno(err, errno, "remove the old %s", s->path);
    /* On Linux the mode of the socket's inode is what the new file gets: nobody else can connect in
     * between. */
    if (fchmod(fd, mode) != 0 ||
        bind(fd, (const struct sockaddr *)(const void *)address, sizeof *address) != 0)
        return error_set_errno(err, errno, "make the socket %s", s->path);
    if (chmod(s->path, mode) != 0 || listen(fd, BACKLOG) != 0)
        return error_set_errno(err, errno, "listen at %s", s->path);
    s->fd = fd_steal(&fd);
    return true;
}

bool serve_socket_open(struct serve_socket *s, const char *path, mode_t mode, struct error *err)
{
    struct sockaddr_un address;

    *s = (struct serve_socket){ .fd = -1, .lock_fd = -1 };
    s->path = path ? strdup(path) : serve_socket_path(err);
    if (!s->path)
        return path ? error_set(err, ERR_NOMEM, "a path") : false;
    if (address_of(s->path, &address, err) && make_folder(s->path, err) && take_lock(s, err) &&
        listen_at(s, &address, mode, err))
        return true;
    serve_socket_close(s);
    return false;
}

void serve_socket_close(struct serve_socket *s)
{
    if (s->fd >= 0)
        (void)unlink(s->path);
    fd_close(s->fd);
    /* The lock file stays: removing it would let two servers lock two files of one name. */
    fd_close(s->lock_fd);
    free(s->path);
    *s = (struct serve_socket){ .fd = -1, .lock_fd = -1 };
}

/* ---- the host's side ---- */

static int connect_to(const char *path, struct error *err)
{
    CLEANUP(fd_closep) int fd = -1;
    struct sockaddr_un address;

    if (!address_of(path, &address, err))
        return -1;
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0) {
        error_set_errno(err, errno, "a socket");
        return -1;
    }
    if (connect(fd, (const struct sockaddr *)&address, sizeof address) == 0)
        return fd_steal(&fd);
    if (errno == ENOENT || errno == ECONNREFUSED)
        error_set(err, ERR_NOT_FOUND, "no server listens at %s; start one with `aios serve`", path);
    else if (errno == EACCES || errno == EPERM)
        error_set(err, ERR_DENIED,
                  "the server at %s does not let this user in (configuration key serve.users)",
                  path);
    else
        error_set_errno(err, errno, "connect to %s", path);
    return -1;
}

int serve_socket_connect(const char *path, struct error *err)
{
    char *usual = path ? NULL : serve_socket_path(err);
    int fd = path || usual ? connect_to(path ? path : usual, err) : -1;

    free(usual);
    return fd;
}

bool serve_socket_peer(int fd, uint32_t *ret_uid, struct error *err)
{
    struct ucred peer;
    socklen_t len = sizeof peer;

    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) != 0)
        return error_set_errno(err, errno, "ask who connects");
    *ret_uid = peer.uid;
    return true;
}
