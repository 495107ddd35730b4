/*
 * peer_place - a peer whose questions are kept, and workers that ask, for the tests of the peer.
 *
 * Threads: the test's own, and those of the askers.
 */
#pragma once

#include <pthread.h>
#include <stdio.h>
#include <time.h>

#include "kernel/base/clock.h"
#include "kernel/base/id.h"
#include "kernel/base/json.h"
#include "mcp/peer.h"
#include "tests/support/check.h"

#define ASKERS      16
#define PATIENCE_NS (60 * CLOCK_NS_PER_S)

struct place {
    struct loop *loop;
    struct peer *peer;
    struct peer_caller caller;
    int sent;
    char last[400];      /* the last message that was sent */
    char state[ID_SIZE]; /* modern: of the last question */
    bool deaf;           /* modern: its call cannot be answered */
};

enum what { ROOTS, SAMPLE, ELICIT };

/* A worker that asks. */
struct asker {
    pthread_t thread;
    struct place *place;
    enum what what;
    struct cancel cancel;
    struct wait wait;
    json_t *roots; /* the answer, whatever was asked for */
    json_t *params;
    bool yes;
    struct error err;
    atomic_bool done;
};

static inline void send(void *arg, const struct buf *message)
{
    struct place *p = arg;

    p->sent++;
    (void)snprintf(p->last, sizeof p->last, "%s", buf_str(message));
}

static inline bool put(void *arg, void *call, const struct peer_question *question)
{
    struct place *p = arg;

    assert_ptr_equal(call, &p->caller);
    if (p->deaf)
        return false;
    p->sent++;
    (void)snprintf(p->last, sizeof p->last, "%s %s", question->method,
                   question->params ? question->params : "");
    (void)snprintf(p->state, sizeof p->state, "%s", question->state);
    return true;
}

static const struct peer_wire wire = { .send = send, .put = put };

static inline void place_new(struct place *p, bool offers)
{
    struct error err = ERROR_INIT;

    *p = (struct place){ .loop = loop_new(&err) };
    assert_ok(p->loop, err);
    p->peer = peer_new(p->loop, &wire, p, &err);
    assert_ok(p->peer, err);
    p->caller = (struct peer_caller){
        .peer = p->peer, .offers = { .roots = offers, .sampling = offers, .elicitation = offers }
    };
}

static inline void place_new_modern(struct place *p)
{
    place_new(p, true);
    p->caller.call = &p->caller;
}

static inline void place_free(struct place *p)
{
    peer_free(p->peer);
    loop_free(p->loop);
}

static inline void *asker_main(void *arg)
{
    struct asker *a = arg;

    switch (a->what) {
    case ROOTS:
        a->roots = peer_tool()->roots(&a->place->caller, &a->wait, &a->err);
        break;
    case SAMPLE:
        a->roots = peer_tool()->sample(&a->place->caller, a->params, &a->wait, &a->err);
        break;
    case ELICIT:
        a->yes = peer_tool()->elicit(&a->place->caller, "May \"it\"?", a->params, &a->roots,
                                     &a->wait, &a->err);
        break;
    }
    atomic_store(&a->done, true);
    return NULL;
}

static inline void asker_begin(struct asker *a, struct place *p, enum what what, json_t *params,
                               int64_t timeout_ns)
{
    memset(a, 0, sizeof *a);
    a->place = p;
    a->what = what;
    a->params = params;
    cancel_init(&a->cancel);
    a->wait = (struct wait){ .deadline_ns = clock_add_ns(clock_now_ns(), timeout_ns),
                             .cancel = &a->cancel };
    assert_int_equal(pthread_create(&a->thread, NULL, asker_main, a), 0);
}

static inline void asker_start(struct asker *a, struct place *p, int64_t timeout_ns)
{
    asker_begin(a, p, ROOTS, NULL, timeout_ns);
}

static inline void turn(struct place *p, int64_t since_ns)
{
    loop_turn(p->loop, 5);
    if (clock_now_ns() - since_ns > PATIENCE_NS)
        fail_msg("nothing happens");
}

static inline void asker_join(struct asker *a)
{
    int64_t since_ns = clock_now_ns();

    while (!atomic_load(&a->done))
        turn(a->place, since_ns);
    assert_int_equal(pthread_join(a->thread, NULL), 0);
    cancel_fini(&a->cancel);
    json_decref(a->params);
}

static inline void await_question(struct place *p, int sent)
{
    int64_t since_ns = clock_now_ns();

    while (p->sent < sent)
        turn(p, since_ns);
    assert_int_equal(p->sent, sent);
}

static inline void answer(struct place *p, const char *line)
{
    struct jsonrpc m;

    jsonrpc_read(line, strlen(line), &m);
    assert_int_equal(m.kind, JSONRPC_RESPONSE);
    peer_answer(p->peer, &m);
    jsonrpc_fini(&m);
}
