/* aios screen: what a computer's screen shows, as PNG. */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "kernel/base/fd.h"
#include "kernel/picture.h"
#include "tools/cli/cli.h"
#include "tools/cli/status.h"

static const struct cli_option options[] = { { NULL } };

static const struct cli_command command = {
    .name = "screen",
    .synopsis = "COMPUTER [FILE]",
    .about = "Writes what the screen of a computer shows as PNG: into FILE, or COMPUTER.png; \"-\" "
             "is\n"
             "standard output. `aios ps` lists the computers of running servers.\n"
             "\n"
             "Exit codes: 0 success; 1 there is no such computer, or it has no screen; 2 wrong "
             "usage.",
    .options = options,
};

static bool on_option(void *arg, const char *name, const char *value, struct error *err)
{
    (void)arg;
    (void)value;
    return error_set(err, ERR_INTERNAL, "an option --%s", name);
}

static bool write_png(const struct buf *png, const char *file, struct error *err)
{
    if (strcmp(file, "-") == 0)
        return fd_write_all(STDOUT_FILENO, png->data, png->len, err);
    return fd_replace_file(file, png->data, png->len, 0644, err);
}

static bool save(const char *computer, const char *file, struct error *err)
{
    CLEANUP(buf_fini) struct buf png = BUF_INIT;
    struct display_frame frame = { .width = 0 };
    char usual[96];
    bool ok;

    (void)snprintf(usual, sizeof usual, "%.80s.png", computer);
    if (!file)
        file = usual;
    ok = status_screen(computer, &frame, err) &&
         picture_png(frame.rgb, frame.width, frame.height, &png, err) && write_png(&png, file, err);
    if (ok && strcmp(file, "-") != 0)
        printf("%s: %u x %u\n", file, frame.width, frame.height);
    display_frame_fini(&frame);
    return ok;
}

int cli_screen(int argc, char **argv)
{
    struct error err = ERROR_INIT;
    bool helped;
    int next;

    if (!cli_parse(&command, argc, argv, on_option, NULL, &next, &helped, &err))
        return cli_fail("screen", CLI_USAGE, &err);
    if (helped)
        return CLI_OK;
    if (next >= argc || argc - next > 2 || strchr(argv[next], '/')) {
        error_set(&err, ERR_INVALID, "usage: aios screen %s", command.synopsis);
        return cli_fail("screen", CLI_USAGE, &err);
    }
    return save(argv[next], next + 1 < argc ? argv[next + 1] : NULL, &err)
               ? CLI_OK
               : cli_fail("screen", CLI_FAILED, &err);
}
