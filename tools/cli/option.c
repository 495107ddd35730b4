/* Long options, and the help that is made from their table. */
#include <stdio.h>
#include <string.h>

#include "tools/cli/cli.h"

static void print_help(const struct cli_command *command)
{
    printf("usage: aios %s %s\n\n%s\n", command->name, command->synopsis, command->about);
    printf("\nOptions:\n");
    for (const struct cli_option *o = command->options; o->name; o++) {
        char left[64];

        snprintf(left, sizeof left, "--%s%s%s", o->name, o->value ? " " : "",
                 o->value ? o->value : "");
        printf("  %-24s %s\n", left, o->help);
    }
    printf("  %-24s %s\n", "--help", "this text");
}

static const struct cli_option *find(const struct cli_command *command, const char *name,
                                     size_t len)
{
    for (const struct cli_option *o = command->options; o->name; o++)
        if (strlen(o->name) == len && strncmp(o->name, name, len) == 0)
            return o;
    return NULL;
}

bool cli_parse(const struct cli_command *command, int argc, char **argv, cli_option_fn *fn,
               void *arg, int *ret_next, bool *ret_helped, struct error *err)
{
    int at = 1;

    *ret_helped = false;
    for (; at < argc && argv[at][0] == '-' && argv[at][1] != '\0'; at++) {
        const char *word = argv[at];
        const char *equals = strchr(word, '=');
        const struct cli_option *option;
        const char *value = NULL;

        if (strcmp(word, "--") == 0) {
            at++;
            break;
        }
        if (strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0) {
            print_help(command);
            *ret_helped = true;
            return true;
        }
        option =
            strncmp(word, "--", 2) == 0
                ? find(command, word + 2, equals ? (size_t)(equals - word - 2) : strlen(word + 2))
                : NULL;
        if (!option)
            return error_set(err, ERR_INVALID, "there is no option %s; `aios %s --help` lists them",
                             word, command->name);
        if (!option->value && equals)
            return error_set(err, ERR_INVALID, "--%s takes no value", option->name);
        if (option->value) {
            value = equals ? equals + 1 : NULL;
            if (!value && at + 1 < argc)
                value = argv[++at];
            if (!value)
                return error_set(err, ERR_INVALID, "--%s needs a value: %s", option->name,
                                 option->value);
        }
        if (!fn(arg, option->name, value, err))
            return false;
    }
    *ret_next = at;
    return true;
}
