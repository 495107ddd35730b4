#include "vmctl/image_build.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "kernel/base/fd.h"
#include "vmctl/image.h"
#include "vmctl/image_program.h"
#include "vmctl/image_recipe.h"

/* Another way of building is another image: count up. */
#define BUILDER    "1"
#define EPOCH      "1700000000" /* no file in an image is younger */
#define KEYRING    "/usr/share/keyrings/debian-archive-keyring.gpg"
#define KERNEL_DIR "/aios-kernel" /* in the new system, for a moment */
#define OUTPUT_MAX (1u << 20)
#define STATUS_MAX (64u << 20)
#define TEXT_MAX   128

struct work {
    const struct image_build *b;
    const char *path; /* of the unfinished image */
    struct image_recipe recipe;
    char architecture[TEXT_MAX], suite[TEXT_MAX];
    struct buf sources; /* lines as of sources.list */
    int lock;           /* children keep it: who is killed is not followed before they are gone */
};

static void say(const struct work *w, const char *text)
{
    if (w->b->say)
        w->b->say(w->b->arg, text);
}

static char *below(const struct work *w, const char *name, struct error *err)
{
    char *path = NULL;

    if (asprintf(&path, "%s/%s", w->path, name) >= 0)
        return path;
    error_set(err, ERR_NOMEM, "a path");
    return NULL;
}

static void free_text(char **text)
{
    free(*text);
}

static bool run(const struct work *w, const char *const *argv, const char *const *env,
                struct buf *out, struct error *err)
{
    return image_program_run(&(struct image_program){ .argv = argv,
                                                      .env = env,
                                                      .out = out,
                                                      .deadline_ns = w->b->deadline_ns,
                                                      .hold_fd = w->lock },
                             err);
}

/* ---- this machine ---- */

static bool need_programs(struct error *err)
{
    static const struct {
        const char *name, *package;
        bool rootless;
    } programs[] = {
        { "mmdebstrap", "mmdebstrap", false },
        { "mke2fs", "e2fsprogs", false },
        { "debugfs", "e2fsprogs", false },
        { "depmod", "kmod", false },
        { "dpkg-deb", "dpkg", false },
        { "apt-get", "apt", false },
        { "tar", "tar", false },
        { "newuidmap", "uidmap", true },
        { "fakeroot", "fakeroot", true },
    };

    for (size_t i = 0; i < ARRAY_LEN(programs); i++) {
        if (programs[i].rootless && geteuid() == 0)
            continue;
        if (!image_program_need(programs[i].name, programs[i].package, err))
            return false;
    }
    return true;
}

/* "Debian|https://…/debian/|bookworm|main|bookworm": a line of sources.list, and the suite. */
static bool take_source(struct work *w, char *line)
{
    const char *word[5];

    for (size_t i = 0; i < ARRAY_LEN(word); i++) {
        word[i] = strsep(&line, "|");
        if (!word[i])
            return true;
    }
    if (strcmp(word[0], "Debian") != 0)
        return true;
    if (!w->suite[0] && !strchr(word[4], '-'))
        (void)snprintf(w->suite, sizeof w->suite, "%s", word[4]);
    return buf_printf(&w->sources, "deb %s%s %s %s\n",
                      access(KEYRING, R_OK) == 0 ? "[signed-by=" KEYRING "] " : "", word[1],
                      word[2], word[3]);
}

static bool ask_machine(struct work *w, struct error *err)
{
    static const char *const dpkg[] = { "dpkg", "--print-architecture", NULL };
    static const char *const apt[] = { "apt-get",
                                       "indextargets",
                                       "--format",
                                       "$(ORIGIN)|$(REPO_URI)|$(RELEASE)|$(COMPONENT)|$(CODENAME)",
                                       "Created-By: Packages",
                                       NULL };
    CLEANUP(buf_fini) struct buf arch = { .max = OUTPUT_MAX };
    CLEANUP(buf_fini) struct buf targets = { .max = OUTPUT_MAX };
    char *rest, *line;

    if (!run(w, dpkg, NULL, &arch, err) || !run(w, apt, NULL, &targets, err))
        return false;
    (void)snprintf(w->architecture, sizeof w->architecture, "%.*s",
                   (int)strcspn(buf_str(&arch), "\n"), buf_str(&arch));
    rest = targets.data;
    while ((line = strsep(&rest, "\n")))
        if (!take_source(w, line))
            return error_set(err, ERR_NOMEM, "the sources of packages");
    if (!w->suite[0])
        return error_set(err, ERR_UNSUPPORTED,
                         "apt of this machine has no source of Debian's packages that it has read: "
                         "give it one, and run apt-get update");
    return true;
}

/* ---- packages to a tree ---- */

static bool write_sources(const struct work *w, char **ret, struct error *err)
{
    *ret = below(w, "work/sources.list", err);
    return *ret && fd_replace_file(*ret, w->sources.data, w->sources.len, 0644, err);
}

static bool make_tree(const struct work *w, struct error *err)
{
    static const char *const download =
        "--customize-hook=mkdir \"$1" KERNEL_DIR "\" && chroot \"$1\" sh -c 'cd " KERNEL_DIR
        " && real=$(apt-cache depends \"$AIOS_KERNEL\" | "
        "sed -n \"s/^ *Depends: \\(linux-image-[0-9].*\\)/\\1/p\" | head -n 1) && "
        "apt-get -q download \"${real:-$AIOS_KERNEL}\"'";
    static const char *const drop = "--customize-hook=rm -r \"$1" KERNEL_DIR "\"";
    static const char *const run_script =
        "--customize-hook=chroot \"$1\" /bin/sh -c \"$AIOS_SCRIPT\"";
    CLEANUP(free_text) char *sources = NULL;
    CLEANUP(free_text) char *archive = below(w, IMAGE_ARCHIVE, err);
    CLEANUP(buf_fini)
    struct buf include = BUF_INIT, architecture = BUF_INIT, carry = BUF_INIT, script = BUF_INIT,
               kernel = BUF_INIT, tmp = BUF_INIT;

    if (!archive || !write_sources(w, &sources, err))
        return false;
    if (!buf_printf(&include, "--include=%s", w->recipe.packages) ||
        !buf_printf(&architecture, "--architectures=%s", w->architecture) ||
        !buf_printf(&carry, "--customize-hook=copy-out %s '%s/work'", KERNEL_DIR, w->path) ||
        !buf_printf(&script, "AIOS_SCRIPT=%s", w->recipe.script) ||
        !buf_printf(&kernel, "AIOS_KERNEL=%s", w->recipe.kernel) ||
        !buf_printf(&tmp, "TMPDIR=%s/work", w->path))
        return error_set(err, ERR_NOMEM, "an order");

    const char *const argv[] = { "mmdebstrap", geteuid() == 0 ? "--mode=root" : "--mode=unshare",
                                 "--variant=apt", "--format=tar", architecture.data, include.data,
                                 "--aptopt=APT::Install-Recommends \"false\"",
                                 /* Its own user cannot enter our folder, and would then own other
                                  * files for root than for others. */
                                 "--aptopt=APT::Sandbox::User \"root\"",
                                 "--dpkgopt=path-exclude=/usr/share/doc/*",
                                 "--dpkgopt=path-include=/usr/share/doc/*/copyright",
                                 "--dpkgopt=path-exclude=/usr/share/man/*",
                                 "--dpkgopt=path-exclude=/usr/share/info/*",
                                 "--dpkgopt=path-exclude=/usr/share/locale/*", run_script, download,
                                 carry.data, drop, w->suite, archive, sources, NULL };
    /* As root its own folder is within ours, so that one sweep takes all.  Mapped users could not
     * enter there. */
    static const char *const epoch = "SOURCE_DATE_EPOCH=" EPOCH;
    const char *const env[] = { epoch, script.data, kernel.data, geteuid() == 0 ? tmp.data : NULL,
                                NULL };

    return run(w, argv, env, NULL, err);
}

/* ---- a tree to a disk ---- */

/* How many inodes are in use, which are the first ones. */
static bool count_inodes(const char *disk, uint32_t *ret, struct error *err)
{
    CLEANUP(fd_closep) int fd = open(disk, O_RDONLY | O_CLOEXEC);
    uint8_t super[20];
    uint32_t total = 0, unused = 0;

    if (fd < 0 || pread(fd, super, sizeof super, 1024) != (ssize_t)sizeof super)
        return error_set_errno(err, errno, "read %.300s", disk);
    for (int i = 3; i >= 0; i--) {
        total = total << 8 | super[i];
        unused = unused << 8 | super[16 + i];
    }
    if (unused > total)
        return error_set(err, ERR_PROTOCOL, "%.300s is no ext4 disk", disk);
    *ret = total - unused;
    return true;
}

/* mke2fs copies from the tree when each inode was last changed and read, which is now. */
static bool set_times(const struct work *w, const char *disk, const char *const *env,
                      struct error *err)
{
    CLEANUP(free_text) char *path = below(w, "work/times", err);
    CLEANUP(buf_fini) struct buf text = BUF_INIT;
    CLEANUP(buf_fini) struct buf out = { .max = OUTPUT_MAX };
    uint32_t inodes = 0;

    if (!path || !count_inodes(disk, &inodes, err))
        return false;
    for (uint32_t i = 2; i <= inodes; i++)
        if (!buf_printf(&text,
                        "sif <%" PRIu32 "> ctime " EPOCH "\nsif <%" PRIu32 "> atime " EPOCH "\n", i,
                        i))
            return error_set(err, ERR_NOMEM, "the times of a disk");

    const char *const argv[] = { "debugfs", "-w", "-f", path, disk, NULL };

    return fd_replace_file(path, text.data, text.len, 0600, err) && run(w, argv, env, &out, err);
}

static bool make_disk(const struct work *w, struct error *err)
{
    static const char *const script =
        "mkdir \"$1/work/tree\" && tar -xpf \"$1/" IMAGE_ARCHIVE "\" --numeric-owner "
        "-C \"$1/work/tree\" && "
        "mke2fs -q -F -t ext4 -m 0 -L aios -O ^has_journal -U \"$2\" "
        "-E hash_seed=\"$2\",lazy_itable_init=0,assume_storage_prezeroed=1,root_owner=0:0 "
        "-d \"$1/work/tree\" \"$1/" IMAGE_DISK "\" \"$3M\" >&2";
    static const char *const env[] = { "E2FSPROGS_FAKE_TIME=" EPOCH, "SOURCE_DATE_EPOCH=" EPOCH,
                                       NULL };
    CLEANUP(free_text) char *disk = below(w, IMAGE_DISK, err);
    const char *hash = w->recipe.hash;
    char uuid[40], size[24];
    const char *const argv[] = { "fakeroot", "sh", "-c", script, "sh", w->path, uuid, size, NULL };

    if (!disk)
        return false;
    (void)snprintf(uuid, sizeof uuid, "%.8s-%.4s-%.4s-%.4s-%.12s", hash, hash + 8, hash + 12,
                   hash + 16, hash + 20);
    (void)snprintf(size, sizeof size, "%" PRIu64, w->recipe.disk_mib);
    return run(w, geteuid() == 0 ? argv + 1 : argv, env, NULL, err) && set_times(w, disk, env, err);
}

/* ---- the kernel ---- */

/* The one name in @dir that begins with @prefix, for free(). */
static char *only_name(const char *dir, const char *prefix, struct error *err)
{
    struct dirent **names;
    int count = scandir(dir, &names, NULL, alphasort);
    char *found = NULL;

    if (count < 0) {
        error_set_errno(err, errno, "read %.300s", dir);
        return NULL;
    }
    for (int i = 0; i < count; i++) {
        if (!found && names[i]->d_name[0] != '.' &&
            strncmp(names[i]->d_name, prefix, strlen(prefix)) == 0)
            found = strdup(names[i]->d_name);
        free(names[i]);
    }
    free(names);
    if (!found)
        error_set(err, ERR_NOT_FOUND, "%.200s has no %s", dir, *prefix ? prefix : "files");
    return found;
}

static char *unpack_kernel(const struct work *w, struct error *err)
{
    CLEANUP(free_text) char *dir = below(w, "work" KERNEL_DIR, err);
    CLEANUP(free_text) char *name = dir ? only_name(dir, "linux-image-", err) : NULL;
    CLEANUP(free_text) char *package = NULL;
    char *tree = below(w, "work/kernel", name ? err : NULL);

    if (!name || !tree || asprintf(&package, "%s/%s", dir, name) < 0) {
        free(tree);
        return NULL;
    }

    const char *const argv[] = { "dpkg-deb", "-x", package, tree, NULL };

    if (run(w, argv, NULL, NULL, err))
        return tree;
    free(tree);
    return NULL;
}

static bool move(const char *dir, const char *name, const struct work *w, const char *to,
                 struct error *err)
{
    CLEANUP(free_text) char *from = NULL;
    CLEANUP(free_text) char *path = below(w, to, err);

    if (!path)
        return false;
    if (asprintf(&from, "%s/%s", dir, name) < 0)
        return error_set(err, ERR_NOMEM, "a path");
    return rename(from, path) == 0 || error_set_errno(err, errno, "move %.200s", from);
}

static bool keep_kernel(const struct work *w, struct error *err)
{
    CLEANUP(free_text) char *tree = unpack_kernel(w, err);
    CLEANUP(free_text) char *boot = NULL;
    CLEANUP(free_text) char *image = NULL;
    CLEANUP(free_text) char *modules = NULL;
    CLEANUP(free_text) char *release = NULL;

    if (!tree)
        return false;
    if (asprintf(&boot, "%s/boot", tree) < 0 || asprintf(&modules, "%s/lib", tree) < 0)
        return error_set(err, ERR_NOMEM, "a path");
    if (access(modules, F_OK) != 0 && symlink("usr/lib", modules) != 0)
        return error_set_errno(err, errno, "the modules of the kernel");
    free(modules);
    modules = NULL;
    if (asprintf(&modules, "%s/lib/modules", tree) < 0)
        return error_set(err, ERR_NOMEM, "a path");
    image = only_name(boot, "vmlinuz-", err);
    release = image ? only_name(modules, "", err) : NULL;
    if (!release)
        return false;

    const char *const argv[] = { "depmod", "-b", tree, release, NULL };

    return run(w, argv, NULL, NULL, err) && move(boot, image, w, IMAGE_KERNEL, err) &&
           move(modules, "", w, IMAGE_MODULES, err);
}

/* ---- the record ---- */

/* "Package: bash\n…Status: install ok installed\n…Version: 5\n": one paragraph a package. */
static bool add_versions(json_t *versions, char *status)
{
    char *rest = status, *line;
    const char *name = "", *version = "";
    bool installed = false, ok = true;

    while (ok && (line = strsep(&rest, "\n"))) {
        if (!strncmp(line, "Package: ", 9))
            name = line + 9;
        else if (!strncmp(line, "Version: ", 9))
            version = line + 9;
        else if (!strcmp(line, "Status: install ok installed"))
            installed = true;
        else if (!*line) {
            ok = !installed || json_object_set_new(versions, name, json_string(version)) == 0;
            name = version = "";
            installed = false;
        }
    }
    return ok;
}

static bool add_name(json_t *about, const char *key, const struct work *w, const char *folder,
                     const char *prefix, struct error *err)
{
    char *dir = below(w, folder, err);
    char *name = dir ? only_name(dir, prefix, err) : NULL;
    bool ok = name != NULL;

    if (name && json_object_set_new(about, key, json_string(name)) != 0)
        ok = error_set(err, ERR_NOMEM, "the record of an image");
    free(name);
    free(dir);
    return ok;
}

static bool add_kernel_version(const struct work *w, json_t *about, struct error *err)
{
    return add_name(about, "kernel", w, IMAGE_MODULES, "", err) &&
           add_name(about, "kernel_package", w, "work" KERNEL_DIR, "linux-image-", err);
}

static json_t *describe(const struct work *w, struct error *err)
{
    CLEANUP(free_text) char *path = below(w, "work/tree/var/lib/dpkg/status", err);
    CLEANUP(free_text) char *status = NULL;
    CLEANUP(json_decrefp) json_t *versions = json_object();
    CLEANUP(json_decrefp)
    json_t *about =
        json_pack("{s:s, s:s, s:s, s:s, s:s, s:O*}", "name", w->recipe.name, "description",
                  w->recipe.description, "builder", BUILDER, "architecture", w->architecture,
                  "suite", w->suite, "packages", versions);
    size_t len;

    if (!path)
        return NULL;
    status = fd_read_file(AT_FDCWD, path, STATUS_MAX, &len, err);
    if (!status)
        return NULL;
    if (!about || !versions || !add_versions(versions, status) ||
        json_object_update(about, w->recipe.machine) != 0) {
        error_set(err, ERR_NOMEM, "the record of an image");
        return NULL;
    }
    return add_kernel_version(w, about, err) ? STEAL(about) : NULL;
}

/* ---- all of it ---- */

static bool fill(const struct work *w, json_t **ret_about, struct error *err)
{
    CLEANUP(free_text) char *room = below(w, "work", err);

    if (!room || !fd_mkdirs(room, 0755, err))
        return false;
    say(w, "installing packages");
    if (!make_tree(w, err))
        return false;
    say(w, "writing the disk");
    if (!make_disk(w, err))
        return false;
    say(w, "unpacking the kernel");
    if (!keep_kernel(w, err))
        return false;
    *ret_about = describe(w, err);
    return *ret_about && fd_remove_tree(AT_FDCWD, room, err);
}

static void tell_waiting(void *arg)
{
    say(arg, "waiting for another build to end");
}

static bool build_locked(struct work *w, struct error *err)
{
    CLEANUP(json_decrefp) json_t *there = image_record(w->b->store, w->recipe.hash, NULL);
    CLEANUP(json_decrefp) json_t *about = NULL;
    CLEANUP(free_text) char *path = NULL;
    bool ok;

    if (there && !w->b->again) {
        say(w, "it is there already");
        return true;
    }
    path = image_begin(w->b->store, w->recipe.hash, err);
    if (!path)
        return false;
    w->path = path;
    ok = fill(w, &about, err);
    if (ok) {
        say(w, "summing up");
        ok = image_seal(w->b->store, w->recipe.hash, path, about, err);
    }
    if (!ok)
        UNCHECKED(fd_remove_tree(AT_FDCWD, path, NULL));
    return ok;
}

static bool build(struct work *w, struct error *err)
{
    if (!need_programs(err) || !ask_machine(w, err) ||
        !image_recipe_load(w->b->recipe, BUILDER, w->architecture, w->suite, &w->recipe, err))
        return false;
    w->lock = image_lock(w->b->store, w->b->deadline_ns, tell_waiting, w, err);
    return w->lock >= 0 && build_locked(w, err);
}

bool image_build(const struct image_build *b, char ret_hash[SHA256_HEX], struct error *err)
{
    struct work w = { .b = b, .lock = -1 };
    bool ok;

    /* mmdebstrap reads this path as a shell would. */
    if (strchr(b->store, '\'') || b->store[0] != '/')
        return error_set(err, ERR_INVALID, "images cannot be kept in %.300s", b->store);
    ok = build(&w, err);
    if (ok)
        memcpy(ret_hash, w.recipe.hash, SHA256_HEX);
    image_recipe_fini(&w.recipe);
    buf_fini(&w.sources);
    fd_close(w.lock);
    return ok;
}
