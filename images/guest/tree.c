#include "images/guest/tree.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "images/guest/sys.h"

#define ROUNDS_MAX    32
#define PASSES_MAX    4
#define KERNEL_THREAD 0x00200000ul /* PF_KTHREAD of the flags in /proc/PID/stat */

static bool parse_number(const char **at, unsigned long *ret)
{
    const char *c = *at;
    unsigned long v = 0;
    bool negative = *c == '-';

    if (negative)
        c++;
    if (*c < '0' || *c > '9')
        return false;
    for (; *c >= '0' && *c <= '9'; c++)
        v = v * 10 + (unsigned long)(*c - '0');
    while (*c == ' ')
        c++;
    *at = c;
    *ret = negative ? 0 : v;
    return true;
}

/* "PID (name, which may contain anything) STATE PPID PGRP SESSION TTY TPGID FLAGS …" */
static bool parse_stat(const char *text, struct tree_process *p)
{
    const char *at = strrchr(text, ')');
    unsigned long parent, group, session, skip, flags;

    if (!at || at[1] != ' ' || at[2] == '\0' || at[3] != ' ')
        return false;
    p->state = at[2];
    at += 4;
    if (!parse_number(&at, &parent) || !parse_number(&at, &group) || !parse_number(&at, &session) ||
        !parse_number(&at, &skip) || !parse_number(&at, &skip) || !parse_number(&at, &flags))
        return false;
    p->parent = (pid_t)parent;
    p->group = (pid_t)group;
    p->session = (pid_t)session;
    p->kernel = (flags & KERNEL_THREAD) != 0;
    return true;
}

static bool read_process(int proc, const char *name, struct tree_process *p)
{
    char path[32], text[512];
    size_t len = strlen(name);
    ssize_t n;
    int fd;

    if (len + sizeof "/stat" > sizeof path)
        return false;
    memcpy(path, name, len + 1);
    memcpy(path + len, "/stat", sizeof "/stat");
    fd = openat(proc, path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0)
        return false;
    n = read(fd, text, sizeof text - 1);
    close(fd);
    if (n <= 0)
        return false;
    text[n] = '\0';
    return parse_stat(text, p);
}

static int by_pid(const void *a, const void *b)
{
    const struct tree_process *x = a, *y = b;

    return (x->pid > y->pid) - (x->pid < y->pid);
}

static bool add(struct tree *t, const struct tree_process *p)
{
    if (t->count == t->cap) {
        size_t cap = t->cap ? t->cap * 2 : 64;
        struct tree_process *more = realloc(t->processes, cap * sizeof *more);

        if (!more)
            return false;
        t->processes = more;
        t->cap = cap;
    }
    t->processes[t->count++] = *p;
    return true;
}

static bool read_all(struct tree *t, int proc)
{
    char buf[4096] __attribute__((aligned(8)));
    pid_t self = getpid();
    long n;

    while ((n = sys_getdents(proc, buf, sizeof buf)) > 0) {
        for (long at = 0; at < n;) {
            const struct sys_dirent *d = (const void *)(buf + at);
            struct tree_process p = { 0 };
            const char *digits = d->name;
            unsigned long pid;

            at += d->reclen;
            if (!parse_number(&digits, &pid) || *digits || (pid_t)pid == self)
                continue;
            p.pid = (pid_t)pid;
            if (read_process(proc, d->name, &p) && !add(t, &p))
                return false;
        }
    }
    return n == 0;
}

bool tree_read(struct tree *t)
{
    int proc = open("/proc", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    bool ok;

    memset(t, 0, sizeof *t);
    if (proc < 0)
        return false;
    ok = read_all(t, proc);
    close(proc);
    if (!ok) {
        tree_free(t);
        return false;
    }
    if (t->count > 0)
        qsort(t->processes, t->count, sizeof *t->processes, by_pid);
    return true;
}

void tree_free(struct tree *t)
{
    free(t->processes);
    memset(t, 0, sizeof *t);
}

static struct tree_process *find(struct tree *t, pid_t pid)
{
    struct tree_process key = { .pid = pid };

    return t->count == 0 ? NULL
                         : bsearch(&key, t->processes, t->count, sizeof *t->processes, by_pid);
}

/* Until nothing changes: whoever has a chosen parent is chosen. */
static void choose_descendants(struct tree *t)
{
    bool changed;

    do {
        changed = false;
        for (size_t i = 0; i < t->count; i++) {
            struct tree_process *p = &t->processes[i];
            const struct tree_process *parent;

            if (p->chosen)
                continue;
            parent = find(t, p->parent);
            if (parent && parent->chosen) {
                p->chosen = true;
                changed = true;
            }
        }
    } while (changed);
}

void tree_choose_run(struct tree *t, pid_t root)
{
    for (size_t i = 0; i < t->count; i++) {
        struct tree_process *p = &t->processes[i];

        p->chosen = p->pid == root || p->session == root || p->group == root;
    }
    choose_descendants(t);
}

void tree_choose_left(struct tree *t, pid_t root)
{
    for (size_t i = 0; i < t->count; i++) {
        struct tree_process *p = &t->processes[i];

        p->chosen = p->session == root || p->group == root;
    }
    choose_descendants(t);
}

void tree_choose_below(struct tree *t, pid_t root)
{
    for (size_t i = 0; i < t->count; i++)
        t->processes[i].chosen = t->processes[i].parent == root;
    choose_descendants(t);
}

void tree_choose_all(struct tree *t, pid_t root)
{
    (void)root;
    for (size_t i = 0; i < t->count; i++)
        t->processes[i].chosen = !t->processes[i].kernel && t->processes[i].pid > 1;
}

/* One round: signals those chosen that were not met before.  False when there were none, and for
 * SIGSTOP, when those met before stand still: a fork that is under way goes on until then. */
static bool signal_new(int signal, struct tree *now, struct tree *met)
{
    size_t known = met->count; /* sorted up to here */
    bool more = false;

    for (size_t i = 0; i < now->count; i++) {
        const struct tree_process *p = &now->processes[i];
        struct tree old = { .processes = met->processes, .count = known };

        if (!p->chosen || p->state == 'Z' || p->state == 'X')
            continue;
        if (find(&old, p->pid)) {
            more = more || (signal == SIGSTOP && p->state != 'T' && p->state != 't');
            continue;
        }
        if (!add(met, p))
            break;
        more = kill(p->pid, signal) == 0 || more;
    }
    if (met->count > 0)
        qsort(met->processes, met->count, sizeof *met->processes, by_pid);
    return more;
}

static void signal_all(int signal, void (*choose)(struct tree *t, pid_t root), pid_t root,
                       struct tree *met)
{
    for (int round = 0; round < ROUNDS_MAX; round++) {
        struct tree now;
        bool more;

        if (!tree_read(&now))
            return;
        choose(&now, root);
        more = signal_new(signal, &now, met);
        tree_free(&now);
        if (!more)
            return;
        (void)sched_yield();
    }
}

/* Who was told to die forks no more, so that what a pass has missed is seen by the next. */
static void kill_all(void (*choose)(struct tree *t, pid_t root), pid_t root)
{
    for (int pass = 0; pass < PASSES_MAX; pass++) {
        struct tree met = { 0 };
        size_t count;

        signal_all(SIGSTOP, choose, root, &met);
        count = met.count;
        for (size_t i = 0; i < count; i++)
            (void)kill(met.processes[i].pid, SIGKILL);
        tree_free(&met);
        if (!count)
            return;
    }
}

void tree_signal(int signal, void (*choose)(struct tree *t, pid_t root), pid_t root)
{
    struct tree met = { 0 };

    if (signal == SIGKILL)
        kill_all(choose, root);
    else
        signal_all(signal, choose, root, &met);
    tree_free(&met);
}
