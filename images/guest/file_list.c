/*
 * Lists a tree, a bounded piece at a time: names of a folder in order, and what is in a folder
 * right after the folder itself.  One folder is open at a time, however deep it gets.
 */
#include "images/guest/file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "images/guest/inside.h"
#include "images/guest/names.h"
#include "images/guest/place.h"
#include "images/guest/sys.h"

#define TURN_STEPS  128 /* entries, or reads of a folder, in one turn */
#define BUF_BYTES   2048
#define LEVELS_MAX  2048 /* more than fit in a path */
#define ENTRY_FIXED 64   /* more than what is in an entry beside its strings */

struct level {
    struct level *up;
    struct names names;
    size_t next;     /* of names, to be sent */
    size_t path_len; /* of this folder's path */
    bool gathered;
};

struct listing {
    struct lane lane;
    int root; /* the listed folder */
    int dir;  /* the top level's folder, or -1: to be opened again */
    struct level *top;
    uint32_t depth; /* levels */
    uint32_t depth_max;
    uint32_t left; /* entries that may still be sent */
    bool hidden;
    char path[WIRE_PATH_MAX]; /* of the entry or folder at hand, below the listed one */
    char target[WIRE_PATH_MAX];
    char buf[BUF_BYTES] __attribute__((aligned(8)));
};

enum step { STEP_ON, STEP_WAIT, STEP_DONE, STEP_FAILED };

static void pop(struct listing *l)
{
    struct level *level = l->top;

    if (l->dir >= 0)
        close(l->dir);
    l->dir = -1;
    l->top = level->up;
    l->depth--;
    names_free(&level->names);
    free(level);
}

static bool push(struct listing *l, int dir, size_t path_len)
{
    struct level *level = calloc(1, sizeof *level);

    if (!level) {
        close(dir);
        return false;
    }
    if (l->dir >= 0)
        close(l->dir);
    names_init(&level->names, l->left);
    level->up = l->top;
    level->path_len = path_len;
    l->top = level;
    l->dir = dir;
    l->depth++;
    return true;
}

static void drop(struct lane *lane, bool by_host)
{
    struct listing *l = CONTAINER_OF(lane, struct listing, lane);

    (void)by_host;
    while (l->top)
        pop(l);
    if (l->root >= 0)
        close(l->root);
    l->root = -1;
}

static enum step gather(struct listing *l)
{
    struct level *level = l->top;
    long n = sys_getdents(l->dir, l->buf, sizeof l->buf);

    if (n <= 0) { /* one that cannot be read any more ends like an empty one */
        level->gathered = true;
        return names_finish(&level->names) ? STEP_ON : STEP_FAILED;
    }
    for (long at = 0; at < n;) {
        const struct sys_dirent *d = (const void *)(l->buf + at);

        at += d->reclen;
        if (!strcmp(d->name, ".") || !strcmp(d->name, "..") || (!l->hidden && d->name[0] == '.'))
            continue;
        if (!names_add(&level->names, d->name))
            return STEP_FAILED;
    }
    return STEP_ON;
}

/* The folder of the top level again, after one below it is done. */
static bool reopen(struct listing *l)
{
    l->path[l->top->path_len] = '\0';
    l->dir = sys_openat2(l->root, l->top->path_len ? l->path : ".",
                         O_RDONLY | O_DIRECTORY | O_NONBLOCK | O_CLOEXEC, 0,
                         SYS_BENEATH | SYS_NO_SYMLINKS | SYS_NO_MAGICLINKS);
    return l->dir >= 0;
}

/* Appends @name to the top folder's path; 0 when it gets too long. */
static size_t set_path(struct listing *l, const char *name)
{
    size_t at = l->top->path_len;
    size_t len = strlen(name);

    if (at + 1 + len >= sizeof l->path)
        return 0;
    if (at > 0)
        l->path[at++] = '/';
    memcpy(l->path + at, name, len + 1);
    return at + len;
}

static enum step send_entry(struct listing *l, const struct stat *st)
{
    uint32_t *credit = &l->lane.credit[WIRE_STREAM_MAIN];
    struct wire_stat ws;
    struct wire_out o = { 0 };
    size_t need = ENTRY_FIXED + strlen(l->path) + strlen(l->target);
    size_t room;

    if (*credit < need)
        return STEP_WAIT;
    o.data = uplink_data_begin(&l->lane.in->up, &room);
    if (!o.data)
        return STEP_WAIT;
    o.cap = room;
    place_fill_stat(st, &ws);
    wire_put_str(&o, l->path);
    wire_put_str(&o, l->target);
    wire_put_stat(&o, &ws);
    uplink_data_end(&l->lane.in->up, l->lane.number, WIRE_STREAM_MAIN, o.len);
    *credit -= (uint32_t)o.len;
    l->left--;
    return STEP_ON;
}

static enum step enter(struct listing *l, const char *name, size_t path_len)
{
    int dir;

    if (l->depth >= l->depth_max || l->depth >= LEVELS_MAX)
        return STEP_ON;
    dir = openat(l->dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    if (dir < 0) /* not ours to look into */
        return STEP_ON;
    return push(l, dir, path_len) ? STEP_ON : STEP_FAILED;
}

static enum step entry(struct listing *l)
{
    struct level *level = l->top;
    const char *name = names_at(&level->names, level->next);
    size_t path_len = set_path(l, name);
    struct stat st;
    enum step step;

    l->target[0] = '\0';
    if (path_len == 0 || fstatat(l->dir, name, &st, AT_SYMLINK_NOFOLLOW) != 0) {
        level->next++; /* gone meanwhile */
        return STEP_ON;
    }
    if (S_ISLNK(st.st_mode)) {
        ssize_t n = readlinkat(l->dir, name, l->target, sizeof l->target - 1);

        l->target[n > 0 ? n : 0] = '\0';
    }
    step = send_entry(l, &st);
    if (step != STEP_ON)
        return step;
    level->next++;
    return S_ISDIR(st.st_mode) ? enter(l, name, path_len) : STEP_ON;
}

static enum step go_on(struct listing *l)
{
    if (!l->top || l->left == 0)
        return STEP_DONE;
    if (!l->top->gathered)
        return gather(l);
    if (l->top->next >= l->top->names.count || (l->dir < 0 && !reopen(l))) {
        pop(l);
        return STEP_ON;
    }
    return entry(l);
}

static void pump(struct lane *lane)
{
    struct listing *l = CONTAINER_OF(lane, struct listing, lane);
    enum step step = STEP_ON;

    for (int i = 0; i < TURN_STEPS && step == STEP_ON; i++)
        step = go_on(l);
    switch (step) {
    case STEP_ON:
        lane_wake(lane);
        break;
    case STEP_WAIT:
        /* For credit, whose arrival wakes the lane; or for its next turn. */
        if (!uplink_has_room(&lane->in->up))
            lane_wake(lane);
        break;
    case STEP_DONE:
        lane_send(lane, WIRE_EOF, WIRE_STREAM_MAIN, NULL, 0);
        lane_finish(lane);
        break;
    default: /* CLOSE without EOF: it is not complete */
        lane_finish(lane);
    }
}

static int begin(struct inside *in, uint32_t channel, struct wire_in *args)
{
    static const struct lane_ops ops = { .pump = pump, .drop = drop };
    struct place place;
    struct listing *l;
    uint32_t depth, most;
    uint8_t hidden;
    int error = place_get(&place, in->root_fd, args);
    int fd, again;

    if (error)
        return error;
    depth = wire_get_u32(args);
    most = wire_get_u32(args);
    hidden = wire_get_u8(args);
    if (!wire_in_done(args)) {
        place_fini(&place);
        return EBADMSG;
    }
    fd = place_open(&place, O_RDONLY | O_DIRECTORY, 0);
    error = errno;
    place_fini(&place);
    if (fd < 0)
        return error;
    again = fcntl(fd, F_DUPFD_CLOEXEC, SPAWN_FDS);
    error = errno;
    l = again < 0 ? NULL : calloc(1, sizeof *l);
    if (!l) {
        close(fd);
        if (again >= 0)
            close(again);
        return again < 0 ? error : ENOMEM;
    }
    l->root = fd;
    l->dir = -1;
    l->depth_max = depth;
    l->left = most;
    l->hidden = hidden != 0;
    if (!push(l, again, 0)) {
        close(fd);
        free(l);
        return ENOMEM;
    }
    lane_open(in, &l->lane, channel, &ops);
    lane_reply(&l->lane, 0, NULL, 0);
    lane_wake(&l->lane);
    return 0;
}

void file_list(struct inside *in, uint32_t channel, struct wire_in *args)
{
    int error = begin(in, channel, args);

    if (error)
        lane_refuse(in, channel, error, false);
}
