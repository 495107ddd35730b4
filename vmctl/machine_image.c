#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "kernel/base/clock.h"
#include "kernel/base/fd.h"
#include "kernel/base/json.h"
#include "kernel/base/log.h"
#include "vmctl/display.h"
#include "vmctl/image.h"
#include "vmctl/initramfs.h"
#include "vmctl/machine.h"

#define PROXY      "http://127.0.0.1:3128"
#define USUAL      "base"
#define HOME       "/home/user"
#define ENV_MAX    256
#define MIB_MIN    64
#define MIB_MAX    (1 << 20)
#define PREPARE_NS (15 * 60 * CLOCK_NS_PER_S) /* a desktop on a busy machine without KVM */
#define END_NS     (3 * CLOCK_NS_PER_S)
#define RELEASE_OK "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789+.-_~"

#define ENV_PROXY                                                                       \
    "http_proxy=" PROXY, "https_proxy=" PROXY, "all_proxy=" PROXY, "HTTP_PROXY=" PROXY, \
        "HTTPS_PROXY=" PROXY, "ALL_PROXY=" PROXY, "no_proxy=localhost,127.0.0.1,::1",   \
        "NO_PROXY=localhost,127.0.0.1,::1"

/* Whose images of the store have the user that sandboxes have, see images/base. */
static const char *const user_env[] = {
    "PATH=" HOME "/.local/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME=" HOME,
    "USER=user",
    "LOGNAME=user",
    "LANG=C.UTF-8",
    "TERM=xterm-256color",
    "SHELL=/bin/bash",
    "TMPDIR=/tmp",
    ENV_PROXY,
    "NODE_USE_ENV_PROXY=1",
    "npm_config_prefix=" HOME "/.local",
    "npm_config_cache=" HOME "/.cache/npm",
    "npm_config_update_notifier=false",
    "PIP_BREAK_SYSTEM_PACKAGES=1",
    "PIP_DISABLE_PIP_VERSION_CHECK=1",
    "PYTHONUSERBASE=" HOME "/.local",
    "DEBIAN_FRONTEND=noninteractive",
    NULL,
};

/* Of an image that nothing is known of. */
static const char *const root_env[] = {
    "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME=/root",
    "USER=root",
    "LOGNAME=root",
    "LANG=C.UTF-8",
    "TERM=xterm-256color",
    "SHELL=/bin/sh",
    "TMPDIR=/tmp",
    ENV_PROXY,
    NULL,
};

static void image_free(struct machine_image *image)
{
    if (!image)
        return;
    pool_free(image->pool);
    template_unref(image->template);
    fd_close(image->spec.argv.kernel_fd);
    fd_close(image->spec.argv.initrd_fd);
    fd_close(image->spec.argv.disk_base_fd);
    free(image->hash);
    free(image->env);
    free(image);
}
DEFINE_CLEANUP(struct machine_image, image_free)

void machine_image_free_all(struct backend *b)
{
    while (b->images) {
        struct machine_image *image = b->images;

        b->images = image->next;
        image_free(image);
    }
}

/* ---- what the record says of its machines ---- */

struct traits {
    int64_t memory_mib;
    json_t *env;
    bool screen;
    const char *kernel;
};

static const struct json_field trait_fields[] = {
    { "memory_mib", "", JSON_KIND_INT, false, offsetof(struct traits, memory_mib), MIB_MIN, MIB_MAX,
      MACHINE_USUAL_MIB },
    { "env", "", JSON_KIND_MAP, false, offsetof(struct traits, env), 0, ENV_MAX },
    { "screen", "", JSON_KIND_BOOL, false, offsetof(struct traits, screen) },
    { "kernel", "", JSON_KIND_STRING, true, offsetof(struct traits, kernel), 1, 200 },
    { .name = NULL },
};

/* Of a record, which says much else besides. */
static bool read_traits(const json_t *record, struct traits *ret, struct error *err)
{
    CLEANUP(json_decrefp) json_t *some = json_object();

    for (const struct json_field *f = trait_fields; f->name; f++) {
        json_t *value = json_object_get(record, f->name);

        if (!some || (value && json_object_set(some, f->name, value) != 0))
            return error_set(err, ERR_NOMEM, "the record of an image");
    }
    /* What the struct borrows belongs to the record too. */
    if (!json_fields_read(trait_fields, some, ret, err))
        return false;
    return (ret->kernel[0] != '.' && ret->kernel[strspn(ret->kernel, RELEASE_OK)] == '\0') ||
           error_set(err, ERR_PROTOCOL, "its record names a kernel \"%.60s\"", ret->kernel);
}

/* @base and then @more, which wins where computer_init() finds a name twice. */
static char **make_env(const char *const *base, const json_t *more, struct error *err)
{
    CLEANUP(buf_fini) struct buf text = BUF_INIT;
    size_t count = 0, at = 0;
    const char *key;
    json_t *value;
    char **env;
    bool ok = true;

    for (; ok && base[count]; count++)
        ok = buf_append(&text, base[count], strlen(base[count]) + 1);
    json_object_foreach ((json_t *)unconst(more), key, value) {
        if (!*key || strchr(key, '=')) {
            error_set(err, ERR_INVALID, "env: \"%.60s\" is no name of a variable", key);
            return NULL;
        }
        ok = ok && buf_printf(&text, "%s=%s", key, json_string_value(value)) &&
             buf_append_char(&text, '\0');
        count++;
    }
    env = ok ? malloc((count + 1) * sizeof *env + text.len) : NULL;
    if (!env) {
        error_set(err, ERR_NOMEM, "an environment");
        return NULL;
    }
    memcpy(env + count + 1, text.data, text.len);
    for (size_t i = 0; i < count; i++) {
        env[i] = (char *)(env + count + 1) + at;
        at += strlen(env[i]) + 1;
    }
    env[count] = NULL;
    return env;
}

/* ---- opening ---- */

static int open_part(int folder, const char *name, struct error *err)
{
    int fd = openat(folder, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);

    if (fd < 0)
        error_set_errno(err, errno, "open its %s", name);
    return fd;
}

/* What the kernel needs for the way to its root and to us; the rest is in the image. */
#define MODULES \
    "virtio_mmio", "virtio_pci", "virtio_console", "virtio_blk", "crc32c_generic", "ext4"

static int make_initramfs(const struct backend *b, const struct machine_image *image,
                          const char *release, struct error *err)
{
    static const char *const usual[] = { MODULES, NULL };
    static const char *const screen[] = { MODULES, VM_DISPLAY_MODULES, NULL };
    CLEANUP(buf_fini) struct buf dir = BUF_INIT;

    if (!buf_printf(&dir, "%s/%s/" IMAGE_MODULES "/%s", b->images_dir, image->hash, release)) {
        error_set(err, ERR_NOMEM, "a path");
        return -1;
    }
    return initramfs_make(&(struct initramfs_plan){ .early = b->early,
                                                    .early_len = b->early_len,
                                                    .guest = b->guest,
                                                    .guest_len = b->guest_len,
                                                    .modules_dir = dir.data,
                                                    .modules = image->screen ? screen : usual },
                          err);
}

static bool open_stored(const struct backend *b, struct machine_image *image, struct error *err)
{
    CLEANUP(json_decrefp) json_t *record = image_record(b->images_dir, image->hash, err);
    CLEANUP(buf_fini) struct buf path = BUF_INIT;
    CLEANUP(fd_closep) int folder = -1;
    struct argv_spec *argv = &image->spec.argv;
    struct traits traits;

    if (!record || !read_traits(record, &traits, err))
        return false;
    if (!buf_printf(&path, "%s/%s", b->images_dir, image->hash))
        return error_set(err, ERR_NOMEM, "a path");
    folder = open(path.data, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (folder < 0)
        return error_set_errno(err, errno, "open its folder");
    image->screen = traits.screen;
    argv->memory_mib = b->memory_mib ? b->memory_mib : (uint32_t)traits.memory_mib;
    argv->append = "aios.root=" ARGV_DISK;
    argv->kernel_fd = open_part(folder, IMAGE_KERNEL, err);
    if (argv->kernel_fd < 0)
        return false;
    argv->disk_base_fd = open_part(folder, IMAGE_DISK, err);
    if (argv->disk_base_fd < 0)
        return false;
    argv->initrd_fd = make_initramfs(b, image, traits.kernel, err);
    image->env = argv->initrd_fd >= 0 ? make_env(user_env, traits.env, err) : NULL;
    return image->env;
}

static bool copy_fd(int from, int *ret, struct error *err)
{
    *ret = from < 0 ? -1 : fcntl(from, F_DUPFD_CLOEXEC, 3);
    return *ret >= 0 || from < 0 || error_set_errno(err, errno, "copy a descriptor");
}

static bool open_given(const struct backend *b, struct machine_image *image, struct error *err)
{
    const struct argv_spec *from = &b->spec.argv;
    struct argv_spec *argv = &image->spec.argv;

    argv->memory_mib = b->memory_mib ? b->memory_mib : MACHINE_USUAL_MIB;
    image->env = make_env(root_env, NULL, err);
    return image->env && copy_fd(from->kernel_fd, &argv->kernel_fd, err) &&
           copy_fd(from->initrd_fd, &argv->initrd_fd, err) &&
           copy_fd(from->disk_base_fd, &argv->disk_base_fd, err);
}

/* ---- the first machine of an image ---- */

/* By the one who prepares. */
static bool prepare_accel(struct backend *b, const struct vm_spec *spec, const struct wait *w,
                          struct error *err)
{
    const struct accel_query query = { .cache_dir = b->cache_dir,
                                       .program = b->program,
                                       .kernel_fd = spec->argv.kernel_fd,
                                       .boot = accel_boot,
                                       .arg = (void *)unconst(spec) };
    struct accel_verdict verdict;

    if (b->verdict.why[0])
        return true;
    accel_choose(&query, &verdict, w);
    if (!wait_check(w, err))
        return false;
    pthread_mutex_lock(&b->lock);
    b->verdict = verdict;
    pthread_mutex_unlock(&b->lock);
    /* An emulated processor's clock wants the timers of a PC. */
    b->spec.argv.accel = verdict.accel;
    b->spec.argv.machine = verdict.accel == ARGV_KVM ? ARGV_MICROVM : ARGV_Q35;
    b->spec.extra_gid = verdict.accel == ARGV_KVM ? accel_group() : 0;
    return true;
}

/* Without a key it is made anew by each server. */
static void name_template(struct backend *b, struct machine_image *image, const struct wait *w)
{
    struct error why = ERROR_INIT;

    if (!b->templates_dir && asprintf(&b->templates_dir, "%s/templates", b->cache_dir) < 0)
        b->templates_dir = NULL;
    if (b->templates_dir && template_key(&image->spec, image->hash, image->key, w, &why))
        return;
    image->key[0] = '\0';
    log_line(LOG_WARN, "template", "event=no_key image=%.12s why=%s", image->hash,
             LOG_ESC(why.text));
}

static struct machine_image *prepare(struct backend *b, const char *hash, const struct wait *w,
                                     struct error *err)
{
    CLEANUP(image_freep) struct machine_image *image = calloc(1, sizeof *image);

    if (!image || !(image->hash = strdup(hash))) {
        error_set(err, ERR_NOMEM, "an image");
        return NULL;
    }
    image->backend = b;
    image->spec = b->spec;
    image->spec.argv.kernel_fd = image->spec.argv.initrd_fd = image->spec.argv.disk_base_fd = -1;
    if (!(b->images_dir ? open_stored(b, image, err) : open_given(b, image, err)) ||
        !prepare_accel(b, &image->spec, w, err))
        return NULL;
    image->spec.argv.accel = b->spec.argv.accel;
    image->spec.argv.machine = image->screen ? ARGV_Q35 : b->spec.argv.machine;
    image->spec.argv.screen = image->screen;
    image->spec.extra_gid = b->spec.extra_gid;
    if (b->images_dir && b->cache_dir)
        name_template(b, image, w);
    if (image->key[0])
        image->template =
            template_load(b->templates_dir, image->key, &image->spec, b->overlay_dir, w, NULL);
    image->kept = image->template != NULL;
    if (!image->template)
        image->template = template_make(&image->spec, b->overlay_dir, w, err);
    return image->template && machine_pool_new(image, err) ? STEAL(image) : NULL;
}

static const struct machine_image *find_locked(const struct backend *b, const char *hash)
{
    for (const struct machine_image *image = b->images; image; image = image->next) {
        if (!strcmp(image->hash, hash))
            return image;
    }
    return NULL;
}

struct preparation {
    struct backend *b;
    char *hash;
};

static void keep(struct backend *b, const struct machine_image *image, const struct wait *w)
{
    struct error why = ERROR_INIT;

    if (!image->key[0] || image->kept ||
        template_keep(image->template, b->templates_dir, image->key, w, &why))
        return;
    log_line(LOG_INFO, "template", "event=not_kept image=%.12s why=%s", image->hash,
             LOG_ESC(why.text));
}

/* A thread of its own, since a desktop takes longer to start than a call may wait. */
static void *prepare_main(void *arg)
{
    struct preparation *p = arg;
    struct backend *b = p->b;
    const struct wait w = { .deadline_ns = clock_add_ns(clock_now_ns(), PREPARE_NS),
                            .cancel = &b->ending };
    struct error why = ERROR_INIT;
    struct machine_image *image = prepare(b, p->hash, &w, &why);

    pthread_mutex_lock(&b->lock);
    b->preparing = false;
    b->failure = why;
    if (image) {
        image->next = b->images;
        b->images = image;
    }
    pthread_cond_broadcast(&b->made);
    pthread_mutex_unlock(&b->lock);
    if (image)
        keep(b, image, &w);
    free(p->hash);
    free(p);
    return NULL;
}

static bool start_locked(struct backend *b, const char *hash, struct error *err)
{
    struct preparation *p = malloc(sizeof *p);
    int rc;

    if (p)
        *p = (struct preparation){ b, strdup(hash) };
    if (!p || !p->hash) {
        free(p);
        return error_set(err, ERR_NOMEM, "an image");
    }
    if (b->has_preparer)
        pthread_join(b->preparer, NULL); /* at most it still keeps what it has made */
    rc = pthread_create(&b->preparer, NULL, prepare_main, p);
    b->has_preparer = b->preparing = rc == 0;
    if (rc == 0)
        return true;
    free(p->hash);
    free(p);
    return error_set_errno(err, rc, "start a thread");
}

/* The one of @hash.  Should preparing it fail, the next caller tries; whoever has no time for it
 * finds it done later. */
static const struct machine_image *get_by_hash(struct backend *b, const char *hash,
                                               const struct wait *w, struct error *err)
{
    const struct machine_image *found;
    bool ok = true, ours = false;

    pthread_mutex_lock(&b->lock);
    while (!(found = find_locked(b, hash)) && ok) {
        if (!b->preparing && ours) {
            ok = error_set(err, b->failure.code, "make the first machine: %s", b->failure.text);
        } else if (!b->preparing) {
            ok = ours = start_locked(b, hash, err);
        } else if (!loop_wait_cond(b->spec.loop, w, &b->made, &b->lock)) {
            ok = false;
            if (w->cancel && cancel_raised(w->cancel))
                (void)!wait_check(w, err);
            else
                error_set(err, ERR_TIMEOUT,
                          "the first machine is still being started, which takes minutes for a "
                          "desktop and is done once; try again in a while");
        }
    }
    pthread_mutex_unlock(&b->lock);
    return found;
}

void machine_image_end(struct backend *b)
{
    const struct wait w = { .deadline_ns = clock_add_ns(clock_now_ns(), END_NS) };

    cancel_raise(&b->ending);
    pthread_mutex_lock(&b->lock);
    while (b->preparing && loop_wait_cond(b->spec.loop, &w, &b->made, &b->lock))
        continue;
    pthread_mutex_unlock(&b->lock);
    if (b->has_preparer)
        pthread_join(b->preparer, NULL);
    b->has_preparer = false;
}

const struct machine_image *machine_image_get(struct backend *b, const char *which,
                                              const struct wait *w, struct error *err)
{
    const char *name = which ? which : b->image ? b->image : USUAL;
    const struct machine_image *image;
    struct error why = ERROR_INIT;
    char *hash;

    if (!b->images_dir) {
        if (!which)
            return get_by_hash(b, "", w, err);
        error_set(err, ERR_NOT_FOUND,
                  "there is no image \"%.100s\": this server has one, which is "
                  "taken when none is named",
                  which);
        return NULL;
    }
    hash = image_find(b->images_dir, name, &why);
    if (!hash) {
        if (why.code == ERR_NOT_FOUND)
            error_set(err, ERR_NOT_FOUND,
                      "there is no image \"%.100s\" for virtual machines; the user has to run "
                      "`aios image build %.100s` once",
                      name, name);
        else
            error_set(err, why.code, "%s", why.text);
        return NULL;
    }
    image = get_by_hash(b, hash, w, err);
    if (!image)
        error_prefix(err, "image %.100s", name);
    free(hash);
    return image;
}
