/*
 * browser_outline_internal - what the two halves of browser_outline share.  Nobody else includes
 * this.
 *
 * Threads: any.
 */
#pragma once

#include "tools/browser_outline.h"

/** The number of the frame @id in the tab, given at the first meeting; 0: too many. */
unsigned outline_number(struct outline *o, const char *id);

/** The frame with that number, if it is still there; borrowed from @frames. */
const struct browser_frame *outline_numbered(struct outline *o, const struct browser_frames *frames,
                                             unsigned number);

/** What @reply says of the references that were given: no later script gives them again. */
void outline_saw(struct outline *o, const json_t *reply);

/** The object that @key of a reply of the Runtime and DOM domains stands for; NULL: none. */
const char *outline_object_id(const json_t *reply, const char *key);
