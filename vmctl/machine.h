/*
 * machine - what the files of the back end share: the back end, its images, a computer.
 *
 *   vmctl.c          the back end: what is asked for, and bringing it up
 *   machine.c        the operations of a computer
 *   machine_image.c  images out of the store, each with the template that clones start from
 *   machine_pool.c   clones that wait for somebody to ask for one
 *   machine_state.c  QEMU's state and a disk on their way
 *   machine_memory.c the memory of one QEMU written into another
 *   machine_save.c   forks and checkpoints: making them, and starting from them
 *   machine_keep.c   the folders that checkpoints are kept in
 *   machine_swap.c   out to disk, and back by itself
 *
 * Threads: any; locks as said beside the fields.
 */
#pragma once

#include <pthread.h>

#include "kernel/computer/computer.h"
#include "kernel/computer/pool.h"
#include "vmctl/accel.h"
#include "vmctl/template_store.h"
#include "vmctl/vm.h"
#include "vmctl/vmctl.h"

#define MACHINE_HOST_NAME "computer"
#define MACHINE_USUAL_MIB 256u

/** Constant once it is in the back end's list, where it stays. */
struct machine_image {
    struct machine_image *next;
    struct backend *backend;
    char *hash; /* "" for the one that the configuration gives by descriptors */
    char **env; /* of its computers; one allocation */
    bool screen;
    struct vm_spec spec; /* of the usual size; its three descriptors are the image's */
    struct template *template;
    char key[SHA256_HEX]; /* of the template on disk; "" when it is not to be kept */
    bool kept;            /* it is there */
    struct pool *pool;    /* NULL: none is wanted */
};

/** A machine that stands still and waits to become a computer. */
struct machine_copy {
    struct machine_copy *next;
    char *id; /* of the fork under way */
    const struct machine_image *image;
    struct vm_spec spec;
    struct vm *vm;
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
    uint32_t pool_size;  /* of each image */

    struct cancel ending; /* raised when it is freed */
    pthread_mutex_t lock; /* guards everything below */
    pthread_cond_t made;
    bool preparing; /* one image at a time, without the lock: then `spec` is the preparer's */
    bool has_preparer;
    pthread_t preparer;
    struct error failure; /* why the last preparation came to nothing */
    char *templates_dir;  /* the preparer's, like `spec` */
    struct accel_verdict verdict;
    struct machine_image *images;
    struct machine_copy *forks;
    unsigned filling; /* pools that make a machine just now */
};

enum machine_place { MACHINE_IN, MACHINE_MOVING, MACHINE_OUT };

struct machine_watch;

struct machine {
    struct computer base; /* first: computer.c frees it */
    struct backend *backend;
    const struct machine_image *image;
    struct vm_spec spec;  /* its shape; descriptors but those of the image are -1 */
    struct cancel cancel; /* raised when it is destroyed: of who brings it back by itself */

    pthread_mutex_t lock; /* guards everything below, but see machine_bring_in() */
    pthread_cond_t moved;
    enum machine_place place;
    bool destroyed;
    bool paused;
    struct vm *vm;       /* NULL while it is out */
    unsigned oom_before; /* what earlier QEMUs told of, and took */
    int64_t cpu_before_ns;
    uint64_t peak_bytes;
    int state, end, disk, frozen; /* while it is out, see machine_swap.c; else -1 */
    struct machine_watch *watch;
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

/** Ends the preparation that may be going on. */
void machine_image_end(struct backend *b);
void machine_image_free_all(struct backend *b);

/* ---- vmctl.c ---- */

/** A machine without a QEMU yet, of the shape @spec. */
NODISCARD struct machine *machine_new(struct backend *b, const struct machine_image *image,
                                      const struct vm_spec *spec, const struct computer_spec *asked,
                                      const struct computer_hooks *hooks, struct error *err);

/** The opposite, for one that nobody has seen, with its QEMU if there is one. */
void machine_give_up(struct machine *m);

/** What a computer of that shape has, whatever was asked for. */
struct computer_spec machine_fill(const struct vm_spec *spec, const struct computer_spec *asked);

/** What was asked for and its guest keeps: processes, bytes on disk. */
NODISCARD bool machine_limit(struct machine *m, const struct wait *w, struct error *err);

/** Find its guest and make it know who and when it is. */
NODISCARD bool machine_attach(struct machine *m, bool copied, const struct wait *w,
                              struct error *err);

/* ---- machine_pool.c ---- */

/** An empty pool, where one is wanted. */
NODISCARD bool machine_pool_new(struct machine_image *image, struct error *err);

/** A machine of the usual size that waited, for @asked; NULL when one has to be made. */
struct machine *machine_pool_take(const struct machine_image *image,
                                  const struct computer_spec *asked,
                                  const struct computer_hooks *hooks, const struct wait *w);

/** Around making one; it begins to fill the pool afterwards. */
void machine_pool_begin(const struct machine_image *image);
void machine_pool_end(const struct machine_image *image);

/** Of all images: end those that wait. */
void machine_pool_free_all(struct backend *b);

/* ---- machine.c ---- */

extern const struct computer_ops machine_ops;

/** For vm_start() and the like, with the machine as its argument. */
void machine_on_ended(void *arg, struct vm *vm, const char *why);

/** With its lock.  Does not bring it in. */
NODISCARD bool machine_usage_locked(struct machine *m, struct computer_usage *ret,
                                    struct error *err);

/* ---- machine_state.c ---- */

/** @vm is halted.  After a failure it can be run again. */
NODISCARD bool machine_state_save(struct vm *vm, int fd, const struct wait *w, struct error *err);

/** @vm waits for a state. */
NODISCARD bool machine_state_load(struct vm *vm, int fd, const struct wait *w, struct error *err);

/** @from is halted; @to has started from what @from did (see vm_memory()), and waits. */
NODISCARD bool machine_state_pass(struct vm *from, struct vm *to, const struct wait *w,
                                  struct error *err);

/** All of it, holes as holes, to the empty file @to. */
NODISCARD bool machine_copy_file(int from, int to, const struct wait *w, struct error *err);

/* ---- machine_memory.c ---- */

/** Of those two, the memory alone.  ERR_UNSUPPORTED where we may not look into our own children;
 *  until machine_state_load() another way will do as well. */
NODISCARD bool machine_memory_copy(struct vm *from, struct vm *to, const struct wait *w,
                                   struct error *err);

/* ---- machine_save.c ---- */

bool machine_checkpoint(struct computer *c, const char *id, const struct wait *w,
                        struct error *err);

/** What checkpoint @id holds, or the fork of that id, which is then gone. */
NODISCARD bool machine_copy_get(struct backend *b, const char *id, struct machine_copy *ret,
                                const struct wait *w, struct error *err);
void machine_copy_fini(struct machine_copy *copy);

/** Forks that nobody has taken up. */
void machine_copy_free_all(struct backend *b);

/** Either kind.  ERR_NOT_FOUND. */
NODISCARD bool machine_copy_remove(struct backend *b, const char *id, struct error *err);

/* ---- machine_keep.c ---- */

struct machine_keep_files {
    int folder;              /* locked while it is half made */
    int state, disk, frozen; /* -1: there is none */
};

struct machine_keep_about {
    char *qemu, *shape, *image; /* for free() */
    uint32_t memory_mib, cpus;
};

/** Empty files in a folder of a passing name, which is swept when we die. @disk: with those two. */
NODISCARD bool machine_keep_begin(const char *dir, const char *id, bool disk, bool frozen,
                                  struct machine_keep_files *ret, struct error *err);

/** Sum up, write to the disk, and give the folder its name. */
NODISCARD bool machine_keep_end(const char *dir, const char *id, struct machine_keep_files *files,
                                const struct machine_keep_about *about, const struct wait *w,
                                struct error *err);

/** Remove what was begun, if it was not ended, and close. */
void machine_keep_close(const char *dir, const char *id, struct machine_keep_files *files);

/** Open for reading, with every sum compared: ERR_NOT_FOUND, or ERR_PROTOCOL for what is damaged.
 */
NODISCARD bool machine_keep_open(const char *dir, const char *id, struct machine_keep_files *ret,
                                 struct machine_keep_about *ret_about, const struct wait *w,
                                 struct error *err);
void machine_keep_about_fini(struct machine_keep_about *about);
NODISCARD bool machine_keep_remove(const char *dir, const char *id, struct error *err);

/** Remove what others, who are gone, left half made. */
void machine_keep_sweep(const char *dir);

/* ---- machine_swap.c ---- */

bool machine_swap_out(struct computer *c, const struct wait *w, struct error *err);
bool machine_is_swapped(struct computer *c);

/** Back into memory, if it is out: before an operation that wants the machine.  Afterwards `vm` is
 *  constant as long as no other operation changes the machine. */
NODISCARD bool machine_bring_in(struct machine *m, const struct wait *w, struct error *err);

/** It is destroyed: forget it. */
void machine_swap_fini(struct machine *m);
