/*
 * run_order - what `aios run` was asked for: its options, read and checked.
 *
 * Ownership: run_order_fini(); strings are borrowed from the command line unless said.
 */
#pragma once

#include <stdbool.h>

#include "kernel/base/error.h"
#include "kernel/computer/computer.h"
#include "kernel/config.h"
#include "tools/cli/cli.h"

struct run_list {
    const char **items; /* NULL-terminated once there is one */
    size_t count;
};

struct run_order {
    const char *config_path;
    struct run_list allow, env;
    struct computer_dir *dirs; /* paths are owned */
    size_t dir_count;
    uint64_t memory_bytes, disk_bytes;
    uint32_t pids, cpu_milli;
    int64_t timeout_ns;
    const char *cwd; /* NULL: see run_order_cwd() */
    char here[4096]; /* the folder that we were started in, "" when it is not shared */
    bool json;
    char *const *argv; /* NULL-terminated */
};

extern const struct cli_command run_command;

/** *ret_helped: the help was printed and there is nothing to do. */
NODISCARD bool run_order_read(struct run_order *o, int argc, char **argv, bool *ret_helped,
                              struct error *err);
void run_order_fini(struct run_order *o);

/** The computer that was asked for.  @config's network rules hold when none were given.  Borrows
 * from both. */
NODISCARD bool run_order_spec(struct run_order *o, const struct config *config,
                              struct computer_spec *ret, struct error *err);

/** Where the command starts. */
const char *run_order_cwd(const struct run_order *o);
