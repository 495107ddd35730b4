/*
 * pages - what a process that is about to end can do while it waits for something else.
 *
 * When a process ends, the kernel takes its mappings apart page by page, and whoever waits for the
 * process waits for that.
 *
 * Threads: any.  Never fails.
 */
#pragma once

/** Unmap the pages of the program and its libraries that are only read.  Those that are needed
 *  again come back, at the cost of a page fault for each few of them. */
void pages_let_go(void);
