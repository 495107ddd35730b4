/*
 * context - what an agent puts aside and takes up again: messages, variables, computers.
 *
 * A context has a name and versions.  Saving takes a snapshot of each computer, then writes one
 * value into storage, and with that it is saved, whole; a server that is killed before has saved
 * nothing. Another server on the same storage and state folder can restore it.  Programs are not
 * part of it: what ran, and how it stood, is told.  Snapshots are kept for the newest
 * CONTEXT_COMPUTERS_KEPT versions; older ones still give back messages and variables.
 *
 * Threads: any.  Blocking: within the struct wait.
 */
#pragma once

#include <jansson.h>

#include "kernel/kernel.h"

#define CONTEXT_COMPUTERS_KEPT 3u
#define CONTEXT_NAME_BYTES     64u

struct context_parts {
    json_t *messages;  /* an array, or NULL */
    json_t *variables; /* an object, or NULL */
    bool computers;    /* all that the agent has */
};

/** {"context", "version", "computers": [{"computer", "snapshot"}]}, a new reference. */
NODISCARD json_t *context_save(struct kernel *k, struct agent *a, const char *name,
                               const struct context_parts *parts, const struct wait *w,
                               struct error *err);

/** @version 0: the newest.  With @computers each saved one is made again and the default one is the
 *  default again.  {"context", "version", "saved", "messages", "variables", "computers": [{"was",
 *  "computer"}], "runs": [{"computer", "run", "command", "state"}], "missing": [what could not be
 *  made again and why]}; a new reference. */
NODISCARD json_t *context_restore(struct kernel *k, struct agent *a, const char *name,
                                  uint64_t version, bool computers, const struct wait *w,
                                  struct error *err);

/** [{"context", "version", "bytes", "saved"}]; a new reference. */
NODISCARD json_t *context_list(struct kernel *k, struct agent *a, const struct wait *w,
                               struct error *err);

/** With its snapshots. */
NODISCARD bool context_delete(struct kernel *k, struct agent *a, const char *name,
                              const struct wait *w, struct error *err);
