#include "sandbox/notify.h"

#include <assert.h>
#include <errno.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <uv.h>

#include "kernel/base/buf.h"
#include "kernel/base/clock.h"
#include "kernel/base/fd.h"
#include "kernel/base/list.h"
#include "sandbox/notify_text.h"
#include "sandbox/policy.h"

#define EVENTS_MAX       64
#define STACK_BYTES      (512u << 10)
#define TOLD_PER_SECOND  200
#define TOLD_BURST       200
#define TOLD_INTERVAL_NS (CLOCK_NS_PER_S / TOLD_PER_SECOND)
#define TEXT_MAX         1024

struct notify_watch {
    struct notify *notify; /* immutable, as are fn and arg */
    notify_fn *fn;
    void *arg;
    int listener;           /* the notifier thread's while it runs this watch, else under lock */
    int64_t bucket_full_ns; /* notifier thread only: when the token bucket is full again */

    struct list link; /* this and below: guarded by notify->lock */
    bool removed;
};

struct notify {
    int epoll_fd, wake_fd; /* immutable, as are the sizes */
    size_t request_len, reply_len;
    uv_poll_t *poll;               /* immutable: of epoll_fd, when a loop does the work */
    struct seccomp_notif *request; /* the notifier thread's or the loop's, as is reply */
    struct seccomp_notif_resp *reply;

    pthread_mutex_t lock; /* guards what follows */
    pthread_cond_t idle;  /* broadcast when `running` becomes NULL */
    struct notify_watch *running;
    struct list watches;
    struct list removed; /* freed by the thread, once no event of a batch can name them */
    bool started, stopping;
    pthread_t thread; /* set with `started` */
};

/** Takes a token if there is one: the bucket is kept as the time at which it is full again. */
static bool may_tell(struct notify_watch *w)
{
    int64_t now_ns = clock_now_ns();
    int64_t full_ns = MAX(w->bucket_full_ns, now_ns) + TOLD_INTERVAL_NS;

    if (full_ns - now_ns > TOLD_BURST * TOLD_INTERVAL_NS)
        return false;
    w->bucket_full_ns = full_ns;
    return true;
}

static void tell(struct notify_watch *w, const struct policy_call *call,
                 const struct seccomp_notif *request)
{
    uint64_t id = request->id;
    uint64_t args[6];
    struct buf text;

    buf_init(&text, TEXT_MAX);
    memcpy(args, request->data.args, sizeof args);
    notify_text(&text, call, args, request->pid);
    /* Only while the call is pending is the number surely that process; what was read while it
     * might have been another's is not told. */
    if (ioctl(w->listener, SECCOMP_IOCTL_NOTIF_ID_VALID, &id) != 0 || text.failed)
        buf_clear(&text);
    w->fn(w->arg, call->name, buf_str(&text), request->pid);
    buf_fini(&text);
}

/** One call: told first, so that whoever sees the program go on finds the report there. */
static void answer(struct notify *n, struct notify_watch *w)
{
    const struct policy_call *call;
    struct policy_verdict verdict;
    uint64_t args[6];

    memset(n->request, 0, n->request_len); /* the kernel insists */
    if (ioctl(w->listener, SECCOMP_IOCTL_NOTIF_RECV, n->request) != 0) {
        /* ENOENT: the caller was killed before its call could be taken. */
        if (errno != ENOENT && errno != EINTR)
            (void)epoll_ctl(n->epoll_fd, EPOLL_CTL_DEL, w->listener, NULL);
        return;
    }
    memcpy(args, n->request->data.args, sizeof args);
    call = policy_find(n->request->data.nr);
    verdict = policy_decide(call, args);
    if (call && may_tell(w))
        tell(w, call, n->request);
    memset(n->reply, 0, n->reply_len);
    n->reply->id = n->request->id;
    n->reply->error = -(verdict.action == POLICY_ALLOW ? EPERM : verdict.error);
    /* It fails when the caller is gone, which is fine. */
    (void)ioctl(w->listener, SECCOMP_IOCTL_NOTIF_SEND, n->reply);
}

/** One call per watch and turn, so that a flooding sandbox does not keep others waiting. */
static void serve(struct notify *n, struct notify_watch *w, uint32_t events)
{
    bool removed;

    pthread_mutex_lock(&n->lock);
    removed = w->removed;
    if (!removed)
        n->running = w;
    pthread_mutex_unlock(&n->lock);
    if (removed)
        return;
    if (events & EPOLLIN)
        answer(n, w);
    else if (events & (EPOLLHUP | EPOLLERR)) /* the last task is gone */
        (void)epoll_ctl(n->epoll_fd, EPOLL_CTL_DEL, w->listener, NULL);
    pthread_mutex_lock(&n->lock);
    n->running = NULL;
    pthread_cond_broadcast(&n->idle);
    pthread_mutex_unlock(&n->lock);
}

static void free_removed_locked(struct notify *n)
{
    LIST_FOR_EACH_SAFE (node, &n->removed) {
        list_remove(node);
        free(LIST_ENTRY(node, struct notify_watch, link));
    }
}

/** Once; false when there is nothing more to come. */
static bool turn(struct notify *n, int timeout_ms)
{
    struct epoll_event events[EVENTS_MAX];
    uint64_t wakes;
    bool stopping;
    int count;

    pthread_mutex_lock(&n->lock);
    free_removed_locked(n);
    stopping = n->stopping;
    pthread_mutex_unlock(&n->lock);
    if (stopping)
        return false;
    count = epoll_wait(n->epoll_fd, events, EVENTS_MAX, timeout_ms);
    for (int i = 0; i < count; i++) {
        if (events[i].data.ptr)
            serve(n, events[i].data.ptr, events[i].events);
        else
            (void)!read(n->wake_fd, &wakes, sizeof wakes);
    }
    return true;
}

static void *notify_main(void *arg)
{
    while (turn(arg, -1))
        continue;
    return NULL;
}

static void on_poll(uv_poll_t *poll, int status, int events)
{
    (void)status;
    (void)events;
    (void)turn(poll->data, 0);
}

static void on_closed(uv_handle_t *handle)
{
    free(handle);
}

static bool watch_on(struct notify *n, struct loop *loop, struct error *err)
{
    uv_poll_t *poll = malloc(sizeof *poll);
    int rc;

    if (!poll)
        return error_set(err, ERR_NOMEM, "notifier");
    rc = uv_poll_init(loop_uv(loop), poll, n->epoll_fd);
    if (rc != 0) {
        free(poll);
        return error_set_errno(err, -rc, "notifier");
    }
    poll->data = n;
    n->poll = poll;
    rc = uv_poll_start(poll, UV_READABLE, on_poll);
    return rc == 0 || error_set_errno(err, -rc, "notifier");
}

static void wake(struct notify *n)
{
    uint64_t one = 1;

    (void)!write(n->wake_fd, &one, sizeof one);
}

struct notify *notify_new(struct loop *loop, struct error *err)
{
    CLEANUP(notify_freep) struct notify *n = calloc(1, sizeof *n);
    struct epoll_event event = { .events = EPOLLIN };
    struct seccomp_notif_sizes sizes;

    if (!n) {
        error_set(err, ERR_NOMEM, "notifier");
        return NULL;
    }
    n->epoll_fd = n->wake_fd = -1;
    list_init(&n->watches);
    list_init(&n->removed);
    pthread_mutex_init(&n->lock, NULL); /* neither can fail on Linux with these attributes */
    pthread_cond_init(&n->idle, NULL);
    if (syscall(SYS_seccomp, SECCOMP_GET_NOTIF_SIZES, 0, &sizes) != 0) {
        error_set(err, ERR_UNSUPPORTED, "the kernel has no seccomp notification (Linux 5.0)");
        return NULL;
    }
    n->request_len = MAX(sizes.seccomp_notif, sizeof *n->request);
    n->reply_len = MAX(sizes.seccomp_notif_resp, sizeof *n->reply);
    n->request = calloc(1, n->request_len);
    n->reply = calloc(1, n->reply_len);
    if (!n->request || !n->reply) {
        error_set(err, ERR_NOMEM, "notifier");
        return NULL;
    }
    n->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    n->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (n->epoll_fd < 0 || n->wake_fd < 0 ||
        epoll_ctl(n->epoll_fd, EPOLL_CTL_ADD, n->wake_fd, &event) != 0) {
        error_set_errno(err, errno, "notifier");
        return NULL;
    }
    if (loop && !watch_on(n, loop, err))
        return NULL;
    return STEAL(n);
}

void notify_free(struct notify *n)
{
    if (!n)
        return;
    assert(list_empty(&n->watches));
    if (n->started) {
        pthread_mutex_lock(&n->lock);
        n->stopping = true;
        pthread_mutex_unlock(&n->lock);
        wake(n);
        pthread_join(n->thread, NULL);
    }
    if (n->poll)
        uv_close((uv_handle_t *)n->poll, on_closed);
    free_removed_locked(n);
    fd_close(n->epoll_fd);
    fd_close(n->wake_fd);
    free(n->request);
    free(n->reply);
    pthread_cond_destroy(&n->idle);
    pthread_mutex_destroy(&n->lock);
    free(n);
}

/** Signals are the other threads' business. */
static bool start_locked(struct notify *n, struct error *err)
{
    sigset_t all, before;
    pthread_attr_t attr;
    int failed;

    if (n->started || n->poll)
        return true;
    sigfillset(&all);
    pthread_attr_init(&attr);
    pthread_attr_setstacksize(&attr, STACK_BYTES);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    failed = pthread_create(&n->thread, &attr, notify_main, n);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_attr_destroy(&attr);
    if (failed)
        return error_set_errno(err, failed, "notifier thread");
    (void)pthread_setname_np(n->thread, "notify");
    n->started = true;
    return true;
}

struct notify_watch *notify_add(struct notify *n, int listener, notify_fn *fn, void *arg,
                                struct error *err)
{
    struct notify_watch *w = calloc(1, sizeof *w);
    struct epoll_event event = { .events = EPOLLIN, .data.ptr = w };
    bool ok;

    if (!w) {
        error_set(err, ERR_NOMEM, "notification watch");
        return NULL;
    }
    *w = (struct notify_watch){ .notify = n, .fn = fn, .arg = arg, .listener = listener };
    pthread_mutex_lock(&n->lock);
    ok = start_locked(n, err);
    if (ok && epoll_ctl(n->epoll_fd, EPOLL_CTL_ADD, listener, &event) != 0)
        ok = error_set_errno(err, errno, "watch a seccomp listener");
    if (ok)
        list_append(&n->watches, &w->link);
    pthread_mutex_unlock(&n->lock);
    if (!ok) {
        free(w);
        return NULL;
    }
    return w;
}

void notify_remove(struct notify_watch *w)
{
    struct notify *n;

    if (!w)
        return;
    n = w->notify;
    assert(n->poll || !pthread_equal(pthread_self(), n->thread));
    pthread_mutex_lock(&n->lock);
    w->removed = true;
    while (n->running == w)
        pthread_cond_wait(&n->idle, &n->lock);
    (void)epoll_ctl(n->epoll_fd, EPOLL_CTL_DEL, w->listener, NULL); /* ENOENT after a hang-up */
    fd_close(w->listener);
    list_remove(&w->link);
    list_append(&n->removed, &w->link);
    pthread_mutex_unlock(&n->lock);
    wake(n);
}
