/*
 * relay - standard input to a server's socket, and its answers to standard output.
 *
 * Blocking: until either side has ended.  What is read is held only until the other side takes it:
 * one piece in each direction.
 */
#pragma once

#include "kernel/base/error.h"

/** Greets as @agent (NULL: nobody in particular) and carries bytes until the server has closed. The
 *  end of @in_fd is handed on, so that answers under way still come.  ERR_LOST: the server ended
 * while the input was open; ERR_DENIED: its words. */
NODISCARD bool relay_run(int in_fd, int out_fd, int sock, const char *agent, struct error *err);
