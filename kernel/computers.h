/*
 * computers - who has which computer: handles, the default one, checkpoints, runs, idle ends.
 *
 * Every lookup is by agent: another agent's handle is ERR_NOT_FOUND, like one that never was, and
 * the text names the tool that makes one.
 * Ownership: what is returned is a reference for the caller.  computers_free() destroys all, in
 *   parallel, within 2 s.
 * Threads: any.  Blocking: with a struct wait.
 */
#pragma once

#include <jansson.h>

#include "kernel/agent.h"
#include "kernel/audit.h"
#include "kernel/computer/run.h"
#include "kernel/config.h"
#include "kernel/event.h"

struct computers;

struct computers_request {
    const char *kind;                  /* NULL: configured */
    const char *image;                 /* NULL: configured */
    const char *const *allow;          /* NULL-terminated; NULL: configured */
    const char *const *env;            /* NULL-terminated NAME=VALUE; may be NULL */
    uint64_t memory_bytes, disk_bytes; /* 0: configured */
    uint32_t cpu_milli, pids;
    int64_t idle_ns;      /* 0: configured; CLOCK_NEVER */
    const json_t *labels; /* object of strings, or NULL */
};

NODISCARD struct computers *computers_new(struct loop *loop, const struct config *config,
                                          struct audit *audit, struct event_bus *bus,
                                          struct error *err);
void computers_free(struct computers *cs);
DEFINE_CLEANUP(struct computers, computers_free)

/** From now on rows go to @audit.  Before the first create. */
void computers_set_audit(struct computers *cs, struct audit *audit);

/** Take over @b.  Before the first create. */
NODISCARD bool computers_add_backend(struct computers *cs, struct computer_backend *b,
                                     struct error *err);

/** Let back ends fill their pools. */
void computers_warm(struct computers *cs);

NODISCARD struct computer *computers_create(struct computers *cs, struct agent *agent,
                                            const struct computers_request *request,
                                            const struct wait *w, struct error *err);

/** @handle NULL: the agent's default computer, made at the first need (by one caller; others wait
 *  for it), and made anew when the old one is gone. */
NODISCARD struct computer *computers_get(struct computers *cs, struct agent *agent,
                                         const char *handle, const struct wait *w,
                                         struct error *err);
NODISCARD bool computers_destroy(struct computers *cs, struct agent *agent, const char *handle,
                                 struct error *err);

/** All of @agent's computers, in the background. */
void computers_end_agent(struct computers *cs, const char *agent);

/** The agent's computers as a JSON array: {computer, kind, state, default, created_ms_ago, idle_ms,
 * labels, allow, memory_mb, disk_mb, pids, runs_live}, and image where it has one; the state is
 * "running", "idle" or "swapped".  New reference.  Never blocks.  @agent NULL: those of all, each
 * with its agent. */
NODISCARD json_t *computers_list(struct computers *cs, struct agent *agent, struct error *err);

/** Whoever has it: for the operator.  A reference, or NULL; it does not count as a use. */
NODISCARD struct computer *computers_any(struct computers *cs, const char *handle);

/** A copy of its files, with its limits and rules; processes are not copied. */
NODISCARD struct computer *computers_fork(struct computers *cs, struct agent *agent,
                                          const char *handle, const json_t *labels,
                                          const struct wait *w, struct error *err);

/** Checkpoints: "s_…".  Restore makes a new computer. */
NODISCARD bool computers_save(struct computers *cs, struct agent *agent, const char *handle,
                              const char *label, struct id *ret_id, const struct wait *w,
                              struct error *err);
NODISCARD struct computer *computers_restore(struct computers *cs, struct agent *agent,
                                             const char *checkpoint, const json_t *labels,
                                             const struct wait *w, struct error *err);
NODISCARD json_t *computers_checkpoints(struct computers *cs, struct agent *agent,
                                        struct error *err);
NODISCARD bool computers_checkpoint_delete(struct computers *cs, struct agent *agent,
                                           const char *checkpoint, struct error *err);

/** Remember a run so that its handle works; the registry holds a reference.  The oldest ended runs
 *  beyond LIMIT_RUNS of a computer are forgotten. */
NODISCARD bool computers_run_add(struct computers *cs, struct agent *agent, struct run *run,
                                 struct error *err);
NODISCARD struct run *computers_run_get(struct computers *cs, struct agent *agent,
                                        const char *handle, struct error *err);

/** Something that lives as long as a computer does (a code context, a screen): found by @key, freed
 * by
 *  @free_fn when the computer goes.  Any thread; @free_fn may be called on any. */
NODISCARD bool computers_attach(struct computers *cs, struct computer *c, const char *key,
                                void *thing, void (*free_fn)(void *thing), struct error *err);

/** Calls @use(@arg, thing) under the registry's lock (so it may take a reference of its own), or
 *  returns false when there is none. */
bool computers_attached(struct computers *cs, struct computer *c, const char *key,
                        void (*use)(void *arg, void *thing), void *arg);
void computers_detach(struct computers *cs, struct computer *c, const char *key);

/** As long as what is called @key is attached to @c, @fn is called before the computer's files are
 *  copied or saved, so that what is kept in memory only can be put there: by the thread that asked
 *  for the copy, without locks.  It may take its time within @w; what fails in it fails alone. */
typedef void computers_save_fn(struct computers *cs, struct computer *c, const struct wait *w);
void computers_on_save(struct computers *cs, struct computer *c, const char *key,
                       computers_save_fn *fn);

/** Its runs, the oldest first: [{"run", "command", "state", "value"}], where the state is
 *  run_reason_name()'s; a new reference.  @handle NULL: those of the default computer, if any. */
NODISCARD json_t *computers_runs(struct computers *cs, struct agent *agent, const char *handle,
                                 struct error *err);

/** From now on @handle is what a call without a computer means. */
NODISCARD bool computers_make_default(struct computers *cs, struct agent *agent, const char *handle,
                                      struct error *err);

size_t computers_count(struct computers *cs);
