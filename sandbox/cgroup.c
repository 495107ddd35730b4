#include "sandbox/cgroup.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "kernel/base/clock.h"
#include "kernel/base/fd.h"
#include "sandbox/cgroup_kind.h"

#define TEXT_MAX (1u << 20)

static const struct cgroup_kind *const kinds[] = { &cgroup_v2, &cgroup_v1, &cgroup_none };

static const char *mode_name(enum sandbox_cgroup_mode mode)
{
    static const char *const names[] = {
        [SANDBOX_CGROUP_AUTO] = "auto",
        [SANDBOX_CGROUP_V1] = "v1",
        [SANDBOX_CGROUP_V2] = "v2",
        [SANDBOX_CGROUP_NONE] = "none",
    };

    return (unsigned)mode < ARRAY_LEN(names) ? names[mode] : "?";
}

/** Try every kind in turn and remember why the better ones were not to be had. */
static bool pick(struct cgroup_host *host, enum sandbox_cgroup_mode mode,
                 const struct cgroup_texts *texts, struct error *err)
{
    char why[240] = "";
    size_t used = 0;

    for (size_t i = 0; i < ARRAY_LEN(kinds); i++) {
        struct error reason = ERROR_INIT;
        int n;

        if (mode != SANDBOX_CGROUP_AUTO && mode != kinds[i]->mode)
            continue;
        if (kinds[i]->probe(host, texts, &reason)) {
            host->kind = kinds[i];
            if (host->kind->mode == SANDBOX_CGROUP_NONE)
                (void)snprintf(host->description, sizeof host->description, "none: %s",
                               *why ? why : "asked for by the configuration");
            return true;
        }
        if (mode != SANDBOX_CGROUP_AUTO || reason.code == ERR_NOMEM)
            return error_set(err, reason.code, "cgroup %s: %s", mode_name(mode), reason.text);
        n = snprintf(why + used, sizeof why - used, "%s%s: %s", used ? "; " : "",
                     mode_name(kinds[i]->mode), reason.text);
        used = MIN(used + (size_t)MAX(n, 0), sizeof why - 1);
    }
    return error_set(err, ERR_INVALID, "cgroup mode %d is not known", (int)mode);
}

static bool pick_at(struct cgroup_host *host, enum sandbox_cgroup_mode mode,
                    const struct cgroup_roots *roots, struct error *err)
{
    struct cgroup_texts texts = { NULL, NULL };
    bool ok;

    texts.self = fd_read_file(AT_FDCWD, roots->self, TEXT_MAX, NULL, err);
    if (!texts.self)
        return false;
    if (roots->usual)
        texts.mountinfo = cgroup_usual_mounts(roots->usual, texts.self);
    if (!texts.mountinfo)
        texts.mountinfo = fd_read_file(AT_FDCWD, roots->mountinfo, TEXT_MAX, NULL, err);
    ok = texts.mountinfo && pick(host, mode, &texts, err);
    free(texts.mountinfo);
    free(texts.self);
    return ok;
}

struct cgroup_host *cgroup_host_new_at(enum sandbox_cgroup_mode mode, const char *server,
                                       const struct cgroup_roots *roots, struct error *err)
{
    struct cgroup_host *host;

    if (!*server || strlen(server) >= sizeof host->server || strpbrk(server, "-/")) {
        error_set(err, ERR_INVALID, "\"%s\" cannot be part of a group's name", server);
        return NULL;
    }
    host = calloc(1, sizeof *host);
    if (!host) {
        error_set(err, ERR_NOMEM, "cgroup host");
        return NULL;
    }
    (void)snprintf(host->server, sizeof host->server, "%s", server);
    atomic_init(&host->next, 1);
    host->v2.base_fd = -1;
    if (!pick_at(host, mode, roots, err)) {
        free(host);
        return NULL;
    }
    return host;
}

struct cgroup_host *cgroup_host_new(enum sandbox_cgroup_mode mode, const char *server,
                                    struct error *err)
{
    static const struct cgroup_roots ours = {
        .mountinfo = "/proc/self/mountinfo",
        .self = "/proc/self/cgroup",
        .usual = "/sys/fs/cgroup",
    };

    return cgroup_host_new_at(mode, server, &ours, err);
}

void cgroup_host_free(struct cgroup_host *host)
{
    if (!host)
        return;
    host->kind->fini(host);
    free(host);
}

const char *cgroup_host_describe(const struct cgroup_host *host)
{
    return host->description;
}

enum sandbox_cgroup_mode cgroup_host_mode(const struct cgroup_host *host)
{
    return host->kind->mode;
}

/* A controller is in one hierarchy only: where version 1 has memory, version 2 is of no use. */
bool cgroup_may_come_late(enum sandbox_cgroup_mode mode)
{
    struct statfs fs;

    if (mode != SANDBOX_CGROUP_AUTO)
        return mode != SANDBOX_CGROUP_V2;
    return statfs("/sys/fs/cgroup/memory", &fs) == 0 && fs.f_type == CGROUP_SUPER_MAGIC;
}

bool cgroup_host_check(const struct cgroup_host *host, const struct cgroup_limits *limits,
                       struct error *err)
{
    return host->kind->check(host, limits, err);
}

struct cgroup *cgroup_begin(struct cgroup_host *host, const struct cgroup_limits *limits,
                            struct error *err)
{
    struct cgroup *g = NULL;

    if (!host->kind->check(host, limits, err))
        return NULL;
    g = calloc(1, sizeof *g);
    if (!g) {
        error_set(err, ERR_NOMEM, "cgroup");
        return NULL;
    }
    g->host = host;
    g->dir_fd = -1;
    for (size_t i = 0; i < ARRAY_LEN(g->counter_fds); i++)
        atomic_init(&g->counter_fds[i], -1);
    (void)snprintf(g->name, sizeof g->name, "aios-%s-%u", host->server,
                   atomic_fetch_add(&host->next, 1));
    if (!host->kind->begin(g, limits, err)) {
        error_prefix(err, "make group %s", g->name);
        cgroup_free(g);
        return NULL;
    }
    return g;
}

bool cgroup_complete(struct cgroup *g, const struct cgroup_limits *limits, struct error *err)
{
    return !g->host->kind->complete || g->host->kind->complete(g, limits, err) ||
           error_prefix(err, "make group %s", g->name);
}

struct cgroup *cgroup_new(struct cgroup_host *host, const struct cgroup_limits *limits,
                          struct error *err)
{
    struct cgroup *g = cgroup_begin(host, limits, err);

    if (g && cgroup_complete(g, limits, err))
        return g;
    cgroup_free(g);
    return NULL;
}

void cgroup_free(struct cgroup *g)
{
    if (!g)
        return;
    for (size_t i = 0; i < ARRAY_LEN(g->counter_fds); i++)
        fd_close(atomic_load(&g->counter_fds[i]));
    g->host->kind->remove(g);
    fd_close(g->dir_fd);
    free(g);
}

int cgroup_clone_fd(const struct cgroup *g)
{
    return g ? g->dir_fd : -1;
}

bool cgroup_open_doors(const struct cgroup *g, int fds[CGROUP_DOORS], size_t *ret_count,
                       struct error *err)
{
    const struct cgroup_kind *kind = g->host->kind;
    size_t count = 0;

    for (size_t i = 0; kind->open_door && i < CGROUP_DOORS; i++) {
        fds[count] = kind->open_door(g, i);
        if (fds[count] >= 0) {
            count++;
        } else if (fds[count] == -1) {
            error_set_errno(err, errno, "open group %s", g->name);
            while (count > 0)
                fd_close(fds[--count]);
            return false;
        }
    }
    *ret_count = count;
    return true;
}

bool cgroup_enter(const struct cgroup *g)
{
    int fds[CGROUP_DOORS];
    size_t count = 0;
    bool ok = cgroup_open_doors(g, fds, &count, NULL);

    for (size_t i = 0; ok && i < count; i++)
        ok = write(fds[i], "0", 1) == 1;
    for (size_t i = 0; i < count; i++)
        fd_close(fds[i]);
    return ok;
}

void cgroup_started(struct cgroup *g, pid_t init_pid)
{
    g->host->kind->started(g, init_pid);
}

bool cgroup_freeze(struct cgroup *g, bool frozen, int64_t deadline_ns)
{
    return g->host->kind->freeze(g, frozen, deadline_ns);
}

void cgroup_usage(struct cgroup *g, pid_t init_pid, struct computer_usage *ret)
{
    g->host->kind->usage(g, init_pid, ret);
}

void cgroup_strikes(struct cgroup *g, struct computer_strikes *ret)
{
    g->host->kind->strikes(g, ret);
}

/* ---- what other servers left ---- */

struct sweep {
    const char *own;
    bool (*alive)(void *arg, const char *server);
    void *arg;
    char asked[CGROUP_SERVER_SIZE]; /* one server has many groups: ask once in a row */
    bool answer;
};

/** "aios-SERVER-NUMBER" of a server that is gone; of one that is not ours to judge, since it had
 *  another run-time folder, if nobody has been in there for long. */
static bool is_orphan(void *arg, int dirfd, const char *name)
{
    struct sweep *s = arg;
    char server[CGROUP_SERVER_SIZE];
    const char *start = name + strlen("aios-");
    const char *dash = strrchr(start, '-');

    if (!dash || dash == start || (size_t)(dash - start) >= sizeof server)
        return false;
    if (!dash[1] || strspn(dash + 1, "0123456789") != strlen(dash + 1))
        return false;
    (void)snprintf(server, sizeof server, "%.*s", (int)(dash - start), start);
    if (!strcmp(server, s->own))
        return false;
    if (strcmp(server, s->asked) != 0) {
        s->answer = s->alive(s->arg, server);
        memcpy(s->asked, server, sizeof s->asked);
    }
    return !s->answer || cgroup_abandoned(dirfd, name);
}

void cgroup_sweep(struct cgroup_host *host, bool (*alive)(void *arg, const char *server), void *arg)
{
    struct sweep s = { .own = host->server, .alive = alive, .arg = arg };

    if (host->kind->sweep)
        host->kind->sweep(host, is_orphan, &s);
}
