#include "vmctl/vm.h"

#include <assert.h>
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "kernel/base/clock.h"
#include "kernel/base/fd.h"
#include "kernel/base/log.h"
#include "kernel/base/utf8.h"
#include "vmctl/vm_internal.h"

#define END_NS         (1500 * CLOCK_NS_PER_MS)
#define READ_BYTES     4096u
#define READS_PER_TURN 4

static void vm_unref(struct vm *vm)
{
    if (atomic_fetch_sub(&vm->refs, 1) != 1)
        return;
    fd_close(vm->process.pidfd);
    fd_close(vm->process.words_fd);
    fd_close(vm->console);
    fd_close(vm->held);
    fd_close(vm->stream);
    fd_close(vm->disk);
    fd_close(vm->frozen);
    fd_close(vm->memory);
    ring_fini(&vm->lines);
    pthread_cond_destroy(&vm->changed);
    pthread_mutex_destroy(&vm->lock);
    pthread_mutex_destroy(&vm->call_lock);
    free(vm);
}

const char *vm_state_name(enum vm_state state)
{
    static const char *const names[] = { "new", "starting", "prepared", "running", "ended" };

    return (unsigned)state < ARRAY_LEN(names) ? names[state] : "unknown";
}

/* ---- the end ---- */

/* One line of at most @size bytes of whatever a program said. */
static void one_line(char *buf, size_t size, const char *text, size_t len)
{
    CLEANUP(buf_fini) struct buf valid = BUF_INIT;
    size_t n;

    buf[0] = '\0';
    while (len && (text[len - 1] == '\n' || text[len - 1] == ' '))
        len--;
    if (utf8_append_valid(&valid, text, len) < 0)
        return;
    n = utf8_cut(buf_str(&valid), valid.len, MIN(valid.len, size - 1));
    memcpy(buf, buf_str(&valid), n);
    buf[n] = '\0';
    for (char *c = buf; *c; c++) {
        if ((unsigned char)*c < ' ' || *c == 0x7f)
            *c = ' ';
    }
}

/* QEMU itself, with all that it has in memory, rather than a program inside. */
static bool was_too_large_locked(const struct vm *vm)
{
    struct computer_strikes strikes = { .oom = 0 };

    if (vm->group && vm->how.si_code == CLD_KILLED && vm->how.si_status == SIGKILL)
        cgroup_strikes(vm->group, &strikes);
    return strikes.oom > 0;
}

static void compose_why_locked(struct vm *vm)
{
    char raw[1024], words[VM_WORDS_BYTES];
    ssize_t n = read(vm->process.words_fd, raw, sizeof raw);
    const char *between;

    one_line(words, sizeof words, raw, n > 0 ? (size_t)n : 0);
    between = words[0] ? ": " : "";
    if (vm->how.si_code == CLD_EXITED && vm->how.si_status == 0)
        (void)snprintf(vm->why, sizeof vm->why, "the machine reset or was switched off%s%s",
                       between, words);
    else if (vm->how.si_code == CLD_EXITED)
        (void)snprintf(vm->why, sizeof vm->why, "QEMU ended with status %d%s%s", vm->how.si_status,
                       between, words);
    else if (was_too_large_locked(vm))
        (void)snprintf(vm->why, sizeof vm->why,
                       "QEMU was killed since it took more memory than the machine's limit%s%s",
                       between, words);
    else
        (void)snprintf(vm->why, sizeof vm->why, "QEMU was killed by signal %d%s%s",
                       vm->how.si_status, between, words);
}

/* False while it lives. */
static bool reap_locked(struct vm *vm)
{
    if (vm->reaped)
        return true;
    vm->how.si_pid = 0;
    if (waitid((idtype_t)P_PIDFD, (id_t)vm->process.pidfd, &vm->how, WEXITED | WNOHANG) != 0 ||
        vm->how.si_pid == 0)
        return false;
    vm->reaped = true;
    compose_why_locked(vm);
    vm->state = VM_ENDED;
    pthread_cond_broadcast(&vm->changed);
    return true;
}

static void on_closed(uv_handle_t *handle)
{
    vm_unref(handle->data);
}

static void stop_watching(uv_poll_t *handle, bool *watching)
{
    if (!*watching)
        return;
    *watching = false;
    uv_close((uv_handle_t *)handle, on_closed);
}

/* What the kernel says when it does so, wherever the pieces were cut. */
static void count_oom_locked(struct vm *vm, const char *bytes, size_t len)
{
    static const char words[] = "Out of memory: Killed process";

    for (size_t i = 0; i < len; i++) {
        if (bytes[i] != words[vm->oom_seen])
            vm->oom_seen = bytes[i] == words[0];
        else if (++vm->oom_seen == sizeof words - 1) {
            vm->oom_seen = 0;
            vm->oom_kills++;
        }
    }
}

/* True when there may be more. */
static bool read_console(struct vm *vm, int times)
{
    char bytes[READ_BYTES];

    while (times-- > 0) {
        ssize_t n = recv(vm->console, bytes, sizeof bytes, MSG_DONTWAIT);

        if (n < 0 && (errno == EINTR || errno == EAGAIN))
            return errno == EINTR;
        if (n <= 0) {
            stop_watching(&vm->watch_console, &vm->watching_console);
            return false;
        }
        pthread_mutex_lock(&vm->lock);
        ring_write(&vm->lines, bytes, (size_t)n);
        count_oom_locked(vm, bytes, (size_t)n);
        pthread_mutex_unlock(&vm->lock);
    }
    return true;
}

void vm_on_console(uv_poll_t *handle, int status, int events)
{
    (void)events;
    if (status < 0) {
        struct vm *vm = handle->data;

        stop_watching(&vm->watch_console, &vm->watching_console);
        return;
    }
    (void)read_console(handle->data, READS_PER_TURN);
}

static void tell_ended(struct vm *vm)
{
    bool tell;

    pthread_mutex_lock(&vm->call_lock);
    pthread_mutex_lock(&vm->lock);
    tell = !vm->silent && vm->on_ended;
    pthread_mutex_unlock(&vm->lock);
    if (tell)
        vm->on_ended(vm->arg, vm, vm->why); /* does not change any more */
    pthread_mutex_unlock(&vm->call_lock);
}

void vm_on_end(uv_poll_t *handle, int status, int events)
{
    struct vm *vm = handle->data;
    bool over;

    (void)status;
    (void)events;
    /* What it still had to say is in the socket. */
    (void)read_console(vm, (int)(4 * VM_CONSOLE_BYTES / READ_BYTES));
    pthread_mutex_lock(&vm->lock);
    over = reap_locked(vm);
    pthread_mutex_unlock(&vm->lock);
    if (!over)
        return;
    atomic_fetch_add(&vm->refs, 1);
    stop_watching(&vm->watch_end, &vm->watching_end);
    stop_watching(&vm->watch_console, &vm->watching_console);
    tell_ended(vm);
    fd_close(fd_steal(&vm->held));
    vm_unref(vm);
}

/* ---- for everybody ---- */

static void set_state(struct vm *vm, enum vm_state state)
{
    pthread_mutex_lock(&vm->lock);
    if (vm->state != VM_ENDED)
        vm->state = state;
    pthread_mutex_unlock(&vm->lock);
}

/* QEMU that dies at its start has said why on its standard error. */
bool vm_explain(struct vm *vm, struct error *err)
{
    struct pollfd p = { .fd = vm->process.pidfd, .events = POLLIN };
    bool over;

    if (!err || err->code != ERR_LOST || poll(&p, 1, (int)(END_NS / CLOCK_NS_PER_MS)) <= 0)
        return false;
    pthread_mutex_lock(&vm->lock);
    over = reap_locked(vm);
    pthread_mutex_unlock(&vm->lock);
    if (over) {
        error_clear(err);
        error_set(err, ERR_LOST, "%s", vm->why);
    }
    return false;
}

static void on_detach(struct loop_post *post)
{
    struct vm *vm = CONTAINER_OF(post, struct vm, post);

    stop_watching(&vm->watch_end, &vm->watching_end);
    stop_watching(&vm->watch_console, &vm->watching_console);
    vm_unref(vm);
}

void vm_free(struct vm *vm)
{
    struct pollfd p = { .events = POLLIN };
    bool elsewhere, over = true;
    struct cgroup *group;

    if (!vm)
        return;
    elsewhere = !loop_is_owner(vm->loop);
    if (elsewhere)
        pthread_mutex_lock(&vm->call_lock);
    pthread_mutex_lock(&vm->lock);
    vm->silent = true;
    pthread_mutex_unlock(&vm->lock);
    if (elsewhere)
        pthread_mutex_unlock(&vm->call_lock);
    qmp_free(vm->qmp);
    if (vm->process.pidfd >= 0) {
        vm_kill(vm);
        p.fd = vm->process.pidfd;
        (void)poll(&p, 1, (int)(END_NS / CLOCK_NS_PER_MS));
        pthread_mutex_lock(&vm->lock);
        over = reap_locked(vm);
        pthread_mutex_unlock(&vm->lock);
    }
    if (!over)
        log_line(LOG_WARN, "vm", "event=still_ending pid=%d", (int)vm->process.pid);
    pthread_mutex_lock(&vm->lock);
    group = STEAL(vm->group);
    pthread_mutex_unlock(&vm->lock);
    cgroup_free(group);
    /* The owner's reference goes with it. */
    if (elsewhere)
        loop_post(vm->loop, &vm->post, on_detach);
    else
        on_detach(&vm->post);
}

bool vm_adopt(struct vm *vm, vm_ended_fn *on_ended, void *arg, struct error *err)
{
    bool over;

    pthread_mutex_lock(&vm->call_lock);
    pthread_mutex_lock(&vm->lock);
    over = vm->state == VM_ENDED;
    pthread_mutex_unlock(&vm->lock);
    if (!over) {
        vm->on_ended = on_ended;
        vm->arg = arg;
    }
    pthread_mutex_unlock(&vm->call_lock);
    return !over || error_set(err, ERR_LOST, "%s", vm->why); /* does not change any more */
}

int vm_guest_end(const struct vm *vm)
{
    return vm->held;
}

int vm_disk(const struct vm *vm)
{
    return vm->disk;
}

int vm_frozen(const struct vm *vm)
{
    return vm->frozen;
}

int vm_memory(const struct vm *vm)
{
    return vm->memory;
}

uint64_t vm_memory_bytes(const struct vm *vm)
{
    return vm->memory_bytes;
}

void vm_usage(const struct vm *vm, struct computer_usage *ret)
{
    struct computer_usage counted = { .pids = 0 };

    if (!vm->group)
        return;
    cgroup_usage(vm->group, vm->process.pid, &counted);
    if (counted.cpu_ns)
        ret->cpu_ns = counted.cpu_ns;
    if (counted.memory_bytes)
        ret->memory_bytes = counted.memory_bytes;
    if (counted.peak_memory_bytes)
        ret->peak_memory_bytes = counted.peak_memory_bytes;
}

unsigned vm_oom_kills(struct vm *vm)
{
    unsigned kills;

    pthread_mutex_lock(&vm->lock);
    kills = vm->oom_kills;
    pthread_mutex_unlock(&vm->lock);
    return kills;
}

void vm_kill(struct vm *vm)
{
    (void)syscall(SYS_pidfd_send_signal, vm->process.pidfd, SIGKILL, NULL, 0);
}

enum vm_state vm_state(struct vm *vm)
{
    enum vm_state state;

    pthread_mutex_lock(&vm->lock);
    state = vm->state;
    pthread_mutex_unlock(&vm->lock);
    return state;
}

pid_t vm_pid(const struct vm *vm)
{
    return vm->process.pid;
}

struct qmp *vm_qmp(struct vm *vm)
{
    return vm->qmp;
}

int vm_take_stream(struct vm *vm)
{
    int stream;

    pthread_mutex_lock(&vm->lock);
    stream = fd_steal(&vm->stream);
    pthread_mutex_unlock(&vm->lock);
    return stream;
}

bool vm_run(struct vm *vm, const struct wait *w, struct error *err)
{
    if (!qmp_call(vm->qmp, "cont", NULL, NULL, w, err))
        return vm_explain(vm, err);
    set_state(vm, VM_RUNNING);
    return true;
}

bool vm_halt(struct vm *vm, const struct wait *w, struct error *err)
{
    if (!qmp_call(vm->qmp, "stop", NULL, NULL, w, err))
        return vm_explain(vm, err);
    set_state(vm, VM_PREPARED);
    return true;
}

static void on_wake(struct loop_post *post)
{
    struct vm *vm = CONTAINER_OF(post, struct vm, wake);

    pthread_mutex_lock(&vm->lock);
    vm->waking = false;
    pthread_mutex_unlock(&vm->lock);
    vm_unref(vm);
}

/* Who waits on the loop's own thread turns it, and is woken by a post. */
static void on_cancel(void *arg)
{
    struct vm *vm = arg;

    pthread_mutex_lock(&vm->lock);
    pthread_cond_broadcast(&vm->changed);
    if (!vm->waking) {
        vm->waking = true;
        atomic_fetch_add(&vm->refs, 1);
        loop_post(vm->loop, &vm->wake, on_wake);
    }
    pthread_mutex_unlock(&vm->lock);
}

bool vm_await_end(struct vm *vm, const struct wait *w, struct error *err)
{
    struct cancel_hook hook;
    bool over, time = true;

    assert(loop_may_wait(vm->loop));
    cancel_attach(w->cancel, &hook, on_cancel, vm);
    pthread_mutex_lock(&vm->lock);
    while (!(over = vm->state == VM_ENDED) && time)
        time = loop_wait_cond(vm->loop, w, &vm->changed, &vm->lock);
    pthread_mutex_unlock(&vm->lock);
    cancel_detach(w->cancel, &hook);
    if (over)
        return true;
    if (wait_check(w, err))
        error_set(err, ERR_TIMEOUT, "the deadline passed");
    return error_prefix(err, "wait for the end of the machine");
}

bool vm_quit(struct vm *vm, const struct wait *w, struct error *err)
{
    struct error why = ERROR_INIT;

    /* Its answer may be lost with the connection. */
    if (!qmp_call(vm->qmp, "quit", NULL, NULL, w, &why) && why.code != ERR_LOST)
        return error_set(err, why.code, "%s", why.text);
    return vm_await_end(vm, w, err);
}

void vm_why(struct vm *vm, char *buf, size_t size)
{
    pthread_mutex_lock(&vm->lock);
    (void)snprintf(buf, size, "%s", vm->why);
    pthread_mutex_unlock(&vm->lock);
}

long vm_console(struct vm *vm, unsigned lines, struct buf *out)
{
    CLEANUP(buf_fini) struct buf all = BUF_INIT;
    size_t before = out->len, at, end;
    uint64_t offset = 0;
    long n;

    pthread_mutex_lock(&vm->lock);
    n = ring_read(&vm->lines, &offset, VM_CONSOLE_BYTES, &all);
    pthread_mutex_unlock(&vm->lock);
    if (n < 0)
        return -1;
    end = all.len;
    while (end && all.data[end - 1] == '\n')
        end--;
    for (at = end; at && lines; at--) {
        if (all.data[at - 1] == '\n' && --lines == 0)
            break;
    }
    for (size_t i = at; i < end; i++) {
        if ((unsigned char)all.data[i] < ' ' && all.data[i] != '\n')
            all.data[i] = ' ';
    }
    if (utf8_append_valid(out, buf_str(&all) + at, end - at) < 0)
        return -1;
    return (long)(out->len - before);
}
