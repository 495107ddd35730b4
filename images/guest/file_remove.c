/*
 * Removes a tree a bounded piece at a time, with the folders on the way down held open, so that
 * nobody can lead it elsewhere by renaming.  A tree deeper than what is held is flattened: the deep
 * folder is moved up to the top and dealt with from there.
 */
#include "images/guest/file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "images/guest/inside.h"
#include "images/guest/place.h"
#include "images/guest/sys.h"

#define LEVELS_MAX 32
#define TURN_STEPS 256 /* names looked at in one turn */
#define BUF_BYTES  2048
#define NAME_TRIES 64

struct removal {
    struct lane lane;
    int parent; /* of what is removed, O_PATH */
    char name[PLACE_NAME_MAX];
    int dirs[LEVELS_MAX]; /* open folders, the top first */
    char names[LEVELS_MAX][PLACE_NAME_MAX];
    int depth;
    long len, at;   /* what is unread in buf, of the deepest one */
    uint32_t moved; /* for names of flattened folders */
    char buf[BUF_BYTES] __attribute__((aligned(8)));
};

static struct removal *removal_of(struct lane *lane)
{
    return CONTAINER_OF(lane, struct removal, lane);
}

static void drop(struct lane *lane, bool by_host)
{
    struct removal *r = removal_of(lane);

    (void)by_host;
    while (r->depth > 0)
        close(r->dirs[--r->depth]);
    if (r->parent >= 0)
        close(r->parent);
    r->parent = -1;
}

static int push(struct removal *r, int dir, const char *name)
{
    int fd = openat(dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);

    if (fd < 0)
        return errno;
    memcpy(r->names[r->depth], name, strlen(name) + 1);
    r->dirs[r->depth++] = fd;
    r->len = 0;
    r->at = 0;
    return 0;
}

/* The deepest folder has been read to its end: it is empty, unless somebody fills it. */
static int pop(struct removal *r)
{
    int dir;

    close(r->dirs[--r->depth]);
    dir = r->depth > 0 ? r->dirs[r->depth - 1] : r->parent;
    if (unlinkat(dir, r->names[r->depth], AT_REMOVEDIR) != 0 && errno != ENOENT)
        return errno;
    /* What of the upper one was read before is not trusted any more. */
    if (r->depth > 0 && lseek(dir, 0, SEEK_SET) < 0)
        return errno;
    r->len = 0;
    r->at = 0;
    return 0;
}

/* Move a folder that is too deep up into the top one, where it will be met again. */
static int flatten(struct removal *r, const char *name)
{
    for (int tries = 0; tries < NAME_TRIES; tries++) {
        char fresh[] = ".aios-remove-0000000000";
        uint32_t v = r->moved++;

        for (size_t i = sizeof fresh - 2; v > 0; v /= 10)
            fresh[i--] = (char)('0' + v % 10);
        if (sys_renameat2(r->dirs[r->depth - 1], name, r->dirs[0], fresh, SYS_RENAME_NOREPLACE) ==
            0)
            return 0;
        if (errno != EEXIST)
            break;
    }
    return errno;
}

static int take_name(struct removal *r, const struct sys_dirent *d)
{
    int dir = r->dirs[r->depth - 1];

    if (!strcmp(d->name, ".") || !strcmp(d->name, ".."))
        return 0;
    if (unlinkat(dir, d->name, 0) == 0 || errno == ENOENT)
        return 0;
    if (errno != EISDIR && errno != EPERM)
        return errno;
    if (unlinkat(dir, d->name, AT_REMOVEDIR) == 0 || errno == ENOENT)
        return 0;
    if (errno == ENOTDIR)
        return EPERM; /* a file that may not be removed */
    if (errno != ENOTEMPTY && errno != EEXIST)
        return errno;
    if (r->depth < LEVELS_MAX)
        return push(r, dir, d->name);
    return flatten(r, d->name);
}

/* One step; *ret_done when nothing is left. */
static int step(struct removal *r, bool *ret_done)
{
    const struct sys_dirent *d;

    if (r->at >= r->len) {
        r->len = sys_getdents(r->dirs[r->depth - 1], r->buf, sizeof r->buf);
        r->at = 0;
        if (r->len < 0)
            return errno;
        if (r->len == 0) {
            int error = pop(r);

            *ret_done = !error && r->depth == 0;
            return error;
        }
    }
    d = (const void *)(r->buf + r->at);
    r->at += d->reclen;
    return take_name(r, d);
}

static void pump(struct lane *lane)
{
    struct removal *r = removal_of(lane);
    bool done = false;
    int error = 0;

    for (int i = 0; i < TURN_STEPS && !done && !error; i++)
        error = step(r, &done);
    if (!done && !error) {
        lane_wake(lane);
        return;
    }
    lane_reply(lane, error, NULL, 0);
    lane_finish(lane);
}

/* What can be removed at once is: -1 when it takes longer. */
static int remove_now(int parent, const char *name, bool recursive)
{
    if (unlinkat(parent, name, 0) == 0)
        return 0;
    if (errno != EISDIR && errno != EPERM)
        return errno;
    if (unlinkat(parent, name, AT_REMOVEDIR) == 0)
        return 0;
    if (errno == ENOTDIR)
        return EPERM;
    return recursive && (errno == ENOTEMPTY || errno == EEXIST) ? -1 : errno;
}

static int begin(struct inside *in, uint32_t channel, int parent, const char *name)
{
    static const struct lane_ops ops = { .pump = pump, .drop = drop };
    struct removal *r = calloc(1, sizeof *r);
    int error;

    if (!r)
        return ENOMEM;
    error = push(r, parent, name);
    if (error) {
        free(r);
        return error;
    }
    r->parent = parent;
    r->lane.one_shot = true;
    lane_open(in, &r->lane, channel, &ops);
    lane_wake(&r->lane);
    return 0;
}

void file_remove(struct inside *in, uint32_t channel, struct wire_in *args)
{
    struct place place;
    char name[PLACE_NAME_MAX];
    int error = place_get(&place, in->root_fd, args);
    uint8_t recursive = wire_get_u8(args);
    int parent = -1;

    if (!error) {
        if (!wire_in_done(args))
            error = EBADMSG;
        else if ((parent = place_open_parent(&place, name)) < 0)
            error = errno;
        place_fini(&place);
    }
    if (!error)
        error = remove_now(parent, name, recursive != 0);
    if (error == -1) {
        error = begin(in, channel, parent, name);
        if (!error)
            return; /* it answers when it is done, and holds the folder until then */
    }
    if (parent >= 0)
        close(parent);
    lane_reply_to(in, channel, error, NULL, 0);
}
