/* file_list and file_search. */
#include <fnmatch.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "kernel/base/clock.h"
#include "kernel/base/limits.h"
#include "tools/file_internal.h"

#define GLOB_STARS_MAX 8
#define GLOB_BYTES_MAX 800 /* 200 characters */
#define SEARCH_WAIT_NS (40 * CLOCK_NS_PER_S)

const struct json_field file_list_fields[] = {
    { .name = "path",
      .description = "Default /workspace",
      .kind = JSON_KIND_STRING,
      .offset = offsetof(struct file_list_args, path),
      .min = 1,
      .max = 4096 },
    { .name = "depth",
      .kind = JSON_KIND_INT,
      .offset = offsetof(struct file_list_args, depth),
      .min = 1,
      .max = 64,
      .fallback = 1 },
    { .name = "glob",
      .description =
          "Only names that match, e.g. \"*.py\"; with a slash: whole paths below the folder",
      .kind = JSON_KIND_STRING,
      .offset = offsetof(struct file_list_args, glob),
      .min = 1,
      .max = 200 },
    { .name = "hidden",
      .description = "Also names that begin with a dot",
      .kind = JSON_KIND_BOOL,
      .offset = offsetof(struct file_list_args, hidden) },
    { .name = "limit",
      .kind = JSON_KIND_INT,
      .offset = offsetof(struct file_list_args, limit),
      .min = 1,
      .max = LIMIT_LIST_ENTRIES,
      .fallback = 500 },
    TOOLKIT_COMPUTER_FIELD(struct file_list_args),
    { .name = NULL },
};

struct listing {
    const struct file_list_args *args;
    struct buf out;
    int64_t shown;
    bool more;
};

static char type_mark(uint32_t mode)
{
    switch (mode & S_IFMT) {
    case S_IFDIR:
        return '/';
    case S_IFLNK:
        return '@';
    case S_IFIFO:
        return '|';
    case S_IFSOCK:
        return '=';
    case S_IFREG:
        return mode & 0111 ? '*' : ' ';
    default:
        return '?';
    }
}

/* A name may hold anything: what would not stay on its line is written as the shell's $'…' has it.
 */
static void put_name(struct buf *out, const char *name)
{
    for (; *name; name++) {
        unsigned char c = (unsigned char)*name;

        if (c < 0x20 || c == 0x7f)
            buf_printf(out, "\\x%02x", c);
        else
            buf_append_char(out, *name);
    }
}

static void on_entry(void *arg, const struct guest_entry *entry)
{
    struct listing *l = arg;
    const char *glob = l->args->glob;
    const char *name = strrchr(entry->path, '/');
    char mark = type_mark(entry->stat.mode);

    name = name ? name + 1 : entry->path;
    if (glob && fnmatch(glob, strchr(glob, '/') ? entry->path : name,
                        l->args->hidden ? 0 : FNM_PERIOD) != 0)
        return;
    if (l->shown >= l->args->limit) {
        l->more = true;
        return;
    }
    l->shown++;
    if (mark == ' ' || mark == '*')
        buf_printf(&l->out, "%12" PRIu64 "  ", entry->stat.size);
    else
        buf_printf(&l->out, "%12s  ", "");
    put_name(&l->out, entry->path);
    if (mark == '@') {
        buf_append_str(&l->out, " -> ");
        put_name(&l->out, entry->target);
    } else if (mark != ' ') {
        buf_append_char(&l->out, mark);
    }
    buf_append_char(&l->out, '\n');
}

/* Matching takes time that grows fast with the number of stars. */
static bool check_glob(const char *glob, struct error *err)
{
    unsigned stars = 0;

    for (const char *p = glob; p && *p; p++)
        stars += *p == '*';
    return stars <= GLOB_STARS_MAX ||
           error_set(err, ERR_INVALID, "the glob has %u stars; at most %d are taken", stars,
                     GLOB_STARS_MAX);
}

bool file_list(struct tool_call *call, const void *args, struct error *err)
{
    const struct file_list_args *a = args;
    CLEANUP(computer_unrefp) struct computer *c = NULL;
    struct listing l = { .args = a, .out = BUF_INIT };
    char path[FILE_PATH_MAX];
    bool truncated = false;
    bool ok;

    if (!file_path(a->path ? a->path : FILE_HOME, path, err) || !check_glob(a->glob, err))
        return false;
    c = toolkit_computer(call, a->computer, err);
    if (!c)
        return false;
    ok = guest_list(computer_guest(c), "/", path, (uint32_t)a->depth,
                    a->glob ? LIMIT_LIST_ENTRIES : (uint32_t)a->limit, a->hidden, on_entry, &l,
                    &truncated, &call->wait, err);
    if (!ok) {
        file_explain(err, path);
    } else if (l.out.failed) {
        ok = error_set(err, ERR_NOMEM, "the list of %s", path);
    } else {
        ok = (l.out.len == 0 || result_text(call->result, l.out.data, l.out.len,
                                            "list a folder below, or use glob", err)) &&
             result_printf(
                 call->result, err, "[%s: %" PRId64 " entries%s]", path, l.shown,
                 l.more || truncated ? "; there are more: raise limit, or narrow with glob" : "");
    }
    buf_fini(&l.out);
    return ok;
}

/* ---- file_search ---- */

const struct json_field file_search_fields[] = {
    { .name = "pattern",
      .description = "Extended regex",
      .kind = JSON_KIND_STRING,
      .required = true,
      .offset = offsetof(struct file_search_args, pattern),
      .min = 1,
      .max = 1000 },
    { .name = "path",
      .description = "Folder or file; default /workspace",
      .kind = JSON_KIND_STRING,
      .offset = offsetof(struct file_search_args, path),
      .min = 1,
      .max = 4096 },
    { .name = "glob",
      .description = "Only files whose names match, e.g. \"*.c\"",
      .kind = JSON_KIND_STRING,
      .offset = offsetof(struct file_search_args, glob),
      .min = 1,
      .max = 200 },
    { .name = "literal",
      .description = "The pattern is plain text",
      .kind = JSON_KIND_BOOL,
      .offset = offsetof(struct file_search_args, literal) },
    { .name = "ignore_case",
      .kind = JSON_KIND_BOOL,
      .offset = offsetof(struct file_search_args, ignore_case) },
    { .name = "context",
      .description = "Lines around each match",
      .kind = JSON_KIND_INT,
      .offset = offsetof(struct file_search_args, context),
      .min = 0,
      .max = 20 },
    { .name = "limit",
      .kind = JSON_KIND_INT,
      .offset = offsetof(struct file_search_args, limit),
      .min = 1,
      .max = 2000,
      .fallback = 200 },
    TOOLKIT_COMPUTER_FIELD(struct file_search_args),
    { .name = NULL },
};

/* The length of the first @lines lines of @text; all of it when there are fewer. */
static size_t first_lines(const struct buf *text, int64_t lines, bool *ret_cut)
{
    size_t at = 0;

    *ret_cut = false;
    while (at < text->len && lines-- > 0) {
        const char *newline = memchr(text->data + at, '\n', text->len - at);

        at = newline ? (size_t)(newline - text->data) + 1 : text->len;
    }
    *ret_cut = at < text->len;
    return at;
}

/* Run grep inside until it ends or has said enough; *ret_over: it was stopped for the latter. */
static bool run_grep(struct tool_call *call, struct computer *c, const char *const *argv,
                     int64_t limit, struct buf *out, struct run_info *ret, struct error *err)
{
    struct run_spec spec = {
        .argv = argv, .merge = true, .lossless = true, .cwd = "/", .timeout_ns = SEARCH_WAIT_NS
    };
    CLEANUP(run_unrefp) struct run *run = run_start(c, &spec, &call->wait, err);
    uint64_t offset = 0;
    bool enough = false;

    if (!run)
        return error_prefix(err, "search");
    for (;;) {
        uint64_t beyond[WIRE_STREAM_COUNT] = { 0 };

        run_info(run, ret);
        if (guest_run_read(run_guest(run), WIRE_STREAM_OUT, &offset, SIZE_MAX, out) < 0)
            return error_set(err, ERR_NOMEM, "the matches");
        if (ret->reason != RUN_LIVE)
            return true;
        (void)first_lines(out, limit, &enough);
        if (enough || out->len > LIMIT_RING_BYTES) {
            run_kill(run, SIGKILL, true);
            return true;
        }
        beyond[WIRE_STREAM_OUT] = offset;
        if (!run_wait(run, ret->guest.streams_ended ? 0 : 1u << WIRE_STREAM_OUT, beyond,
                      &call->wait, err)) {
            run_kill(run, SIGKILL, true);
            return false;
        }
    }
}

bool file_search(struct tool_call *call, const void *args, struct error *err)
{
    const struct file_search_args *a = args;
    CLEANUP(computer_unrefp) struct computer *c = NULL;
    CLEANUP(buf_fini) struct buf out = BUF_INIT;
    char path[FILE_PATH_MAX];
    char include[GLOB_BYTES_MAX + 16];
    char context[32];
    const char *argv[16];
    struct run_info info;
    size_t argc = 0;
    bool cut;

    if (!file_path(a->path ? a->path : FILE_HOME, path, err))
        return false;
    argv[argc++] = "grep";
    argv[argc++] = a->literal ? "-rnIHF" : "-rnIHE";
    argv[argc++] = "--exclude-dir=.git";
    if (a->ignore_case)
        argv[argc++] = "-i";
    if (a->glob) {
        snprintf(include, sizeof include, "--include=%s", a->glob);
        argv[argc++] = include;
    }
    if (a->context > 0) {
        snprintf(context, sizeof context, "-C%" PRId64, a->context);
        argv[argc++] = context;
    }
    argv[argc++] = "-e";
    argv[argc++] = a->pattern;
    argv[argc++] = "--";
    argv[argc++] = path;
    argv[argc] = NULL;
    c = toolkit_computer(call, a->computer, err);
    if (!c || !run_grep(call, c, argv, a->limit, &out, &info, err))
        return false;
    if (info.reason == RUN_TIMEOUT)
        return error_set(err, ERR_TIMEOUT,
                         "searching %s took over 40 s; choose a folder below, or a glob", path);
    if (info.reason == RUN_EXIT && info.value > 1 && out.len < 400)
        return error_set(err, ERR_INVALID, "%s", buf_str(&out));
    if (out.len == 0)
        return result_printf(call->result, err, "[nothing in %s matches]", path);
    out.len = first_lines(&out, a->limit, &cut);
    return result_text(call->result, out.data, out.len,
                       "narrow the search with path, glob or pattern", err) &&
           (!cut || result_printf(call->result, err,
                                  "[cut after %" PRId64 " lines; narrow the search or raise limit]",
                                  a->limit));
}
