/*
 * storage_core - struct storage itself, for the files that open it and work with it.
 *
 * Threads: any; what is not atomic is constant, but for what a lock guards.
 */
#pragma once

#include <pthread.h>
#include <stdatomic.h>

#include "kernel/storage_cache.h"
#include "kernel/storage_internal.h"

struct storage {
    struct storage_backend *backend;
    struct event_bus *bus;       /* may be NULL */
    struct storage_cache *cache; /* NULL: none */
    struct storage_limits limits;
    size_t max_value;
    int lock_fd; /* held as long as the storage is open */
    char *dir;

    pthread_mutex_t secret_lock; /* guards both below until the first is true */
    atomic_bool secret_known;
    uint8_t secret[STORAGE_SECRET_BYTES];

    atomic_bool down; /* what was last told on the bus */
    atomic_uint_fast64_t puts, gets, failures;
};
