/*
 * reap - collects every child that has ended, ours and the orphans we are given.
 *
 * Threads: one.
 */
#pragma once

#include <stdbool.h>

#include "images/guest/evloop.h"

struct inside;

struct reaper {
    struct evloop_source source;
    struct inside *in;
};

/** SIGCHLD must be blocked. */
bool reap_init(struct reaper *r, struct inside *in);
void reap_fini(struct reaper *r);
