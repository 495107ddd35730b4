/* What a program can learn about itself and its surroundings: "NAME OK value". */
#include "tests/hostile/probe.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <unistd.h>

#define FDS_LOOKED_AT 1024

static int slurp(const char *path, char *buf, size_t size)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    size_t len = 0;
    ssize_t n;

    if (fd < 0)
        return errno;
    while (len + 1 < size && (n = read(fd, buf + len, size - 1 - len)) > 0)
        len += (size_t)n;
    (void)close(fd);
    buf[len] = '\0';
    return 0;
}

/* Which are open, before anything here opens more. */
static int descriptors(void)
{
    char list[512] = "";

    for (int fd = 0; fd < FDS_LOOKED_AT; fd++) {
        size_t len = strlen(list);

        if (fcntl(fd, F_GETFD) >= 0)
            (void)snprintf(list + len, sizeof list - len, "%s%d", len ? "," : "", fd);
    }
    probe_detail("%s", list);
    return 0;
}

static int folder(void)
{
    char path[512];

    if (!getcwd(path, sizeof path))
        return errno;
    probe_detail("%s", path);
    return 0;
}

/* The fields of /proc/self/status that say what this process may do. */
static int status(void)
{
    static const char *const wanted[] = {
        "Uid:",    "Gid:",    "Groups:", "CapInh:",     "CapPrm:",
        "CapEff:", "CapBnd:", "CapAmb:", "NoNewPrivs:", "Seccomp:"
    };
    char text[8192], out[1024] = "";
    char *save = NULL;
    int error = slurp("/proc/self/status", text, sizeof text);

    if (error)
        return error;
    for (char *line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
        for (size_t i = 0; i < PROBE_LEN(wanted); i++) {
            size_t len = strlen(out);

            if (!strncmp(line, wanted[i], strlen(wanted[i])))
                (void)snprintf(out + len, sizeof out - len, "%s%s", len ? ";" : "", line);
        }
    }
    for (char *c = out; *c; c++)
        if (*c == '\t')
            *c = ' ';
    probe_detail("%s", out);
    return 0;
}

static int core_limit(void)
{
    struct rlimit limit;

    if (getrlimit(RLIMIT_CORE, &limit) != 0)
        return errno;
    probe_detail("%llu/%llu", (unsigned long long)limit.rlim_cur,
                 (unsigned long long)limit.rlim_max);
    return 0;
}

static int one_line_of(const char *path)
{
    char text[2048];
    int error = slurp(path, text, sizeof text);
    char *out = text;

    if (error)
        return error;
    /* Blanks that line up columns mean nothing here. */
    for (const char *in = text; *in; in++)
        if (!isspace((unsigned char)*in) || (out > text && out[-1] != ' '))
            *out++ = isspace((unsigned char)*in) ? ' ' : *in;
    *out = '\0';
    probe_detail("%s", text);
    return 0;
}

static int user_map(void)
{
    return one_line_of("/proc/self/uid_map");
}

static int group_map(void)
{
    return one_line_of("/proc/self/gid_map");
}

static int groups_of_control(void)
{
    return one_line_of("/proc/self/cgroup");
}

static int net_devices(void)
{
    return one_line_of("/proc/net/dev");
}

static int kernel_arguments(void)
{
    return one_line_of("/proc/cmdline");
}

static int host_name(void)
{
    struct utsname name;

    if (uname(&name) != 0)
        return errno;
    probe_detail("%s", name.nodename);
    return 0;
}

/* Every process that is visible, by its name. */
static int processes(void)
{
    DIR *dir = opendir("/proc");
    char out[1024] = "";

    if (!dir)
        return errno;
    for (struct dirent *e = readdir(dir); e; e = readdir(dir)) {
        char path[300], name[64];
        size_t len = strlen(out);

        if (!isdigit((unsigned char)e->d_name[0]))
            continue;
        (void)snprintf(path, sizeof path, "/proc/%s/comm", e->d_name);
        if (slurp(path, name, sizeof name) != 0)
            continue;
        name[strcspn(name, "\n")] = '\0';
        (void)snprintf(out + len, sizeof out - len, "%s%s", len ? "," : "", name);
    }
    (void)closedir(dir);
    probe_detail("%s", out);
    return 0;
}

static int shared_segments(void)
{
    char text[4096];
    int error = slurp("/proc/sysvipc/shm", text, sizeof text);
    int lines = 0;

    if (error)
        return error;
    for (const char *c = text; *c; c++)
        lines += *c == '\n';
    probe_detail("%d", lines - 1); /* the first names the columns */
    return 0;
}

static int device_nodes(void)
{
    DIR *dir = opendir("/dev");
    char names[40][64];
    size_t count = 0;
    char out[1024] = "";

    if (!dir)
        return errno;
    for (struct dirent *e = readdir(dir); e && count < PROBE_LEN(names); e = readdir(dir)) {
        if (e->d_name[0] != '.')
            (void)snprintf(names[count++], sizeof names[0], "%.63s", e->d_name);
    }
    (void)closedir(dir);
    qsort(names, count, sizeof names[0], (int (*)(const void *, const void *))strcmp);
    for (size_t i = 0; i < count; i++) {
        size_t len = strlen(out);

        (void)snprintf(out + len, sizeof out - len, "%s%.63s", len ? "," : "", names[i]);
    }
    probe_detail("%s", out);
    return 0;
}

static int dumpable(void)
{
    probe_detail("%d", prctl(PR_GET_DUMPABLE));
    return 0;
}

const struct probe_try probe_facts[] = {
    { "fact-descriptors", descriptors },
    { "fact-folder", folder },
    { "fact-status", status },
    { "fact-core-limit", core_limit },
    { "fact-uid-map", user_map },
    { "fact-gid-map", group_map },
    { "fact-cgroup", groups_of_control },
    { "fact-net-devices", net_devices },
    { "fact-cmdline", kernel_arguments },
    { "fact-host-name", host_name },
    { "fact-processes", processes },
    { "fact-shared-segments", shared_segments },
    { "fact-devices", device_nodes },
    { "fact-dumpable", dumpable },
    { NULL },
};
