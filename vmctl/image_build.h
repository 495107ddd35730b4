/*
 * image_build - making an image from a recipe, of Debian's packages.
 *
 * Packages come from where this machine's apt gets Debian's.  As root mmdebstrap works as root;
 * for others it maps user ids, and fakeroot keeps the owners of files while the disk is written.
 * The same packages give the same bytes.
 *
 * Threads: one at a time.  Blocking: for minutes.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "kernel/base/error.h"
#include "kernel/base/sha256.h"

struct image_build {
    const char *recipe; /* a folder */
    const char *store;  /* as in image.h */
    int64_t deadline_ns;
    bool again;                               /* although it is there */
    void (*say)(void *arg, const char *text); /* one line of progress */
    void *arg;
};

/** @ret_hash: the image's, whether made or there already.  ERR_UNSUPPORTED names a package that is
 *  missing on this machine; ERR_TIMEOUT; ERR_LOST when one of the programs failed, which has told
 *  why on standard error. */
NODISCARD bool image_build(const struct image_build *b, char ret_hash[SHA256_HEX],
                           struct error *err);
