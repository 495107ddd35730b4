/*
 * server_internal - what the files of the MCP server share.  Nobody else includes this.
 *
 * Threads: the loop thread, except where a field says otherwise.
 */
#pragma once

#include <uv.h>

#include "kernel/base/limits.h"
#include "kernel/base/list.h"
#include "mcp/frame.h"
#include "mcp/jsonrpc.h"
#include "mcp/peer.h"
#include "mcp/revision.h"
#include "mcp/server.h"

/* How often a call that has a progress token is heard of. */
#define SERVER_PROGRESS_NS (5 * CLOCK_NS_PER_S)
/* What a call may take beyond the time after which tools answer "still running". */
#define SERVER_DEADLINE_SLACK_NS (5 * CLOCK_NS_PER_S)
/* How long calls in flight may still be answered after the end of the input. */
#define SERVER_DRAIN_NS (700 * CLOCK_NS_PER_MS)
/* How long a client that has closed its end may leave its last answers unread. */
#define SERVER_STALL_NS (5 * CLOCK_NS_PER_S)
/* Answers to calls in flight still find room when reading has stopped, but not without end. */
#define SERVER_OUT_MOST_BYTES (4 * (size_t)LIMIT_MCP_OUT_BYTES)
/* Messages handled before the others on the loop have their turn. */
#define SERVER_BURST      64
#define SERVER_READ_BYTES (64u << 10)
#define SERVER_PAGE_TOOLS 64

/* A tools/call in flight.  In the modern era it may be answered with a question: then it is parked,
 * has no id, and goes on under the id of the call that brings the answer. */
struct request {
    struct list link;
    struct mcp_server *server;
    struct syscall *syscall; /* borrowed between submit and done */
    json_t *id;              /* NULL: parked */
    json_t *token;           /* NULL: no progress wanted */
    struct revision revision;
    struct peer_caller caller;
    bool silent; /* cancelled: nothing more is said about it */
    int64_t started_ns;
    struct loop_timer progress;
};

struct mcp_server {
    struct loop *loop;
    struct mcp_options options;
    struct revision_legacy legacy;

    /* input */
    int in_fd;
    uv_poll_t in_poll;
    bool in_pollable, in_reading, in_ended;
    bool in_failed;     /* libuv has given it up: read until that says why */
    bool resume_posted; /* more whole lines wait in `frame` */
    struct loop_post resume;
    struct frame frame;

    /* output */
    int out_fd;
    uv_poll_t out_poll;
    bool out_pollable, out_waiting, out_broken;
    bool out_lost; /* an answer could not be composed: write what there is, then end */
    bool corked;   /* answers are collected while input is being handled */
    struct buf out;
    size_t out_sent;      /* bytes at the front of `out` that have been written */
    uint64_t out_written; /* all that were ever */
    uint64_t out_mark;    /* the same when `drain` was armed for it */

    struct list requests;
    size_t request_count;
    struct loop_timer drain; /* after the end of the input */
    bool answered;           /* a request has been, at least into `out` */
    bool first_due;          /* that answer has not been written and told of yet */
    bool ended, end_told;
    unsigned handles; /* uv handles that are not closed yet */
    bool freed;

    struct buf tools[4]; /* the list of tools as text, one for each of its shapes */
    struct peer *peer;
    struct event_sub *events; /* NULL until a client wants log messages */
    struct loop_post events_post;
    atomic_bool events_posted;
};

/* server.c */
void server_check_end(struct mcp_server *s);
void server_unref_handle(struct mcp_server *s);

/* server_out.c: messages are composed at the end of `out`, between these two.  False: memory did
 * not suffice, and the message has been taken back whole.  @answer: it is one, of a request. */
size_t server_compose(const struct mcp_server *s);
bool server_commit(struct mcp_server *s, size_t from, bool answer);
/* As server_commit() of an answer to @id, but one that cannot be kept is replaced by an error. */
void server_commit_answer(struct mcp_server *s, size_t from, const json_t *id);
void server_refuse(struct mcp_server *s, const json_t *id, int code, const char *text);
void server_send(struct mcp_server *s, const struct buf *message);
size_t server_unsent(const struct mcp_server *s);
void server_flush(struct mcp_server *s);
void server_out_start(struct mcp_server *s);
/* The output is gone: nobody will read an answer any more. */
void server_out_broke(struct mcp_server *s);

/* server_io.c */
bool server_io_start(struct mcp_server *s, struct error *err);
void server_io_stop(struct mcp_server *s);
void server_io_read(struct mcp_server *s, bool on);
/* Read on, if nothing speaks against it. */
void server_io_resume(struct mcp_server *s);
bool server_poll_init(struct mcp_server *s, uv_poll_t *poll, int fd);

/* server_dispatch.c */
void server_handle(struct mcp_server *s, const char *line, size_t len);

/* server_call.c */
void server_call(struct mcp_server *s, const struct jsonrpc *m, const struct revision *r);
void server_cancel(struct mcp_server *s, const json_t *params);
void server_cancel_all(struct mcp_server *s);
struct request *server_request(struct mcp_server *s, const json_t *id);
/* From now on it is answered under @id, and its progress told of by @revision's token. */
void server_request_name(struct request *r, const json_t *id, const struct revision *revision);
/* Its client has been answered, and is not told of its progress. */
void server_request_park(struct request *r);
void server_cancel_parked(struct mcp_server *s);

/* server_question.c */
extern const struct peer_wire server_wire;
/* The call answers a question, rightly or not, and has been dealt with. */
bool server_answered_question(struct mcp_server *s, const struct jsonrpc *m,
                              const struct revision *revision);

/* server_tools.c */
void server_list_tools(struct mcp_server *s, const struct jsonrpc *m, const struct revision *r);

/* server_log.c */
void server_log_start(struct mcp_server *s);
void server_log_stop(struct mcp_server *s);
