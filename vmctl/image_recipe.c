#include "vmctl/image_recipe.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "kernel/base/fd.h"
#include "kernel/base/json.h"

#define FILE_MAX       (64u << 10) /* the script travels as one string of an environment */
#define NAME_MAX_BYTES 64u
#define KERNEL         "linux-image-cloud-amd64"
#define DISK_MIB       4096
#define PACKAGE_CHARS  "abcdefghijklmnopqrstuvwxyz0123456789+.-"

struct settings {
    const char *description, *kernel;
    int64_t disk_mib, memory_mib;
    json_t *env;
    bool screen;
};

static const struct json_field fields[] = {
    { "description", "what the image is for", JSON_KIND_STRING, false,
      offsetof(struct settings, description), 0, 500 },
    { "kernel", "the Debian package with the kernel", JSON_KIND_STRING, false,
      offsetof(struct settings, kernel), 1, 100 },
    { "disk_mib", "the size of the disk", JSON_KIND_INT, false, offsetof(struct settings, disk_mib),
      256, 1 << 20, DISK_MIB },
    { "memory_mib", "the usual memory of its virtual machines", JSON_KIND_INT, false,
      offsetof(struct settings, memory_mib), 64, 1 << 20 },
    { "env", "variables that programs in them find", JSON_KIND_MAP, false,
      offsetof(struct settings, env), 0, 100 },
    { "screen", "whether they have a screen", JSON_KIND_BOOL, false,
      offsetof(struct settings, screen) },
    { .name = NULL },
};

/* Such a name means nothing to a shell. */
static bool is_package(const char *name)
{
    return *name && *name != '-' && *name != '.' && *name != '+' &&
           name[strspn(name, PACKAGE_CHARS)] == '\0';
}

static bool add_package(struct buf *out, const char *name, size_t number, struct error *err)
{
    if (!is_package(name))
        return error_set(err, ERR_INVALID, "packages:%zu: \"%.60s\" is no name of a package",
                         number, name);
    return buf_printf(out, "%s%s", out->len ? "," : "", name) ||
           error_set(err, ERR_NOMEM, "a recipe");
}

static bool read_packages(char *text, char **ret, struct error *err)
{
    CLEANUP(buf_fini) struct buf out = BUF_INIT;
    char *rest = text, *line;

    for (size_t number = 1; (line = strsep(&rest, "\n")); number++) {
        char *words = line, *word;

        line[strcspn(line, "#")] = '\0';
        while ((word = strsep(&words, " \t\r")))
            if (*word && !add_package(&out, word, number, err))
                return false;
    }
    if (out.len == 0)
        return error_set(err, ERR_INVALID, "packages: there is none");
    *ret = buf_take(&out, NULL);
    return *ret || error_set(err, ERR_NOMEM, "a recipe");
}

/* What is said of machines goes into the image's record as it stands. */
static json_t *about_machines(const json_t *object)
{
    static const char *const keys[] = { "memory_mib", "env", "screen" };
    CLEANUP(json_decrefp) json_t *about = json_object();

    for (size_t i = 0; about && i < ARRAY_LEN(keys); i++) {
        json_t *value = json_object_get(object, keys[i]);

        if (value && json_object_set(about, keys[i], value) != 0)
            return NULL;
    }
    return STEAL(about);
}

static bool read_settings(const char *text, size_t len, struct image_recipe *r, struct error *err)
{
    CLEANUP(json_decrefp) json_t *object = text ? json_parse(text, len, err) : NULL;
    struct settings s;

    if (text && !object)
        return error_prefix(err, "recipe.json");
    if (!json_fields_read(fields, object, &s, err))
        return error_prefix(err, "recipe.json");
    if (s.kernel && !is_package(s.kernel))
        return error_set(err, ERR_INVALID, "recipe.json: kernel: \"%.60s\" is no name of a package",
                         s.kernel);
    r->description = strdup(s.description ? s.description : "");
    r->kernel = strdup(s.kernel ? s.kernel : KERNEL);
    r->disk_mib = (uint64_t)s.disk_mib;
    r->machine = about_machines(object);
    return (r->description && r->kernel && r->machine) || error_set(err, ERR_NOMEM, "a recipe");
}

static void hash_part(struct sha256 *h, const char *what, const void *data, size_t len)
{
    uint64_t size = len;

    sha256_add(h, what, strlen(what) + 1);
    sha256_add(h, &size, sizeof size);
    sha256_add(h, data, len);
}

/* One file of the folder, kept or only hashed.  Takes @text. */
static bool take_file(struct image_recipe *r, const char *name, char *text, size_t len,
                      struct error *err)
{
    bool ok = true;

    if (!strcmp(name, "packages"))
        ok = read_packages(text, &r->packages, err);
    else if (!strcmp(name, "recipe.json"))
        ok = read_settings(text, len, r, err);
    else if (!strcmp(name, "script") && strlen(text) == len)
        r->script = STEAL(text);
    else
        ok = error_set(err, ERR_INVALID,
                       "%.100s: not a file of a recipe, which are packages, "
                       "recipe.json and script",
                       name);
    free(text);
    return ok;
}

static bool read_folder(int fd, struct image_recipe *r, struct sha256 *h, struct error *err)
{
    struct dirent **names;
    int count = scandirat(fd, ".", &names, NULL, alphasort);
    bool ok = count >= 0 || error_set_errno(err, errno, "read a recipe");

    for (int i = 0; i < count; i++) {
        const char *name = names[i]->d_name;
        size_t len = 0;

        if (ok && name[0] != '.') {
            char *text = fd_read_file(fd, name, FILE_MAX, &len, err);

            ok = text != NULL;
            if (ok)
                hash_part(h, name, text, len);
            ok = ok && take_file(r, name, text, len, err);
        }
        free(names[i]);
    }
    if (count >= 0)
        free(names);
    return ok;
}

/* "images/base/" is called "base". */
static bool take_name(const char *folder, struct image_recipe *r, struct error *err)
{
    char *full = realpath(folder, NULL);
    const char *slash = full ? strrchr(full, '/') : NULL;
    bool ok = slash && slash[1] && strlen(slash + 1) <= NAME_MAX_BYTES &&
              slash[1 + strspn(slash + 1, PACKAGE_CHARS "_ABCDEFGHIJKLMNOPQRSTUVWXYZ")] == '\0';

    if (!full)
        return error_set_errno(err, errno, "recipe %.300s", folder);
    r->name = ok ? strdup(slash + 1) : NULL;
    free(full);
    if (!ok)
        return error_set(err, ERR_INVALID,
                         "recipe %.300s: its folder needs a name of letters, digits and \"+.-_\"",
                         folder);
    return r->name || error_set(err, ERR_NOMEM, "a recipe");
}

static bool load(const char *folder, struct sha256 *h, struct image_recipe *r, struct error *err)
{
    CLEANUP(fd_closep) int fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    if (fd < 0)
        return error_set_errno(err, errno, "recipe %.300s", folder);
    if (!take_name(folder, r, err))
        return false;
    if (!read_folder(fd, r, h, err))
        return error_prefix(err, "recipe %.100s", r->name);
    if (!r->packages)
        return error_set(err, ERR_NOT_FOUND, "recipe %.100s: it has no file \"packages\"", r->name);
    if (!r->kernel && !read_settings(NULL, 0, r, err))
        return false;
    if (!r->script)
        r->script = strdup("");
    return r->script || error_set(err, ERR_NOMEM, "a recipe");
}

bool image_recipe_load(const char *folder, const char *builder, const char *architecture,
                       const char *suite, struct image_recipe *ret, struct error *err)
{
    struct image_recipe r = { .name = NULL };
    uint8_t digest[SHA256_BYTES];
    struct sha256 h;

    sha256_init(&h);
    hash_part(&h, "/builder", builder, strlen(builder));
    hash_part(&h, "/architecture", architecture, strlen(architecture));
    hash_part(&h, "/suite", suite, strlen(suite));
    if (!load(folder, &h, &r, err)) {
        image_recipe_fini(&r);
        return false;
    }
    hash_part(&h, "/name", r.name, strlen(r.name));
    sha256_end(&h, digest);
    sha256_hex(digest, r.hash);
    *ret = r;
    return true;
}

/* Beside the installed program, which is in bin or, where it is two, in lib/aios. */
static char *installed_folder(void)
{
    static const char *const ups[] = { "/..", "/../.." };
    char program[PATH_MAX];
    ssize_t len = readlink("/proc/self/exe", program, sizeof program - 1);
    char *slash, *folder;

    if (len < 0)
        return NULL;
    program[len] = '\0';
    slash = strrchr(program, '/');
    if (!slash)
        return NULL;
    *slash = '\0';
    for (size_t i = 0; i < ARRAY_LEN(ups); i++) {
        if (asprintf(&folder, "%s%s/share/aios/images", program, ups[i]) < 0)
            return NULL;
        if (access(folder, F_OK) == 0)
            return folder;
        free(folder);
    }
    return NULL;
}

char *image_recipe_folder(const char *name, const char *own, struct error *err)
{
    char *installed = installed_folder();
    const char *folders[] = { own, installed, AIOS_RECIPES };
    char *path = NULL;

    if (strchr(name, '/'))
        path = strdup(name);
    for (size_t i = 0; i < ARRAY_LEN(folders) && !path; i++) {
        if (!folders[i] || asprintf(&path, "%s/%s", folders[i], name) < 0) {
            path = NULL;
        } else if (access(path, F_OK) != 0) {
            free(path);
            path = NULL;
        }
    }
    free(installed);
    if (!path)
        error_set(err, ERR_NOT_FOUND,
                  "there is no recipe \"%.60s\" (a folder of your own is named by its path, or put "
                  "into %.200s)",
                  name, own ? own : "the configuration folder");
    return path;
}

void image_recipe_fini(struct image_recipe *r)
{
    free(r->name);
    free(r->description);
    free(r->packages);
    free(r->kernel);
    json_decref(r->machine);
    free(r->script);
    *r = (struct image_recipe){ .name = NULL };
}
