/*
 * cli - the programs behind `aios COMMAND`: options, exit codes, and the assembly of a kernel.
 *
 * Exit codes: 0 success; 1 failed; 2 wrong usage; `aios run` passes its command's own code through
 * (126 cannot be executed, 127 not found, 128+N ended by signal N, 124 timeout, 125 aios itself
 * failed). Threads: the main thread.
 */
#pragma once

#include "kernel/base/error.h"
#include "kernel/kernel.h"
#include "sandbox/sandbox.h"

enum { CLI_OK = 0, CLI_FAILED = 1, CLI_USAGE = 2 };

/** One command: @argv[0] is its name.  Returns the exit code. */
typedef int cli_fn(int argc, char **argv);

int cli_mcp(int argc, char **argv);
int cli_serve(int argc, char **argv);
int cli_run(int argc, char **argv);
int cli_call(int argc, char **argv);
int cli_doctor(int argc, char **argv);
int cli_audit(int argc, char **argv);
int cli_config(int argc, char **argv);
int cli_image(int argc, char **argv);
int cli_ps(int argc, char **argv);
int cli_vm(int argc, char **argv);
int cli_screen(int argc, char **argv);
int cli_version(int argc, char **argv);

/** What a program does first, before its first thread. */
void cli_begin(void);

/** Called before names of hosts are resolved, with nothing begun: a program that cannot starts one
 *  that can in its place, with the same arguments, and does not return. */
void cli_need_names(void);

/** "aios COMMAND: text" on standard error; returns @code. */
int cli_fail(const char *command, int code, const struct error *err);

/** What an option parser needs: long options "--name VALUE", "--name=VALUE", "--flag". */
struct cli_option {
    const char *name;  /* without dashes; NULL ends the table */
    const char *value; /* NULL: a flag; else what the value is called in the help */
    const char *help;
};

/** Called for each option in order; returns false with ERR_INVALID. */
typedef bool cli_option_fn(void *arg, const char *name, const char *value, struct error *err);

struct cli_command {
    const char *name;     /* "run" */
    const char *synopsis; /* "[OPTIONS] -- COMMAND [ARGS]" */
    const char *about;    /* paragraphs for --help */
    const struct cli_option *options;
};

/** Parses options up to "--" or the first word that is none; *ret_next is what follows.  `--help`
 *  prints the help and sets *ret_helped.  ERR_INVALID names an unknown option. */
NODISCARD bool cli_parse(const struct cli_command *command, int argc, char **argv,
                         cli_option_fn *fn, void *arg, int *ret_next, bool *ret_helped,
                         struct error *err);

/* ---- a kernel with its back ends and tools ---- */

struct status;

struct cli_engine {
    struct config *config;
    struct loop *loop;
    struct kernel *kernel;
    struct status *status;
};

/** @config_path NULL: the user's file.  @overrides may be NULL.  Starts nothing slow. */
NODISCARD bool cli_engine_start(struct cli_engine *e, const char *config_path, json_t *overrides,
                                struct error *err);
void cli_engine_stop(struct cli_engine *e);

/** What a model is told about the server. */
extern const char cli_instructions[];

/** The sandbox back end as configured.  @image, which may be NULL, is called with @config. */
NODISCARD struct computer_backend *cli_sandbox(struct loop *loop, const struct config *config,
                                               uint32_t pool_size, sandbox_image_fn *image,
                                               struct error *err);
