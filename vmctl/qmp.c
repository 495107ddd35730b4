#include "vmctl/qmp.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "kernel/base/fd.h"
#include "vmctl/qmp_internal.h"

#define READ_BYTES     16384u
#define READS_PER_TURN 4 /* then the others have their turn */

static void on_post(struct loop_post *post);

static void qmp_unref(struct qmp *q)
{
    if (atomic_fetch_sub(&q->refs, 1) != 1)
        return;
    for (size_t i = 0; i < QMP_EVENTS_KEPT; i++)
        json_decref(q->events[i].data);
    qmp_reader_fini(&q->reader);
    pthread_cond_destroy(&q->changed);
    pthread_mutex_destroy(&q->lock);
    pthread_mutex_destroy(&q->call_lock);
    free(q);
}

void qmp_kick_locked(struct qmp *q)
{
    if (q->posted || q->let_go)
        return;
    q->posted = true;
    atomic_fetch_add(&q->refs, 1);
    loop_post(q->loop, &q->post, on_post);
}

void qmp_drop_locked(struct qmp *q, struct outgoing *o)
{
    q->out_bytes -= o->len;
    list_remove(&o->link);
    fd_close(o->fd);
    free(o);
}

void qmp_lose_locked(struct qmp *q, const char *why)
{
    if (q->lost)
        return;
    q->lost = true;
    (void)snprintf(q->why, sizeof q->why, "%s", why);
    LIST_FOR_EACH_SAFE (node, &q->out)
        qmp_drop_locked(q, LIST_ENTRY(node, struct outgoing, link));
    pthread_cond_broadcast(&q->changed);
    qmp_kick_locked(q);
}

void qmp_lose_errno_locked(struct qmp *q, const char *what, int os_errno)
{
    char why[160], reason[96];

    (void)snprintf(why, sizeof why, "%s: %s", what, strerror_r(os_errno, reason, sizeof reason));
    qmp_lose_locked(q, why);
}

static void lose(struct qmp *q, const char *why)
{
    pthread_mutex_lock(&q->lock);
    qmp_lose_locked(q, why);
    pthread_mutex_unlock(&q->lock);
}

/* ---- reading ---- */

static void greet_locked(struct qmp *q, const struct qmp_message *m)
{
    CLEANUP(buf_fini) struct buf line = BUF_INIT;
    json_t *args = NULL;
    struct error err = ERROR_INIT;

    q->greeted = true;
    q->oob = m->oob;
    memcpy(q->version, m->name, sizeof q->version);
    if (m->oob)
        args = json_pack("{s:[s]}", "enable", "oob");
    if ((m->oob && !args) ||
        !qmp_compose(&line, "execute", "qmp_capabilities", STEAL(args), QMP_HANDSHAKE_ID, &err) ||
        !qmp_send_locked(q, &line, -1, &err))
        qmp_lose_locked(q, "out of memory at the greeting");
}

static void keep_event_locked(struct qmp *q, const struct qmp_message *m)
{
    struct kept_event *e = &q->events[q->event_count++ % QMP_EVENTS_KEPT];

    memcpy(e->name, m->name, sizeof e->name);
    json_decref(e->data);
    /* A copy: who waits for it is another thread, and the hook's is the loop's. */
    e->data = m->data ? json_deep_copy(m->data) : NULL;
    pthread_cond_broadcast(&q->changed);
}

/* NULL, or what was wrong. */
static const char *answer_locked(struct qmp *q, struct qmp_message *m)
{
    if (!m->has_id)
        return "an error that answers no command";
    if (m->id == QMP_HANDSHAKE_ID && !q->ready) {
        if (m->kind == QMP_ERROR)
            return "it refused the capabilities that it offered";
        q->ready = true;
        pthread_cond_broadcast(&q->changed);
        return NULL;
    }
    if (m->id == QMP_HANDSHAKE_ID || m->id >= q->next_id)
        return "an answer to a command that was not given";
    if (m->id == q->passing_id) {
        q->passing_id = 0;
        pthread_cond_broadcast(&q->changed);
    }
    LIST_FOR_EACH (node, &q->pending) {
        struct pending *p = LIST_ENTRY(node, struct pending, link);

        if (p->id != m->id || p->answered)
            continue;
        p->answer = *m;
        p->answered = true;
        m->data = NULL;
        pthread_cond_broadcast(&q->changed);
        break;
    }
    return NULL; /* nobody waits for it any more: it was late */
}

static bool take_message(struct qmp *q, struct qmp_message *m)
{
    const char *wrong = NULL;
    bool tell = false, go_on;

    pthread_mutex_lock(&q->lock);
    if (q->lost) {
        pthread_mutex_unlock(&q->lock);
        return false;
    }
    if (m->kind == QMP_GREETING) {
        if (q->greeted)
            wrong = "a second greeting";
        else
            greet_locked(q, m);
    } else if (!q->greeted) {
        wrong = "no greeting";
    } else if (m->kind == QMP_EVENT) {
        keep_event_locked(q, m);
        tell = q->hooks.on_event;
    } else {
        wrong = answer_locked(q, m);
    }
    if (wrong) {
        char why[160];

        (void)snprintf(why, sizeof why, "QEMU broke the protocol: %s", wrong);
        qmp_lose_locked(q, why);
    }
    go_on = !q->lost;
    pthread_mutex_unlock(&q->lock);
    if (tell) {
        pthread_mutex_lock(&q->call_lock);
        pthread_mutex_lock(&q->lock);
        tell = !q->freed;
        pthread_mutex_unlock(&q->lock);
        if (tell)
            q->hooks.on_event(q->arg, m->name, m->data);
        pthread_mutex_unlock(&q->call_lock);
    }
    return go_on;
}

static bool take_messages(struct qmp *q)
{
    struct qmp_message m;
    const char *wrong;

    for (;;) {
        char why[160];
        bool go_on;

        switch (qmp_reader_next(&q->reader, &m, &wrong)) {
        case QMP_MORE:
            return true;
        case QMP_BAD:
            (void)snprintf(why, sizeof why, "QEMU broke the protocol: %s", wrong);
            lose(q, why);
            return false;
        case QMP_MESSAGE:
            break;
        }
        go_on = take_message(q, &m);
        qmp_message_fini(&m);
        if (!go_on)
            return false;
    }
}

static void read_some(struct qmp *q)
{
    for (int i = 0; i < READS_PER_TURN; i++) {
        char *at = qmp_reader_space(&q->reader, READ_BYTES);
        ssize_t n;

        if (!at) {
            lose(q, "out of memory");
            return;
        }
        n = recv(q->stream, at, READ_BYTES, MSG_DONTWAIT);
        if (n < 0 && (errno == EINTR || errno == EAGAIN))
            return;
        if (n <= 0) {
            pthread_mutex_lock(&q->lock);
            if (n == 0)
                qmp_lose_locked(q, "it ended the connection");
            else
                qmp_lose_errno_locked(q, "reading from QEMU", errno);
            pthread_mutex_unlock(&q->lock);
            return;
        }
        qmp_reader_filled(&q->reader, (size_t)n);
        if (!take_messages(q) || (size_t)n < READ_BYTES)
            return;
    }
}

/* ---- on the loop ---- */

static void on_closed(uv_handle_t *handle)
{
    qmp_unref(handle->data);
}

static void let_go(struct qmp *q)
{
    int stream;
    bool tell;

    pthread_mutex_lock(&q->lock);
    if (q->let_go) {
        pthread_mutex_unlock(&q->lock);
        return;
    }
    q->let_go = true;
    stream = fd_steal(&q->stream);
    pthread_mutex_unlock(&q->lock);

    pthread_mutex_lock(&q->call_lock);
    pthread_mutex_lock(&q->lock);
    tell = !q->freed && q->hooks.on_lost;
    pthread_mutex_unlock(&q->lock);
    if (tell)
        q->hooks.on_lost(q->arg, q->why); /* `why` does not change any more */
    pthread_mutex_unlock(&q->call_lock);

    if (q->polling)
        uv_close((uv_handle_t *)&q->poll, on_closed);
    else
        qmp_unref(q); /* the loop's own reference, which on_closed() would have dropped */
    fd_close(stream);
}

static void on_poll(uv_poll_t *handle, int status, int events);

/* Bring what is watched for in line with what there is to do. */
static void settle(struct qmp *q)
{
    int want = UV_READABLE, rc;
    bool lost;

    pthread_mutex_lock(&q->lock);
    qmp_flush_locked(q);
    lost = q->lost;
    if (!list_empty(&q->out))
        want |= UV_WRITABLE;
    pthread_mutex_unlock(&q->lock);
    if (!lost && want != q->polled) {
        rc = uv_poll_start(&q->poll, want, on_poll);
        q->polled = want;
        if (rc) {
            lose(q, "watching QEMU's stream failed");
            lost = true;
        }
    }
    if (lost)
        let_go(q);
}

static void on_poll(uv_poll_t *handle, int status, int events)
{
    struct qmp *q = handle->data;

    atomic_fetch_add(&q->refs, 1);
    if (status < 0)
        lose(q, "watching QEMU's stream failed");
    else if (events & UV_READABLE)
        read_some(q);
    settle(q);
    qmp_unref(q);
}

static void on_post(struct loop_post *post)
{
    struct qmp *q = CONTAINER_OF(post, struct qmp, post);
    bool lost, gone;

    pthread_mutex_lock(&q->lock);
    q->posted = false;
    lost = q->lost;
    gone = q->let_go;
    pthread_mutex_unlock(&q->lock);
    if (!gone) {
        if (!lost && !q->polling) {
            int rc = uv_poll_init(loop_uv(q->loop), &q->poll, q->stream);

            q->poll.data = q;
            q->polling = rc == 0;
            if (rc)
                lose(q, "watching QEMU's stream failed");
        }
        settle(q);
    }
    qmp_unref(q);
}

/* ---- for everybody ---- */

struct qmp *qmp_new(struct loop *loop, int stream, const struct qmp_hooks *hooks, void *arg,
                    struct error *err)
{
    struct qmp *q;

    if (!fd_set_nonblock(stream, true, err))
        return NULL;
    q = calloc(1, sizeof *q);
    if (!q) {
        error_set(err, ERR_NOMEM, "a QMP connection");
        return NULL;
    }
    q->loop = loop;
    q->stream = stream;
    if (hooks)
        q->hooks = *hooks;
    q->arg = arg;
    q->next_id = QMP_HANDSHAKE_ID + 1;
    atomic_init(&q->refs, 2); /* the owner and the loop */
    pthread_mutex_init(&q->lock, NULL);
    pthread_mutex_init(&q->call_lock, NULL);
    cond_init(&q->changed);
    list_init(&q->pending);
    list_init(&q->out);
    pthread_mutex_lock(&q->lock);
    qmp_kick_locked(q);
    pthread_mutex_unlock(&q->lock);
    return q;
}

void qmp_free(struct qmp *q)
{
    bool elsewhere;

    if (!q)
        return;
    elsewhere = !loop_is_owner(q->loop);
    if (elsewhere)
        pthread_mutex_lock(&q->call_lock);
    pthread_mutex_lock(&q->lock);
    q->freed = true;
    qmp_lose_locked(q, "let go by its owner");
    pthread_mutex_unlock(&q->lock);
    if (elsewhere)
        pthread_mutex_unlock(&q->call_lock);
    qmp_unref(q);
}
