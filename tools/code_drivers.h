/*
 * code_drivers - the programs that run cells inside a computer, one for each language.
 *
 * Their text is part of this program; nothing is put into the computer's files but what C's
 * compiler needs.  A driver reads commands on descriptor 3 and answers on 4 (code_frame.h).
 * Threads: any.  Blocking: functions with a struct wait.
 */
#pragma once

#include "kernel/computer/run.h"

enum code_language { CODE_PYTHON, CODE_JAVASCRIPT, CODE_BASH, CODE_C, CODE_LANGUAGE_COUNT };

/** "python", "javascript", "bash", "c"; NULL ends the list. */
extern const char *const code_language_names[CODE_LANGUAGE_COUNT + 1];

/** ERR_NOT_FOUND says which program the language needs and which languages there are. */
NODISCARD struct run *code_driver_start(struct computer *c, enum code_language language,
                                        const struct wait *w, struct error *err);

/** Append the command that runs @code as the cell number @cell.  False: out of memory. */
bool code_driver_command(struct buf *out, enum code_language language, uint64_t cell,
                         const char *code, size_t len);
