#include "sandbox/cgroup_kind.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/magic.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "kernel/base/buf.h"
#include "kernel/base/clock.h"
#include "kernel/base/fd.h"

#define PATH_SIZE (CGROUP_NAME_SIZE + 64)

/** Undo the \040 escapes of mountinfo, in place. */
static void unescape(char *text)
{
    char *out = text;

    for (const char *in = text; *in; in++) {
        if (in[0] == '\\' && in[1] >= '0' && in[1] <= '3' && in[2] && in[3]) {
            *out++ = (char)((in[1] - '0') * 64 + (in[2] - '0') * 8 + (in[3] - '0'));
            in += 3;
        } else {
            *out++ = *in;
        }
    }
    *out = '\0';
}

/** "36 35 0:29 / /sys/fs/cgroup/memory rw,relatime shared:9 - cgroup cgroup rw,memory" */
static bool parse_mount(const char *text, size_t len, struct cgroup_mount *ret)
{
    char line[1024];
    char *fields[5];
    char *save = NULL;
    char *type, *options, *rest;

    if (len >= sizeof line)
        return false;
    memcpy(line, text, len);
    line[len] = '\0';
    rest = strstr(line, " - cgroup");
    if (!rest)
        return false;
    *rest = '\0';
    for (size_t i = 0; i < ARRAY_LEN(fields); i++) {
        fields[i] = strtok_r(i ? NULL : line, " ", &save);
        if (!fields[i])
            return false;
    }
    type = strtok_r(rest + 3, " ", &save);
    if (!type || !strtok_r(NULL, " ", &save))
        return false;
    options = strtok_r(NULL, " ", &save);
    if (!options)
        return false;
    unescape(fields[3]);
    unescape(fields[4]);
    ret->v2 = !strcmp(type, "cgroup2");
    return snprintf(ret->root, sizeof ret->root, "%s", fields[3]) < (int)sizeof ret->root &&
           snprintf(ret->point, sizeof ret->point, "%s", fields[4]) < (int)sizeof ret->point &&
           snprintf(ret->options, sizeof ret->options, "%s", options) < (int)sizeof ret->options;
}

void cgroup_mounts_each(const char *mountinfo,
                        bool (*fn)(void *arg, const struct cgroup_mount *mount), void *arg)
{
    struct cgroup_mount mount;

    for (const char *line = mountinfo; *line;) {
        size_t len = strcspn(line, "\n");

        if (parse_mount(line, len, &mount) && !fn(arg, &mount))
            break;
        line += len + (line[len] == '\n');
    }
}

bool cgroup_word_in(const char *list, const char *controller)
{
    size_t len = strlen(controller);

    while (*list) {
        size_t word = strcspn(list, ", \n");

        if (word == len && !strncmp(list, controller, len))
            return true;
        list += word;
        list += strspn(list, ", \n");
    }
    return false;
}

/* One line of /proc/self/cgroup: "4:memory:/jobs/7", or version 2's "0::/jobs/7". */
struct place {
    char controllers[128];
    char path[256];
};

/** Passes over what does not fit.  False at the end. */
static bool next_place(const char **at, struct place *ret)
{
    for (const char *line = *at; *line; line = *at) {
        size_t len = strcspn(line, "\n");
        const char *list = memchr(line, ':', len);
        const char *path = list ? memchr(list + 1, ':', len - (size_t)(list + 1 - line)) : NULL;

        *at = line + len + (line[len] == '\n');
        if (path && (size_t)(path - list) <= sizeof ret->controllers &&
            len - (size_t)(path - line) <= sizeof ret->path) {
            (void)snprintf(ret->controllers, sizeof ret->controllers, "%.*s",
                           (int)(path - list - 1), list + 1);
            (void)snprintf(ret->path, sizeof ret->path, "%.*s", (int)(line + len - path - 1),
                           path + 1);
            return true;
        }
    }
    return false;
}

bool cgroup_self_path(const char *self_text, const char *controller,
                      const struct cgroup_mount *mount, char *buf, size_t size)
{
    size_t root = strcmp(mount->root, "/") ? strlen(mount->root) : 0;
    struct place place;

    while (next_place(&self_text, &place)) {
        const char *path = place.path;

        if (*controller ? !cgroup_word_in(place.controllers, controller) : *place.controllers)
            continue;
        if (root && (strncmp(path, mount->root, root) != 0 || (path[root] && path[root] != '/')))
            return false;
        path += root;
        path += *path == '/';
        return snprintf(buf, size, "/%s", path) < (int)size;
    }
    return false;
}

/** Our own group is there, in a file system of that kind: all of it is mounted, not a part. */
static bool is_usual(const char *point, const char *path, long magic)
{
    struct statfs fs;
    char ours[600];

    (void)snprintf(ours, sizeof ours, "%s%s", point, path);
    return statfs(ours, &fs) == 0 && (long)fs.f_type == magic;
}

char *cgroup_usual_mounts(const char *folder, const char *self_text)
{
    static const char *const used[] = { "memory", "pids", "cpu", "cpuacct", "freezer" };
    static const unsigned needed = 1u << 0 | 1u << 1;
    CLEANUP(buf_fini) struct buf lines = BUF_INIT;
    unsigned found = 0;
    struct place place;
    bool ok = true;

    while (ok && next_place(&self_text, &place)) {
        unsigned here = 0;
        char point[300];

        for (size_t i = 0; i < ARRAY_LEN(used); i++)
            if (cgroup_word_in(place.controllers, used[i]))
                here |= 1u << i;
        if (!*place.controllers && is_usual(folder, place.path, CGROUP2_SUPER_MAGIC)) {
            found |= needed;
            ok = buf_printf(&lines, "0 0 0:0 / %s rw - cgroup2 cgroup2 rw\n", folder);
        } else if (here) {
            found |= here;
            (void)snprintf(point, sizeof point, "%s/%s", folder, place.controllers);
            ok = is_usual(point, place.path, CGROUP_SUPER_MAGIC) &&
                 buf_printf(&lines, "0 0 0:0 / %s rw - cgroup cgroup rw,%s\n", point,
                            place.controllers);
        }
    }
    return ok && (found & needed) == needed ? buf_take(&lines, NULL) : NULL;
}

bool cgroup_write(int dirfd, const char *group, const char *file, const char *text,
                  struct error *err)
{
    char path[PATH_SIZE];

    (void)snprintf(path, sizeof path, "%s/%s", group, file);
    return fd_write_file(dirfd, path, text, err);
}

bool cgroup_read(int dirfd, const char *group, const char *file, char *buf, size_t size)
{
    char path[PATH_SIZE];
    ssize_t n;
    int fd;

    (void)snprintf(path, sizeof path, "%s/%s", group, file);
    fd = openat(dirfd, path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return false;
    n = pread(fd, buf, size - 1, 0);
    fd_close(fd);
    buf[MAX(n, 0)] = '\0';
    return n >= 0;
}

uint64_t cgroup_number(const char *text, const char *key)
{
    size_t len = key ? strlen(key) : 0;

    if (!key)
        return strtoull(text, NULL, 10);
    for (const char *line = text; line && *line; line = strchr(line, '\n')) {
        line += *line == '\n';
        if (!strncmp(line, key, len) && line[len] == ' ')
            return strtoull(line + len + 1, NULL, 10);
    }
    return 0;
}

uint64_t cgroup_count(struct cgroup *g, enum cgroup_counter which, int dirfd, const char *file,
                      const char *key)
{
    char text[512];
    ssize_t n;
    int fd = atomic_load(&g->counter_fds[which]);

    if (fd < 0) {
        char path[PATH_SIZE];
        int none = -1;

        (void)snprintf(path, sizeof path, "%s/%s", g->name, file);
        fd = openat(dirfd, path, O_RDONLY | O_CLOEXEC);
        if (fd < 0)
            return 0;
        if (!atomic_compare_exchange_strong(&g->counter_fds[which], &none, fd)) {
            fd_close(fd);
            fd = none;
        }
    }
    n = pread(fd, text, sizeof text - 1, 0);
    if (n <= 0)
        return 0;
    text[n] = '\0';
    return cgroup_number(text, key);
}

/** A number from cgroup.procs may have been given to a new process by now: look again after the
 *  descriptor pins it. */
static void kill_member(pid_t pid, const char *group)
{
    char path[64];
    const char *base = strrchr(group, '/');
    char *text;
    int pidfd = (int)syscall(SYS_pidfd_open, pid, 0);

    if (pidfd < 0)
        return;
    (void)snprintf(path, sizeof path, "/proc/%d/cgroup", (int)pid);
    text = fd_read_file(AT_FDCWD, path, 16384, NULL, NULL);
    if (text && strstr(text, base ? base + 1 : group))
        (void)syscall(SYS_pidfd_send_signal, pidfd, SIGKILL, NULL, 0);
    free(text);
    fd_close(pidfd);
}

unsigned cgroup_kill_all(int dirfd, const char *group)
{
    char path[PATH_SIZE];
    char *text, *save = NULL;
    unsigned count = 0;

    (void)snprintf(path, sizeof path, "%s/cgroup.procs", group);
    text = fd_read_file(dirfd, path, 1u << 20, NULL, NULL);
    if (!text)
        return 0;
    for (char *word = strtok_r(text, "\n", &save); word; word = strtok_r(NULL, "\n", &save)) {
        long pid = strtol(word, NULL, 10);

        if (pid > 0) {
            kill_member((pid_t)pid, group);
            count++;
        }
    }
    free(text);
    return count;
}

size_t cgroup_names(int dirfd, char (*names)[CGROUP_NAME_SIZE], size_t max)
{
    size_t count = 0;
    DIR *dir;
    int fd = openat(dirfd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    if (fd < 0)
        return 0;
    dir = fdopendir(fd);
    if (!dir) {
        fd_close(fd);
        return 0;
    }
    for (struct dirent *e = readdir(dir); e && count < max; e = readdir(dir)) {
        size_t len = strlen(e->d_name);

        if (!strncmp(e->d_name, "aios-", 5) && len < CGROUP_NAME_SIZE)
            memcpy(names[count++], e->d_name, len + 1);
    }
    closedir(dir);
    return count;
}

bool cgroup_abandoned(int dirfd, const char *group)
{
    char count[16];
    struct stat st;

    return fstatat(dirfd, group, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
           clock_wall_ns() / CLOCK_NS_PER_S - st.st_mtim.tv_sec >= 3600 &&
           cgroup_read(dirfd, group, "pids.current", count, sizeof count) && !strcmp(count, "0\n");
}

bool cgroup_pause(int64_t deadline_ns, unsigned *attempt)
{
    int left_ms = clock_left_ms(deadline_ns, 1000);
    struct timespec pause = { .tv_nsec = 100000L << MIN(*attempt, 7u) };

    if (left_ms <= 0)
        return false;
    (*attempt)++;
    (void)ppoll(NULL, 0, &pause, NULL);
    return true;
}
