/*
 * migrate - QEMU's own way of moving the state of a machine through a descriptor.
 *
 * Threads: any.  Blocking: functions with a struct wait.
 */
#pragma once

#include "vmctl/qmp.h"

enum migrate_way { MIGRATE_OUT, MIGRATE_IN };

/** Begin; @fd stays the caller's.  @memory: out go not the devices alone but every page of the
 *  guest's memory, unless it is shared with a file.  *ret_mark is for migrate_finish(). */
NODISCARD bool migrate_begin(struct qmp *q, enum migrate_way way, int fd, bool memory,
                             uint64_t *ret_mark, const struct wait *w, struct error *err);
NODISCARD bool migrate_finish(struct qmp *q, uint64_t mark, const struct wait *w,
                              struct error *err);

/** Make it stop; whatever that takes is waited for, for seconds at most. */
void migrate_give_up(struct qmp *q);

/** The devices of a machine that is halted, to the empty file @fd; MIGRATE_IN takes them.
 *  ERR_NOT_FOUND where this QEMU cannot leave out memory that is its own. */
NODISCARD bool migrate_devices(struct qmp *q, int fd, const struct wait *w, struct error *err);
