/* aios doctor: what this machine offers, what is missing, and how to get it. */
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "images/guest/image.h"
#include "kernel/base/clock.h"
#include "kernel/base/fd.h"
#include "kernel/base/json.h"
#include "kernel/base/paths.h"
#include "kernel/plugin.h"
#include "kernel/computer/run.h"
#include "sandbox/sandbox.h"
#include "tools/cli/child.h"
#include "tools/cli/cli.h"
#include "tools/cli/doctor_vm.h"
#include "tools/cli/solo.h"

#define VERSION_NS (2 * CLOCK_NS_PER_S)
#define START_NS   (30 * CLOCK_NS_PER_S)

struct doctor {
    const char *config_path;
    struct config *config;
    bool as_json;
    json_t *report; /* what --json prints; NULL once memory ran out */
    bool started;   /* a sandbox ran a program */
};

static const struct cli_option options[] = {
    { "config", "FILE", "use this configuration file instead of the user's own" },
    { "json", NULL, "everything as one JSON object" },
    { NULL },
};

static const struct cli_command command = {
    .name = "doctor",
    .synopsis = "[OPTIONS]",
    .about = "Says what sandboxes need and whether this machine has it, what to do about what is\n"
             "missing, which programs computers offer, which accelerator and images virtual "
             "machines\n"
             "have, and where aios keeps its files. Ends by starting a sandbox.\n"
             "\n"
             "Exit codes: 0 sandboxes can start; 1 they cannot; 2 wrong usage.",
    .options = options,
};

static bool on_option(void *arg, const char *name, const char *value, struct error *err)
{
    struct doctor *d = arg;

    (void)err;
    if (strcmp(name, "config") == 0)
        d->config_path = value;
    else
        d->as_json = true;
    return true;
}

/* ---- the report ---- */

/* Takes @item. */
static void add(struct doctor *d, const char *list, json_t *item)
{
    json_t *items = json_object_get(d->report, list);

    if (!items) {
        items = json_array();
        if (json_object_set_new(d->report, list, items) != 0)
            items = NULL;
    }
    if (json_array_append_new(items, item) != 0) {
        json_decref(d->report);
        d->report = NULL;
    }
}

static void put(struct doctor *d, const char *key, json_t *value)
{
    if (json_object_set_new(d->report, key, value) != 0) {
        json_decref(d->report);
        d->report = NULL;
    }
}

static void heading(const struct doctor *d, const char *text)
{
    if (!d->as_json)
        printf("\n%s\n", text);
}

static void line(const struct doctor *d, const char *mark, const char *name, const char *detail,
                 const char *remedy)
{
    if (d->as_json)
        return;
    printf("  %-8s %-26s%s%.70s\n", mark, name, *detail ? " " : "", detail);
    if (remedy && *remedy)
        printf("  %-8s %-26s -> %s\n", "", "", remedy);
}

/* ---- what the kernel offers ---- */

static void on_check(void *arg, const struct sandbox_check *check)
{
    struct doctor *d = arg;

    line(d,
         check->ok         ? "ok"
         : check->required ? "MISSING"
                           : "missing",
         check->name, check->detail, check->ok ? "" : check->remedy);
    add(d, "checks",
        json_pack("{s:s, s:b, s:b, s:s, s:s}", "name", check->name, "ok", check->ok, "required",
                  check->required, "detail", check->detail, "remedy", check->remedy));
}

static enum sandbox_cgroup_mode cgroup_mode(const char *name)
{
    static const char *const names[] = {
        [SANDBOX_CGROUP_V1] = "v1", [SANDBOX_CGROUP_V2] = "v2", [SANDBOX_CGROUP_NONE] = "none"
    };

    for (size_t i = 0; i < ARRAY_LEN(names); i++)
        if (names[i] && strcmp(names[i], name) == 0)
            return (enum sandbox_cgroup_mode)i;
    return SANDBOX_CGROUP_AUTO;
}

static void show_kernel(struct doctor *d)
{
    char *dirs[] = { paths_get(PATHS_STATE, NULL, NULL), paths_get(PATHS_RUNTIME, NULL, NULL),
                     paths_get(PATHS_CACHE, NULL, NULL) };

    heading(d, "What sandboxes need:");
    if (dirs[0] && dirs[1] && dirs[2]) {
        const struct sandbox_config config = {
            .state_dir = dirs[0],
            .runtime_dir = dirs[1],
            .cache_dir = dirs[2],
            .guest_image = guest_image,
            .guest_image_len = guest_image_len,
            .cgroup = cgroup_mode(d->config->sandbox.cgroup),
            .host_uid = (uint32_t)d->config->sandbox.host_uid,
        };

        sandbox_probe(&config, on_check, d);
    }
    for (size_t i = 0; i < ARRAY_LEN(dirs); i++)
        free(dirs[i]);
}

/* ---- programs ---- */

/* Where sandboxes look too: the system's folders are the host's. */
static const char *find_program(const char *name, char *buf, size_t size)
{
    static const char *const folders[] = { "/usr/local/bin", "/usr/bin", "/bin" };

    for (size_t i = 0; i < ARRAY_LEN(folders); i++) {
        (void)snprintf(buf, size, "%s/%s", folders[i], name);
        if (access(buf, X_OK) == 0)
            return buf;
    }
    return NULL;
}

static void show_program(struct doctor *d, const char *name, const char *package)
{
    char path[64];
    char remedy[96] = "";
    const char *argv[] = { find_program(name, path, sizeof path), "--version", NULL };
    CLEANUP(buf_fini) struct buf version = BUF_INIT;
    struct error err = ERROR_INIT;
    const char *mark = "ok";
    int status = 0;

    if (!argv[0]) {
        mark = "missing";
        (void)snprintf(remedy, sizeof remedy, "apt-get install %s", package);
    } else if (!child_capture(argv, clock_add_ns(clock_now_ns(), VERSION_NS), 4096, &version,
                              &status, &err)) {
        mark = "broken";
        (void)snprintf(remedy, sizeof remedy, "%.90s", err.text);
    } else if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) {
        mark = "broken";
        (void)snprintf(remedy, sizeof remedy, "`%s --version` fails", path);
    }
    if (version.len > 0)
        version.data[strcspn(version.data, "\r\n")] = '\0';
    line(d, mark, name, strcmp(mark, "ok") == 0 ? buf_str(&version) : "", remedy);
    add(d, "programs",
        json_pack("{s:s, s:b, s:s, s:o, s:s}", "name", name, "ok", strcmp(mark, "ok") == 0, "path",
                  argv[0] ? argv[0] : "", "version",
                  json_string_lossy(buf_str(&version), strlen(buf_str(&version))), "remedy",
                  remedy));
}

static void show_programs(struct doctor *d)
{
    static const struct {
        const char *name;
        const char *package;
    } programs[] = {
        { "bash", "bash" }, { "python3", "python3" }, { "node", "nodejs" },
        { "gcc", "gcc" },   { "git", "git" },         { "curl", "curl" },
    };

    heading(d, "Programs that computers offer (this machine's own):");
    for (size_t i = 0; i < ARRAY_LEN(programs); i++)
        show_program(d, programs[i].name, programs[i].package);
}

/* ---- modules ---- */

static void show_modules(struct doctor *d)
{
    static const struct {
        const char *name, *what_for, *package;
    } modules[] = {
        { "http", "providers of models, storage in S3", "libcurl4" },
        { "picture", "pictures of screens", "libpng16-16" },
        { "postgres", "storage in PostgreSQL", "libpq5" },
    };

    heading(d, "Modules, opened when the configuration needs them:");
    for (size_t i = 0; i < ARRAY_LEN(modules); i++) {
        struct error err = ERROR_INIT;
        bool ok = plugin_check(modules[i].name, &err);
        char remedy[320] = "";

        if (!ok)
            (void)snprintf(remedy, sizeof remedy, "apt-get install %s (%.200s)", modules[i].package,
                           err.text);
        line(d, ok ? "ok" : "missing", modules[i].name, modules[i].what_for, remedy);
        add(d, "modules",
            json_pack("{s:s, s:b, s:s, s:s}", "name", modules[i].name, "ok", ok, "for",
                      modules[i].what_for, "remedy", remedy));
    }
}

/* ---- virtual machines ---- */

static void on_vm(void *arg, const struct doctor_vm_line *l)
{
    struct doctor *d = arg;

    line(d, l->ok ? "ok" : "missing", l->name, l->detail, l->remedy);
    add(d, "vm",
        json_pack("{s:s, s:b, s:s, s:s}", "name", l->name, "ok", l->ok, "detail", l->detail,
                  "remedy", l->remedy));
}

static void show_vm(struct doctor *d)
{
    heading(d, "What virtual machines need (sandboxes do not):");
    doctor_vm(d->config, on_vm, d);
}

/* ---- folders, memory, configuration ---- */

/* A folder that is missing will be made, where it can be. */
static bool can_write(const char *path)
{
    char part[4096];

    if (strlen(path) >= sizeof part)
        return false;
    memcpy(part, path, strlen(path) + 1);
    for (;;) {
        char *slash;

        if (access(part, F_OK) == 0)
            return access(part, W_OK | X_OK) == 0;
        slash = strrchr(part, '/');
        if (!slash)
            return false;
        *(slash == part ? slash + 1 : slash) = '\0';
    }
}

static void show_folder(struct doctor *d, const char *name, enum paths_kind kind)
{
    struct error err = ERROR_INIT;
    char *path = paths_get(kind, NULL, &err);
    bool ok = path && can_write(path);
    const char *remedy = ok     ? ""
                         : path ? "make it writable, or set AIOS_HOME to another folder"
                                : err.text;

    line(d, ok ? "ok" : "MISSING", name, path ? path : "", remedy);
    add(d, "folders",
        json_pack("{s:s, s:b, s:s, s:s}", "name", name, "ok", ok, "path", path ? path : "",
                  "remedy", remedy));
    free(path);
}

static void show_memory(struct doctor *d)
{
    size_t len;
    char *text = fd_read_file(AT_FDCWD, "/proc/meminfo", 64u << 10, &len, NULL);
    const char *at = text ? strstr(text, "MemAvailable:") : NULL;
    uint64_t mib = at ? strtoull(at + strlen("MemAvailable:"), NULL, 10) >> 10 : 0;
    bool ok = mib >= (uint64_t)d->config->computer.memory_mb;
    char detail[64];

    (void)snprintf(detail, sizeof detail, "%" PRIu64 " MiB free", mib);
    line(d, ok ? "ok" : "low", "memory", detail,
         ok ? "" : "less than one computer may take; lower computer.memory_mb");
    put(d, "memory_free_mb", json_integer((json_int_t)mib));
    free(text);
}

static void show_place(struct doctor *d)
{
    const char *source = d->config->source;

    heading(d, "This installation:");
    show_folder(d, "state folder", PATHS_STATE);
    show_folder(d, "runtime folder", PATHS_RUNTIME);
    show_folder(d, "cache folder", PATHS_CACHE);
    show_memory(d);
    line(d, "ok", "configuration", *source ? source : "none; the defaults", "");
    put(d, "configuration", json_string(source));
    put(d, "version", json_string(AIOS_VERSION));
}

/* ---- the proof ---- */

struct proof {
    struct error err;
    double ms;
    bool ok;
};

/* Make one, run true, and see it succeed. */
static bool run_true(struct solo *s, struct computer **ret, struct error *err)
{
    static const char *const argv[] = { "true", NULL };
    const struct run_spec spec = { .argv = argv, .cwd = "/" };
    const struct computer_spec wanted = { .allow_count = 0 };
    const struct wait w = { .deadline_ns = clock_add_ns(clock_now_ns(), START_NS),
                            .cancel = &s->cancel };
    CLEANUP(run_unrefp) struct run *run = NULL;
    struct run_info info;

    *ret = solo_computer(s, &wanted, &w, err);
    if (!*ret)
        return false;
    run = run_start(*ret, &spec, &w, err);
    if (!run || !run_wait(run, 0, NULL, &w, err))
        return false;
    run_info(run, &info);
    if (info.reason == RUN_EXIT && info.value == 0)
        return true;
    return error_set(err, ERR_LOST, "true ended inside with reason %s, %d",
                     run_reason_name(info.reason), info.value);
}

static void prove(struct solo *s, void *arg)
{
    struct proof *p = arg;
    struct computer *computer = NULL;
    int64_t start_ns = clock_now_ns();

    p->ok = run_true(s, &computer, &p->err);
    p->ms = (double)(clock_now_ns() - start_ns) / (double)CLOCK_NS_PER_MS;
    computer_unref(computer);
}

static void show_proof(struct doctor *d)
{
    struct proof p = { .ok = false };
    char detail[64];

    heading(d, "The proof:");
    if (!solo_run(d->config, prove, &p, &p.err))
        p.ok = false;
    (void)snprintf(detail, sizeof detail, "sandbox started and ran true in %.1f ms", p.ms);
    d->started = p.ok;
    line(d, p.ok ? "ok" : "MISSING", p.ok ? detail : "no sandbox starts", "", p.err.text);
    put(d, "start", json_pack("{s:b, s:f, s:s}", "ok", p.ok, "ms", p.ms, "error", p.err.text));
}

static int examine(struct doctor *d, struct error *err)
{
    CLEANUP(buf_fini) struct buf text = BUF_INIT;

    if (!d->as_json)
        printf("aios %s\n", AIOS_VERSION);
    show_kernel(d);
    show_programs(d);
    show_modules(d);
    show_vm(d);
    show_place(d);
    (void)fflush(stdout);
    show_proof(d);
    if (d->as_json) {
        if (!json_write(d->report, &text)) {
            error_set(err, ERR_NOMEM, "a report");
            return cli_fail("doctor", CLI_FAILED, err);
        }
        printf("%s\n", buf_str(&text));
    }
    return d->started ? CLI_OK : CLI_FAILED;
}

int cli_doctor(int argc, char **argv)
{
    struct doctor d = { .report = NULL };
    struct error err = ERROR_INIT;
    bool helped;
    int next;
    int code;

    if (!cli_parse(&command, argc, argv, on_option, &d, &next, &helped, &err))
        return cli_fail("doctor", CLI_USAGE, &err);
    if (helped)
        return CLI_OK;
    if (next < argc) {
        error_set(&err, ERR_INVALID, "\"%.100s\" is not expected", argv[next]);
        return cli_fail("doctor", CLI_USAGE, &err);
    }
    d.config = config_load(d.config_path, NULL, &err);
    if (!d.config)
        return cli_fail("doctor", CLI_FAILED, &err);
    d.report = json_object();
    code = examine(&d, &err);
    json_decref(d.report);
    config_free(d.config);
    return code;
}
