/*
 * base64 - RFC 4648, the standard alphabet with padding.  Threads: any.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "kernel/base/buf.h"
#include "kernel/base/error.h"

bool base64_encode(struct buf *out, const void *data, size_t len);

/** Strict: no white space, correct padding.  ERR_INVALID or ERR_NOMEM. */
NODISCARD bool base64_decode(struct buf *out, const char *text, size_t len, struct error *err);
