#include "vmctl/initramfs.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "kernel/base/fd.h"
#include "vmctl/cpio.h"

#define INDEX_MAX   (8u << 20)  /* modules.dep */
#define MODULE_MAX  (64u << 20) /* one module */
#define MODULES_MAX 64u

/* The modules to load, in that order: slices of the text of modules.dep. */
struct order {
    const char *paths[MODULES_MAX];
    size_t lens[MODULES_MAX];
    size_t count;
};

/* ---- which modules ---- */

static const char *base_of(const char *path, size_t len, size_t *ret_len)
{
    size_t at = len;

    while (at && path[at - 1] != '/')
        at--;
    *ret_len = len - at;
    return path + at;
}

/* A module is called by its name with either sign, and its file has either. */
static bool is_named(const char *path, size_t len, const char *name)
{
    size_t base_len, name_len = strlen(name);
    const char *base = base_of(path, len, &base_len);

    if (base_len < name_len + 3 || strncmp(base + name_len, ".ko", 3) != 0)
        return false;
    for (size_t i = 0; i < name_len; i++) {
        char a = base[i] == '-' ? '_' : base[i];
        char b = name[i] == '-' ? '_' : name[i];

        if (a != b)
            return false;
    }
    return true;
}

static bool add_module(struct order *order, const char *path, size_t len)
{
    for (size_t i = 0; i < order->count; i++) {
        if (order->lens[i] == len && !memcmp(order->paths[i], path, len))
            return true;
    }
    if (order->count == MODULES_MAX)
        return false;
    order->paths[order->count] = path;
    order->lens[order->count++] = len;
    return true;
}

/* "a.ko: b.ko c.ko" means that c, then b, must be there before a. */
static bool add_line(struct order *order, const char *line, size_t len)
{
    const char *colon = memchr(line, ':', len);
    size_t end = len;

    if (!colon)
        return add_module(order, line, len);
    while (end > (size_t)(colon - line) + 1) {
        size_t at = end;

        while (line[at - 1] != ' ' && line[at - 1] != ':')
            at--;
        if (at < end && !add_module(order, line + at, end - at))
            return false;
        end = line[at - 1] == ':' ? at - 1 : at;
        while (end > (size_t)(colon - line) + 1 && line[end - 1] == ' ')
            end--;
    }
    return add_module(order, line, (size_t)(colon - line));
}

/* The line of the index whose first word is the module's file. */
static const char *find_line(const char *index, const char *name, size_t *ret_len)
{
    for (const char *line = index; *line;) {
        size_t len = strcspn(line, "\n");
        size_t first = strcspn(line, ":\n");

        if (is_named(line, first, name)) {
            *ret_len = len;
            return line;
        }
        line += len + (line[len] == '\n');
    }
    return NULL;
}

static bool choose_modules(const struct initramfs_plan *plan, const char *index,
                           const char *builtin, struct order *order, struct error *err)
{
    for (const char *const *name = plan->modules; *name; name++) {
        size_t len;
        const char *line = find_line(index, *name, &len);

        if (!line && find_line(builtin, *name, &len))
            continue;
        if (!line)
            return error_set(err, ERR_NOT_FOUND, "the kernel in %s has no module \"%s\"",
                             plan->modules_dir, *name);
        if (!add_line(order, line, len))
            return error_set(err, ERR_LIMIT, "more than %u modules", MODULES_MAX);
    }
    return true;
}

static char *read_below(const char *dir, const char *name, size_t name_len, size_t max,
                        size_t *ret_len, struct error *err)
{
    CLEANUP(buf_fini) struct buf path = BUF_INIT;

    if (!buf_printf(&path, "%s/%.*s", dir, (int)name_len, name)) {
        error_set(err, ERR_NOMEM, "the path of a module");
        return NULL;
    }
    return fd_read_file(AT_FDCWD, path.data, max, ret_len, err);
}

/* ---- the archive ---- */

static bool put_modules(struct cpio *c, const struct initramfs_plan *plan,
                        const struct order *order, struct error *err)
{
    CLEANUP(buf_fini) struct buf names = BUF_INIT;

    cpio_dir(c, "modules", 0755);
    for (size_t i = 0; i < order->count; i++) {
        size_t base_len, len;
        const char *base = base_of(order->paths[i], order->lens[i], &base_len);
        char name[CPIO_NAME_MAX + 1];
        char *data;

        if (base_len < 3 || memcmp(base + base_len - 3, ".ko", 3) != 0)
            return error_set(err, ERR_UNSUPPORTED, "module %.*s is compressed", (int)base_len,
                             base);
        data =
            read_below(plan->modules_dir, order->paths[i], order->lens[i], MODULE_MAX, &len, err);
        if (!data)
            return false;
        (void)snprintf(name, sizeof name, "modules/%.*s", (int)base_len, base);
        cpio_file(c, name, 0644, data, len);
        free(data);
        (void)buf_printf(&names, "%.*s\n", (int)base_len, base);
    }
    cpio_file(c, "modules/order", 0644, buf_str(&names), names.len);
    return !names.failed || error_set(err, ERR_NOMEM, "an initramfs");
}

/* The folders of @name that no file before has brought. */
static void put_folders(struct cpio *c, const struct initramfs_file *files, size_t index)
{
    const char *name = files[index].name;

    for (const char *slash = strchr(name, '/'); slash; slash = strchr(slash + 1, '/')) {
        size_t len = (size_t)(slash - name) + 1;
        char folder[CPIO_NAME_MAX + 1];
        bool there = false;

        for (size_t i = 0; i < index && !there; i++)
            there = !strncmp(files[i].name, name, len);
        if (there || len > CPIO_NAME_MAX)
            continue;
        memcpy(folder, name, len - 1);
        folder[len - 1] = '\0';
        cpio_dir(c, folder, 0755);
    }
}

static void put_files(struct cpio *c, const struct initramfs_plan *plan)
{
    for (size_t i = 0; i < plan->file_count; i++) {
        const struct initramfs_file *f = &plan->files[i];

        put_folders(c, plan->files, i);
        if (f->target)
            cpio_link(c, f->name, f->target);
        else
            cpio_file(c, f->name, f->permissions, f->data, f->len);
    }
}

int initramfs_make(const struct initramfs_plan *plan, struct error *err)
{
    CLEANUP(cpio_fini) struct cpio c = { .count = 0 };
    struct order order = { .count = 0 };
    char *index, *builtin = NULL;
    int fd = -1;
    bool ok;

    index = read_below(plan->modules_dir, "modules.dep", 11, INDEX_MAX, NULL, err);
    if (index)
        builtin = read_below(plan->modules_dir, "modules.builtin", 15, INDEX_MAX, NULL, err);
    ok = builtin && choose_modules(plan, index, builtin, &order, err);
    if (ok) {
        cpio_dir(&c, "dev", 0755);
        cpio_dir(&c, "proc", 0755);
        cpio_file(&c, "init", 0755, plan->early, plan->early_len);
        cpio_file(&c, "aios-guest", 0755, plan->guest, plan->guest_len);
        ok = put_modules(&c, plan, &order, err);
    }
    if (ok) {
        put_files(&c, plan);
        ok = cpio_end(&c) || error_set(err, ERR_NOMEM, "an initramfs");
    }
    if (ok)
        fd = fd_sealed_memfd("initramfs", c.out.data, c.out.len, err);
    /* QEMU opens it once more, as somebody who is not its owner. */
    if (fd >= 0 && fchmod(fd, 0444) != 0) {
        error_set_errno(err, errno, "an initramfs");
        fd_close(fd_steal(&fd));
    }
    free(index);
    free(builtin);
    return fd;
}
