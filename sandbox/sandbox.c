#include "sandbox/sandbox.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "kernel/base/fd.h"
#include "kernel/base/limits.h"
#include "sandbox/box.h"

#define DEFAULT_UID      1879048192u /* far from every range that systems hand out */
#define DEFAULT_MEMORY   (1ull << 30)
#define DEFAULT_DISK     (512ull << 20)
#define DEFAULT_PIDS     512u
#define FDS_PER_COMPUTER 16u

static struct backend *backend_of(struct computer_backend *base)
{
    return CONTAINER_OF(base, struct backend, base);
}

/* ---- folders ---- */

static bool make_folder(const char *given, char **ret_path, struct error *err)
{
    if (*ret_path)
        return true;
    if (!fd_mkdirs(given, 0700, err))
        return error_prefix(err, "make %s", given);
    *ret_path = realpath(given, NULL);
    if (!*ret_path)
        return error_set_errno(err, errno, "find %s", given);
    return true;
}

static bool make_folders(struct backend *b, struct error *err)
{
    size_t size;

    if (!make_folder(b->given_dirs[0], &b->state_dir, err) ||
        !make_folder(b->given_dirs[1], &b->runtime_dir, err) ||
        !make_folder(b->given_dirs[2], &b->cache_dir, err))
        return false;
    b->defaults.own[0] = b->state_dir;
    b->defaults.own[1] = b->runtime_dir;
    b->defaults.own[2] = b->cache_dir;
    size = strlen(b->runtime_dir) + sizeof "/stage";
    if (!b->stage)
        b->stage = malloc(size);
    if (!b->stage)
        return error_set(err, ERR_NOMEM, "sandbox back end");
    (void)snprintf(b->stage, size, "%s/stage", b->runtime_dir);
    if (mkdir(b->stage, 0755) != 0 && errno != EEXIST)
        return error_set_errno(err, errno, "make %s", b->stage);
    return true;
}

/** The server's place among others. */
static bool join_servers(struct backend *b, struct error *err)
{
    if (!b->lock)
        b->lock = server_lock_new(b->runtime_dir, err);
    if (!b->lock)
        return error_prefix(err, "register the server");
    if (!b->groups)
        b->groups = cgroup_host_new(b->cgroup_mode, server_lock_name(b->lock), err);
    if (!b->groups)
        return false;
    if (!b->checkpoints)
        b->checkpoints =
            checkpoints_new(b->state_dir, server_lock_name(b->lock), b->host_uid, b->host_gid, err);
    return b->checkpoints != NULL;
}

/* ---- what only computers need ---- */

/** Each sandbox takes about a dozen descriptors, where many systems start programs with 1024. */
static void raise_fd_limit(void)
{
    const rlim_t wanted = LIMIT_COMPUTERS * FDS_PER_COMPUTER;
    struct rlimit limit;

    if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < wanted) {
        limit.rlim_cur = MIN(wanted, limit.rlim_max);
        (void)setrlimit(RLIMIT_NOFILE, &limit);
    }
}

static bool prepare_locked(struct backend *b, struct error *err)
{
    raise_fd_limit();
    if (!make_folders(b, err))
        return false;
    if (!b->launcher)
        b->launcher = launcher_new(b->loop, err);
    b->prepared = b->launcher != NULL;
    return b->prepared;
}

bool backend_join(struct backend *b, struct error *err)
{
    bool ok;

    pthread_mutex_lock(&b->prepare_lock);
    ok = b->checkpoints || (make_folders(b, err) && join_servers(b, err));
    pthread_mutex_unlock(&b->prepare_lock);
    return ok;
}

static bool complete_locked(struct backend *b, struct error *err)
{
    if (b->guest_fd < 0)
        b->guest_fd = fd_sealed_memfd("aios-guest", b->guest_image, b->guest_image_len, err);
    if (b->guest_fd < 0)
        return false;
    /* A root server's sandboxes run as somebody else. */
    if (fchmod(b->guest_fd, 0555) != 0)
        return error_set_errno(err, errno, "let sandboxes run the guest");
    /* Where the loop's own thread makes the sandboxes, it answers for them as well. */
    if (!b->notify)
        b->notify = notify_new(loop_is_owner(b->loop) ? b->loop : NULL, err);
    return b->notify != NULL;
}

bool backend_complete(struct backend *b, struct error *err)
{
    bool ok;

    pthread_mutex_lock(&b->prepare_lock);
    ok = b->notify || complete_locked(b, err);
    pthread_mutex_unlock(&b->prepare_lock);
    return ok;
}

static bool prepare(struct backend *b, struct error *err)
{
    bool ok;

    pthread_mutex_lock(&b->prepare_lock);
    ok = b->prepared || prepare_locked(b, err);
    pthread_mutex_unlock(&b->prepare_lock);
    return ok;
}

static struct backend_root *find_root_locked(struct backend *b, const char *path)
{
    for (size_t i = 0; i < b->root_count; i++)
        if (strcmp(b->roots[i].path, path) == 0)
            return &b->roots[i];
    return NULL;
}

static struct backend_root *add_root_locked(struct backend *b, const char *path, struct error *err)
{
    struct backend_root *root = &b->roots[b->root_count];

    if (b->root_count == BACKEND_ROOTS) {
        error_set(err, ERR_LIMIT, "sandboxes of %u images are the most one server makes",
                  BACKEND_ROOTS - 1);
        return NULL;
    }
    root->path = strdup(path);
    if (!root->path) {
        error_set(err, ERR_NOMEM, "the root file system of sandboxes");
        return NULL;
    }
    root->skeleton = skeleton_new(b->cache_dir, path, b->host_uid, b->host_gid, err);
    if (!root->skeleton) {
        free(root->path);
        return NULL;
    }
    b->root_count++;
    return root;
}

const char *backend_skeleton(struct backend *b, const char *path, struct error *err)
{
    struct backend_root *root;

    pthread_mutex_lock(&b->prepare_lock);
    root = find_root_locked(b, path);
    if (!root)
        root = add_root_locked(b, path, err);
    pthread_mutex_unlock(&b->prepare_lock);
    if (root)
        return skeleton_path(root->skeleton);
    error_prefix(err, "make the root file system of sandboxes");
    return NULL;
}

void backend_sweep(struct backend *b)
{
    bool due;

    pthread_mutex_lock(&b->prepare_lock);
    due = !b->swept;
    b->swept = true;
    pthread_mutex_unlock(&b->prepare_lock);
    if (!due)
        return;
    cgroup_sweep(b->groups, server_alive, b->lock);
    checkpoint_sweep(b->checkpoints, server_alive, b->lock);
    server_sweep(b->lock);
}

bool sandbox_groups(struct computer_backend *base, struct cgroup_host **ret, struct error *err)
{
    struct backend *b = backend_of(base);

    if (!backend_join(b, err))
        return false;
    backend_sweep(b);
    *ret = b->groups;
    return true;
}

/* ---- the pool ---- */

static struct computer_spec default_spec(const struct backend *b)
{
    return (struct computer_spec){
        .memory_bytes = b->defaults.memory_bytes,
        .disk_bytes = MIN(b->defaults.disk_bytes, b->defaults.memory_bytes / 2),
        .cpu_milli = b->defaults.cpu_milli,
        .pids = b->defaults.pids,
    };
}

static void *pool_make(void *arg, const struct wait *w, struct error *err)
{
    struct backend *b = arg;
    const struct computer_spec spec = default_spec(b);
    const struct computer_hooks nobody = { .loop = b->loop };
    struct computer *c = prepare(b, err) ? box_make(b, &spec, NULL, &nobody, w, err) : NULL;

    /* Who takes it finds it ready. */
    if (!c || guest_ready(computer_guest(c), w, err))
        return c;
    computer_unref(c);
    return NULL;
}

static bool pool_alive(void *arg, void *item)
{
    (void)arg;
    return box_alive(item);
}

static void pool_kill(void *arg, void *item)
{
    (void)arg;
    box_kill(item);
}

static void pool_destroy(void *arg, void *item)
{
    (void)arg;
    computer_unref(item);
}

static bool make_pool(struct backend *b, uint32_t size, struct error *err)
{
    const struct pool_config config = {
        .size = MIN(size, POOL_SIZE_MAX),
        .make = pool_make,
        .alive = pool_alive,
        .kill = pool_kill,
        .destroy = pool_destroy,
        .arg = b,
    };

    b->pool = pool_new(&config, err);
    return b->pool != NULL;
}

/** A prepared one for whoever asks for nothing special; NULL when there is none just now. */
static struct computer *from_pool(struct backend *b, const struct computer_spec *spec,
                                  const struct computer_hooks *hooks, struct error *err,
                                  bool *ret_failed)
{
    struct computer *c;

    *ret_failed = false;
    if (!b->pool || hooks->loop != b->loop || !spec_is_default(spec, &b->defaults))
        return NULL;
    (void)pool_start(b->pool);
    c = pool_take(b->pool);
    if (!c || computer_adopt(c, spec, hooks, err))
        return c;
    computer_unref(c);
    *ret_failed = true;
    return NULL;
}

/* ---- the back end ---- */

static struct computer *backend_create(struct computer_backend *base,
                                       const struct computer_spec *asked, const char *checkpoint,
                                       const struct computer_hooks *hooks, const struct wait *w,
                                       struct error *err)
{
    struct backend *b = backend_of(base);
    struct computer_spec spec = *asked;
    struct computer *c = NULL;
    bool failed = false;

    if (!prepare(b, err) || !spec_complete(&spec, &b->defaults, err))
        return NULL;
    if (!checkpoint)
        c = from_pool(b, &spec, hooks, err, &failed);
    if (c || failed)
        return c;
    if (b->pool)
        pool_busy(b->pool, 1);
    /* Room for the last one is where the pool has it. */
    if (b->pool && atomic_load(&b->live) >= LIMIT_COMPUTERS)
        computer_unref(pool_take(b->pool));
    c = box_make(b, &spec, checkpoint, hooks, w, err);
    if (b->pool)
        pool_busy(b->pool, -1);
    return c;
}

static bool backend_checkpoint_remove(struct computer_backend *base, const char *id,
                                      struct error *err)
{
    struct backend *b = backend_of(base);

    return backend_join(b, err) && checkpoint_remove(b->checkpoints, id, err);
}

static void backend_warm(struct computer_backend *base)
{
    struct backend *b = backend_of(base);

    if (b->pool)
        (void)pool_start(b->pool);
}

static void backend_free(struct computer_backend *base)
{
    struct backend *b = backend_of(base);

    pool_free(b->pool);
    notify_free(b->notify);
    launcher_free(b->launcher);
    checkpoints_free(b->checkpoints);
    for (size_t i = 0; i < b->root_count; i++) {
        skeleton_free(b->roots[i].skeleton);
        free(b->roots[i].path);
    }
    fd_close(b->guest_fd);
    cgroup_host_free(b->groups);
    server_lock_free(b->lock);
    pthread_mutex_destroy(&b->prepare_lock);
    for (size_t i = 0; i < ARRAY_LEN(b->given_dirs); i++)
        free(b->given_dirs[i]);
    free(b->stage);
    free(b->state_dir);
    free(b->runtime_dir);
    free(b->cache_dir);
    free(b);
}

static void set_defaults(struct backend *b, const struct sandbox_config *config)
{
    bool root = geteuid() == 0;

    b->host_uid = root ? (config->host_uid ? config->host_uid : DEFAULT_UID) : geteuid();
    b->host_gid = root ? b->host_uid : getegid();
    b->defaults.memory_bytes =
        config->default_memory_bytes ? config->default_memory_bytes : DEFAULT_MEMORY;
    b->defaults.disk_bytes = config->default_disk_bytes ? config->default_disk_bytes : DEFAULT_DISK;
    b->defaults.cpu_milli = config->default_cpu_milli;
    b->defaults.pids = config->default_pids ? config->default_pids : DEFAULT_PIDS;
}

/** Everything that can fail; backend_free() takes what is half made. */
static bool set_up(struct backend *b, const struct sandbox_config *config, struct error *err)
{
    const char *const given[] = { config->state_dir, config->runtime_dir, config->cache_dir };

    for (size_t i = 0; i < ARRAY_LEN(given); i++) {
        b->given_dirs[i] = strdup(given[i]);
        if (!b->given_dirs[i])
            return error_set(err, ERR_NOMEM, "sandbox back end");
    }
    return !config->pool_size || make_pool(b, config->pool_size, err);
}

struct computer_backend *sandbox_backend_new(const struct sandbox_config *config, struct error *err)
{
    struct backend *b = calloc(1, sizeof *b);

    if (!b) {
        error_set(err, ERR_NOMEM, "sandbox back end");
        return NULL;
    }
    b->base = (struct computer_backend){
        .kind = "sandbox",
        .create = backend_create,
        .checkpoint_remove = backend_checkpoint_remove,
        .warm = backend_warm,
        .free = backend_free,
    };
    b->loop = config->loop;
    b->image = config->image;
    b->image_arg = config->image_arg;
    b->guest_image = config->guest_image;
    b->guest_image_len = config->guest_image_len;
    b->guest_fd = -1;
    b->cgroup_mode = config->cgroup;
    pthread_mutex_init(&b->prepare_lock, NULL);
    set_defaults(b, config);
    if (!set_up(b, config, err)) {
        backend_free(&b->base);
        return NULL;
    }
    return &b->base;
}
