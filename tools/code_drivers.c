#include "tools/code_drivers.h"

#include <inttypes.h>
#include <signal.h>
#include <string.h>

#include "kernel/base/clock.h"

#define PROBE_NS (10 * CLOCK_NS_PER_S)

const char *const code_language_names[] = { "python", "javascript", "bash", "c", NULL };

/* code_drivers.S: the files of tools/drivers, NUL-terminated. */
extern const char code_text_python_boot[], code_text_python[], code_text_node_boot[],
    code_text_node[], code_text_bash_boot[], code_text_bash[], code_text_c_boot[], code_text_c[];

struct driver {
    const char *argv[8];
    const char *env[2];
    const char *source; /* sent first; NULL: none */
    bool sized;         /* with its length before it */
    const char *needs;  /* for people */
};

static const struct driver drivers[] = {
    [CODE_PYTHON] = { .argv = { "python3", "-u", "-X", "faulthandler", "-c",
                                code_text_python_boot },
                      .env = { "MPLBACKEND=Agg" },
                      .source = code_text_python,
                      .sized = true,
                      .needs = "python3" },
    [CODE_JAVASCRIPT] = { .argv = { "node", "--expose-internals", "-e", code_text_node_boot },
                          .source = code_text_node,
                          .sized = true,
                          .needs = "node" },
    [CODE_BASH] = { .argv = { "bash", "-c", code_text_bash_boot },
                    .source = code_text_bash,
                    .needs = "bash" },
    [CODE_C] = { .argv = { "sh", "-c", code_text_c_boot, "cells", code_text_c },
                 .needs = "gcc (or cc or clang)" },
};

/* What of the programs that drivers need is in the computer, one a line. */
static const char probe_command[] = "for p in python3 node bash cc gcc clang; do command -v $p "
                                    ">/dev/null 2>&1 && echo \"$p\"; done; :";

static bool probe(struct computer *c, bool has[CODE_LANGUAGE_COUNT], const struct wait *w,
                  struct error *err)
{
    static const struct {
        const char *line;
        enum code_language language;
    } lines[] = {
        { "python3\n", CODE_PYTHON }, { "node\n", CODE_JAVASCRIPT }, { "bash\n", CODE_BASH },
        { "cc\n", CODE_C },           { "gcc\n", CODE_C },           { "clang\n", CODE_C },
    };
    struct run_spec spec = { .command = probe_command, .cwd = "/", .timeout_ns = PROBE_NS };
    CLEANUP(run_unrefp) struct run *run = run_start(c, &spec, w, err);
    CLEANUP(buf_fini) struct buf out = BUF_INIT;
    uint64_t offset = 0;

    if (!run || !run_wait(run, 0, NULL, w, err))
        return false;
    if (guest_run_read(run_guest(run), WIRE_STREAM_OUT, &offset, 4096, &out) < 0)
        return error_set(err, ERR_NOMEM, "the languages of the computer");
    for (size_t i = 0; i < ARRAY_LEN(lines); i++) {
        const char *at = strstr(buf_str(&out), lines[i].line);

        if (at && (at == buf_str(&out) || at[-1] == '\n'))
            has[lines[i].language] = true;
    }
    return true;
}

static bool tell_missing(enum code_language language, const bool has[CODE_LANGUAGE_COUNT],
                         struct error *err)
{
    struct buf there;

    buf_init(&there, 0);
    for (size_t i = 0; i < CODE_LANGUAGE_COUNT; i++)
        if (has[i] && i != language)
            buf_printf(&there, "%s%s", there.len ? ", " : "", code_language_names[i]);
    error_set(err, ERR_NOT_FOUND,
              "%s is not in this computer, so code_run cannot run %s here; languages that can be "
              "run: %s",
              drivers[language].needs, code_language_names[language],
              there.len ? buf_str(&there) : "none");
    buf_fini(&there);
    return false;
}

static bool send_source(struct run *run, const struct driver *driver, const struct wait *w,
                        struct error *err)
{
    size_t len = strlen(driver->source);
    CLEANUP(buf_fini) struct buf message = BUF_INIT;

    if (driver->sized)
        buf_printf(&message, "%08zu", len);
    if (!buf_append(&message, driver->source, len) || message.failed)
        return error_set(err, ERR_NOMEM, "the driver's text");
    return guest_run_write(run_guest(run), WIRE_STREAM_CONTROL, message.data, message.len, w, err);
}

struct run *code_driver_start(struct computer *c, enum code_language language, const struct wait *w,
                              struct error *err)
{
    const struct driver *driver = &drivers[language];
    bool has[CODE_LANGUAGE_COUNT] = { false };
    struct run_spec spec = {
        .argv = driver->argv,
        .env = driver->env,
        .merge = true,
        .control = true,
    };
    struct error why = ERROR_INIT;
    struct run *run;

    /* The C driver is made by a script, which could only fail later. */
    if (language == CODE_C) {
        if (!probe(c, has, w, err))
            return NULL;
        if (!has[CODE_C]) {
            tell_missing(language, has, err);
            return NULL;
        }
    }
    run = run_start(c, &spec, w, &why);
    if (!run && why.code == ERR_NOT_FOUND && probe(c, has, w, NULL) && !has[language]) {
        tell_missing(language, has, err);
        return NULL;
    }
    if (run && driver->source && !send_source(run, driver, w, &why)) {
        run_kill(run, SIGKILL, true);
        run_unref(run);
        run = NULL;
    }
    if (!run) {
        if (err)
            *err = why;
        error_prefix(err, "start %s", code_language_names[language]);
    }
    return run;
}

/* As one word of a shell: 'it'\''s'. */
static void put_quoted(struct buf *out, const char *text, size_t len)
{
    buf_append_char(out, '\'');
    while (len > 0) {
        const char *quote = memchr(text, '\'', len);
        size_t piece = quote ? (size_t)(quote - text) : len;

        buf_append(out, text, piece);
        if (quote) {
            buf_append_str(out, "'\\''");
            piece++;
        }
        text += piece;
        len -= piece;
    }
    buf_append_char(out, '\'');
}

bool code_driver_command(struct buf *out, enum code_language language, uint64_t cell,
                         const char *code, size_t len)
{
    if (language == CODE_BASH) {
        buf_append_str(out, "__aios_begin; eval ");
        put_quoted(out, code, len);
        buf_printf(out, " </dev/null >&198 2>&1\n__aios_done %" PRIu64 "\n", cell);
    } else {
        buf_printf(out, "run %" PRIu64 " %zu\n", cell, len);
        buf_append(out, code, len);
    }
    return !out->failed;
}
