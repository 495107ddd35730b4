/*
 * machine - what the files of the back end share: the back end, its images, a computer.
 *
 *   vmctl.c          the back end: what is asked for, and bringing it up
 *   machine.c        the operations of a computer
 *   machine_image.c  images out of the store, each with the template that clones start from
 *
 * Threads: any; locks as said beside the fields.
 */
#pragma once

#include <pthread.h>

#include "kernel/computer/computer.h"
#include "vmctl/accel.h"
#include "vmctl/template.h"
#include "vmctl/vm.h"
#include "vmctl/vmctl.h"

#define MACHINE_HOST_NAME "computer"
#define MACHINE_USUAL_MIB 256u

/** Constant once it is in the back end's list, where it stays. */
struct machine_image {
    struct machine_image *next;
    char *hash; /* "" for the one that the configuration gives by descriptors */
    char **env; /* of its computers; one allocation */
    bool screen;
    struct vm_spec spec; /* of the usual size; its three descriptors are the image's */
    struct template *template;
};

struct backend {
    struct computer_backend base; /* first */
    struct vm_spec spec; /* what machines of all images have in common; see prepare_accel() */
    char *program;
    char *images_dir, *image; /* NULL: one image, of the descriptors in `spec` */
    char *cache_dir, *state_dir, *overlay_dir;
    const void *early, *guest; /* borrowed */
    size_t early_len, guest_len;
    uint32_t memory_mib; /* 0: as the image says */

    pthread_mutex_t lock; /* guards everything below */
    pthread_cond_t made;
    bool preparing; /* one image at a time, without the lock: then `spec` is the preparer's */
    struct accel_verdict verdict;
    struct machine_image *images;
};

struct machine {
    struct computer base; /* first: computer.c frees it */
    struct backend *backend;
    struct vm *vm;
};

static inline struct backend *machine_backend(struct computer_backend *b)
{
    return CONTAINER_OF(b, struct backend, base);
}

static inline struct machine *machine_of(struct computer *c)
{
    return CONTAINER_OF(c, struct machine, base);
}

/* ---- machine_image.c ---- */

/** The image @which (NULL: the usual one), found, opened and booted once; the first caller does it,
 *  the others wait.  It lives as long as the back end.  ERR_NOT_FOUND says how to build it. */
NODISCARD const struct machine_image *machine_image_get(struct backend *b, const char *which,
                                                        const struct wait *w, struct error *err);
void machine_image_free_all(struct backend *b);

/* ---- machine.c ---- */

extern const struct computer_ops machine_ops;

/** For vm_start() and the like, with the machine as its argument. */
void machine_on_ended(void *arg, struct vm *vm, const char *why);
