/*
 * qmp - the host's end of a QMP connection: commands with ids, events, descriptors, deadlines.
 *
 * It speaks over a connected Unix stream socket that QEMU inherited, so no path on the file system
 * leads to it.  What breaks the protocol ends the connection, and every call gets ERR_LOST.
 *
 * Ownership: qmp_new() takes the stream on success.
 * Threads: any; bytes are read on the loop thread, and written by whoever sends (the loop finishes
 *   what the socket did not take).
 * Blocking: functions with a struct wait.  They must not be called by callbacks of the loop
 *   (asserted); on its thread otherwise, they turn it.
 */
#pragma once

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "kernel/base/cancel.h"
#include "kernel/base/error.h"
#include "kernel/base/loop.h"

#define QMP_PENDING_MAX 32u /* commands without an answer; more are ERR_BUSY */
#define QMP_EVENTS_KEPT 64u /* for qmp_await(); the oldest are forgotten */

struct qmp;

struct qmp_hooks {
    /** Loop.  @data is borrowed, NULL when there is none. */
    void (*on_event)(void *arg, const char *name, const json_t *data);
    /** Loop, once: the connection is over.  @why for people. */
    void (*on_lost)(void *arg, const char *why);
};

/** Any thread.  Reading starts on the loop soon; the greeting is awaited by qmp_ready(). */
NODISCARD struct qmp *qmp_new(struct loop *loop, int stream, const struct qmp_hooks *hooks,
                              void *arg, struct error *err);

/** Any thread; everything that waits gets ERR_LOST.  No hook is called once this has returned,
 *  unless it is called by a hook.  NULL is allowed. */
void qmp_free(struct qmp *q);
DEFINE_CLEANUP(struct qmp, qmp_free)

/** Block until QEMU has greeted and the capabilities are agreed on. */
NODISCARD bool qmp_ready(struct qmp *q, const struct wait *w, struct error *err);

/** "7.2.22" once ready, "" before; lives as long as @q. */
const char *qmp_version(struct qmp *q);

/** Run @command and wait for its answer.  @args (NULL for none) is consumed also on failure.
 *  @ret_data (may be NULL) gets a new reference to what came back.  What QEMU refuses is ERR_IO
 *  with its words; ERR_NOT_FOUND when it does not know the command or the device.  After
 *  ERR_TIMEOUT the command may still be carried out; its late answer is dropped. */
NODISCARD bool qmp_call(struct qmp *q, const char *command, json_t *args, json_t **ret_data,
                        const struct wait *w, struct error *err);

/** The same out of band, overtaking what QEMU is busy with: for the few commands that allow it.
 *  Like qmp_call() where QEMU does not offer that. */
NODISCARD bool qmp_call_oob(struct qmp *q, const char *command, json_t *args, json_t **ret_data,
                            const struct wait *w, struct error *err);

/** Give QEMU a copy of @fd under @name ("fd:NAME"); @fd stays the caller's. */
NODISCARD bool qmp_pass_fd(struct qmp *q, const char *name, int fd, const struct wait *w,
                           struct error *err);

/** Give QEMU a copy of @fd as a set of its own, which is the file "/dev/fdset/N" for it and stays
 *  until remove-fd. */
NODISCARD bool qmp_add_fd(struct qmp *q, int fd, int64_t *ret_set, const struct wait *w,
                          struct error *err);

/** Like qmp_call() for a command that writes a file: its "filename" is @file, however that is open,
 *  which stays the caller's. */
NODISCARD bool qmp_call_into(struct qmp *q, const char *command, json_t *args, int file,
                             const struct wait *w, struct error *err);

/** Where the events are: what qmp_await() looks after. */
uint64_t qmp_event_mark(struct qmp *q);

/** Block until an event @name has come since *@mark, and move *@mark behind it.  @ret_data as
 *  above, JSON null for none. */
NODISCARD bool qmp_await(struct qmp *q, uint64_t *mark, const char *name, json_t **ret_data,
                         const struct wait *w, struct error *err);
