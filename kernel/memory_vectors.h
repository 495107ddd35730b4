/*
 * memory_vectors - the vectors of notes in files, one for each scope and model, compared exactly.
 *
 * A file is rows of floats, mapped into memory to be read, so what is held in memory is what the
 * system's cache has room for.  Which note is in which slot is written in the database; a slot that
 * no row of it names is free.  Vectors are made from texts: a file that is lost or cut short costs
 * making them again.
 * Threads: any.  Blocking: the disk.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "kernel/base/cancel.h"
#include "kernel/base/error.h"

#define MEMORY_DIMS_MAX 8192u

struct memory_vectors;
struct memory_set;

/** The vectors of scope @scope made by model @model. */
struct memory_set_key {
    int64_t scope, model;
    size_t dims;
};

/** Calls memory_set_place() for each slot that is taken.  False with @err set on failure. */
typedef bool memory_set_fill_fn(struct memory_set *set, const struct memory_set_key *key, void *arg,
                                struct error *err);

NODISCARD struct memory_vectors *memory_vectors_new(const char *dir, struct error *err);
void memory_vectors_free(struct memory_vectors *v);

/** The set, opened at its first use and filled by @fill; until memory_set_put().  @make false: NULL
 *  without an error when there is none. */
NODISCARD struct memory_set *memory_set_get(struct memory_vectors *v,
                                            const struct memory_set_key *key, bool make,
                                            memory_set_fill_fn *fill, void *arg, struct error *err);
void memory_set_put(struct memory_set *set);
DEFINE_CLEANUP(struct memory_set, memory_set_put)

/** Writes a vector of unit length into a free slot, which is then neither free nor found until
 *  memory_set_place() or memory_set_free(). */
NODISCARD bool memory_set_write(struct memory_set *set, const float *vector, int64_t *ret_slot,
                                struct error *err);
/** It is note @n's from now on.  False: memory ran out, or the file does not reach so far. */
NODISCARD bool memory_set_place(struct memory_set *set, int64_t slot, int64_t n);
void memory_set_free(struct memory_set *set, int64_t slot);

/** The same for a set that is perhaps not open. */
void memory_vectors_free_slot(struct memory_vectors *v, int64_t scope, int64_t model, int64_t slot);

/** The @max best so far, of any number of sets; a note is in it once. */
struct memory_best {
    size_t max, count;
    float *score; /* a heap, the least first, until memory_best_sort() */
    int64_t *n;
};
NODISCARD bool memory_best_init(struct memory_best *b, size_t max, struct error *err);
void memory_best_fini(struct memory_best *b);
void memory_best_sort(struct memory_best *b);

/** Compares @query (memory_unit_vector()) with each vector whose slot's bit is set in @allowed
 * (NULL: all; @slots bits). */
NODISCARD bool memory_set_scan(struct memory_set *set, const float *query, const uint8_t *allowed,
                               size_t slots, const struct wait *w, struct memory_best *best,
                               struct error *err);
size_t memory_set_slots(struct memory_set *set);

/** A copy of @dims floats at unit length, aligned and filled up for comparing, for free(); *ret
 * NULL for a vector without direction (zeros, infinities). */
NODISCARD bool memory_unit_vector(const float *from, size_t dims, float **ret, struct error *err);
