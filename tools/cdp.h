/*
 * cdp - the DevTools protocol of a browser in a computer: calls, their answers, and events.
 *
 * JSON messages, each ended by a NUL, on the control stream of a run that was started with
 * `control` and `lossless`: the browser's descriptors 3 and 4, where --remote-debugging-pipe is.
 * What the browser says is hostile: the length and depth of a message, the number of waiting calls
 * and the type of everything that is used here are checked, and the rest is JSON for its reader
 * to distrust.  A browser that breaks the protocol is killed.
 * Ownership: cdp_new() takes a reference of the run.  cdp_free() ends the thread that reads, and
 *   may not be called by it.  Whoever calls has a reference of what owns it: nobody may be inside.
 * Threads: any.  Events are told on the one thread that reads.
 * Blocking: cdp_call(), and shortly cdp_post() and cdp_free().
 */
#pragma once

#include <jansson.h>
#include <stdatomic.h>

#include "kernel/computer/run.h"

#define CDP_MESSAGE_MAX (32u << 20) /* a screenshot of a long page is one message */
#define CDP_CALLS_MAX   256u        /* that wait at once */
#define CDP_WORD_MAX    100u        /* a method, a session, an identifier */

struct cdp;

struct cdp_events {
    /** Reading thread.  @session "" is the browser itself.  @params is an object, borrowed.  It may
     *  call cdp_post(), and must not wait for anything else. */
    void (*event)(void *arg, const char *session, const char *method, json_t *params);
    /** Reading thread, once, the last: it is over.  @why for people. */
    void (*lost)(void *arg, const char *why);
};

NODISCARD struct cdp *cdp_new(struct run *run, const struct cdp_events *events, void *arg,
                              struct error *err);
void cdp_free(struct cdp *cdp);
DEFINE_CLEANUP(struct cdp, cdp_free)

/** Ask and wait: the "result" object, a new reference.  @session NULL or "": the browser itself.
 *  @params (may be NULL) is taken in any case.  ERR_LOST when the browser ends first, with the
 *  reason; ERR_NOT_FOUND when the session is gone; ERR_INVALID with the browser's words when it
 *  refuses; ERR_TIMEOUT and ERR_CANCELLED by @w. */
NODISCARD json_t *cdp_call(struct cdp *cdp, const char *session, const char *method, json_t *params,
                           const struct wait *w, struct error *err);

/** The same, given up with ERR_BUSY when *@interrupts (may be NULL) is counted up and cdp_wake() is
 *  called. */
NODISCARD json_t *cdp_ask(struct cdp *cdp, const char *session, const char *method, json_t *params,
                          const atomic_uint *interrupts, const struct wait *w, struct error *err);
void cdp_wake(struct cdp *cdp);

/** Ask without waiting for the answer, which is dropped.  @params is taken.  Any thread. */
void cdp_post(struct cdp *cdp, const char *session, const char *method, json_t *params);

/** Have it end soon, without waiting for that: whoever waits gets ERR_LOST. */
void cdp_stop(struct cdp *cdp);

/** Whether its program runs; one that does not is over soon. */
bool cdp_running(struct cdp *cdp);

/** False once it is over; then cdp_why() says why ("" before). */
bool cdp_alive(struct cdp *cdp);
void cdp_why(struct cdp *cdp, char *buf, size_t size);

/* ---- the bytes ---- */

/** One message from the front of @bytes.  CDP_MORE: it is not all there yet; CDP_BROKEN: no message
 *  of ours, or too long; CDP_OK: *ret_used is its length with the NUL, and @ret is filled. */
enum cdp_read { CDP_MORE, CDP_OK, CDP_BROKEN };

struct cdp_message {
    json_t *whole;       /* owns what follows; json_decref() */
    uint64_t id;         /* 0: an event */
    const char *session; /* "" for the browser itself */
    const char *method;  /* of an event */
    json_t *params;      /* of an event; an object */
    json_t *result;      /* of an answer; an object, or NULL: */
    const char *error;   /* what the browser says is wrong */
    int error_code;
};

NODISCARD enum cdp_read cdp_message_read(const char *bytes, size_t len, struct cdp_message *ret,
                                         size_t *ret_used);
