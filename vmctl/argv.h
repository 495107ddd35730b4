/*
 * argv - the command line of QEMU for one virtual machine, from a struct.
 *
 * What is not named here does not exist inside: no default devices, no network card, no file of
 * the user's configuration.  Everything that QEMU talks over is a descriptor that it inherits.
 * Two command lines from specs that differ in what argv_shape() leaves out only can take over each
 * other's saved state.
 * Threads: any.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "kernel/base/buf.h"
#include "kernel/base/error.h"

enum argv_machine {
    ARGV_MICROVM, /* little but virtio: the smallest state; wants a clock from its accelerator */
    ARGV_Q35,     /* a PC: has the timers that an emulated processor's clock is measured with */
};

enum argv_accel { ARGV_TCG, ARGV_KVM };

/** Descriptors are QEMU's numbers, -1 for none.  They are not touched here. */
struct argv_spec {
    const char *program;  /* what argv[0] says */
    const char *firmware; /* -L, a folder; NULL: QEMU's own */
    enum argv_machine machine;
    enum argv_accel accel;
    uint32_t memory_mib;
    uint32_t cpus;
    uint32_t tsc_khz; /* of the host, for a microvm under TCG, see accel.h */
    int kernel_fd, initrd_fd;
    const char *append; /* more for the kernel's command line; NULL for none */
    int qmp_fd;         /* connected stream socket */
    int guest_fd;       /* likewise: the guest's port */
    int console_fd;     /* likewise: the first serial line */
    int ram_fd;         /* a memory file of just that size; -1: memory of QEMU's own */
    bool ram_shared;    /* else what is written to it is a private copy */
    int disk_fd;        /* an overlay, open for both; -1: no disk */
    int disk_frozen_fd; /* the template's overlay under it, for reading; -1: none */
    int disk_base_fd;   /* the raw image under all, for reading; -1: none */
    bool screen;        /* and keyboard and pointer for it; a q35 only */
    bool incoming;      /* wait for migrate-incoming */
    bool stopped;       /* do not run before `cont` */
};

/** The name of the guest's port device inside, and the kernel's of the disk. */
#define ARGV_GUEST_PORT "/dev/vport0p1"
#define ARGV_DISK       "/dev/vda"

/** NULL-terminated, for argv_free().  ERR_NOMEM, or ERR_INVALID with what @spec lacks. */
NODISCARD char **argv_make(const struct argv_spec *spec, struct error *err);
void argv_free(char **argv);
DEFINE_CLEANUP(char *, argv_free)

/** Everything in @spec that shapes a saved state, as text for a key. */
NODISCARD bool argv_shape(const struct argv_spec *spec, struct buf *out);
