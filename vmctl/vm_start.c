#include "vmctl/vm.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/vfs.h>

#include "kernel/base/fd.h"
#include "vmctl/vm_internal.h"

enum socket_use { USE_QMP, USE_GUEST, USE_CONSOLE, USE_COUNT };

/* What the loop does to start it; lives on the asking thread's stack. */
struct birth {
    struct loop_post post;
    struct vm *vm;
    const struct process_plan *plan;
    process_start_fn *start;
    struct error error;
    bool ok, finished;
};

static bool watch(struct vm *vm, uv_poll_t *handle, int fd, uv_poll_cb fn, bool *ret_watching,
                  struct error *err)
{
    int rc = uv_poll_init(loop_uv(vm->loop), handle, fd);

    if (rc)
        return error_set_errno(err, -rc, "watch QEMU");
    handle->data = vm;
    atomic_fetch_add(&vm->refs, 1);
    *ret_watching = true;
    rc = uv_poll_start(handle, UV_READABLE, fn);
    return rc == 0 || error_set_errno(err, -rc, "watch QEMU");
}

static void on_birth(struct loop_post *post)
{
    struct birth *b = CONTAINER_OF(post, struct birth, post);
    struct vm *vm = b->vm;

    b->ok =
        b->start(b->plan, &vm->process, &b->error) &&
        watch(vm, &vm->watch_end, vm->process.pidfd, vm_on_end, &vm->watching_end, &b->error) &&
        watch(vm, &vm->watch_console, vm->console, vm_on_console, &vm->watching_console, &b->error);
    pthread_mutex_lock(&vm->lock);
    b->finished = true;
    pthread_cond_broadcast(&vm->changed);
    pthread_mutex_unlock(&vm->lock);
}

/* It takes some milliseconds, so this is not interrupted. */
static bool give_birth(struct vm *vm, const struct process_plan *plan, process_start_fn *start,
                       struct error *err)
{
    struct birth b = { .vm = vm, .plan = plan, .start = start ? start : process_start };

    if (loop_is_owner(vm->loop)) {
        on_birth(&b.post);
    } else {
        loop_post(vm->loop, &b.post, on_birth);
        pthread_mutex_lock(&vm->lock);
        while (!b.finished)
            pthread_cond_wait(&vm->changed, &vm->lock);
        pthread_mutex_unlock(&vm->lock);
    }
    if (!b.ok && err)
        *err = b.error;
    return b.ok;
}

/* Puts ours into @fds and names QEMU's number of it. */
static void hand_over(int fds[PROCESS_FDS_MAX], size_t *count, int *fd)
{
    if (*fd < 0)
        return;
    assert(*count < PROCESS_FDS_MAX);
    fds[*count] = *fd;
    *fd = PROCESS_FIRST_FD + (int)(*count)++;
}

/* Bytes that a disk may take of memory, since the file that is written to lives there. */
static uint64_t disk_in_memory(const struct argv_spec *argv)
{
    struct statfs fs;
    struct stat st;

    if (argv->disk_fd < 0 || argv->disk_base_fd < 0 || fstatfs(argv->disk_fd, &fs) != 0 ||
        fs.f_type != TMPFS_MAGIC || fstat(argv->disk_base_fd, &st) != 0)
        return 0;
    return (uint64_t)st.st_size;
}

static bool make_group(struct vm *vm, const struct vm_spec *spec, struct error *err)
{
    const struct process_limits limits = { .memory_mib = spec->argv.memory_mib,
                                           .disk_bytes = disk_in_memory(&spec->argv),
                                           .cpus = spec->argv.cpus };

    return !spec->groups || process_group(spec->groups, &limits, &vm->group, err);
}

static bool launch(struct vm *vm, const struct vm_spec *spec, const int theirs[USE_COUNT],
                   struct error *err)
{
    CLEANUP(argv_freep) char **argv = NULL;
    struct argv_spec named = spec->argv;
    int fds[PROCESS_FDS_MAX];
    struct process_plan plan = { .program = spec->program,
                                 .fds = fds,
                                 .uid = spec->uid,
                                 .gid = spec->gid,
                                 .extra_gid = spec->extra_gid };

    named.program = spec->program;
    named.qmp_fd = theirs[USE_QMP];
    named.guest_fd = theirs[USE_GUEST];
    named.console_fd = theirs[USE_CONSOLE];
    hand_over(fds, &plan.fd_count, &named.qmp_fd);
    hand_over(fds, &plan.fd_count, &named.guest_fd);
    hand_over(fds, &plan.fd_count, &named.console_fd);
    hand_over(fds, &plan.fd_count, &named.kernel_fd);
    hand_over(fds, &plan.fd_count, &named.initrd_fd);
    hand_over(fds, &plan.fd_count, &named.ram_fd);
    hand_over(fds, &plan.fd_count, &named.disk_fd);
    hand_over(fds, &plan.fd_count, &named.disk_frozen_fd);
    hand_over(fds, &plan.fd_count, &named.disk_base_fd);
    argv = argv_make(&named, err);
    if (!argv || !make_group(vm, spec, err))
        return false;
    plan.argv = argv;
    plan.group = vm->group;
    return give_birth(vm, &plan, spec->start, err);
}

static struct vm *vm_new(const struct vm_spec *spec, vm_ended_fn *on_ended, void *arg,
                         struct error *err)
{
    struct vm *vm = calloc(1, sizeof *vm);

    if (!vm) {
        error_set(err, ERR_NOMEM, "a virtual machine");
        return NULL;
    }
    vm->loop = spec->loop;
    vm->on_ended = on_ended;
    vm->arg = arg;
    vm->process = (struct process){ .pidfd = -1, .words_fd = -1 };
    vm->console = -1;
    vm->held = -1;
    vm->disk = -1;
    vm->frozen = -1;
    vm->memory = -1;
    vm->memory_bytes = (uint64_t)spec->argv.memory_mib << 20;
    vm->stream = -1;
    vm->silent = true;
    atomic_init(&vm->refs, 1);
    pthread_mutex_init(&vm->call_lock, NULL);
    pthread_mutex_init(&vm->lock, NULL);
    cond_init(&vm->changed);
    ring_init(&vm->lines, VM_CONSOLE_BYTES);
    return vm;
}

/* From now on its owner is told of its end; false when that is past. */
static bool is_born(struct vm *vm, enum vm_state state, struct error *err)
{
    bool over;

    pthread_mutex_lock(&vm->lock);
    over = vm->state == VM_ENDED;
    if (!over) {
        vm->state = state;
        vm->silent = false;
    }
    pthread_mutex_unlock(&vm->lock);
    return !over || error_set(err, ERR_LOST, "%s", vm->why); /* does not change any more */
}

static bool copy_fd(int from, int *ret, struct error *err)
{
    *ret = from < 0 ? -1 : fcntl(from, F_DUPFD_CLOEXEC, 3);
    return *ret >= 0 || from < 0 || error_set_errno(err, errno, "copy a descriptor");
}

/* The two ends of one of its sockets. */
static bool make_pair(const struct vm_spec *spec, enum socket_use use, int *ours, int *theirs,
                      struct error *err)
{
    int pair[2];

    if (use == USE_GUEST && spec->guest_end)
        return copy_fd(*spec->guest_end, theirs, err);
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) != 0)
        return error_set_errno(err, errno, "a socket pair");
    *ours = pair[0];
    *theirs = pair[1];
    return true;
}

struct vm *vm_start(const struct vm_spec *spec, vm_ended_fn *on_ended, void *arg,
                    const struct wait *w, struct error *err)
{
    int ours[USE_COUNT] = { -1, -1, -1 }, theirs[USE_COUNT] = { -1, -1, -1 };
    struct vm *vm = vm_new(spec, on_ended, arg, err);
    struct error why = ERROR_INIT;
    bool ok = vm;

    for (int i = 0; ok && i < USE_COUNT; i++)
        ok = make_pair(spec, (enum socket_use)i, &ours[i], &theirs[i], &why);
    ok = ok && copy_fd(spec->argv.disk_fd, &vm->disk, &why) &&
         copy_fd(spec->argv.disk_frozen_fd, &vm->frozen, &why) &&
         copy_fd(spec->argv.ram_fd, &vm->memory, &why);
    if (ok) {
        vm->console = fd_steal(&ours[USE_CONSOLE]);
        vm->stream = fd_steal(&ours[USE_GUEST]);
        vm->state = VM_STARTING;
        ok = !spec->said_len ||
             send(theirs[USE_GUEST], spec->said, spec->said_len, MSG_NOSIGNAL) ==
                 (ssize_t)spec->said_len ||
             error_set_errno(&why, errno, "speak for the guest");
        vm->held = theirs[USE_GUEST];
        ok = ok && launch(vm, spec, theirs, &why);
        theirs[USE_GUEST] = -1;
    }
    for (int i = 0; i < USE_COUNT; i++)
        fd_close(theirs[i]);
    if (ok)
        vm->qmp = qmp_new(spec->loop, ours[USE_QMP], NULL, NULL, &why);
    if (ok && vm->qmp)
        ours[USE_QMP] = -1;
    ok = ok && vm->qmp && (qmp_ready(vm->qmp, w, &why) || vm_explain(vm, &why));
    for (int i = 0; i < USE_COUNT; i++)
        fd_close(ours[i]);
    ok = ok &&
         is_born(vm, spec->argv.incoming || spec->argv.stopped ? VM_PREPARED : VM_RUNNING, &why);
    if (ok)
        return vm;
    if (vm) {
        if (err)
            *err = why;
        vm_free(vm);
    }
    return NULL;
}
