#include "mcp/peer.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernel/base/json.h"
#include "kernel/base/list.h"

/* One request of ours.  It lives on the asking worker's stack while linked or posted. */
struct ask {
    struct list link;
    struct loop_post post;
    struct peer *peer;
    const char *method;
    uint64_t id;
    pthread_cond_t cond;
    bool posted; /* the loop has not seen it yet */
    bool answered;
    json_t *result;
    char why[128]; /* the client's error, when result is NULL */
};

struct peer {
    struct loop *loop;
    peer_send_fn *send;
    void *arg;

    pthread_mutex_t lock; /* guards everything below */
    struct list asks;     /* sent, waiting for their answers */
    uint64_t next_id;
    bool roots;
    bool closed;
    unsigned users; /* workers inside ask_run() */
};

struct peer *peer_new(struct loop *loop, peer_send_fn *send, void *arg, struct error *err)
{
    struct peer *p = calloc(1, sizeof *p);

    if (!p) {
        error_set(err, ERR_NOMEM, "a peer");
        return NULL;
    }
    p->loop = loop;
    p->send = send;
    p->arg = arg;
    pthread_mutex_init(&p->lock, NULL);
    list_init(&p->asks);
    return p;
}

/* Takes @result. */
static void ask_answer(struct ask *ask, json_t *result, const char *why)
{
    list_remove(&ask->link);
    ask->result = result;
    ask->answered = true;
    if (why)
        snprintf(ask->why, sizeof ask->why, "%s", why);
    pthread_cond_signal(&ask->cond);
}

void peer_close(struct peer *p)
{
    pthread_mutex_lock(&p->lock);
    p->closed = true;
    LIST_FOR_EACH_SAFE (node, &p->asks)
        ask_answer(LIST_ENTRY(node, struct ask, link), NULL, "the client has gone");
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

void peer_offers(struct peer *p, bool roots)
{
    pthread_mutex_lock(&p->lock);
    p->roots = roots;
    pthread_mutex_unlock(&p->lock);
}

void peer_answer(struct peer *p, const struct jsonrpc *m)
{
    const char *id = json_string_value(m->id);
    char want[40];

    pthread_mutex_lock(&p->lock);
    LIST_FOR_EACH_SAFE (node, &p->asks) {
        struct ask *ask = LIST_ENTRY(node, struct ask, link);
        const char *why = json_string_value(json_object_get(m->error, "message"));
        json_t *copy;

        snprintf(want, sizeof want, "aios-%" PRIu64, ask->id);
        if (!id || strcmp(id, want) != 0)
            continue;
        /* The message is this thread's, and a json_t belongs to one thread at a time. */
        copy = json_deep_copy(m->result);
        if (m->result && !copy)
            why = "out of memory for the answer";
        ask_answer(ask, copy, why ? why : "the client answered with an error");
        break;
    }
    pthread_mutex_unlock(&p->lock);
}

/* Loop: the question is put now, unless nobody waits any more. */
static void ask_send(struct loop_post *post)
{
    struct ask *ask = CONTAINER_OF(post, struct ask, post);
    struct peer *p = ask->peer;
    CLEANUP(buf_fini) struct buf message = BUF_INIT;

    pthread_mutex_lock(&p->lock);
    ask->posted = false;
    if (p->closed && !ask->answered)
        ask_answer(ask, NULL, "the client has gone");
    if (ask->answered) {
        pthread_cond_signal(&ask->cond); /* it waits for its node */
        pthread_mutex_unlock(&p->lock);
        return;
    }
    ask->id = ++p->next_id;
    buf_printf(&message, "{\"jsonrpc\":\"2.0\",\"id\":\"aios-%" PRIu64 "\",\"method\":\"%s\"}\n",
               ask->id, ask->method);
    if (message.failed)
        ask_answer(ask, NULL, "out of memory");
    else
        list_append(&p->asks, &ask->link);
    pthread_mutex_unlock(&p->lock);
    if (!message.failed)
        p->send(p->arg, &message);
}

static void ask_wake(void *arg)
{
    struct ask *ask = arg;

    pthread_mutex_lock(&ask->peer->lock);
    pthread_cond_signal(&ask->cond);
    pthread_mutex_unlock(&ask->peer->lock);
}

/* The result of @method: a new reference, or NULL. */
static json_t *ask_run(struct peer *p, const char *method, const struct wait *w, struct error *err)
{
    struct ask ask = { .peer = p, .method = method, .posted = true };
    struct cancel_hook hook;
    bool in_time = true;
    bool gave_up;

    cond_init(&ask.cond);
    list_init(&ask.link);
    pthread_mutex_lock(&p->lock);
    p->users++;
    pthread_mutex_unlock(&p->lock);
    cancel_attach(w->cancel, &hook, ask_wake, &ask);
    loop_post(p->loop, &ask.post, ask_send);
    pthread_mutex_lock(&p->lock);
    while (!ask.answered && in_time)
        in_time = wait_cond(w, &ask.cond, &p->lock);
    if (!ask.answered) {
        list_remove(&ask.link);
        ask.answered = true;
    }
    /* The node is on this stack: it must have come back from the loop. */
    while (ask.posted)
        pthread_cond_wait(&ask.cond, &p->lock);
    gave_up = !in_time && !ask.result && !ask.why[0];
    pthread_mutex_unlock(&p->lock);
    cancel_detach(w->cancel, &hook); /* its function takes the lock */
    pthread_mutex_lock(&p->lock);
    p->users--; /* from here on there may be no peer */
    pthread_mutex_unlock(&p->lock);
    pthread_cond_destroy(&ask.cond);
    if (gave_up && !wait_check(w, err))
        error_prefix(err, "the client did not answer %s", method);
    else if (!ask.result)
        error_set(err, ERR_LOST, "%s: %s", method, ask.why);
    return ask.result;
}

static json_t *peer_roots(void *arg, const struct wait *w, struct error *err)
{
    struct peer *p = arg;
    json_t *uris;
    json_t *result;
    size_t i;
    json_t *root;
    bool offered;

    pthread_mutex_lock(&p->lock);
    offered = p->roots;
    pthread_mutex_unlock(&p->lock);
    if (!offered) {
        error_set(err, ERR_UNSUPPORTED, "the client has no roots");
        return NULL;
    }
    result = ask_run(p, "roots/list", w, err);
    if (!result)
        return NULL;
    uris = json_array();
    json_array_foreach (json_object_get(result, "roots"), i, root) {
        json_t *uri = json_object_get(root, "uri");

        if (json_is_string(uri) && json_array_append(uris, uri) != 0) {
            json_decref(uris);
            uris = NULL;
            break;
        }
    }
    json_decref(result);
    if (!uris)
        error_set(err, ERR_NOMEM, "the client's roots");
    return uris;
}

const struct tool_peer *peer_tool(void)
{
    static const struct tool_peer tool = { .roots = peer_roots };

    return &tool;
}
