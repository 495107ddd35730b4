#include "images/guest/file.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "images/guest/inside.h"
#include "images/guest/place.h"
#include "images/guest/sys.h"

#define MODE_BITS  07777u
#define LINKS_MAX  8
#define TEMP_TRIES 8
#define TEMP_NAME  ".aios-0123456789abcdef.tmp"

struct writing {
    struct lane lane;
    int fd;
    int dir; /* atomic: the folder of both names */
    uint64_t total;
    bool exclusive;
    char temp[sizeof TEMP_NAME]; /* "" when not atomic */
    char name[PLACE_NAME_MAX];
};

struct request {
    struct place place;
    mode_t mode;
    uint32_t flags;
};

static struct writing *writing_of(struct lane *lane)
{
    return CONTAINER_OF(lane, struct writing, lane);
}

static void give_up(struct writing *w)
{
    if (w->fd >= 0)
        close(w->fd);
    if (w->temp[0])
        (void)unlinkat(w->dir, w->temp, 0);
    if (w->dir >= 0)
        close(w->dir);
    w->temp[0] = '\0';
    w->fd = -1;
    w->dir = -1;
}

static void drop(struct lane *lane, bool by_host)
{
    (void)by_host;
    give_up(writing_of(lane));
}

static void finish(struct writing *w, int error)
{
    uint8_t bytes[8];
    struct wire_out o = { .data = bytes, .cap = sizeof bytes };

    if (!error)
        wire_put_u64(&o, w->total);
    lane_reply(&w->lane, error, bytes, o.len);
    lane_finish(&w->lane);
}

static void on_data(struct lane *lane, uint8_t stream, const uint8_t *data, size_t len)
{
    struct writing *w = writing_of(lane);
    size_t done = 0;

    while (stream == WIRE_STREAM_MAIN && done < len) {
        ssize_t n = write(w->fd, data + done, len - done);

        if (n > 0) {
            done += (size_t)n;
        } else if (n == 0 || errno != EINTR) {
            finish(w, n == 0 ? EIO : errno);
            return;
        }
    }
    w->total += done;
    lane_consumed(lane, stream, len);
}

static void on_eof(struct lane *lane, uint8_t stream)
{
    struct writing *w = writing_of(lane);
    int error = 0;

    if (stream != WIRE_STREAM_MAIN)
        return;
    if (w->temp[0]) {
        if (sys_renameat2(w->dir, w->temp, w->dir, w->name,
                          w->exclusive ? SYS_RENAME_NOREPLACE : 0) != 0)
            error = errno;
        else
            w->temp[0] = '\0'; /* there is nothing to remove any more */
    }
    finish(w, error);
}

/* ---- opening ---- */

static int open_plain(struct writing *w, const struct request *req)
{
    int append = req->flags & WIRE_WRITE_APPEND ? O_APPEND : 0;
    struct stat st;

    if (!(req->flags & WIRE_WRITE_EXCLUSIVE)) {
        w->fd = place_open_regular(&req->place, O_WRONLY | append, &st);
        if (w->fd >= 0)
            /* Only once it is known to be a file may it be emptied. */
            return !append && ftruncate(w->fd, 0) != 0 ? errno : 0;
        if (errno != ENOENT || !(req->flags & WIRE_WRITE_CREATE))
            return errno;
    }
    w->fd = place_open(&req->place, O_WRONLY | O_CREAT | O_EXCL | append, req->mode);
    if (w->fd < 0 && errno == EEXIST && !(req->flags & WIRE_WRITE_EXCLUSIVE))
        /* A link that leads nowhere yet, or one that was made just now. */
        w->fd = place_open(&req->place, O_WRONLY | O_CREAT | append, req->mode);
    if (w->fd < 0)
        return errno == ENXIO ? ENOTSUP : errno;
    if (fstat(w->fd, &st) != 0)
        return errno;
    if (place_check_regular(st.st_mode) != 0)
        return place_check_regular(st.st_mode);
    return st.st_size == 0 && req->mode & 022 && fchmod(w->fd, req->mode) != 0 ? errno : 0;
}

/* Follow a link in the last part of the path by hand, since what is renamed over is a name. */
static int follow_link(struct place *p, int dir, const char *name)
{
    char target[WIRE_PATH_MAX];
    ssize_t len = readlinkat(dir, name, target, sizeof target - 1);
    size_t keep;

    if (len < 0)
        return errno;
    target[len] = '\0';
    if (target[0] == '/') {
        if (p->resolve & SYS_BENEATH)
            return EXDEV;
        keep = 0;
    } else {
        keep = strlen(p->path);
        while (keep > 0 && p->path[keep - 1] == '/')
            keep--;
        while (keep > 0 && p->path[keep - 1] != '/')
            keep--;
    }
    if (len == 0 || keep + (size_t)len >= sizeof p->path)
        return ENAMETOOLONG;
    memcpy(p->path + keep, target, (size_t)len + 1);
    return 0;
}

/* The folder and name that the file will have, and what is there now: *ret_exists. */
static int find_name(struct writing *w, struct request *req, struct stat *ret, bool *ret_exists)
{
    for (int links = 0; links < LINKS_MAX; links++) {
        int error;

        w->dir = place_open_parent(&req->place, w->name);
        if (w->dir < 0)
            return errno == EBUSY ? EISDIR : errno;
        *ret_exists = fstatat(w->dir, w->name, ret, AT_SYMLINK_NOFOLLOW) == 0;
        if (!*ret_exists)
            return errno == ENOENT ? 0 : errno;
        if (req->flags & WIRE_WRITE_EXCLUSIVE)
            return EEXIST;
        if (!S_ISLNK(ret->st_mode))
            return place_check_regular(ret->st_mode);
        error = follow_link(&req->place, w->dir, w->name);
        close(w->dir);
        w->dir = -1;
        if (error)
            return error;
    }
    return ELOOP;
}

static int make_temp(struct writing *w)
{
    static const char digits[] = "0123456789abcdef";

    for (int tries = 0; tries < TEMP_TRIES; tries++) {
        char name[] = TEMP_NAME;
        uint8_t random[8];

        if (!sys_random(random, sizeof random))
            return EIO;
        for (size_t i = 0; i < sizeof random; i++) {
            name[6 + 2 * i] = digits[random[i] >> 4];
            name[7 + 2 * i] = digits[random[i] & 15];
        }
        w->fd = openat(w->dir, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
        if (w->fd >= 0) {
            memcpy(w->temp, name, sizeof name);
            return 0;
        }
        if (errno != EEXIST)
            return errno;
    }
    return EEXIST;
}

static int open_atomic(struct writing *w, struct request *req)
{
    struct stat st;
    bool exists = false;
    int error;

    if (req->flags & WIRE_WRITE_APPEND)
        return EINVAL;
    error = find_name(w, req, &st, &exists);
    if (!error && !exists && !(req->flags & (WIRE_WRITE_CREATE | WIRE_WRITE_EXCLUSIVE)))
        error = ENOENT;
    if (!error && exists && faccessat(w->dir, w->name, W_OK, AT_EACCESS) != 0)
        error = errno; /* a file that may not be written is not to be replaced either */
    if (!error)
        error = make_temp(w);
    if (!error && fchmod(w->fd, exists ? st.st_mode & MODE_BITS : req->mode) != 0)
        error = errno;
    w->exclusive = !exists && req->flags & WIRE_WRITE_EXCLUSIVE;
    return error;
}

static int parse(struct inside *in, struct wire_in *args, struct request *ret)
{
    int error = place_get(&ret->place, in->root_fd, args);

    if (error)
        return error;
    ret->mode = wire_get_u32(args) & MODE_BITS;
    ret->flags = wire_get_u32(args);
    if (!wire_in_done(args))
        error = EBADMSG;
    else if (ret->flags & WIRE_WRITE_PARENTS)
        error = place_make_parents(&ret->place);
    if (error)
        place_fini(&ret->place);
    return error;
}

void file_write(struct inside *in, uint32_t channel, struct wire_in *args)
{
    static const struct lane_ops ops = { .on_data = on_data, .on_eof = on_eof, .drop = drop };
    struct request req;
    struct writing *w;
    int error = parse(in, args, &req);

    if (error) {
        lane_refuse(in, channel, error, false);
        return;
    }
    w = calloc(1, sizeof *w);
    if (!w) {
        place_fini(&req.place);
        lane_refuse(in, channel, ENOMEM, false);
        return;
    }
    w->fd = -1;
    w->dir = -1;
    error = req.flags & WIRE_WRITE_ATOMIC ? open_atomic(w, &req) : open_plain(w, &req);
    place_fini(&req.place);
    if (error) {
        give_up(w);
        free(w);
        lane_refuse(in, channel, error, false);
        return;
    }
    lane_open(in, &w->lane, channel, &ops);
}
