#include <jansson.h>
#include <signal.h>
#include <stdio.h>
#include <sys/random.h>

#include "tools/cli/cli.h"

void cli_begin(void)
{
    size_t seed = 0;

    /* jansson would open a device for its hash seed, which takes longer; 0 is left to it. */
    (void)!getrandom(&seed, sizeof seed, 0);
    json_object_seed(seed);
    (void)signal(SIGPIPE, SIG_IGN);
}

int cli_fail(const char *command, int code, const struct error *err)
{
    fprintf(stderr, "aios %s: %s\n", command, err->text);
    return code;
}
