/*
 * template_internal - what the files of a template share: template.c boots it and clones it,
 * template_store.c keeps it on disk.
 */
#pragma once

#include <stdatomic.h>

#include "vmctl/template.h"

struct template
{
    atomic_uint refs;
    struct vm_spec spec; /* of clones */
    char *program;
    char *append;
    char *overlay_dir;
    int kernel_fd, initrd_fd, base_fd;
    int memory_fd, state_fd, frozen_fd;
    uint64_t disk_bytes; /* 0: no disk */
};

/** One with empty files for memory and state, which are still open for writing. */
NODISCARD struct template *template_new(const struct vm_spec *spec, const char *overlay_dir,
                                        struct error *err);

/** Its files are whole: nobody can change them from now on.  @overlay: what the first machine has
 *  written to its disk, which lies under the disks of all clones; -1: no disk.  It stays the
 *  caller's. */
NODISCARD bool template_freeze(struct template *t, int overlay, struct error *err);
