/*
 * dial - connects to a TCP port on loopback or a Unix socket inside, for the host.
 *
 * Threads: one.
 */
#pragma once

#include "kernel/computer/wire.h"

struct inside;

/** The request WIRE_DIAL on an unused channel. */
void dial_request(struct inside *in, uint32_t channel, struct wire_in *args);
