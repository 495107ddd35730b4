/*
 * initramfs - the first root of a virtual machine: aios-early, the guest, a kernel's modules.
 *
 * The same input gives the same bytes.
 * Threads: any.  Blocking: reads some megabytes of files.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "kernel/base/error.h"

/** A further file, for machines that have no disk. */
struct initramfs_file {
    const char *name;   /* "bin/busybox"; folders are made */
    const char *target; /* a symbolic link to this, or NULL */
    const void *data;
    size_t len;
    uint32_t permissions;
};

struct initramfs_plan {
    const void *early, *guest; /* the two programs */
    size_t early_len, guest_len;
    const char *modules_dir; /* "/lib/modules/6.1.0-…" */
    const char *const
        *modules; /* names; NULL-terminated; those built into the kernel are left out */
    const struct initramfs_file *files;
    size_t file_count;
};

/** The archive as a sealed memory file, or -1.  ERR_NOT_FOUND names a module that is missing. */
NODISCARD int initramfs_make(const struct initramfs_plan *plan, struct error *err);
