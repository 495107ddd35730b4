#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "kernel/computer/guest_internal.h"

/* ---- the request ---- */

/* The bytes of a NULL-terminated array of strings on the wire. */
static size_t strings_bytes(const char *const *strings)
{
    size_t total = 4;

    for (size_t i = 0; strings && strings[i]; i++)
        total += 4 + strlen(strings[i]);
    return total;
}

static void put_strings(struct wire_out *o, const char *const *strings)
{
    uint32_t count = 0;

    while (strings && strings[count])
        count++;
    wire_put_u32(o, count);
    for (uint32_t i = 0; i < count; i++)
        wire_put_str(o, strings[i]);
}

/* The whole payload, which may be longer than one frame; *ret_data is for free(). */
static bool compose(const struct guest_run_spec *spec, uint8_t **ret_data, size_t *ret_len,
                    struct error *err)
{
    size_t need =
        4 + 2 + 2 + 4 + strlen(spec->cwd) + strings_bytes(spec->argv) + strings_bytes(spec->env);
    struct wire_out o = { .cap = need };
    uint32_t flags = 0;

    if (need > WIRE_SPAWN_MAX)
        return error_set(
            err, ERR_LIMIT,
            "arguments and environment are %zu bytes; at most %u can be passed, so put "
            "large text in a file or on standard input",
            need, WIRE_SPAWN_MAX);
    o.data = malloc(need);
    if (!o.data)
        return error_set(err, ERR_NOMEM, "the request to start a program");
    if (spec->pty)
        flags |= WIRE_SPAWN_PTY;
    else if (spec->merge)
        flags |= WIRE_SPAWN_MERGE;
    if (spec->stdin_open && !spec->pty)
        flags |= WIRE_SPAWN_STDIN;
    if (spec->control)
        flags |= WIRE_SPAWN_CONTROL;
    if (spec->last)
        flags |= WIRE_SPAWN_LAST;
    wire_put_u32(&o, flags);
    wire_put_u16(&o, spec->rows ? spec->rows : 24);
    wire_put_u16(&o, spec->cols ? spec->cols : 80);
    wire_put_str(&o, spec->cwd);
    put_strings(&o, spec->argv);
    put_strings(&o, spec->env);
    assert(!o.failed && o.len == need);
    *ret_data = o.data;
    *ret_len = o.len;
    return true;
}

/* All or nothing: a request that is sent in part could not be taken back. */
static void send_spawn_locked(struct guest_run *run, const uint8_t *data, size_t len)
{
    size_t at = 0;

    do {
        size_t n = MIN(len - at, WIRE_PAYLOAD_MAX);

        guest_send_locked(run->chan.g, &run->chan, WIRE_SPAWN, at + n < len ? 1 : 0, data + at, n);
        at += n;
    } while (at < len);
}

/* ---- when it fails ---- */

static const char *path_of(const char *const *env)
{
    for (size_t i = 0; env && env[i]; i++)
        if (strncmp(env[i], "PATH=", 5) == 0)
            return env[i] + 5;
    return "";
}

static bool exec_error(int os_errno, const struct guest_run_spec *spec, struct error *err)
{
    const char *name = spec->argv[0], *path;

    switch (os_errno) {
    case ENOENT:
        if (strchr(name, '/'))
            return error_set(err, ERR_NOT_FOUND,
                             "there is no program \"%s\" in the computer, or the interpreter that "
                             "its first line names is missing",
                             name);
        path = path_of(spec->env);
        return error_set(err, ERR_NOT_FOUND,
                         "no program \"%.100s\" in the computer's PATH (%.200s); install it or use "
                         "a full path",
                         name, *path ? path : "empty");
    case EACCES:
    case EISDIR:
        return error_set(err, ERR_DENIED,
                         "\"%s\" may not be executed: it is a folder, lacks the x permission "
                         "(chmod +x), or lies where programs are not allowed",
                         name);
    case ENOEXEC:
        return error_set(err, ERR_INVALID,
                         "\"%s\" is not a program for this computer; a script needs a first line "
                         "such as #!/bin/sh",
                         name);
    case E2BIG:
        return error_set(err, ERR_LIMIT,
                         "an argument of \"%s\" or its environment is too long (128 KiB each); put "
                         "large text in a file or on standard input",
                         name);
    default:
        return error_set_errno(err, os_errno, "cannot execute \"%s\"", name);
    }
}

static bool spawn_error(const struct guest_run *run, const struct guest_run_spec *spec,
                        struct error *err)
{
    int os_errno = run->status < 4096 ? (int)run->status : EIO;

    switch (run->stage) {
    case SPAWN_STAGE_CWD:
        if (os_errno == ENOENT)
            return error_set(err, ERR_NOT_FOUND,
                             "the working folder \"%s\" does not exist in the computer; make it "
                             "first or choose another cwd",
                             spec->cwd);
        if (os_errno == ENOTDIR)
            return error_set(err, ERR_INVALID, "the working folder \"%s\" is not a folder",
                             spec->cwd);
        return error_set_errno(err, os_errno, "cannot enter the working folder \"%s\"", spec->cwd);
    case SPAWN_STAGE_RESOURCES:
        if (os_errno == EAGAIN || os_errno == ENOMEM || os_errno == EMFILE || os_errno == ENFILE)
            return error_set(err, ERR_LIMIT,
                             "the computer has no room for another program (%s); wait for or kill "
                             "what runs in it",
                             os_errno == EAGAIN   ? "processes"
                             : os_errno == ENOMEM ? "memory"
                                                  : "open files");
        return error_set_errno(err, os_errno, "cannot start \"%s\"", spec->argv[0]);
    default:
        return exec_error(os_errno, spec, err);
    }
}

/* ---- for everybody ---- */

/* True when the guest has answered; then run->status says what. */
static bool spawn_locked(struct guest_run *run, const uint8_t *data, size_t len, struct waiter *wt,
                         struct error *err)
{
    struct guest *g = run->chan.g;
    size_t frames = len / WIRE_PAYLOAD_MAX + 1;
    bool ok = true;

    if (!guest_wait_room_locked(g, wt, len + frames * WIRE_HEADER_BYTES, err) ||
        !chan_open_locked(&run->chan, err))
        return false;
    send_spawn_locked(run, data, len);
    while (!run->chan.replied && !g->lost && ok)
        ok = waiter_wait_locked(wt, &run->chan.waiters, WAKE_REPLY);
    if (run->chan.replied)
        return true;
    run->abandoned = true;
    return g->lost ? guest_lost_error_locked(g, err) : waiter_error(wt, err);
}

struct guest_run *guest_spawn(struct guest *g, const struct guest_run_spec *spec,
                              const struct wait *w, struct error *err)
{
    struct guest_run *run = NULL;
    struct waiter wt;
    uint8_t *data = NULL;
    size_t len = 0;
    bool ok;

    if (!spec->argv || !spec->argv[0] || !spec->argv[0][0]) {
        error_set(err, ERR_INVALID, "there is no program to start: argv is empty");
        return NULL;
    }
    if (strlen(spec->cwd) > WIRE_PATH_MAX) {
        error_set(err, ERR_INVALID, "the working folder's path is longer than %u bytes",
                  WIRE_PATH_MAX);
        return NULL;
    }
    if (!compose(spec, &data, &len, err))
        return NULL;
    run = guest_run_new(g, spec, err);
    if (!run) {
        free(data);
        return NULL;
    }
    waiter_begin(&wt, g, w);
    pthread_mutex_lock(&g->lock);
    ok = spawn_locked(run, data, len, &wt, err);
    pthread_mutex_unlock(&g->lock);
    waiter_end(&wt);
    free(data);
    if (ok && run->status != 0)
        ok = spawn_error(run, spec, err);
    if (ok)
        return run;
    guest_run_unref(run);
    return NULL;
}
