/*
 * A configuration that loads is printed as one that loads to the same; one that does not says why
 * in valid text.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "kernel/base/utf8.h"
#include "kernel/config.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(bool holds)
{
    if (!holds)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct error err = ERROR_INIT;
    struct config *c = config_parse((const char *)data, size, "input", NULL, &err);
    struct config *again;
    char *shown, *shown_again;

    if (!c) {
        check(err.code == ERR_INVALID || err.code == ERR_LIMIT || err.code == ERR_DENIED);
        check(!strncmp(err.text, "input: ", 7) && utf8_valid(err.text, strlen(err.text)));
        return 0;
    }
    check(c->agent.name && c->computer.kind && c->log.level && c->audit.dir &&
          c->tool.calls.policy);
    shown = config_show(c, &err);
    check(shown);
    again = config_parse(shown, strlen(shown), "shown", NULL, &err);
    check(again);
    shown_again = config_show(again, &err);
    check(shown_again && !strcmp(shown, shown_again));
    free(shown);
    free(shown_again);
    config_free(c);
    config_free(again);
    return 0;
}
