/*
 * toolkit - what the tool families share: the computer argument, environments, the report of a run.
 *
 * Threads: worker threads, within one struct tool_call.
 */
#pragma once

#include "kernel/computers.h"
#include "kernel/kernel.h"
#include "kernel/tool.h"

/** The families that exist.  One file each; see tools/toolset.c for the order in which they are
 *  registered and listed. */
extern const struct toolset toolset_computer;
extern const struct toolset toolset_terminal;
extern const struct toolset toolset_code;
extern const struct toolset toolset_file;
extern const struct toolset toolset_document;
extern const struct toolset toolset_browser;
extern const struct toolset toolset_storage;
extern const struct toolset toolset_memory;
extern const struct toolset toolset_llm;
extern const struct toolset toolset_agent;
extern const struct toolset toolset_desktop;

/** Register the families named in @groups (array of strings; "all" names each).  NULL registers
 * all, and lists those that are not `unlisted`.  ERR_INVALID names an unknown one and lists those
 * that exist. */
NODISCARD bool toolset_register(struct toolmgr *tools, const json_t *groups, struct error *err);

/** The optional argument that every tool with a computer has. */
#define TOOLKIT_COMPUTER_FIELD(type)                                                      \
    {                                                                                     \
        .name = "computer", .description = "Default: your own", .kind = JSON_KIND_STRING, \
        .offset = offsetof(type, computer)                                                \
    }

/** The computer that is meant; @handle may be NULL.  A reference. */
NODISCARD struct computer *toolkit_computer(struct tool_call *call, const char *handle,
                                            struct error *err);

/** A JSON map of strings as NAME=VALUE, NULL-terminated, in one allocation for free(); NULL for
 *  none (*ret untouched is not an error: returns true with *ret NULL).  ERR_INVALID for an empty
 * name, one with '=' or NUL, or a control character in a value. */
NODISCARD bool toolkit_env(const json_t *map, char ***ret, struct error *err);

/** A JSON array of strings as a NULL-terminated vector, borrowed strings, free() the vector. */
NODISCARD char **toolkit_strings(const json_t *array, struct error *err);

/** When a call that waits must answer: tool.call_timeout_ms after it was submitted, or @wait_ms
 * from now if that is sooner (0: no wish of its own). */
int64_t toolkit_answer_by(struct tool_call *call, int64_t wait_ms);

/** What a tool tells about a run: its output (from offset @from, cleaned: terminal escapes removed
 * unless it is a screen), then one status line, then what was refused.  An ended run that failed is
 * not a tool error. */
struct toolkit_report {
    struct run *run;
    uint64_t from;      /* offset of stdout to begin at */
    bool page;          /* as much as fits from there on and where to go on; else head and tail */
    uint64_t *ret_end;  /* may be NULL: up to which offset of stdout it was told */
    const char *screen; /* a pty's screen as text instead of output; NULL: none */
    bool with_stderr;   /* a run that was not merged: show stderr after stdout */
};
NODISCARD bool toolkit_report(struct tool_call *call, const struct toolkit_report *report,
                              struct error *err);

/** "exit code 0, 1.2 s, CPU 0.9 s, 34 MiB" / "still running after 45 s; …" into @out. */
bool toolkit_status(const struct run_info *info, const char *run_id, struct buf *out);

/** Remove terminal escape sequences and carriage-return overwrites, keep tabs and newlines. */
bool toolkit_clean(struct buf *out, const char *text, size_t len);

/** Part of a stream, in bytes of what the program wrote. */
struct toolkit_span {
    uint64_t begin, end; /* what was shown: with a gap, its first and last byte */
    uint64_t total;      /* written so far */
};

/** Append @stream of @run from span->begin on, cleaned and valid; *span is set to what was there.
 * Too long for an answer, it is cut at the end of a line: a @page ends there (span->end), else the
 * middle is left out and a line says how to read it.  False: out of memory. */
NODISCARD bool toolkit_output(struct buf *out, struct run *run, enum wire_stream stream, bool page,
                              struct toolkit_span *span);

/** A program that is run to its end for what it prints. */
struct toolkit_program {
    const char *const *argv;
    const char *input; /* for its standard input; NULL: none */
    size_t input_len;
    size_t max; /* bytes of output, both streams together; more is ERR_LIMIT */
    int64_t timeout_ns;
};

/** *ret_code: its exit code.  ERR_NOT_FOUND where the computer has no such program; ERR_TIMEOUT;
 *  ERR_IO when it ended otherwise. */
NODISCARD bool toolkit_program(struct tool_call *call, struct computer *c,
                               const struct toolkit_program *program, struct buf *out,
                               int *ret_code, struct error *err);

/** The same where there is no call. */
NODISCARD bool toolkit_program_in(struct computer *c, const struct toolkit_program *program,
                                  struct buf *out, int *ret_code, const struct wait *w,
                                  struct error *err);
