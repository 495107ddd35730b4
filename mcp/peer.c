#include "mcp/peer.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernel/base/id.h"
#include "kernel/base/json.h"
#include "kernel/base/list.h"
#include "mcp/peer_internal.h"

/* One question.  It lives on the asking worker's stack while linked or posted. */
struct ask {
    struct list link;
    struct loop_post post;
    struct peer *peer;
    void *call;
    const char *method;
    const char *params;
    uint64_t id;
    struct id state; /* modern */
    pthread_cond_t cond;
    bool posted; /* the loop still has it */
    bool sent;
    bool answered;
    json_t *result;
    struct error why; /* when result is NULL */
};

struct peer {
    struct loop *loop;
    const struct peer_wire *wire;
    void *arg;

    pthread_mutex_t lock; /* guards everything below */
    struct list asks;     /* out, waiting for their answers */
    uint64_t next_id;
    bool closed;
    unsigned users; /* workers inside peer_ask() */
};

struct peer *peer_new(struct loop *loop, const struct peer_wire *wire, void *arg, struct error *err)
{
    struct peer *p = calloc(1, sizeof *p);

    if (!p) {
        error_set(err, ERR_NOMEM, "a peer");
        return NULL;
    }
    p->loop = loop;
    p->wire = wire;
    p->arg = arg;
    pthread_mutex_init(&p->lock, NULL);
    list_init(&p->asks);
    return p;
}

/* Takes @result; without one the question has failed with @code. */
static void PRINTF_LIKE(4, 5)
    ask_end_locked(struct ask *ask, json_t *result, enum error_code code, const char *fmt, ...)
{
    va_list ap;
    char text[sizeof ask->why.text];

    list_remove(&ask->link);
    ask->result = result;
    ask->answered = true;
    if (!result) {
        va_start(ap, fmt);
        (void)vsnprintf(text, sizeof text, fmt, ap);
        va_end(ap);
        error_set(&ask->why, code, "%s", text);
    }
    pthread_cond_signal(&ask->cond);
}

void peer_close(struct peer *p)
{
    pthread_mutex_lock(&p->lock);
    p->closed = true;
    LIST_FOR_EACH_SAFE (node, &p->asks)
        ask_end_locked(LIST_ENTRY(node, struct ask, link), NULL, ERR_LOST, "the client has gone");
    pthread_mutex_unlock(&p->lock);
}

void peer_free(struct peer *p)
{
    if (!p)
        return;
    peer_close(p);
    pthread_mutex_lock(&p->lock);
    /* Workers leave as soon as they are woken; those whose post is on its way need the loop. */
    while (p->users > 0) {
        pthread_mutex_unlock(&p->lock);
        loop_turn(p->loop, 1);
        pthread_mutex_lock(&p->lock);
    }
    pthread_mutex_unlock(&p->lock);
    pthread_mutex_destroy(&p->lock);
    free(p);
}

/* ---- answers ---- */

/* What an error of the client's means: -32601 is the protocol's, -1 how a person's no is sent. */
static enum error_code code_of(json_int_t code)
{
    if (code == JSONRPC_METHOD_NOT_FOUND)
        return ERR_UNSUPPORTED;
    return code == -1 ? ERR_DENIED : ERR_LOST;
}

static void answer_locked(struct ask *ask, const struct jsonrpc *m)
{
    const char *text = json_string_value(json_object_get(m->error, "message"));
    /* The message is this thread's, and a json_t belongs to one thread at a time. */
    json_t *copy = json_deep_copy(m->result);

    if (m->result && !copy)
        ask_end_locked(ask, NULL, ERR_NOMEM, "out of memory for the answer");
    else if (copy)
        ask_end_locked(ask, copy, ERR_NONE, "%s", "");
    else
        ask_end_locked(ask, NULL, code_of(json_integer_value(json_object_get(m->error, "code"))),
                       "%.200s", text ? text : "the client answered with an error");
}

void peer_answer(struct peer *p, const struct jsonrpc *m)
{
    const char *id = json_string_value(m->id);
    char want[40];

    pthread_mutex_lock(&p->lock);
    LIST_FOR_EACH_SAFE (node, &p->asks) {
        struct ask *ask = LIST_ENTRY(node, struct ask, link);

        snprintf(want, sizeof want, "aios-%" PRIu64, ask->id);
        if (!id || ask->call || strcmp(id, want) != 0)
            continue;
        answer_locked(ask, m);
        break;
    }
    pthread_mutex_unlock(&p->lock);
}

static struct ask *find_locked(struct peer *p, const char *state)
{
    LIST_FOR_EACH (node, &p->asks) {
        struct ask *ask = LIST_ENTRY(node, struct ask, link);

        if (ask->call && !strcmp(ask->state.text, state))
            return ask;
    }
    return NULL;
}

void *peer_waiting(struct peer *p, const char *state)
{
    struct ask *ask;
    void *call;

    pthread_mutex_lock(&p->lock);
    ask = find_locked(p, state);
    call = ask ? ask->call : NULL;
    pthread_mutex_unlock(&p->lock);
    return call;
}

bool peer_reply(struct peer *p, const char *state, const json_t *answer)
{
    json_t *copy = json_deep_copy(answer);
    struct ask *ask;

    if (!copy)
        return false;
    pthread_mutex_lock(&p->lock);
    ask = find_locked(p, state);
    if (ask)
        ask_end_locked(ask, copy, ERR_NONE, "%s", "");
    pthread_mutex_unlock(&p->lock);
    if (!ask)
        json_decref(copy);
    return ask != NULL;
}

/* ---- questions ---- */

/* Loop, with the lock let go: what writing brings about may come back here. */
static bool ask_out(struct peer *p, struct ask *ask)
{
    CLEANUP(buf_fini) struct buf message = BUF_INIT;

    if (ask->call) {
        const struct peer_question question = { .method = ask->method,
                                                .params = ask->params,
                                                .state = ask->state.text };

        return p->wire->put(p->arg, ask->call, &question);
    }
    buf_printf(&message, "{\"jsonrpc\":\"2.0\",\"id\":\"aios-%" PRIu64 "\",\"method\":\"%s\"",
               ask->id, ask->method);
    if (ask->params) {
        buf_append_str(&message, ",\"params\":");
        buf_append_str(&message, ask->params);
    }
    buf_append_str(&message, "}\n");
    if (message.failed)
        return false;
    p->wire->send(p->arg, &message);
    return true;
}

/* The loop is done with @ask: its worker may take it back. */
static void ask_hand_back(struct peer *p, struct ask *ask)
{
    pthread_mutex_lock(&p->lock);
    ask->posted = false;
    pthread_cond_signal(&ask->cond);
    pthread_mutex_unlock(&p->lock);
}

/* Loop: the question is put now, unless nobody waits any more. */
static void ask_send(struct loop_post *post)
{
    struct ask *ask = CONTAINER_OF(post, struct ask, post);
    struct peer *p = ask->peer;
    bool go;

    pthread_mutex_lock(&p->lock);
    if (p->closed && !ask->answered)
        ask_end_locked(ask, NULL, ERR_LOST, "the client has gone");
    go = !ask->answered;
    if (go) {
        ask->id = ++p->next_id;
        if (ask->call)
            ask->state = id_make("q");
        ask->sent = true;
        list_append(&p->asks, &ask->link);
    }
    pthread_mutex_unlock(&p->lock);
    if (go && !ask_out(p, ask)) {
        pthread_mutex_lock(&p->lock);
        ask->sent = false;
        if (!ask->answered)
            ask_end_locked(ask, NULL, ERR_LOST, "the question could not be sent");
        pthread_mutex_unlock(&p->lock);
    }
    ask_hand_back(p, ask);
}

bool peer_repeat(struct peer *p, const char *state)
{
    struct ask *ask;
    bool out;

    pthread_mutex_lock(&p->lock);
    ask = find_locked(p, state);
    if (ask) {
        ask->state = id_make("q");
        ask->posted = true; /* keeps its worker from leaving */
    }
    pthread_mutex_unlock(&p->lock);
    if (!ask)
        return false;
    out = ask_out(p, ask);
    ask_hand_back(p, ask);
    return out;
}

/* Loop: a legacy client need not show the question any longer. */
static void ask_retract(struct loop_post *post)
{
    struct ask *ask = CONTAINER_OF(post, struct ask, post);
    struct peer *p = ask->peer;
    CLEANUP(buf_fini) struct buf message = BUF_INIT;
    bool closed;

    pthread_mutex_lock(&p->lock);
    closed = p->closed;
    pthread_mutex_unlock(&p->lock);
    if (!closed && buf_printf(&message,
                              "{\"jsonrpc\":\"2.0\",\"method\":\"notifications/cancelled\","
                              "\"params\":{\"requestId\":\"aios-%" PRIu64 "\"}}\n",
                              ask->id))
        p->wire->send(p->arg, &message);
    ask_hand_back(p, ask);
}

static void ask_wake(void *arg)
{
    struct ask *ask = arg;

    pthread_mutex_lock(&ask->peer->lock);
    pthread_cond_signal(&ask->cond);
    pthread_mutex_unlock(&ask->peer->lock);
}

/* Until it is answered or @w is over; false when it is over.  The lock is held. */
static bool ask_await_locked(struct ask *ask, const struct wait *w)
{
    bool in_time = true;

    while (!ask->answered && in_time)
        in_time = wait_cond(w, &ask->cond, &ask->peer->lock);
    if (ask->answered)
        return true;
    list_remove(&ask->link);
    ask->answered = true;
    return false;
}

static void ask_wait_back_locked(struct ask *ask)
{
    while (ask->posted)
        pthread_cond_wait(&ask->cond, &ask->peer->lock);
}

/* False: there are too many already. */
static bool enter(struct peer *p, struct error *err)
{
    bool room;

    pthread_mutex_lock(&p->lock);
    room = p->users < PEER_QUESTIONS_MAX;
    p->users += room;
    pthread_mutex_unlock(&p->lock);
    return room || error_set(err, ERR_LIMIT, "%u questions to the client are open already",
                             PEER_QUESTIONS_MAX);
}

json_t *peer_ask(const struct peer_caller *caller, const char *method, const char *params,
                 const struct wait *w, struct error *err)
{
    struct peer *p = caller->peer;
    struct ask ask = {
        .peer = p, .call = caller->call, .method = method, .params = params, .posted = true
    };
    struct cancel_hook hook;
    bool in_time;

    if (!enter(p, err))
        return NULL;
    cond_init(&ask.cond);
    list_init(&ask.link);
    cancel_attach(w->cancel, &hook, ask_wake, &ask);
    loop_post(p->loop, &ask.post, ask_send);
    pthread_mutex_lock(&p->lock);
    in_time = ask_await_locked(&ask, w);
    /* The node is on this stack: it must have come back from the loop. */
    ask_wait_back_locked(&ask);
    if (!in_time && ask.sent && !ask.call) {
        ask.posted = true;
        loop_post(p->loop, &ask.post, ask_retract);
        ask_wait_back_locked(&ask);
    }
    pthread_mutex_unlock(&p->lock);
    cancel_detach(w->cancel, &hook); /* its function takes the lock */
    pthread_mutex_lock(&p->lock);
    p->users--; /* from here on there may be no peer */
    pthread_mutex_unlock(&p->lock);
    pthread_cond_destroy(&ask.cond);
    if (!in_time && !wait_check(w, err))
        error_prefix(err, "the client did not answer %s", method);
    else if (!ask.result)
        error_set(err, in_time ? ask.why.code : ERR_TIMEOUT, "%s: %s", method, ask.why.text);
    return ask.result;
}
