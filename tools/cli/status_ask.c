#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include "kernel/base/fd.h"
#include "kernel/base/json.h"
#include "kernel/base/paths.h"
#include "kernel/picture.h"
#include "tools/cli/status.h"

#define PATIENCE_S 30

/* ---- both sides ---- */

int status_folder(bool make, struct error *err)
{
    char *path = paths_get(PATHS_RUNTIME, STATUS_FOLDER, err);
    int fd = -1;

    if (path && (!make || fd_mkdirs(path, 0700, err))) {
        fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (fd < 0 && errno == ENOENT)
            error_set(err, ERR_NOT_FOUND, "no server has run here");
        else if (fd < 0)
            error_set_errno(err, errno, "open %s", path);
    }
    free(path);
    return fd;
}

void status_address(int folder, const char *name, struct sockaddr_un *ret)
{
    *ret = (struct sockaddr_un){ .sun_family = AF_UNIX };
    (void)snprintf(ret->sun_path, sizeof ret->sun_path, "/proc/self/fd/%d/%.60s", folder, name);
}

bool status_read_line(int fd, struct buf *ret, size_t max)
{
    char c;

    /* Byte by byte: what follows the line is not ours, and lines are few. */
    for (;;) {
        ssize_t n = recv(fd, &c, 1, 0);

        if (n < 0 && errno == EINTR)
            continue;
        if (n != 1)
            return false;
        if (c == '\n')
            return true;
        if (ret->len >= max || !buf_append_char(ret, c))
            return false;
    }
}

static bool is_socket_name(const char *name, long *ret_pid)
{
    char *end;

    *ret_pid = strtol(name, &end, 10);
    return end != name && *ret_pid > 0 && strcmp(end, STATUS_SUFFIX) == 0;
}

/* A connection, or -1 with errno. */
static int connect_to(int folder, const char *name)
{
    const struct timeval patience = { .tv_sec = PATIENCE_S };
    CLEANUP(fd_closep) int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_un address;

    status_address(folder, name, &address);
    if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience) != 0 ||
        setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience) != 0 ||
        connect(fd, (const struct sockaddr *)(const void *)&address, sizeof address) != 0)
        return -1;
    return fd_steal(&fd);
}

typedef bool name_fn(void *arg, int folder, const char *name, long pid);

static void each_name(int folder, name_fn *fn, void *arg)
{
    int again = openat(folder, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *dir = again >= 0 ? fdopendir(again) : NULL;
    bool more = true;

    if (!dir) {
        fd_close(again);
        return;
    }
    for (struct dirent *entry; more && (entry = readdir(dir));) {
        long pid;

        if (is_socket_name(entry->d_name, &pid))
            more = fn(arg, folder, entry->d_name, pid);
    }
    (void)closedir(dir);
}

static bool sweep_one(void *arg, int folder, const char *name, long pid)
{
    int fd = connect_to(folder, name);

    (void)arg;
    (void)pid;
    if (fd < 0 && errno == ECONNREFUSED)
        (void)unlinkat(folder, name, 0);
    fd_close(fd);
    return true;
}

void status_sweep_locked(int folder)
{
    each_name(folder, sweep_one, NULL);
}

/* ---- asking ---- */

static bool ask(int fd, json_t *question, json_t **ret, struct error *err)
{
    CLEANUP(buf_fini) struct buf text = BUF_INIT;
    CLEANUP(buf_fini) struct buf line = BUF_INIT;
    const char *why;
    bool ok = question && json_write(question, &text) && buf_append_char(&text, '\n');

    json_decref(question);
    if (!ok)
        return error_set(err, ERR_NOMEM, "a question");
    if (!fd_write_all(fd, text.data, text.len, err))
        return false;
    if (!status_read_line(fd, &line, STATUS_LINE_MAX))
        return error_set(err, ERR_TIMEOUT, "it does not answer");
    *ret = json_parse(buf_str(&line), line.len, err);
    if (!*ret)
        return false;
    why = json_string_value(json_object_get(*ret, "error"));
    if (!why)
        return true;
    error_set(err, ERR_IO, "%.200s", why);
    json_decref(STEAL(*ret));
    return false;
}

struct round {
    status_fn *fn;
    void *arg;
    bool left; /* by a killed server */
};

static bool ask_one(void *arg, int folder, const char *name, long pid)
{
    CLEANUP(fd_closep) int fd = connect_to(folder, name);
    struct error err = ERROR_INIT;
    struct round *r = arg;
    json_t *answer = NULL;

    if (fd < 0) {
        r->left |= errno == ECONNREFUSED;
        if (errno != ECONNREFUSED && errno != ENOENT)
            r->fn(r->arg, pid, NULL, strerror(errno));
        return true;
    }
    if (ask(fd, json_pack("{s:s}", "ask", "computers"), &answer, &err))
        r->fn(r->arg, pid, answer, NULL);
    else
        r->fn(r->arg, pid, NULL, err.text);
    json_decref(answer);
    return true;
}

bool status_each(status_fn *fn, void *arg, struct error *err)
{
    struct round r = { .fn = fn, .arg = arg };
    struct error why = ERROR_INIT;
    CLEANUP(fd_closep) int folder = status_folder(false, &why);
    long holder;

    if (folder < 0)
        return why.code == ERR_NOT_FOUND || error_set(err, why.code, "%s", why.text);
    each_name(folder, ask_one, &r);
    if (r.left) {
        CLEANUP(fd_closep) int lock = fd_lock(folder, "lock", &holder, NULL);

        if (lock >= 0)
            status_sweep_locked(folder);
    }
    return true;
}

/* ---- a screen ---- */

struct search {
    const char *computer;
    struct display_frame *ret;
    bool found;
    struct error err; /* of the server that has it */
};

static bool read_pixels(int fd, const json_t *head, struct display_frame *ret, struct error *err)
{
    json_int_t width = json_integer_value(json_object_get(head, "width"));
    json_int_t height = json_integer_value(json_object_get(head, "height"));
    uint8_t *rgb;
    ssize_t n;
    size_t len;

    if (width < 1 || width > PICTURE_EDGE_MAX || height < 1 || height > PICTURE_EDGE_MAX)
        return error_set(err, ERR_PROTOCOL, "the server's answer is no screen");
    len = (size_t)width * (size_t)height * 3;
    rgb = malloc(len);
    if (!rgb)
        return error_set(err, ERR_NOMEM, "a screen");
    n = fd_read_full(fd, rgb, len, err);
    if (n < 0 || (size_t)n != len) {
        free(rgb);
        return n < 0 ? false : error_set(err, ERR_LOST, "the server ended in the middle");
    }
    *ret =
        (struct display_frame){ .width = (uint32_t)width, .height = (uint32_t)height, .rgb = rgb };
    return true;
}

static bool has_computer(const json_t *answer, const char *computer)
{
    json_t *one;
    size_t i;

    json_array_foreach (json_object_get(answer, "computers"), i, one) {
        const char *handle = json_string_value(json_object_get(one, "computer"));

        if (handle && strcmp(handle, computer) == 0)
            return true;
    }
    return false;
}

static bool search_one(void *arg, int folder, const char *name, long pid)
{
    CLEANUP(fd_closep) int fd = connect_to(folder, name);
    struct search *s = arg;
    json_t *answer = NULL;

    (void)pid;
    if (fd >= 0 && ask(fd, json_pack("{s:s}", "ask", "computers"), &answer, NULL))
        s->found = has_computer(answer, s->computer);
    json_decref(answer);
    if (!s->found)
        return true;
    fd_close(fd);
    fd = connect_to(folder, name);
    answer = NULL;
    if (fd < 0)
        error_set_errno(&s->err, errno, "connect to the server");
    else if (ask(fd, json_pack("{s:s, s:s}", "ask", "screen", "computer", s->computer), &answer,
                 &s->err))
        (void)!read_pixels(fd, answer, s->ret, &s->err);
    json_decref(answer);
    return false;
}

bool status_screen(const char *computer, struct display_frame *ret, struct error *err)
{
    struct search s = { .computer = computer, .ret = ret, .err = ERROR_INIT };
    CLEANUP(fd_closep) int folder = status_folder(false, NULL);

    if (folder >= 0)
        each_name(folder, search_one, &s);
    if (!s.found)
        return error_set(err, ERR_NOT_FOUND,
                         "no running server has a computer \"%.60s\"; `aios ps` lists them",
                         computer);
    return s.err.code == ERR_NONE || error_set(err, s.err.code, "%s", s.err.text);
}
