/*
 * vmctl - a computer that is a virtual machine under QEMU.
 *
 * The first create of an image finds out which accelerator there is, boots a machine and freezes
 * it, or takes the frozen one that an earlier server has left on disk; every computer of the usual
 * size is a clone of that one.  Another size is a machine of its own that boots.
 *
 * With a pool, some such clones of each image that was asked for wait, halted, for whoever asks
 * next.
 *
 * Ownership: the back end owns its templates and its pools; the configuration is copied.
 * Threads: any.  Blocking: create and the like, bounded by their struct wait.
 */
#pragma once

#include <stdint.h>

#include "kernel/computer/computer.h"
#include "vmctl/process.h"

struct vmctl_config {
    struct loop *loop;
    const char *program;     /* QEMU; NULL: qemu-system-x86_64 from the usual folders */
    const char *images_dir;  /* the store (image.h) that spec.image is looked for in; NULL: there is
                                one image, of the descriptors below */
    const char *image;       /* the name of the usual one; NULL: "base" */
    const char *cache_dir;   /* the verdict on KVM and templates are kept there; NULL: nowhere */
    const char *state_dir;   /* checkpoints, and machines that are swapped out; NULL: neither */
    const char *overlay_dir; /* what computers write to their disks; NULL: memory */
    const void *early, *guest; /* the programs of the initramfs, with images_dir; borrowed */
    size_t early_len, guest_len;
    int kernel_fd, initrd_fd; /* without images_dir */
    int disk_fd; /* a raw image with an ext4 root, never written; -1: the initramfs is the root */
    process_start_fn *start;    /* NULL: process_start() */
    struct cgroup_host *groups; /* where each QEMU gets a group of its own; borrowed; NULL: none */
    uint32_t uid;               /* who QEMU is when the server is root; 0: 1879048193 */
    uint32_t pool_size;         /* clones of each image in use that are kept ready; 0: none */
    uint32_t memory_mib; /* of a computer of the usual size; 0: what the image's recipe says */
};

NODISCARD struct computer_backend *vmctl_backend_new(const struct vmctl_config *config,
                                                     struct error *err);

/** For people: "TCG: /dev/kvm: No such file or directory"; "" before the first create. */
void vmctl_backend_accel(struct computer_backend *b, char *buf, size_t size);
