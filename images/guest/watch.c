#include "images/guest/watch.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <unistd.h>

#include "images/guest/inside.h"
#include "images/guest/place.h"
#include "images/guest/sys.h"

#define FOLDERS_MAX 8192u
#define BUCKETS     64u
#define TURN_STEPS  256 /* events, or names of a folder being looked through, in one turn */
#define BUF_BYTES   2048
#define INTEREST                                                                      \
    (IN_CREATE | IN_DELETE | IN_MODIFY | IN_ATTRIB | IN_CLOSE_WRITE | IN_MOVED_FROM | \
     IN_MOVED_TO | IN_DELETE_SELF | IN_MOVE_SELF | IN_EXCL_UNLINK)

/* One watched folder, or the one file. */
struct spot {
    struct list link;    /* in its bucket */
    struct list waiting; /* to be looked through */
    int wd;
    bool fresh; /* appeared while watching: what is in it is news */
    char path[];
};

struct watch {
    struct lane lane;
    struct evloop_source source; /* the inotify descriptor */
    char *root, *where; /* the request's; no folder is held open, or its end would not show */
    bool recursive;
    bool ready; /* may have events */
    bool replied;
    bool lost; /* to be told */
    size_t count;
    struct list buckets[BUCKETS];
    struct list waiting;
    int scan_fd;            /* of the first waiting one; -1: not begun */
    long scan_len, scan_at; /* what is unread in names */
    long len, at;           /* what is unread in events */
    uint32_t last_kinds;    /* of the event sent last, so as not to repeat it in one turn */
    char last[WIRE_PATH_MAX];
    char path[WIRE_PATH_MAX];
    char names[BUF_BYTES] __attribute__((aligned(8)));
    char events[BUF_BYTES] __attribute__((aligned(8)));
};

static struct watch *watch_of(struct lane *lane)
{
    return CONTAINER_OF(lane, struct watch, lane);
}

static struct spot *find(struct watch *w, int wd)
{
    LIST_FOR_EACH (node, &w->buckets[(unsigned)wd % BUCKETS]) {
        struct spot *s = LIST_ENTRY(node, struct spot, link);

        if (s->wd == wd)
            return s;
    }
    return NULL;
}

static void stop_scan(struct watch *w)
{
    if (w->scan_fd >= 0)
        close(w->scan_fd);
    w->scan_fd = -1;
    w->scan_len = 0;
    w->scan_at = 0;
}

static void forget(struct watch *w, struct spot *s)
{
    if (w->waiting.next == &s->waiting)
        stop_scan(w);
    list_remove(&s->waiting);
    list_remove(&s->link);
    w->count--;
    free(s);
}

static void drop(struct lane *lane, bool by_host)
{
    struct watch *w = watch_of(lane);
    int fd = w->source.fd;

    (void)by_host;
    stop_scan(w);
    for (size_t i = 0; i < BUCKETS; i++) {
        LIST_FOR_EACH_SAFE (node, &w->buckets[i])
            forget(w, LIST_ENTRY(node, struct spot, link));
    }
    if (fd >= 0) {
        evloop_unwatch(&lane->in->loop, &w->source);
        close(fd);
    }
    free(w->root);
    free(w->where);
    w->root = NULL;
    w->where = NULL;
}

static void send_event(struct watch *w, uint32_t kinds, const char *path)
{
    uint8_t bytes[WIRE_PATH_MAX + 16];
    struct wire_out o = { .data = bytes, .cap = sizeof bytes };

    if (kinds == w->last_kinds && kinds != WIRE_EVENT_LOST && !strcmp(path, w->last))
        return;
    w->last_kinds = kinds;
    memcpy(w->last, path, strlen(path) + 1);
    wire_put_u32(&o, kinds);
    wire_put_str(&o, path);
    lane_send(&w->lane, WIRE_EVENT, 0, bytes, o.len);
}

/* @name below @s into w->path; false when that is too long. */
static bool join(struct watch *w, const struct spot *s, const char *name)
{
    size_t at = strlen(s->path);
    size_t len = strlen(name);

    if (at + len + 2 > sizeof w->path)
        return false;
    memcpy(w->path, s->path, at);
    if (at > 0 && len > 0)
        w->path[at++] = '/';
    memcpy(w->path + at, name, len + 1);
    return true;
}

/* Watch what @fd is.  0 or an errno. */
static int add(struct watch *w, int fd, const char *path, bool folder, bool fresh)
{
    char proc[PLACE_PROC_PATH];
    size_t len = strlen(path);
    struct spot *s;
    int wd;

    if (w->count >= FOLDERS_MAX)
        return ENOSPC;
    s = calloc(1, sizeof *s + len + 1);
    if (!s)
        return ENOMEM;
    place_of_fd(fd, proc);
    wd = inotify_add_watch(w->source.fd, proc, INTEREST);
    if (wd < 0) {
        int error = errno;

        free(s);
        return error;
    }
    if (find(w, wd)) { /* watched already, by another name */
        free(s);
        return 0;
    }
    s->wd = wd;
    s->fresh = fresh;
    memcpy(s->path, path, len + 1);
    list_append(&w->buckets[(unsigned)wd % BUCKETS], &s->link);
    w->count++;
    if (folder && (w->recursive || fresh))
        list_append(&w->waiting, &s->waiting);
    else
        list_init(&s->waiting);
    return 0;
}

/* What is watched, or the folder @path below it; -1 and errno. */
static int open_below(struct watch *w, const char *path, int flags)
{
    struct place place;
    int error = place_init(&place, w->lane.in->root_fd, w->root, w->where);
    int root, fd;

    if (error) {
        errno = error;
        return -1;
    }
    root = place_open(&place, O_PATH, 0);
    error = errno;
    place_fini(&place);
    if (root < 0 || (flags & O_PATH && path[0] == '\0')) {
        errno = error;
        return root;
    }
    fd = sys_openat2(root, path[0] ? path : ".",
                     (uint64_t)(unsigned)flags | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC, 0,
                     SYS_BENEATH | SYS_NO_SYMLINKS | SYS_NO_MAGICLINKS);
    error = errno;
    close(root);
    errno = error;
    return fd;
}

/* A folder below the root; one that is gone again, or not ours to look into, is no loss. */
static void add_folder(struct watch *w, const char *path, bool fresh)
{
    int fd = open_below(w, path, O_PATH);
    int error;

    if (fd < 0)
        return;
    error = add(w, fd, path, true, fresh);
    close(fd);
    if (error && error != EACCES && error != ENOENT)
        w->lost = true;
}

/* Whatever was known at and below @path is there no more. */
static void forget_below(struct watch *w, const char *path)
{
    size_t len = strlen(path);

    for (size_t i = 0; i < BUCKETS; i++) {
        LIST_FOR_EACH_SAFE (node, &w->buckets[i]) {
            struct spot *s = LIST_ENTRY(node, struct spot, link);

            if (strncmp(s->path, path, len) != 0 || (s->path[len] != '\0' && s->path[len] != '/'))
                continue;
            (void)inotify_rm_watch(w->source.fd, s->wd);
            forget(w, s);
        }
    }
}

static bool is_folder(struct watch *w, const struct sys_dirent *d)
{
    struct stat st;

    if (d->type != DT_UNKNOWN)
        return d->type == DT_DIR;
    return fstatat(w->scan_fd, d->name, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISDIR(st.st_mode);
}

/* The next name of the first waiting folder is in w->names.  False when it has no more. */
static bool fill_names(struct watch *w, const struct spot *s)
{
    if (w->scan_at < w->scan_len)
        return true;
    if (w->scan_fd < 0)
        w->scan_fd = open_below(w, s->path, O_RDONLY | O_NONBLOCK);
    w->scan_at = 0;
    w->scan_len = w->scan_fd < 0 ? 0 : sys_getdents(w->scan_fd, w->names, sizeof w->names);
    return w->scan_len > 0;
}

/* Look one name further through the first waiting folder. */
static void scan(struct watch *w)
{
    struct spot *s = LIST_ENTRY(w->waiting.next, struct spot, waiting);
    const struct sys_dirent *d;

    if (!fill_names(w, s)) {
        stop_scan(w);
        list_remove(&s->waiting);
        return;
    }
    d = (const void *)(w->names + w->scan_at);
    w->scan_at += d->reclen;
    if (!strcmp(d->name, ".") || !strcmp(d->name, "..") || !join(w, s, d->name))
        return;
    if (s->fresh)
        send_event(w, WIRE_EVENT_CREATED, w->path);
    if (w->recursive && is_folder(w, d))
        add_folder(w, w->path, s->fresh);
}

static uint32_t kinds_of(uint32_t mask)
{
    uint32_t kinds = 0;

    if (mask & IN_CREATE)
        kinds |= WIRE_EVENT_CREATED;
    if (mask & (IN_MODIFY | IN_ATTRIB | IN_CLOSE_WRITE))
        kinds |= WIRE_EVENT_CHANGED;
    if (mask & (IN_DELETE | IN_DELETE_SELF))
        kinds |= WIRE_EVENT_REMOVED;
    if (mask & IN_MOVED_FROM)
        kinds |= WIRE_EVENT_MOVED | WIRE_EVENT_REMOVED;
    if (mask & IN_MOVED_TO)
        kinds |= WIRE_EVENT_MOVED | WIRE_EVENT_CREATED;
    if (mask & IN_MOVE_SELF)
        kinds |= WIRE_EVENT_MOVED;
    return kinds;
}

/* False when what is watched is gone, and the lane with it. */
static bool take_event(struct watch *w, const struct inotify_event *ev)
{
    struct spot *s;
    uint32_t kinds = kinds_of(ev->mask);

    if (ev->mask & IN_Q_OVERFLOW) {
        w->lost = true;
        return true;
    }
    s = find(w, ev->wd);
    if (!s)
        return true; /* forgotten before this was read */
    if (ev->mask & IN_IGNORED) {
        bool root = s->path[0] == '\0';

        forget(w, s);
        if (root)
            lane_finish(&w->lane);
        return !root;
    }
    /* A folder below is told of by the one it is in. */
    if (ev->len == 0 && s->path[0] != '\0')
        return true;
    if (kinds == 0 || !join(w, s, ev->len ? ev->name : ""))
        return true;
    send_event(w, kinds, w->path);
    if (ev->mask & IN_MOVE_SELF) { /* what is at the path now is something else */
        lane_finish(&w->lane);
        return false;
    }
    if (!w->recursive || !(ev->mask & IN_ISDIR) || ev->len == 0)
        return true;
    if (ev->mask & (IN_DELETE | IN_MOVED_FROM)) {
        char gone[WIRE_PATH_MAX];

        memcpy(gone, w->path, strlen(w->path) + 1);
        forget_below(w, gone);
    }
    if (ev->mask & (IN_CREATE | IN_MOVED_TO)) {
        char fresh[WIRE_PATH_MAX];

        memcpy(fresh, w->path, strlen(w->path) + 1);
        add_folder(w, fresh, true);
    }
    return true;
}

/* Take one event; false when there is none, or the lane is gone with it (*ret_gone). */
static bool next_event(struct watch *w, bool *ret_gone)
{
    const struct inotify_event *ev;

    if (w->at >= w->len) {
        if (!w->ready)
            return false;
        w->at = 0;
        w->len = read(w->source.fd, w->events, sizeof w->events);
        if (w->len <= 0) {
            w->ready = w->len < 0 && errno == EINTR;
            w->len = 0;
            return false;
        }
    }
    ev = (const void *)(w->events + w->at);
    w->at += (long)(sizeof *ev + ev->len);
    *ret_gone = !take_event(w, ev);
    return !*ret_gone;
}

static void pump(struct lane *lane)
{
    struct watch *w = watch_of(lane);
    struct uplink *up = &lane->in->up;
    bool gone = false;
    int steps = 0;

    w->last_kinds = 0;
    /* Folders first: what happens meanwhile waits in the kernel's queue. */
    for (; steps < TURN_STEPS && !list_empty(&w->waiting) && uplink_has_room(up); steps++)
        scan(w);
    if (list_empty(&w->waiting) && !w->replied) {
        w->replied = true;
        lane_reply(lane, 0, NULL, 0);
    }
    while (w->replied && list_empty(&w->waiting) && steps++ < TURN_STEPS && uplink_has_room(up)) {
        if (!next_event(w, &gone))
            break;
    }
    if (gone)
        return;
    if (w->lost && w->replied) {
        w->lost = false;
        send_event(w, WIRE_EVENT_LOST, "");
    }
    if (!list_empty(&w->waiting) || w->ready || w->at < w->len)
        lane_wake(lane);
}

static void on_ready(struct evloop_source *s, uint32_t events)
{
    struct watch *w = CONTAINER_OF(s, struct watch, source);

    (void)events;
    w->ready = true;
    lane_wake(&w->lane);
}

/* Take the request apart and begin with what it names.  0 or an errno. */
static int begin(struct watch *w, struct wire_in *args)
{
    char root[WIRE_PATH_MAX], where[WIRE_PATH_MAX];
    struct stat st;
    int fd, error = 0;
    int notify;

    if (!wire_get_str_into(args, root, sizeof root) ||
        !wire_get_str_into(args, where, sizeof where))
        return EBADMSG;
    w->recursive = wire_get_u8(args) != 0;
    if (!wire_in_done(args))
        return EBADMSG;
    w->root = strdup(root);
    w->where = strdup(where);
    if (!w->root || !w->where)
        return ENOMEM;
    fd = open_below(w, "", O_PATH);
    if (fd < 0)
        return errno;
    notify = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
    if (notify < 0 || !evloop_watch(&w->lane.in->loop, &w->source, notify, EPOLLIN, false)) {
        error = errno;
        if (notify >= 0)
            close(notify);
    } else {
        error = fstat(fd, &st) != 0 ? errno : add(w, fd, "", S_ISDIR(st.st_mode), false);
    }
    close(fd);
    return error;
}

void watch_request(struct inside *in, uint32_t channel, struct wire_in *args)
{
    static const struct lane_ops ops = { .pump = pump, .drop = drop };
    struct watch *w = calloc(1, sizeof *w);
    int error = ENOMEM;

    if (w) {
        w->lane.in = in;
        w->source.fd = -1;
        w->source.ready = on_ready;
        w->scan_fd = -1;
        list_init(&w->waiting);
        for (size_t i = 0; i < BUCKETS; i++)
            list_init(&w->buckets[i]);
        error = begin(w, args);
        if (error) {
            drop(&w->lane, false);
            free(w);
        }
    }
    if (error) {
        lane_refuse(in, channel, error, false);
        return;
    }
    lane_open(in, &w->lane, channel, &ops);
    lane_wake(&w->lane);
}
