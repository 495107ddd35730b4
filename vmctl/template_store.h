/*
 * template_store - templates kept on disk, so that the next server need not boot one.
 *
 * DIR/KEY.template (0600 in a folder of 0700: one store, one trust domain) holds memory, device
 * state and the frozen disk, only what is not zero of them, behind a header with the sums of all.
 * Nothing of a file is believed before its sums are right.  It has its name only once it is whole.
 * Several servers may share a folder: one writes at a time, readers wait for nobody.
 *
 *     template_key(), template_load(); when that fails template_make(), and once the first clone is
 *     there, template_keep().
 *
 * Threads: any.
 * Blocking: template_key() starts QEMU for its version and reads kernel and initramfs; the others
 *   read or write some hundred megabytes.  Not to be called by callbacks of the loop.
 */
#pragma once

#include "kernel/base/sha256.h"
#include "vmctl/template.h"

#define TEMPLATE_STORE_MAX 4u /* templates kept in one folder; those used last stay */

/** A name for everything that shapes a template of @spec: QEMU's version and file, argv_shape(),
 *  kernel, initramfs, and the disk image; under KVM the host.  @image: the image's own hash; NULL:
 *  none, its file's identity has to do. */
NODISCARD bool template_key(const struct vm_spec *spec, const char *image, char ret[SHA256_HEX],
                            const struct wait *w, struct error *err);

/** The template that is kept under @key, ready for clones; the other arguments as for
 *  template_make().  ERR_NOT_FOUND when there is none; ERR_PROTOCOL when its file was not what
 *  template_keep() had written (cut short, damaged, another's): it has been removed. */
NODISCARD struct template *template_load(const char *dir, const char *key,
                                         const struct vm_spec *spec, const char *overlay_dir,
                                         const struct wait *w, struct error *err);

/** Keep @t under @key for later servers, and remove what is left over in the folder.  @dir is made
 *  when it is missing.  ERR_BUSY when another server is writing; nothing is lost by going on
 *  without. */
NODISCARD bool template_keep(const struct template *t, const char *dir, const char *key,
                             const struct wait *w, struct error *err);
