/*
 * toolmgr - the tools of this kernel: registered once, found by name, listed in a fixed order.
 *
 * Threads: any, after the last toolmgr_add().
 */
#pragma once

#include "kernel/tool.h"

struct toolmgr;

NODISCARD struct toolmgr *toolmgr_new(struct error *err);
void toolmgr_free(struct toolmgr *m);
DEFINE_CLEANUP(struct toolmgr, toolmgr_free)

/** ERR_EXISTS for a name twice, ERR_INVALID for a record that breaks a rule (name, description
 * under 2 KiB). */
NODISCARD bool toolmgr_add(struct toolmgr *m, const struct toolset *set, struct error *err);
const struct tool *toolmgr_find(const struct toolmgr *m, const char *name);
size_t toolmgr_count(const struct toolmgr *m);

/** What is added from now on is found, but not among the first toolmgr_listed() ones, which a model
 *  is shown. */
void toolmgr_end_list(struct toolmgr *m);
size_t toolmgr_listed(const struct toolmgr *m);
const struct tool *toolmgr_at(const struct toolmgr *m, size_t index);
