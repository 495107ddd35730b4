#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "kernel/base/fd.h"
#include "kernel/base/json.h"
#include "vmctl/qmp_internal.h"

#define OUT_MAX_BYTES (1u << 20) /* unsent commands */

bool qmp_lost_error_locked(struct qmp *q, struct error *err)
{
    return error_set(err, ERR_LOST, "QEMU is gone: %s", q->why);
}

/* ---- writing ---- */

/* False when the socket takes nothing more for now. */
static bool send_one_locked(struct qmp *q, struct outgoing *o)
{
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(sizeof(int))];
    } control;
    struct iovec iov = { .iov_base = o->bytes + o->at, .iov_len = o->len - o->at };
    struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };
    ssize_t n;

    if (o->fd >= 0) {
        struct cmsghdr *cmsg;

        memset(&control, 0, sizeof control);
        msg.msg_control = control.bytes;
        msg.msg_controllen = sizeof control.bytes;
        cmsg = CMSG_FIRSTHDR(&msg);
        cmsg->cmsg_level = SOL_SOCKET;
        cmsg->cmsg_type = SCM_RIGHTS;
        cmsg->cmsg_len = CMSG_LEN(sizeof(int));
        memcpy(CMSG_DATA(cmsg), &o->fd, sizeof(int));
    }
    do {
        n = sendmsg(q->stream, &msg, MSG_NOSIGNAL | MSG_DONTWAIT);
    } while (n < 0 && errno == EINTR);
    if (n < 0) {
        if (errno != EAGAIN)
            qmp_lose_errno_locked(q, "writing to QEMU", errno);
        return false;
    }
    fd_close(fd_steal(&o->fd));
    o->at += (size_t)n;
    if (o->at == o->len)
        qmp_drop_locked(q, o);
    return true;
}

void qmp_flush_locked(struct qmp *q)
{
    while (!q->lost && !list_empty(&q->out)) {
        if (!send_one_locked(q, LIST_ENTRY(q->out.next, struct outgoing, link)))
            break;
    }
}

bool qmp_send_locked(struct qmp *q, const struct buf *line, int fd, struct error *err)
{
    struct outgoing *o = NULL;
    int copy = -1;

    if (q->out_bytes + line->len > OUT_MAX_BYTES)
        return error_set(err, ERR_BUSY, "QEMU does not read its commands");
    if (fd >= 0) {
        copy = fcntl(fd, F_DUPFD_CLOEXEC, 3);
        if (copy < 0)
            return error_set_errno(err, errno, "copy a descriptor for QEMU");
    }
    o = malloc(sizeof *o + line->len);
    if (!o) {
        fd_close(copy);
        return error_set(err, ERR_NOMEM, "a command for QEMU");
    }
    o->len = line->len;
    o->at = 0;
    o->fd = copy;
    memcpy(o->bytes, line->data, line->len);
    list_append(&q->out, &o->link);
    q->out_bytes += o->len;
    qmp_flush_locked(q);
    if (!list_empty(&q->out))
        qmp_kick_locked(q);
    return true;
}

/* Consumes @args. */
bool qmp_compose(struct buf *line, const char *verb, const char *command, json_t *args, uint64_t id,
                 struct error *err)
{
    json_t *object = json_object();
    bool ok = object && json_object_set_new(object, verb, json_string(command)) == 0 &&
              json_object_set_new(object, "id", json_integer((json_int_t)id)) == 0;

    if (ok && args)
        ok = json_object_set(object, "arguments", args) == 0;
    ok = ok && json_write(object, line) && buf_append_char(line, '\n');
    json_decref(args);
    json_decref(object);
    return ok || error_set(err, ERR_NOMEM, "a command for QEMU");
}

/* ---- waiting ---- */

static void on_cancel(void *arg)
{
    struct qmp *q = arg;

    pthread_mutex_lock(&q->lock);
    pthread_cond_broadcast(&q->changed);
    qmp_kick_locked(q); /* who waits on the loop's own thread turns it meanwhile */
    pthread_mutex_unlock(&q->lock);
}

static void wait_begin(struct qmp *q, struct cancel_hook *hook, const struct wait *w)
{
    assert(loop_may_wait(q->loop));
    cancel_attach(w->cancel, hook, on_cancel, q);
    pthread_mutex_lock(&q->lock);
}

static void wait_end(struct qmp *q, struct cancel_hook *hook, const struct wait *w)
{
    pthread_mutex_unlock(&q->lock);
    cancel_detach(w->cancel, hook);
}

/* False when there is no time left; the caller looks at its condition once more. */
static bool turn_locked(struct qmp *q, const struct wait *w)
{
    return loop_wait_cond(q->loop, w, &q->changed, &q->lock);
}

static bool wait_error(const struct wait *w, const char *what, struct error *err)
{
    struct error why = ERROR_INIT;

    if (wait_check(w, &why))
        error_set(&why, ERR_TIMEOUT, "the deadline passed");
    return error_set(err, why.code, "%s: %s", what, why.text);
}

static bool ready_locked(struct qmp *q, const struct wait *w, struct error *err)
{
    bool time = true;

    while (!q->ready && !q->lost && time)
        time = turn_locked(q, w);
    if (q->lost)
        return qmp_lost_error_locked(q, err);
    return q->ready || wait_error(w, "QEMU's greeting", err);
}

bool qmp_ready(struct qmp *q, const struct wait *w, struct error *err)
{
    struct cancel_hook hook;
    bool ok;

    wait_begin(q, &hook, w);
    ok = ready_locked(q, w, err);
    wait_end(q, &hook, w);
    return ok;
}

const char *qmp_version(struct qmp *q)
{
    bool ready;

    pthread_mutex_lock(&q->lock);
    ready = q->ready;
    pthread_mutex_unlock(&q->lock);
    return ready ? q->version : "";
}

static bool refused(const char *command, const struct qmp_message *m, struct error *err)
{
    bool unknown = !strcmp(m->name, "CommandNotFound") || !strcmp(m->name, "DeviceNotFound");

    return error_set(err, unknown ? ERR_NOT_FOUND : ERR_IO, "QEMU refused %s: %s", command,
                     m->text);
}

struct order {
    const char *command;
    json_t *args; /* consumed */
    bool oob;
    int fd;
};

/* Consumes the arguments. */
static bool ask_locked(struct qmp *q, struct order *order, struct pending *p, const struct wait *w,
                       struct error *err)
{
    CLEANUP(buf_fini) struct buf line = BUF_INIT;
    json_t *args = STEAL(order->args);
    bool time = true;

    if (!ready_locked(q, w, err)) {
        json_decref(args);
        return false;
    }
    while (order->fd >= 0 && q->passing_id && !q->lost && time)
        time = turn_locked(q, w);
    if (q->lost || !time || q->pending_count >= QMP_PENDING_MAX) {
        json_decref(args);
        if (q->lost)
            return qmp_lost_error_locked(q, err);
        if (!time)
            return wait_error(w, order->command, err);
        return error_set(err, ERR_BUSY, "%u commands wait for QEMU already", QMP_PENDING_MAX);
    }
    p->id = q->next_id++;
    if (!qmp_compose(&line, order->oob && q->oob ? "exec-oob" : "execute", order->command, args,
                     p->id, err) ||
        !qmp_send_locked(q, &line, order->fd, err))
        return false;
    if (order->fd >= 0)
        q->passing_id = p->id;
    list_append(&q->pending, &p->link);
    q->pending_count++;
    while (!p->answered && !q->lost && time)
        time = turn_locked(q, w);
    list_remove(&p->link);
    q->pending_count--;
    if (p->answered)
        return true;
    return q->lost ? qmp_lost_error_locked(q, err) : wait_error(w, order->command, err);
}

static bool carry_out(struct qmp *q, struct order *order, json_t **ret_data, const struct wait *w,
                      struct error *err)
{
    struct pending p = { .answered = false };
    struct cancel_hook hook;
    bool ok;

    list_init(&p.link);
    wait_begin(q, &hook, w);
    ok = ask_locked(q, order, &p, w, err);
    wait_end(q, &hook, w);
    if (ok && p.answer.kind == QMP_ERROR)
        ok = refused(order->command, &p.answer, err);
    if (ok && ret_data)
        *ret_data = STEAL(p.answer.data);
    qmp_message_fini(&p.answer);
    return ok;
}

bool qmp_call(struct qmp *q, const char *command, json_t *args, json_t **ret_data,
              const struct wait *w, struct error *err)
{
    struct order order = { .command = command, .args = args, .fd = -1 };

    return carry_out(q, &order, ret_data, w, err);
}

bool qmp_call_oob(struct qmp *q, const char *command, json_t *args, json_t **ret_data,
                  const struct wait *w, struct error *err)
{
    struct order order = { .command = command, .args = args, .fd = -1, .oob = true };

    return carry_out(q, &order, ret_data, w, err);
}

bool qmp_pass_fd(struct qmp *q, const char *name, int fd, const struct wait *w, struct error *err)
{
    struct order order = { .command = "getfd", .fd = fd };

    assert(fd >= 0);
    order.args = json_pack("{s:s}", "fdname", name);
    if (!order.args)
        return error_set(err, ERR_NOMEM, "a command for QEMU");
    return carry_out(q, &order, NULL, w, err);
}

bool qmp_add_fd(struct qmp *q, int fd, int64_t *ret_set, const struct wait *w, struct error *err)
{
    struct order order = { .command = "add-fd", .fd = fd };
    json_t *data = NULL, *set;
    bool ok;

    assert(fd >= 0);
    if (!carry_out(q, &order, &data, w, err))
        return false;
    set = json_object_get(data, "fdset-id");
    ok = json_is_integer(set);
    if (ok)
        *ret_set = json_integer_value(set);
    json_decref(data);
    return ok || error_set(err, ERR_PROTOCOL, "QEMU does not tell where it keeps a descriptor");
}

/* QEMU takes a descriptor that is open for just what it wants to do. */
static int open_for_writing(int file, struct error *err)
{
    char path[40];
    int fd;

    (void)snprintf(path, sizeof path, "/proc/self/fd/%d", file);
    fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0)
        error_set_errno(err, errno, "a file for QEMU");
    return fd;
}

static bool call_with_set(struct qmp *q, const char *command, json_t *args, int64_t set,
                          const struct wait *w, struct error *err)
{
    json_t *remove = json_pack("{s:I}", "fdset-id", (json_int_t)set);
    char path[40];
    bool ok;

    (void)snprintf(path, sizeof path, "/dev/fdset/%" PRId64, set);
    if (!remove || json_object_set_new(args, "filename", json_string(path)) != 0) {
        json_decref(remove);
        return error_set(err, ERR_NOMEM, "a command for QEMU");
    }
    ok = qmp_call(q, command, json_incref(args), NULL, w, err);
    return qmp_call(q, "remove-fd", remove, NULL, w, ok ? err : NULL) && ok;
}

bool qmp_call_into(struct qmp *q, const char *command, json_t *args, int file, const struct wait *w,
                   struct error *err)
{
    CLEANUP(fd_closep) int fd = open_for_writing(file, err);
    int64_t set;
    bool ok = fd >= 0 && (args || error_set(err, ERR_NOMEM, "a command for QEMU")) &&
              qmp_add_fd(q, fd, &set, w, err) && call_with_set(q, command, args, set, w, err);

    json_decref(args);
    return ok;
}

uint64_t qmp_event_mark(struct qmp *q)
{
    uint64_t mark;

    pthread_mutex_lock(&q->lock);
    mark = q->event_count;
    pthread_mutex_unlock(&q->lock);
    return mark;
}

static bool find_event_locked(struct qmp *q, uint64_t *mark, const char *name, json_t **ret_data)
{
    if (q->event_count - *mark > QMP_EVENTS_KEPT)
        *mark = q->event_count - QMP_EVENTS_KEPT;
    for (; *mark < q->event_count; ++*mark) {
        const struct kept_event *e = &q->events[*mark % QMP_EVENTS_KEPT];

        if (strcmp(e->name, name) != 0)
            continue;
        ++*mark;
        if (ret_data)
            *ret_data = e->data ? json_deep_copy(e->data) : json_null();
        return true;
    }
    return false;
}

bool qmp_await(struct qmp *q, uint64_t *mark, const char *name, json_t **ret_data,
               const struct wait *w, struct error *err)
{
    struct cancel_hook hook;
    json_t *data = NULL;
    bool time = true, found;

    wait_begin(q, &hook, w);
    while (!(found = find_event_locked(q, mark, name, ret_data ? &data : NULL)) && !q->lost && time)
        time = turn_locked(q, w);
    if (!found && q->lost)
        (void)qmp_lost_error_locked(q, err);
    else if (!found)
        (void)wait_error(w, name, err);
    wait_end(q, &hook, w);
    if (found && ret_data) {
        if (!data)
            return error_set(err, ERR_NOMEM, "an event of QEMU");
        *ret_data = data;
    }
    return found;
}
