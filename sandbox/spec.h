/*
 * spec - what a sandbox is asked to be: defaults filled in, wrong parts named, its environment.
 *
 * Threads: any.
 */
#pragma once

#include <stdbool.h>

#include "kernel/base/error.h"
#include "kernel/computer/computer.h"

#define SPEC_MEMORY_MIN (32ull << 20)
#define SPEC_DISK_MIN   (1ull << 20)
#define SPEC_PIDS_MIN   8u
#define SPEC_PIDS_MAX   32768u
#define SPEC_CPU_MIN    10u
#define SPEC_CPU_MAX    1024000u
#define SPEC_OWN_MAX    3

/** What a back end is configured with. */
struct spec_defaults {
    uint64_t memory_bytes;
    uint64_t disk_bytes;
    uint32_t cpu_milli; /* 0: every CPU */
    uint32_t pids;
    const char *own[SPEC_OWN_MAX]; /* the server's own folders, which no sandbox may write */
};

/** Fill what is zero in @spec and check all of it.  ERR_INVALID names the wrong part and what
 *  to send instead. */
NODISCARD bool spec_complete(struct computer_spec *spec, const struct spec_defaults *defaults,
                             struct error *err);

/** True when a sandbox prepared with @defaults does for the completed @spec. */
bool spec_is_default(const struct computer_spec *spec, const struct spec_defaults *defaults);

/** The environment of every sandbox, NULL-terminated; lives for ever. */
const char *const *spec_env(void);
