/*
 * cpio - writes an archive of the "newc" kind, which the kernel unpacks as its first root.
 *
 * The same entries give the same bytes: owner root, no times, numbers in order.
 * Threads: one archive, one thread.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "kernel/base/buf.h"

#define CPIO_NAME_MAX 255u

/** Zero-initialise.  Once something did not fit, `out.failed` stays set. */
struct cpio {
    struct buf out;
    uint32_t count;
};

/** @name has no slash in front; its folders must have been added. */
void cpio_dir(struct cpio *c, const char *name, uint32_t permissions);
void cpio_file(struct cpio *c, const char *name, uint32_t permissions, const void *data,
               size_t len);
void cpio_link(struct cpio *c, const char *name, const char *target);

/** The end mark; then `out` is the whole archive.  False when memory ran out on the way or a name
 *  was too long. */
NODISCARD bool cpio_end(struct cpio *c);
void cpio_fini(struct cpio *c);
