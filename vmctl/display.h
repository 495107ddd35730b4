/*
 * display - the screen of a virtual machine: its picture by screendump, and events for it.
 *
 * QEMU writes the picture into a memory file that it is handed for that, as it can open none.  What
 * it writes there is not trusted, nor how much: no more is read than a picture of the size it
 * tells.
 *
 * Threads: any; calls on one machine one after the other.
 * Blocking: all, bounded by their struct wait; not by callbacks of the loop.
 */
#pragma once

#include "kernel/computer/display.h"
#include "kernel/computer/guest.h"
#include "vmctl/vm.h"

/** Of the kernel's modules, what a screen and what belongs to it need in the initramfs. */
#define VM_DISPLAY_MODULES "virtio-gpu", "virtio_input", "evdev"

#define VM_DISPLAY_MAX 4096u /* pixels of width, and of height */

/** As struct display_ops wants it.  ERR_PROTOCOL when what QEMU wrote is no picture. */
NODISCARD bool vm_display_frame(struct vm *vm, bool rgb, struct display_frame *ret,
                                const struct wait *w, struct error *err);

/** ERR_INVALID for a key that QEMU has no name for, too; nothing has been sent then. */
NODISCARD bool vm_display_input(struct vm *vm, const struct display_event *events, size_t count,
                                const struct wait *w, struct error *err);

/** Ask the guest's own program for it (VM_DISPLAY_RESIZE, which the image of a desktop has), and
 *  wait until the screen is that large.  ERR_UNSUPPORTED where there is no such program;
 * ERR_INVALID beyond VM_DISPLAY_MAX. */
NODISCARD bool vm_display_resize(struct vm *vm, struct guest *guest, uint32_t width,
                                 uint32_t height, const struct wait *w, struct error *err);

/** Run as root inside with the width and the height. */
#define VM_DISPLAY_RESIZE "/usr/local/bin/aios-resize"

/* ---- its parts, for tests ---- */

/** The name that QEMU has for a KEY_* of the kernel, NULL for none. */
const char *vm_display_key(uint16_t key);

/** What a picture begins with: its size, and where its pixels are.  @len: of what is there. */
NODISCARD bool vm_display_header(const char *text, size_t len, struct display_frame *ret_size,
                                 size_t *ret_at, struct error *err);

/** The same by a connection alone. */
NODISCARD bool vm_display_dump(struct qmp *q, bool rgb, struct display_frame *ret,
                               const struct wait *w, struct error *err);
NODISCARD bool vm_display_send(struct qmp *q, const struct display_event *events, size_t count,
                               const struct wait *w, struct error *err);
