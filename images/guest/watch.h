/*
 * watch - tells the host what changes at a path, and below it if asked.
 *
 * The path of an event is relative to what is watched; "" is that itself.  The reply comes when all
 * folders that exist are watched.  What appears in a new folder before it is watched is reported as
 * created.  When what is watched is removed or moved away, that is told, and the channel closed.
 * WIRE_EVENT_LOST: something was missed, look for yourself.
 * Threads: one.
 */
#pragma once

#include <stdint.h>

#include "kernel/computer/wire.h"

struct inside;

void watch_request(struct inside *in, uint32_t channel, struct wire_in *args);
