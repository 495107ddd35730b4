/*
 * machine - the requests about the computer as a whole: freeze, sync, clock, name, limits, the end.
 *
 * What a sandbox does not allow is tried all the same, and answers EPERM.
 * Threads: one.
 */
#pragma once

#include <stdint.h>
#include <sys/types.h>

#include "images/guest/evloop.h"
#include "images/guest/tree.h"
#include "kernel/computer/wire.h"

struct inside;
struct freeze;
struct sync_job;

struct machine {
    struct tree stopped_before; /* what was not running when everything was frozen */
    struct freeze *freeze;      /* under way */
    struct list syncs;          /* of struct sync_job */
    int ballast_fd;             /* holds what of the disk nobody may have; -1: nothing */
    bool frozen;
};

void machine_init(struct machine *m);
void machine_fini(struct machine *m);

void machine_set_time(struct inside *in, uint32_t channel, struct wire_in *args);
void machine_reseed(struct inside *in, uint32_t channel, struct wire_in *args);
void machine_set_name(struct inside *in, uint32_t channel, struct wire_in *args);
void machine_freeze(struct inside *in, uint32_t channel, struct wire_in *args);
void machine_thaw(struct inside *in, uint32_t channel, struct wire_in *args);
void machine_sync(struct inside *in, uint32_t channel, struct wire_in *args);
void machine_limit(struct inside *in, uint32_t channel, struct wire_in *args);
void machine_limit_disk(struct inside *in, uint32_t channel, struct wire_in *args);
void machine_shutdown(struct inside *in, uint32_t channel, struct wire_in *args);

/** A child has ended: perhaps one that syncs. */
void machine_reaped(struct inside *in, pid_t pid, int status);

/** Bytes of the root's disk that are in use; 0 where that cannot be told. */
uint64_t machine_disk_used(void);

/** Is there nothing left for a program's files?  Of virtual machines alone. */
bool machine_disk_full(const struct inside *in);

/** Give back what was kept from everybody. */
void machine_disk_release(struct machine *m);

/** Kill everything that is ours to kill and collect it, for at most a second. */
void machine_kill_all(struct inside *in);
