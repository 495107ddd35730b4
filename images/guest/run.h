/*
 * run - one program that the host has started: its streams, its end, its signals.
 *
 * Threads: one.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "kernel/computer/wire.h"

struct inside;
struct rusage;

/** The first frame of WIRE_SPAWN on an unused channel; false when it breaks the protocol. */
bool run_request(struct inside *in, const struct wire_header *h, const uint8_t *payload);

/** A child has ended: if it is the first process of a run, that run has. */
void run_reaped(struct inside *in, pid_t pid, int status, const struct rusage *usage);
