/*
 * status - how the user's other programs ask a running server about its computers.
 *
 * With its first computer a server begins to listen at status/PID.sock in the run-time folder, for
 * its own user and root, on a thread of its own; until then it costs a subscription.  One request a
 * connection, one line of JSON each way:
 *   {"ask": "computers"}            {"computers": […]} as computers_list() has them, with
 * memory_bytes
 *   {"ask": "screen", "computer"}   {"width", "height"}, followed by the pixels, three bytes each
 *   anything that fails             {"error": text}
 * A socket that nobody listens at was left by a killed server, and is removed by whoever meets it.
 *
 * Threads: status_new() and status_free() on the loop's; the other functions any.
 */
#pragma once

#include "kernel/computer/display.h"
#include "kernel/kernel.h"

struct status;

/** Before the kernel's first computer; status_free() before kernel_free(). */
NODISCARD struct status *status_new(struct kernel *k, struct error *err);
void status_free(struct status *s);

/* ---- the side that asks (status_ask.c) ---- */

/** @answer of server @pid, borrowed; NULL when it does not answer: then @why says so. */
typedef void status_fn(void *arg, long pid, const json_t *answer, const char *why);

/** Ask every running server of this user for its computers. */
NODISCARD bool status_each(status_fn *fn, void *arg, struct error *err);

/** What the screen of @computer shows, whichever server has it.  ERR_NOT_FOUND. */
NODISCARD bool status_screen(const char *computer, struct display_frame *ret, struct error *err);

/* ---- both sides ---- */

#define STATUS_FOLDER   "status"
#define STATUS_SUFFIX   ".sock"
#define STATUS_LINE_MAX (4u << 20)

/** servers/ as a descriptor, or -1; made when @make, else ERR_NOT_FOUND. */
NODISCARD int status_folder(bool make, struct error *err);

/** The address of @name below @folder, however long its path is. */
struct sockaddr_un;
void status_address(int folder, const char *name, struct sockaddr_un *ret);

/** Remove the sockets that nobody listens at.  Servers are made under the same lock. */
void status_sweep_locked(int folder);

/** One line up to @max bytes; false at the end of the stream, on errors and after the timeout. */
NODISCARD bool status_read_line(int fd, struct buf *ret, size_t max);
