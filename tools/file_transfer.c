/* file_transfer: the one tool that touches the host's files, in folders that were opened for it. */
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "kernel/base/clock.h"
#include "kernel/base/fd.h"
#include "kernel/base/id.h"
#include "kernel/base/limits.h"
#include "tools/file_internal.h"

/* A client that offers roots and does not answer has none. */
#define ROOTS_WAIT_NS (10 * CLOCK_NS_PER_S)

enum { TRANSFER_UPLOAD, TRANSFER_DOWNLOAD };
static const char *const directions[] = { "upload", "download", NULL };

const struct json_field file_transfer_fields[] = {
    { .name = "direction",
      .description = "upload: host_path to path",
      .kind = JSON_KIND_ENUM,
      .required = true,
      .offset = offsetof(struct file_transfer_args, direction),
      .choices = directions },
    { .name = "host_path",
      .description = "On the user's machine, absolute",
      .kind = JSON_KIND_STRING,
      .required = true,
      .offset = offsetof(struct file_transfer_args, host_path),
      .min = 1,
      .max = 4096 },
    { .name = "path",
      .kind = JSON_KIND_STRING,
      .required = true,
      .offset = offsetof(struct file_transfer_args, path),
      .min = 1,
      .max = 4096 },
    { .name = "overwrite",
      .description = "For download",
      .kind = JSON_KIND_BOOL,
      .offset = offsetof(struct file_transfer_args, overwrite) },
    TOOLKIT_COMPUTER_FIELD(struct file_transfer_args),
    { .name = NULL },
};

/* ---- which folders ---- */

/* The value of two hexadecimal digits, or -1. */
static int hex_byte(const char *text)
{
    int value = 0;

    for (int i = 0; i < 2; i++) {
        char c = text[i];

        if (!isxdigit((unsigned char)c))
            return -1;
        value = value * 16 + (c <= '9' ? c - '0' : (c | 0x20) - 'a' + 10);
    }
    return value;
}

/* The path of a file: URI, percent-encoding undone, into @buf; false for other URIs. */
static bool uri_path(const char *uri, char *buf, size_t size)
{
    size_t n = 0;

    if (strncmp(uri, "file://", 7) != 0)
        return false;
    uri += 7;
    if (strncmp(uri, "localhost/", 10) == 0)
        uri += 9;
    if (*uri != '/')
        return false;
    while (*uri && n + 1 < size) {
        int byte = uri[0] == '%' ? hex_byte(uri + 1) : 0;

        if (byte > 0) {
            buf[n++] = (char)byte;
            uri += 3;
        } else {
            buf[n++] = *uri++;
        }
    }
    buf[n] = '\0';
    return *uri == '\0';
}

/* What of @path lies below @root (without a leading slash), or NULL. */
static const char *below(const char *root, const char *path)
{
    size_t len = strlen(root);

    while (len > 1 && root[len - 1] == '/')
        len--;
    if (strncmp(root, path, len) != 0 || (len > 1 && path[len] != '/'))
        return NULL;
    path += len;
    while (*path == '/')
        path++;
    return *path ? path : NULL;
}

/* The allowed folders of one direction: the configuration's and the client's. */
static json_t *allowed_roots(struct tool_call *call, int direction, struct error *err)
{
    const struct config *config = kernel_config(call->kernel);
    const json_t *configured =
        direction == TRANSFER_UPLOAD ? config->files.upload_from : config->files.download_to;
    json_t *roots = json_array();
    json_t *client = NULL;
    size_t i;
    json_t *item;

    json_array_foreach (configured, i, item)
        if (!roots || json_array_append(roots, item) != 0)
            goto nomem;
    if (config->files.client_roots && call->peer) {
        struct error none = ERROR_INIT;
        struct wait wait = { .deadline_ns = MIN(call->wait.deadline_ns,
                                                clock_add_ns(clock_now_ns(), ROOTS_WAIT_NS)),
                             .cancel = call->wait.cancel };

        client = call->peer->roots(call->peer_arg, &wait, &none);
    }
    json_array_foreach (client, i, item) {
        char path[FILE_PATH_MAX];

        if (uri_path(json_string_value(item), path, sizeof path) &&
            (!roots || json_array_append_new(roots, json_string(path)) != 0))
            goto nomem;
    }
    json_decref(client);
    return roots;
nomem:
    json_decref(client);
    json_decref(roots);
    error_set(err, ERR_NOMEM, "the allowed folders");
    return NULL;
}

static bool refuse_path(const json_t *roots, const struct file_transfer_args *a, struct error *err)
{
    CLEANUP(buf_fini) struct buf list = BUF_INIT;
    const char *key = a->direction == TRANSFER_UPLOAD ? "files.upload_from" : "files.download_to";
    size_t i;
    json_t *item;

    json_array_foreach (roots, i, item)
        buf_printf(&list, "%s%s", i > 0 ? ", " : "", json_string_value(item));
    if (list.len == 0)
        return error_set(err, ERR_DENIED,
                         "no folder of the user's machine is open for %s; the user can name some "
                         "in the configuration (%s)",
                         directions[a->direction], key);
    return error_set(err, ERR_DENIED,
                     "%s is in no folder that is open for %s; those are: %s (configuration key %s)",
                     a->host_path, directions[a->direction], buf_str(&list), key);
}

/* A name that begins with a dot may be a shell's, git's or ssh's own file, which programs obey. */
static bool hidden_component(const char *path)
{
    if (path[0] == '.')
        return true;
    return strstr(path, "/.") != NULL;
}

/* The folder's descriptor, and *ret_rest below it. */
static int open_root(struct tool_call *call, const struct file_transfer_args *a,
                     const char **ret_rest, struct error *err)
{
    json_t *roots = allowed_roots(call, a->direction, err);
    int fd = -1;
    size_t i;
    json_t *item;

    if (!roots)
        return -1;
    *ret_rest = NULL;
    json_array_foreach (roots, i, item) {
        *ret_rest = below(json_string_value(item), a->host_path);
        if (!*ret_rest)
            continue;
        fd = open(json_string_value(item), O_PATH | O_DIRECTORY | O_CLOEXEC);
        if (fd >= 0)
            break;
    }
    if (fd < 0) {
        if (*ret_rest)
            error_set_errno(err, errno, "open the folder that %s is in", a->host_path);
        else
            refuse_path(roots, a, err);
    }
    json_decref(roots);
    return fd;
}

/* Below @root and nowhere else, through no link: what the check saw is what is opened. */
static int open_below(int root, const char *path, uint64_t flags, uint64_t mode)
{
    /* A FIFO must not block; O_PATH opens nothing that could, and takes no such flag. */
    uint64_t careful = flags & O_PATH ? O_CLOEXEC : O_CLOEXEC | O_NOCTTY | O_NONBLOCK;
    struct open_how how = { .flags = flags | careful,
                            .mode = mode,
                            .resolve =
                                RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS | RESOLVE_NO_SYMLINKS };

    return (int)syscall(SYS_openat2, root, path, &how, sizeof how);
}

/* ---- upload ---- */

static bool read_host(int root, const char *rest, const char *shown, struct buf *out,
                      struct error *err)
{
    CLEANUP(fd_closep) int fd = open_below(root, rest, O_RDONLY, 0);
    struct stat st;
    ssize_t n;

    if (fd < 0 || fstat(fd, &st) < 0)
        return error_set_errno(err, errno, "open %s on the user's machine", shown);
    if (!S_ISREG(st.st_mode))
        return error_set(err, ERR_INVALID, "%s is not a regular file; transfer files one by one",
                         shown);
    if (st.st_size > (off_t)LIMIT_FILE_TRANSFER)
        return error_set(err, ERR_LIMIT, "%s has %lld bytes; at most %u can be transferred", shown,
                         (long long)st.st_size, LIMIT_FILE_TRANSFER);
    if (!buf_reserve(out, (size_t)st.st_size + 1))
        return error_set(err, ERR_NOMEM, "%lld bytes", (long long)st.st_size);
    n = fd_read_full(fd, out->data, (size_t)st.st_size, err);
    if (n < 0)
        return false;
    out->len = (size_t)n;
    return true;
}

static bool upload(struct tool_call *call, const struct file_transfer_args *a, struct computer *c,
                   const char *path, struct error *err)
{
    CLEANUP(buf_fini) struct buf data = BUF_INIT;
    const char *rest;
    CLEANUP(fd_closep) int root = open_root(call, a, &rest, err);

    if (root < 0 || !read_host(root, rest, a->host_path, &data, err))
        return false;
    if (!guest_write_file(computer_guest(c), "/", path, buf_str(&data), data.len, 0644,
                          WIRE_WRITE_CREATE | WIRE_WRITE_PARENTS | WIRE_WRITE_ATOMIC, &call->wait,
                          err))
        return error_prefix(err, "write %s", path);
    return result_printf(call->result, err, "Uploaded %s to %s (%zu bytes).", a->host_path, path,
                         data.len);
}

/* ---- download ---- */

/* Written beside under a name of its own, then put in place in one step. */
static bool write_host(int root, const char *rest, const struct file_transfer_args *a,
                       const struct buf *data, struct error *err)
{
    const char *slash = strrchr(rest, '/');
    const char *name = slash ? slash + 1 : rest;
    char folder[FILE_PATH_MAX] = ".";
    struct id temporary = id_make("part");
    CLEANUP(fd_closep) int dir = -1;
    CLEANUP(fd_closep) int fd = -1;
    bool ok;

    if (slash)
        snprintf(folder, sizeof folder, "%.*s", (int)(slash - rest), rest);
    dir = open_below(root, folder, O_PATH | O_DIRECTORY, 0);
    if (dir < 0)
        return error_set_errno(err, errno, "open the folder of %s on the user's machine",
                               a->host_path);
    fd = open_below(dir, temporary.text, O_WRONLY | O_CREAT | O_EXCL, 0644);
    if (fd < 0)
        return error_set_errno(err, errno, "write in the folder of %s", a->host_path);
    ok = fd_set_nonblock(fd, false, err) && fd_write_all(fd, buf_str(data), data->len, err);
    if (ok && syscall(SYS_renameat2, dir, temporary.text, dir, name, a->overwrite ? 0 : 1) < 0) {
        ok = errno == EEXIST
                 ? error_set(
                       err, ERR_EXISTS,
                       "%s exists on the user's machine; send overwrite if it is to be replaced",
                       a->host_path)
                 : error_set_errno(err, errno, "put %s in place", a->host_path);
    }
    if (!ok)
        (void)unlinkat(dir, temporary.text, 0);
    return ok;
}

static bool download(struct tool_call *call, const struct file_transfer_args *a, struct computer *c,
                     const char *path, struct error *err)
{
    CLEANUP(buf_fini) struct buf data = BUF_INIT;
    const char *rest;
    CLEANUP(fd_closep) int root = open_root(call, a, &rest, err);
    struct wire_stat st;

    if (root < 0)
        return false;
    if (hidden_component(rest))
        return error_set(err, ERR_DENIED,
                         "%s: files and folders whose names begin with a dot are not written on "
                         "the user's machine, because programs obey them; choose another name",
                         a->host_path);
    if (!guest_read_file(computer_guest(c), "/", path, 0, LIMIT_FILE_TRANSFER + 1, &data, &st,
                         &call->wait, err))
        return file_explain(err, path);
    if (data.len > LIMIT_FILE_TRANSFER)
        return error_set(err, ERR_LIMIT, "%s is larger than %u bytes; split it first", path,
                         LIMIT_FILE_TRANSFER);
    if (!write_host(root, rest, a, &data, err))
        return false;
    return result_printf(call->result, err, "Downloaded %s to %s (%zu bytes).", path, a->host_path,
                         data.len);
}

bool file_transfer(struct tool_call *call, const void *args, struct error *err)
{
    const struct file_transfer_args *a = args;
    CLEANUP(computer_unrefp) struct computer *c = NULL;
    char path[FILE_PATH_MAX];

    if (!file_path(a->path, path, err))
        return false;
    if (a->host_path[0] != '/')
        return error_set(err, ERR_INVALID, "host_path must be absolute");
    c = toolkit_computer(call, a->computer, err);
    if (!c)
        return false;
    return a->direction == TRANSFER_UPLOAD ? upload(call, a, c, path, err)
                                           : download(call, a, c, path, err);
}
