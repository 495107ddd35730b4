/*
 * template - a booted virtual machine, frozen: the memory and device state that clones start from.
 *
 * A machine boots on memory that is a file, and is saved without that memory once its guest is
 * ready and idle.  Both files are then sealed: no clone, whatever it has become, can change what
 * the next one starts from.  A clone maps the memory copy-on-write.
 *
 * Ownership: counted; a clone keeps nothing of it but descriptors.
 * Threads: any.
 * Blocking: functions with a struct wait, not to be called by callbacks of the loop.
 */
#pragma once

#include <stdint.h>

#include "kernel/base/cancel.h"
#include "kernel/base/error.h"
#include "kernel/computer/guest.h"
#include "vmctl/vm.h"

struct template;

/** Boot a machine as @spec says and freeze it.  @spec's memory file and overlays must be -1, and it
 *  must not wait for anything; its descriptors and strings are copied.  Where it has a base image,
 *  its machine and each clone get overlays, files without a name in @overlay_dir (copied; NULL: in
 *  memory). */
NODISCARD struct template *template_make(const struct vm_spec *spec, const char *overlay_dir,
                                         const struct wait *w, struct error *err);

struct template *template_ref(struct template *t);
void template_unref(struct template *t);
DEFINE_CLEANUP(struct template, template_unref)

/** Start a machine with the template's state.  It runs, and the HELLO of its guest, which has long
 *  been said, is in its stream; template_wake() must come before anything else of the guest. */
NODISCARD struct vm *template_clone(struct template *t, vm_ended_fn *on_ended, void *arg,
                                    const struct wait *w, struct error *err);

/** What a guest needs that was saved and started again: waits until it answers, then gives it
 *  entropy of its own, the time, a host name and a machine id (32 hexadecimal digits are made). */
NODISCARD bool template_wake(struct guest *g, const char *host_name, const struct wait *w,
                             struct error *err);

/** Run a program that does nothing, as a pool does for machines that wait in it: the emulator has
 *  then translated what every run needs, which is most of what a first run takes.  Whether that
 *  worked does not matter. */
void template_warm(struct guest *g, const struct wait *w);

struct template_size {
    uint64_t memory_bytes; /* that the memory file takes */
    uint64_t state_bytes;
};

void template_size(const struct template *t, struct template_size *ret);

/** The sealed files, borrowed; for tests, and for keeping them. */
int template_memory_fd(const struct template *t);
int template_state_fd(const struct template *t);
