/*
 * image - the store of images: folders of files with a record of their sums.
 *
 * DIR/HASH/ holds the files and recipe.json: name, hash, files (path, bytes, sha256) and whatever
 * the builder adds.  A folder has its name only once it is whole: work happens in DIR/HASH.tmp-PID,
 * under a lock, and who takes the lock removes what others left unfinished.
 *
 * Threads: any.  Blocking: image_seal() and image_verify() read every byte.
 */
#pragma once

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "kernel/base/error.h"

#define IMAGE_RECORD   "recipe.json"
#define IMAGE_DISK     "root.ext4" /* raw, for struct vmctl_config */
#define IMAGE_ARCHIVE  "root.tar"  /* the same tree */
#define IMAGE_KERNEL   "vmlinuz"
#define IMAGE_MODULES  "modules" /* holds one folder, named by the kernel's release */
#define IMAGE_TREE     "tree"    /* the same, unpacked, where somebody wanted it */
#define IMAGE_HASH_LEN 64u

/** @hash is borrowed for the call; @record too, NULL when it cannot be read. */
typedef void image_fn(void *arg, const char *hash, const json_t *record);

/** All images in the order of their hashes.  A store that is not there is empty. */
NODISCARD bool image_list(const char *dir, image_fn *fn, void *arg, struct error *err);

/** The hash of the image that @which means, for free(): a hash, its first four digits or more, or
 *  a name, of which the youngest is meant.  ERR_NOT_FOUND; ERR_INVALID when a beginning fits
 *  several.  The last answer is remembered until something is built or removed. */
NODISCARD char *image_find(const char *dir, const char *which, struct error *err);

/** A new reference.  ERR_PROTOCOL when it is not what image_seal() writes. */
NODISCARD json_t *image_record(const char *dir, const char *hash, struct error *err);

/** @path below the image's folder; @what is wrong with it, as a sentence's end. */
typedef void image_damage_fn(void *arg, const char *path, const char *what);

/** Compare every file with the record; *ret_damaged counts those that are not as they were.
 *  ERR_NOT_FOUND and ERR_PROTOCOL for the record. */
NODISCARD bool image_verify(const char *dir, const char *hash, image_damage_fn *fn, void *arg,
                            unsigned *ret_damaged, struct error *err);

/** Makes the store if need be, takes its lock, and removes what is unfinished.  @on_wait (may be
 *  NULL) is called once if somebody else has it.  The descriptor, or -1: ERR_TIMEOUT. */
NODISCARD int image_lock(const char *dir, int64_t deadline_ns, void (*on_wait)(void *arg),
                         void *arg, struct error *err);

/** Under the lock. */
NODISCARD bool image_remove(const char *dir, const char *hash, struct error *err);

/** Under the lock: an empty folder to work in, for free(). */
NODISCARD char *image_begin(const char *dir, const char *hash, struct error *err);

/** Under the lock: sum up the files of @work, write the record (@about's keys, and "hash" and
 *  "files"), see all of it to the disk, and give it its name.  What was there under that name goes.
 */
NODISCARD bool image_seal(const char *dir, const char *hash, const char *work, json_t *about,
                          struct error *err);

/** The folder with the image's tree, for free(): unpacked from its archive at the first need, all
 *  of it the caller's user's, which takes seconds.  Takes the lock.  ERR_NOT_FOUND says how to
 *  build @which. */
NODISCARD char *image_tree(const char *dir, const char *which, int64_t deadline_ns,
                           struct error *err);
