/*
 * doctor_vm - what the doctor says of virtual machines: QEMU, the accelerator, the images.
 *
 * Threads: the main thread.
 */
#pragma once

#include "kernel/config.h"

struct doctor_vm_line {
    const char *name, *detail, *remedy; /* remedy "" when it is ok */
    bool ok;
};

typedef void doctor_vm_fn(void *arg, const struct doctor_vm_line *l);

void doctor_vm(const struct config *config, doctor_vm_fn *fn, void *arg);
