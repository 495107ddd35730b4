/*
 * desktop_state - what is kept of a computer's screen between calls.  For the files of the family.
 *
 * Threads: any, under the lock.
 */
#pragma once

#include <pthread.h>
#include <stdatomic.h>

#include "tools/desktop.h"

#define DESKTOP_SPARE 16u /* keys for characters that the layout has none for */

struct desktop_recording {
    bool on;
    unsigned frames;
    char folder[64];
};

struct desktop_state {
    atomic_uint refs;
    pthread_mutex_t lock;
    struct desktop_point pointer;  /* of the screen */
    bool busy;                     /* what was done last was not over when it was answered */
    uint32_t spare[DESKTOP_SPARE]; /* what is on them; 0: nothing of ours */
    struct desktop_recording recording;
};
