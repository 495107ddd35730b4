/*
 * accel - which accelerator virtual machines get: KVM where a guest really runs under it.
 *
 * A /dev/kvm that opens proves nothing: there are machines where creating a virtual machine
 * succeeds and an ordinary kernel then hangs.  So a guest is booted, and the verdict kept in the
 * cache folder under a key of the host's kernel, its processor, QEMU and the guest's kernel.  That
 * KVM works is believed until one of these changes; that it does not, for a day.
 * Threads: any.
 * Blocking: accel_choose(), up to ACCEL_BOOT_NS; not to be called by callbacks of the loop.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "kernel/base/clock.h"
#include "kernel/base/sha256.h"
#include "vmctl/vm.h"

/* A guest that runs under KVM has said HELLO after less than a second. */
#define ACCEL_BOOT_NS (3 * CLOCK_NS_PER_S)

/** Boots under KVM until the guest speaks; false with the reason. */
typedef bool accel_boot_fn(void *arg, const struct wait *w, struct error *err);

struct accel_query {
    const char *device;    /* NULL: "/dev/kvm" */
    const char *cache_dir; /* made when missing; NULL: nothing is kept */
    const char *program;   /* QEMU, absolute */
    int kernel_fd;         /* the guest's; -1 for none */
    accel_boot_fn *boot;   /* see accel_boot() */
    void *arg;
};

struct accel_verdict {
    enum argv_accel accel;
    bool cached;   /* not tried now */
    char why[192]; /* for people: "a guest booted under KVM", "no /dev/kvm" */
};

/** Never fails: what cannot be found out is software emulation, and `why` says so.  A cancelled
 *  probe is not kept. */
void accel_choose(const struct accel_query *query, struct accel_verdict *ret, const struct wait *w);

/** The boot for a query: @arg is a struct vm_spec whose accelerator is replaced by KVM. */
bool accel_boot(void *arg, const struct wait *w, struct error *err);

/** The group that may use the device, for struct vm_spec; 0 when there is none. */
gid_t accel_group(void);

/** What decides how a guest runs under KVM: the host's kernel, the processor and its features.  For
 *  keys of what is kept. */
NODISCARD bool accel_add_host(struct sha256 *h);

/** The rate of this processor's time stamp counter, measured within 20 ms; 0 where that is not
 *  possible.  For struct argv_spec. */
uint32_t accel_tsc_khz(void);
