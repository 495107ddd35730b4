/*
 * peer - questions of ours to the client on behalf of a call, and the wait for the answers: for its
 * roots, to its model, to its person.
 *
 * A legacy client is sent a request.  In the modern era a server sends none: the call is answered
 * with the question and a state, and the client makes the call again with its answer and that
 * state. Which of the two is the caller's matter, and so is what the client offers.
 *
 * A modern call whose question is not answered in time has nobody left to tell its result to: who
 * asked shall give up then.
 *
 * A state is random, stands for one question of one call on one connection, can be answered once,
 * and is forgotten when whoever asked no longer waits.
 *
 * Ownership: the server's; its tool_peer is valid until peer_free().
 * Threads: peer_tool()'s functions on workers; the rest on the loop.
 * Blocking: on workers only, within the caller's struct wait.
 */
#pragma once

#include "kernel/base/loop.h"
#include "kernel/tool.h"
#include "mcp/jsonrpc.h"
#include "mcp/revision.h"

/* Questions of one connection at once: each holds a worker. */
#define PEER_QUESTIONS_MAX 64u

struct peer;

struct peer_question {
    const char *method; /* a constant */
    const char *params; /* a JSON object as text, or NULL */
    const char *state;
};

/** How questions go out.  Loop. */
struct peer_wire {
    /** Legacy: appends @message to the client's input. */
    void (*send)(void *arg, const struct buf *message);
    /** Modern: answers @call with @question.  False: it cannot be answered any more. */
    bool (*put)(void *arg, void *call, const struct peer_question *question);
};

/** On whose behalf: what struct syscall's peer_arg points to.  Constant while its call runs. */
struct peer_caller {
    struct peer *peer;
    struct revision_offers offers;
    void *call; /* modern: for wire->put(); legacy: NULL */
};

NODISCARD struct peer *peer_new(struct loop *loop, const struct peer_wire *wire, void *arg,
                                struct error *err);

/** Everybody who waits gets ERR_LOST, and so does who asks from now on.  Loop. */
void peer_close(struct peer *p);

/** Closes it, and waits for those who are still on their way out.  Nobody may ask any more: the
 * calls that it was given to have completed.  Loop, and not from one of its callbacks. */
void peer_free(struct peer *p);

/** Legacy: an answer that came in; unknown ids are ignored. */
void peer_answer(struct peer *p, const struct jsonrpc *m);

/** Modern: the call whose question has this @state, or NULL: it never was one, was answered
 *  already, or nobody waits for it any more. */
void *peer_waiting(struct peer *p, const char *state);

/** Modern: the answer to it, an object (borrowed).  False as above, or when memory ran out: then it
 *  still waits. */
NODISCARD bool peer_reply(struct peer *p, const char *state, const json_t *answer);

/** Modern: puts it again, with a new state.  False as above. */
NODISCARD bool peer_repeat(struct peer *p, const char *state);

/** For struct syscall's peer; the peer_arg is a struct peer_caller. */
const struct tool_peer *peer_tool(void);
