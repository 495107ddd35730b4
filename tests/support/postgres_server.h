/*
 * postgres_server - a PostgreSQL server of the distribution in a folder of the test's own, on a
 * Unix socket there.  Included by tests.
 *
 * Its user is "aios" with the password POSTGRES_PASSWORD.  It never runs as root: as root the tests
 * run it as nobody.
 */
#pragma once

#include <glob.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "kernel/base/fd.h"
#include "tests/support/check.h"
#include "tests/support/server.h"

#define POSTGRES_PASSWORD "correct-horse"
#define POSTGRES_NOBODY   65534u

struct postgres_server {
    struct server server;
    char bin[128]; /* the folder of its programs */
    char dir[64];
    char data[96];
};

/** The newest that is installed. */
static inline bool postgres_find(struct postgres_server *p)
{
    glob_t found;
    bool ok = glob("/usr/lib/postgresql/*/bin/postgres", 0, NULL, &found) == 0;

    if (ok) {
        const char *path = found.gl_pathv[found.gl_pathc - 1];

        (void)snprintf(p->bin, sizeof p->bin, "%.*s", (int)(strlen(path) - strlen("/postgres")),
                       path);
        globfree(&found);
    }
    return ok;
}

static inline unsigned postgres_uid(void)
{
    return geteuid() == 0 ? POSTGRES_NOBODY : 0;
}

static inline bool postgres_make(struct postgres_server *p)
{
    char program[160], pwfile[96], pwarg[112];
    const char *const argv[] = { program,
                                 "-D",
                                 p->data,
                                 "-U",
                                 "aios",
                                 "--auth=scram-sha-256",
                                 pwarg,
                                 "--no-sync",
                                 "--encoding=UTF8",
                                 "--locale=C",
                                 "--no-instructions",
                                 NULL };
    struct server init;

    (void)snprintf(p->dir, sizeof p->dir, "/tmp/aios-pg-XXXXXX");
    if (!mkdtemp(p->dir))
        return false;
    (void)snprintf(p->data, sizeof p->data, "%s/data", p->dir);
    (void)snprintf(program, sizeof program, "%s/initdb", p->bin);
    (void)snprintf(pwfile, sizeof pwfile, "%s/pw", p->dir);
    (void)snprintf(pwarg, sizeof pwarg, "--pwfile=%s", pwfile);
    if (!fd_replace_file(pwfile, POSTGRES_PASSWORD "\n", strlen(POSTGRES_PASSWORD) + 1, 0644, NULL))
        return false;
    if (postgres_uid() && chown(p->dir, POSTGRES_NOBODY, POSTGRES_NOBODY) < 0)
        return false;
    if (!server_start(&init, argv, postgres_uid()))
        return false;
    (void)server_said(&init, "\1"); /* to its end */
    if (server_end(&init, 0) == 0)
        return true;
    print_message("initdb said: %s\n", init.said);
    return false;
}

static inline bool postgres_begin(struct postgres_server *p)
{
    char program[160];
    const char *const argv[] = { program,
                                 "-D",
                                 p->data,
                                 "-k",
                                 p->dir,
                                 "-c",
                                 "listen_addresses=",
                                 "-c",
                                 "fsync=off",
                                 "-c",
                                 "max_connections=20",
                                 NULL };

    (void)snprintf(program, sizeof program, "%s/postgres", p->bin);
    if (!server_start(&p->server, argv, postgres_uid()))
        return false;
    if (server_said(&p->server, "ready to accept connections"))
        return true;
    print_message("postgres said: %s\n", p->server.said);
    return false;
}

/** At once, as after a crash: what was going on is undone when it starts again. */
static inline void postgres_crash(struct postgres_server *p)
{
    (void)server_end(&p->server, SIGQUIT);
}

static inline void postgres_remove(struct postgres_server *p)
{
    postgres_crash(p);
    if (*p->dir)
        UNCHECKED(fd_remove_tree(AT_FDCWD, p->dir, NULL));
}

static inline void postgres_dsn(const struct postgres_server *p, const char *password, char *dsn,
                                size_t size)
{
    (void)snprintf(dsn, size, "host=%s user=aios dbname=postgres password=%s", p->dir, password);
}
