/*
 * front - what the small program `aios` and its first instruction share.
 *
 * Threads: called before there are any, and before the C library or the program's relocations are
 * there: nothing here may use either.
 */
#pragma once

enum { FRONT_PATH_BYTES = 4096 };

/** Executes the whole program, which is found from where this one lies.  Returns only when it
 * fails, with errno's value; @path is then what was tried, or empty. */
int front_execute(char **argv, char **env, char path[FRONT_PATH_BYTES]);
