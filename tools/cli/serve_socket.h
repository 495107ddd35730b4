/*
 * serve_socket - the Unix socket of `aios serve`: made for its user alone, found by others of the
 * same.
 *
 * A lock file beside it tells a living server from a leftover, so that a second server is refused
 * and names the first, and a killed one's socket is replaced. Threads: one at a time.
 */
#pragma once

#include <stdint.h>
#include <sys/types.h>

#include "kernel/base/error.h"

struct serve_socket {
    int fd; /* listening, non-blocking */
    int lock_fd;
    char *path;
};

/** @path NULL: the default, run-time folder/aios.sock.  @mode: of the socket file.  ERR_BUSY: a
 *  server is there already; its process id is in the text. */
NODISCARD bool serve_socket_open(struct serve_socket *s, const char *path, mode_t mode,
                                 struct error *err);

/** Removes the socket file too. */
void serve_socket_close(struct serve_socket *s);

/** The default path, for free(). */
NODISCARD char *serve_socket_path(struct error *err);

/** A connection, close-on-exec, blocking.  @path NULL: the default.  ERR_NOT_FOUND says how to
 * start a server; ERR_DENIED: the server belongs to somebody else who does not let us in. */
NODISCARD int serve_socket_connect(const char *path, struct error *err);

/** The user at the other end. */
NODISCARD bool serve_socket_peer(int fd, uint32_t *ret_uid, struct error *err);
