/*
 * run_stdio - the standard streams of `aios run`: output passed through whole, input as it comes,
 * and the terminal when both ends are one.
 *
 * Threads: each function says.  Blocking: run_stdio_pump() and the input's own thread wait for
 *   whoever is at the other end of our standard streams, as a program itself would.
 */
#pragma once

#include <stdbool.h>

#include "kernel/base/error.h"
#include "kernel/computer/run.h"

struct run_output {
    enum wire_stream stream;
    int fd;
    uint64_t offset; /* how far it has been passed on */
    bool open;       /* not known to be at its end */
};

struct run_stdio {
    bool pty;   /* input and output are our terminal */
    bool input; /* there is an input to forward */
    struct run_output out[2];
};

/** Look at descriptors 0, 1 and 2; closed ones become /dev/null so that nothing else gets their
 *  numbers.  Before anything is opened. */
void run_stdio_look(struct run_stdio *io);

/** The size of our terminal; 24 by 80 when it does not tell.  Any thread. */
void run_stdio_size(uint16_t *ret_rows, uint16_t *ret_cols);

/** Raw mode until run_stdio_restore(); does nothing without a terminal.  Signals of a crash restore
 * it too.  Any thread. */
void run_stdio_raw(const struct run_stdio *io);
void run_stdio_restore(void);

/** A thread of its own reads descriptor 0 for @run, which must stay for ever. */
NODISCARD bool run_stdio_forward(const struct run_stdio *io, struct run *run, struct error *err);

/** How the passing on of output ended. */
enum run_stdio_end {
    RUN_STDIO_DONE,   /* the run is over and all that it wrote is out */
    RUN_STDIO_CLOSED, /* nobody reads our output any more */
    RUN_STDIO_FAILED, /* writing or the computer failed: the error is set */
    RUN_STDIO_BLOCKS, /* there is more than can be written without waiting */
};

/** Pass the output of @run to descriptors 1 and 2 until it has ended.  Any thread.  Unless it
 *  @may_block, it returns RUN_STDIO_BLOCKS before it would, to be called again. */
NODISCARD enum run_stdio_end run_stdio_pump(struct run_stdio *io, struct run *run, bool may_block,
                                            struct error *err);
