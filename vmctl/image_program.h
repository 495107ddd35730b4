/*
 * image_program - the programs that make an image, each run to its end.
 *
 * What they say goes to standard error.  They end with the thread that started them.
 * Threads: any.  Blocking: until the program ends or the deadline passes.
 */
#pragma once

#include <stdint.h>

#include "kernel/base/buf.h"
#include "kernel/base/error.h"

struct image_program {
    const char *const *argv; /* argv[0] is looked up where root would */
    const char *const *env;  /* "NAME=VALUE" beside what we have; NULL: none */
    struct buf *out;         /* what it prints, up to the buffer's limit; NULL: standard error */
    int64_t deadline_ns;
    int hold_fd; /* it and its children keep this open; -1: none */
};

/** It ended with 0.  ERR_LOST otherwise. */
NODISCARD bool image_program_run(const struct image_program *p, struct error *err);

/** ERR_UNSUPPORTED names the Debian package. */
NODISCARD bool image_program_need(const char *name, const char *package, struct error *err);
