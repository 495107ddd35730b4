/*
 * The program `aios` where it is two (docs/decisions/static-libraries.md): this one, which is
 * `aios run` and needs no dynamic linker, and the whole one in ../lib/aios, which is the rest.
 *
 * The C library resolves the names of hosts and users with modules that only a shared one can load.
 * So nothing here can: a run that may connect anywhere is left to the whole program, too.
 */
#include <errno.h>
#include <netdb.h>
#include <pwd.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "tools/cli/cli.h"
#include "tools/cli/front.h"

enum { RUN_FAILED = 125 }; /* of `aios run`, see cli.h */

static char **arguments;

static _Noreturn void become_whole(int code)
{
    char path[FRONT_PATH_BYTES];
    int rc = front_execute(arguments, environ, path);

    fprintf(stderr,
            "aios: the greater part of aios cannot be started: %s: %s. It lies in lib/aios beside "
            "the folder of this program; install both\n",
            path[0] ? path : "/proc/self/exe", strerror(rc));
    _exit(code);
}

void cli_need_names(void)
{
    become_whole(RUN_FAILED);
}

/* Not the first thing that this program does: see front_start.c. */
int main(int argc, char **argv)
{
    arguments = argv;
    if (argc < 2 || strcmp(argv[1], "run") != 0)
        become_whole(CLI_FAILED);
    cli_begin();
    return cli_run(argc - 1, argv + 1);
}

/* ---- libuv's ---- */

/* It names these, and the C library's would ask modules. */
int getaddrinfo(const char *restrict name, const char *restrict service,
                const struct addrinfo *restrict hints, struct addrinfo **restrict ret)
{
    (void)name, (void)service, (void)hints, (void)ret;
    return EAI_FAIL;
}

void freeaddrinfo(struct addrinfo *list)
{
    (void)list;
}

int getpwuid_r(uid_t uid, struct passwd *restrict user, char *restrict buf, size_t size,
               struct passwd **restrict ret)
{
    (void)uid, (void)user, (void)buf, (void)size;
    *ret = NULL;
    return ENOSYS;
}
