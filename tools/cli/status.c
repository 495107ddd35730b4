#include "tools/cli/status.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include "kernel/base/clock.h"
#include "kernel/base/fd.h"
#include "kernel/base/log.h"
#include "tools/cli/serve_socket.h"

#define BACKLOG     8
#define REQUEST_MAX 4096u
#define PATIENCE_S  5
#define SCREEN_NS   (20 * CLOCK_NS_PER_S)

struct status {
    struct kernel *kernel; /* constant, like the loop */
    struct loop *loop;

    /* the loop's */
    struct event_sub *sub; /* until the first computer is made */
    struct loop_post begin, release;
    pthread_t thread;
    bool started;
    char name[32]; /* "PID.sock" below folder; "" until it is there */

    /* the thread's while it runs */
    int folder, listener, end;
    struct cancel stop;

    pthread_mutex_t lock;
    int peer; /* who is being answered, or -1; guarded by lock */
};

/* ---- answers ---- */

static bool send_json(int fd, const json_t *answer, struct error *err)
{
    CLEANUP(buf_fini) struct buf text = BUF_INIT;

    if (!answer || !json_write(answer, &text) || !buf_append_char(&text, '\n'))
        return error_set(err, ERR_NOMEM, "an answer");
    return fd_write_all(fd, text.data, text.len, err);
}

/* What each takes; one that is gone by now keeps none. */
static json_t *list_all(struct computers *cs, struct error *err)
{
    json_t *list = computers_list(cs, NULL, err), *one;
    size_t i;

    json_array_foreach (list, i, one) {
        const char *handle = json_string_value(json_object_get(one, "computer"));
        CLEANUP(computer_unrefp) struct computer *c = handle ? computers_any(cs, handle) : NULL;
        struct computer_usage usage;

        if (c && computer_usage(c, &usage, NULL))
            (void)json_object_set_new(one, "memory_bytes",
                                      json_integer((json_int_t)usage.memory_bytes));
    }
    return list;
}

static bool answer_computers(struct status *s, int fd, struct error *err)
{
    json_t *list = list_all(kernel_computers(s->kernel), err);
    json_t *answer = list ? json_pack("{s:o}", "computers", list) : NULL;
    bool ok = list && send_json(fd, answer, err);

    json_decref(answer);
    return ok;
}

static bool answer_screen(struct status *s, int fd, const char *handle, struct error *err)
{
    const struct wait w = { .deadline_ns = clock_add_ns(clock_now_ns(), SCREEN_NS),
                            .cancel = &s->stop };
    CLEANUP(computer_unrefp) struct computer *c = NULL;
    struct display_frame frame = { .width = 0 };
    json_t *head;
    bool ok;

    c = computers_any(kernel_computers(s->kernel), handle);
    if (!c)
        return error_set(err, ERR_NOT_FOUND, "no computer \"%.60s\" here", handle);
    ok = display_frame(c, &frame, &w, err);
    if (ok) {
        head = json_pack("{s:I, s:I}", "width", (json_int_t)frame.width, "height",
                         (json_int_t)frame.height);
        ok = send_json(fd, head, err) &&
             fd_write_all(fd, frame.rgb, (size_t)frame.width * frame.height * 3, err);
        json_decref(head);
    }
    display_frame_fini(&frame);
    return ok;
}

static bool answer_one(struct status *s, int fd, struct error *err)
{
    CLEANUP(buf_fini) struct buf line = BUF_INIT;
    const char *ask, *computer;
    json_t *request;
    bool ok;

    if (!status_read_line(fd, &line, REQUEST_MAX))
        return true; /* it went away, or only looked whether we are here */
    request = json_parse(buf_str(&line), line.len, err);
    if (!request)
        return false;
    ask = json_string_value(json_object_get(request, "ask"));
    computer = json_string_value(json_object_get(request, "computer"));
    if (ask && strcmp(ask, "computers") == 0)
        ok = answer_computers(s, fd, err);
    else if (ask && strcmp(ask, "screen") == 0 && computer)
        ok = answer_screen(s, fd, computer, err);
    else
        ok = error_set(err, ERR_INVALID, "this server does not know such a question");
    json_decref(request);
    return ok;
}

/* Once some bytes of an answer are under way, an error only cuts it short, which the other side
 * notices; before that it is told. */
static void serve_peer(struct status *s, int fd)
{
    const struct timeval patience = { .tv_sec = PATIENCE_S };
    struct error err = ERROR_INIT;
    uint32_t uid;

    if (!serve_socket_peer(fd, &uid, NULL) || (uid != geteuid() && uid != 0) ||
        setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience) != 0 ||
        setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience) != 0)
        return;
    if (!answer_one(s, fd, &err) && err.code != ERR_IO) {
        json_t *answer = json_pack("{s:s}", "error", err.text);

        (void)!send_json(fd, answer, NULL);
        json_decref(answer);
    }
}

static void *serve_main(void *arg)
{
    struct status *s = arg;
    struct pollfd fds[2] = { { .fd = s->end, .events = POLLIN },
                             { .fd = s->listener, .events = POLLIN } };

    while (!cancel_raised(&s->stop)) {
        int fd;

        if (poll(fds, ARRAY_LEN(fds), -1) < 0 && errno != EINTR)
            break;
        if (!(fds[1].revents & POLLIN))
            continue;
        fd = accept4(s->listener, NULL, NULL, SOCK_CLOEXEC);
        if (fd < 0)
            continue;
        pthread_mutex_lock(&s->lock);
        s->peer = fd;
        pthread_mutex_unlock(&s->lock);
        serve_peer(s, fd);
        pthread_mutex_lock(&s->lock);
        s->peer = -1;
        pthread_mutex_unlock(&s->lock);
        fd_close(fd);
    }
    return NULL;
}

/* ---- beginning ---- */

static bool listen_here(struct status *s, struct error *err)
{
    CLEANUP(fd_closep) int lock = -1;
    struct sockaddr_un address;
    long holder;

    s->folder = status_folder(true, err);
    if (s->folder < 0)
        return false;
    lock = fd_lock(s->folder, "lock", &holder, err);
    if (lock < 0)
        return false;
    status_sweep_locked(s->folder);
    s->listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    s->end = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (s->listener < 0 || s->end < 0)
        return error_set_errno(err, errno, "a socket");
    (void)snprintf(s->name, sizeof s->name, "%ld" STATUS_SUFFIX, (long)getpid());
    status_address(s->folder, s->name, &address);
    if (fchmod(s->listener, 0600) != 0 ||
        bind(s->listener, (const struct sockaddr *)(const void *)&address, sizeof address) != 0) {
        s->name[0] = '\0';
        return error_set_errno(err, errno, "make the socket " STATUS_FOLDER "/%ld" STATUS_SUFFIX,
                               (long)getpid());
    }
    return listen(s->listener, BACKLOG) == 0 || error_set_errno(err, errno, "listen");
}

static bool start_thread(struct status *s, struct error *err)
{
    sigset_t all, before;
    int rc;

    /* Signals are the loop thread's. */
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    rc = pthread_create(&s->thread, NULL, serve_main, s);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    s->started = rc == 0;
    return s->started || error_set_errno(err, rc, "start a thread");
}

/* Nothing but `aios ps` and the like misses it, so a failure is only told. */
static void on_begin(struct loop_post *post)
{
    struct status *s = CONTAINER_OF(post, struct status, begin);
    struct error err = ERROR_INIT;

    if (!s->sub)
        return;
    event_unsubscribe(STEAL(s->sub));
    if (!listen_here(s, &err) || !start_thread(s, &err))
        log_line(LOG_WARN, "status_failed", "why=%s", LOG_ESC(err.text));
}

static void on_made(void *arg)
{
    struct status *s = arg;

    loop_post(s->loop, &s->begin, on_begin);
}

struct status *status_new(struct kernel *k, struct error *err)
{
    struct status *s = calloc(1, sizeof *s);

    if (!s) {
        error_set(err, ERR_NOMEM, "status");
        return NULL;
    }
    s->kernel = k;
    s->loop = kernel_loop(k);
    s->folder = s->listener = s->end = s->peer = -1;
    pthread_mutex_init(&s->lock, NULL);
    cancel_init(&s->stop);
    s->sub = event_subscribe(kernel_events(k), "computer.made", on_made, s, err);
    if (s->sub)
        return s;
    cancel_fini(&s->stop);
    pthread_mutex_destroy(&s->lock);
    free(s);
    return NULL;
}

/* ---- the end ---- */

static void on_release(struct loop_post *post)
{
    struct status *s = CONTAINER_OF(post, struct status, release);

    cancel_fini(&s->stop);
    pthread_mutex_destroy(&s->lock);
    free(s);
}

void status_free(struct status *s)
{
    if (!s)
        return;
    if (s->sub)
        event_unsubscribe(STEAL(s->sub));
    if (s->name[0])
        (void)unlinkat(s->folder, s->name, 0);
    cancel_raise(&s->stop);
    if (s->started) {
        (void)!eventfd_write(s->end, 1);
        pthread_mutex_lock(&s->lock);
        if (s->peer >= 0)
            (void)shutdown(s->peer, SHUT_RDWR);
        pthread_mutex_unlock(&s->lock);
        pthread_join(s->thread, NULL);
    }
    fd_close(s->listener);
    fd_close(s->end);
    fd_close(s->folder);
    /* Behind what a new computer may have posted. */
    loop_post(s->loop, &s->release, on_release);
}
