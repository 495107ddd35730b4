/*
 * A machine that is out has no QEMU.  Its state is in a file without a name, and its end of the
 * guest's stream stays open here, so that nothing that either side has written is lost: what the
 * client writes meanwhile waits in the socket, is noticed there, and brings the machine back.
 * QEMU reads the socket of a halted machine too: what it read while the state is written would be
 * lost, so the client is made to hold until it is.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>
#include <uv.h>

#include "kernel/base/clock.h"
#include "kernel/base/fd.h"
#include "vmctl/machine.h"

#define BACK_NS (60 * CLOCK_NS_PER_S) /* for coming back unasked */

/* ---- noticing that the client has written ---- */

struct machine_watch {
    struct loop *loop;
    struct loop_post begin, end;
    uv_poll_t poll; /* loop only, as the next two */
    bool polling, closing;
    int fd;
    pthread_mutex_t lock;
    struct machine *machine; /* lock; NULL: nobody wants to know any more */
    unsigned refs;           /* lock: the machine's and the loop's */
};

static void watch_unref(struct machine_watch *watch)
{
    bool last;

    pthread_mutex_lock(&watch->lock);
    last = --watch->refs == 0;
    pthread_mutex_unlock(&watch->lock);
    if (!last)
        return;
    fd_close(watch->fd);
    pthread_mutex_destroy(&watch->lock);
    free(watch);
}

static void on_closed(uv_handle_t *handle)
{
    watch_unref(handle->data);
}

static void stop_polling(struct machine_watch *watch)
{
    if (!watch->polling || watch->closing)
        return;
    watch->closing = true;
    uv_close((uv_handle_t *)&watch->poll, on_closed);
}

static void *bring_back(void *arg)
{
    struct machine *m = arg;
    const struct wait w = { .deadline_ns = clock_add_ns(clock_now_ns(), BACK_NS),
                            .cancel = &m->cancel };
    struct error why = ERROR_INIT;

    (void)!machine_bring_in(m, &w, &why); /* who fails tells the computer */
    computer_unref(&m->base);
    return NULL;
}

/* Somebody has written, or the stream is at its end, which QEMU would have to see as well. */
static void on_readable(uv_poll_t *handle, int status, int events)
{
    struct machine_watch *watch = handle->data;
    pthread_attr_t attr;
    struct machine *m;
    pthread_t thread;
    bool started;

    (void)status;
    (void)events;
    stop_polling(watch);
    pthread_mutex_lock(&watch->lock);
    m = watch->machine;
    if (m)
        (void)computer_ref(&m->base);
    watch->machine = NULL;
    pthread_mutex_unlock(&watch->lock);
    if (!m)
        return;
    pthread_attr_init(&attr);
    pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
    started = pthread_create(&thread, &attr, bring_back, m) == 0;
    pthread_attr_destroy(&attr);
    if (!started) {
        computer_report_lost(&m->base, "no thread to bring it back from the disk");
        computer_unref(&m->base);
    }
}

static void on_begin(struct loop_post *post)
{
    struct machine_watch *watch = CONTAINER_OF(post, struct machine_watch, begin);

    if (uv_poll_init(loop_uv(watch->loop), &watch->poll, watch->fd) != 0) {
        watch_unref(watch); /* the next operation brings it back all the same */
        return;
    }
    watch->poll.data = watch;
    watch->polling = true;
    if (uv_poll_start(&watch->poll, UV_READABLE, on_readable) != 0)
        stop_polling(watch);
}

static void on_end(struct loop_post *post)
{
    struct machine_watch *watch = CONTAINER_OF(post, struct machine_watch, end);

    stop_polling(watch);
    watch_unref(watch);
}

/* With the machine's lock. */
static void watch_stop_locked(struct machine *m)
{
    struct machine_watch *watch = STEAL(m->watch);

    if (!watch)
        return;
    pthread_mutex_lock(&watch->lock);
    watch->machine = NULL;
    pthread_mutex_unlock(&watch->lock);
    loop_post(watch->loop, &watch->end, on_end);
}

static struct machine_watch *watch_new(struct machine *m, int end, struct error *err)
{
    struct machine_watch *watch = calloc(1, sizeof *watch);

    if (watch)
        watch->fd = fcntl(end, F_DUPFD_CLOEXEC, 3); /* libuv wants one that nobody else watches */
    if (!watch || watch->fd < 0) {
        free(watch);
        error_set(err, ERR_NOMEM, "a watch over the guest's stream");
        return NULL;
    }
    watch->loop = m->backend->spec.loop;
    watch->machine = m;
    watch->refs = 2;
    pthread_mutex_init(&watch->lock, NULL);
    return watch;
}

/* ---- out ---- */

static bool copy_fd(int from, int *ret, struct error *err)
{
    *ret = from < 0 ? -1 : fcntl(from, F_DUPFD_CLOEXEC, 3);
    return *ret >= 0 || from < 0 || error_set_errno(err, errno, "copy a descriptor");
}

static void close_files(struct machine *m)
{
    fd_close(fd_steal(&m->state));
    fd_close(fd_steal(&m->end));
    fd_close(fd_steal(&m->disk));
    fd_close(fd_steal(&m->frozen));
}

static bool move_out(struct machine *m, struct machine_watch **ret_watch, const struct wait *w,
                     struct error *err)
{
    const char *dir = m->backend->state_dir;

    m->state = open(dir, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    if (m->state < 0)
        return error_set_errno(err, errno, "make a file in %s", dir);
    if (!copy_fd(vm_guest_end(m->vm), &m->end, err) || !copy_fd(vm_disk(m->vm), &m->disk, err) ||
        !copy_fd(vm_frozen(m->vm), &m->frozen, err))
        return false;
    *ret_watch = watch_new(m, m->end, err);
    if (!*ret_watch)
        return false;
    /* Whoever waits for an answer by then would wait for somebody to bring the machine back. */
    if ((m->paused || guest_hold(computer_guest(&m->base), w, err)) &&
        (!computer_in_use(&m->base) || error_set(err, ERR_BUSY, "the computer is in use again")) &&
        vm_halt(m->vm, w, err) && machine_state_save(m->vm, m->state, w, err))
        return true;
    (*ret_watch)->refs = 1; /* the loop has not heard of it */
    watch_unref(*ret_watch);
    return false;
}

bool machine_swap_out(struct computer *c, const struct wait *w, struct error *err)
{
    const struct wait again = { .deadline_ns = clock_add_ns(clock_now_ns(), BACK_NS) };
    struct machine *m = machine_of(c);
    struct computer_usage usage;
    struct machine_watch *watch;
    struct vm *vm;

    if (!m->backend->state_dir)
        return error_set(err, ERR_UNSUPPORTED, "this server has no folder to put machines into");
    if (!fd_mkdirs(m->backend->state_dir, 0700, err) || !machine_bring_in(m, w, err))
        return false;
    if (!move_out(m, &watch, w, err)) {
        close_files(m);
        guest_release(computer_guest(c));
        /* What is said to it ends its silence. */
        if (!m->paused && (vm_state(m->vm) != VM_PREPARED || vm_run(m->vm, &again, NULL)))
            (void)!guest_set_time(computer_guest(c), clock_wall_ns(), &again, NULL);
        return error_prefix(err, "put the computer on disk");
    }
    pthread_mutex_lock(&m->lock);
    if (machine_usage_locked(m, &usage, NULL))
        m->cpu_before_ns = usage.cpu_ns;
    vm = STEAL(m->vm);
    m->oom_before += vm_oom_kills(vm);
    m->place = MACHINE_OUT;
    m->watch = watch;
    loop_post(watch->loop, &watch->begin, on_begin);
    pthread_mutex_unlock(&m->lock);
    vm_free(vm);
    guest_release(computer_guest(c));
    return true;
}

bool machine_is_swapped(struct computer *c)
{
    struct machine *m = machine_of(c);
    bool out;

    pthread_mutex_lock(&m->lock);
    out = m->place != MACHINE_IN;
    pthread_mutex_unlock(&m->lock);
    return out;
}

/* ---- and back ---- */

static struct vm *start_again(struct machine *m, const struct wait *w, struct error *err)
{
    struct vm_spec spec = m->spec;
    struct vm *vm;

    spec.argv.incoming = true;
    spec.argv.disk_fd = m->disk;
    spec.argv.disk_frozen_fd = m->frozen;
    spec.guest_end = &m->end;
    if (lseek(m->state, 0, SEEK_SET) != 0) {
        error_set_errno(err, errno, "read the state of the machine");
        return NULL;
    }
    vm = vm_start(&spec, machine_on_ended, m, w, err);
    if (vm && machine_state_load(vm, m->state, w, err) && (m->paused || vm_run(vm, w, err)))
        return vm;
    vm_free(vm);
    return NULL;
}

static void on_cancel(void *arg)
{
    struct machine *m = arg;

    pthread_mutex_lock(&m->lock);
    pthread_cond_broadcast(&m->moved);
    pthread_mutex_unlock(&m->lock);
}

/* True when it is the caller's to bring back. */
static bool claim(struct machine *m, bool *ret_ok, const struct wait *w, struct error *err)
{
    struct cancel_hook hook;
    bool time = true, mine;

    cancel_attach(w->cancel, &hook, on_cancel, m);
    pthread_mutex_lock(&m->lock);
    while (m->place == MACHINE_MOVING && time)
        time = loop_wait_cond(m->backend->spec.loop, w, &m->moved, &m->lock);
    mine = m->place == MACHINE_OUT && !m->destroyed;
    *ret_ok = m->place == MACHINE_IN && !m->destroyed;
    if (mine) {
        m->place = MACHINE_MOVING;
        watch_stop_locked(m);
    }
    pthread_mutex_unlock(&m->lock);
    cancel_detach(w->cancel, &hook);
    if (!mine && !*ret_ok && wait_check(w, err))
        error_set(err, ERR_LOST, "the computer is gone");
    return mine;
}

bool machine_bring_in(struct machine *m, const struct wait *w, struct error *err)
{
    /* Given up half-way it would have lost what QEMU had read of the stream by then. */
    const struct wait whole = { .deadline_ns = clock_add_ns(clock_now_ns(), BACK_NS),
                                .cancel = &m->cancel };
    struct error why = ERROR_INIT;
    struct vm *vm, *unwanted;
    bool ok;

    if (!claim(m, &ok, w, err))
        return ok;
    vm = start_again(m, &whole, &why);
    pthread_mutex_lock(&m->lock);
    m->place = vm ? MACHINE_IN : MACHINE_OUT;
    unwanted = m->destroyed ? vm : NULL;
    ok = vm && !unwanted;
    if (ok)
        m->vm = vm;
    close_files(m);
    pthread_cond_broadcast(&m->moved);
    pthread_mutex_unlock(&m->lock);
    vm_free(unwanted);
    if (!ok) {
        error_prefix(&why, "bring it back from the disk");
        computer_report_lost(&m->base, vm ? "destroyed" : why.text);
        return error_set(err, ERR_LOST, "the computer is gone: %s", vm ? "destroyed" : why.text);
    }
    return m->paused || guest_set_time(computer_guest(&m->base), clock_wall_ns(), w, err);
}

void machine_swap_fini(struct machine *m)
{
    pthread_mutex_lock(&m->lock);
    watch_stop_locked(m);
    if (m->place != MACHINE_MOVING) /* else who moves it closes them */
        close_files(m);
    pthread_mutex_unlock(&m->lock);
}
