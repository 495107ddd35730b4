/*
 * vm - one virtual machine: QEMU as a child, from its start to its end, as a state machine.
 *
 *     new -> starting -> prepared <-> running -> ended        (every state may go to ended)
 *
 * Prepared is a machine whose processors stand still: started so, waiting for a saved state, or
 * halted.  The end has a reason, and the last lines of the console are kept with it.
 *
 * Ownership: vm_start() copies what it needs of the spec and duplicates descriptors; the caller's
 *   stay the caller's.
 * Threads: any.  QEMU is started by the loop's thread, whose life it shares.
 * Blocking: functions with a struct wait, which must not be called by callbacks of the loop, and
 *   vm_free() (bounded: 2 s).
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "kernel/base/cancel.h"
#include "kernel/base/error.h"
#include "kernel/base/loop.h"
#include "vmctl/argv.h"
#include "vmctl/process.h"
#include "vmctl/qmp.h"

#define VM_CONSOLE_BYTES 16384u /* of the console, the last ones are kept */

struct vm;

enum vm_state { VM_NEW, VM_STARTING, VM_PREPARED, VM_RUNNING, VM_ENDED };

struct vm_spec {
    struct loop *loop;
    const char *program; /* QEMU, absolute */
    /* Descriptors in it are ours; QEMU's numbers are given here.  The three sockets are made here,
     * too. */
    struct argv_spec argv;
    process_start_fn *start;    /* NULL: process_start() */
    struct cgroup_host *groups; /* where QEMU gets a group of its own; NULL: none */
    uid_t uid;                  /* who QEMU is when the server is root, see struct process_plan */
    gid_t gid, extra_gid;
    const void *said; /* bytes that the guest's stream begins with; for a guest that has spoken */
    size_t said_len;
    const int *guest_end; /* QEMU's end of the guest's stream, when there is a stream already (the
                             caller's stays his); NULL: a pair is made */
};

/** Loop, once, unless it ended by vm_free(): @why for people, on one line. */
typedef void vm_ended_fn(void *arg, struct vm *vm, const char *why);

/** Start QEMU and wait until it takes commands. @on_ended may be NULL. */
NODISCARD struct vm *vm_start(const struct vm_spec *spec, vm_ended_fn *on_ended, void *arg,
                              const struct wait *w, struct error *err);

/** Another owner: from now on @on_ended(@arg) is told.  False when it has ended already. */
NODISCARD bool vm_adopt(struct vm *vm, vm_ended_fn *on_ended, void *arg, struct error *err);

/** End it at once, wait for that, and release it.  NULL is allowed. */
void vm_free(struct vm *vm);
DEFINE_CLEANUP(struct vm, vm_free)

/** The process is told to end; vm_ended_fn follows. */
void vm_kill(struct vm *vm);

enum vm_state vm_state(struct vm *vm);
const char *vm_state_name(enum vm_state state);
pid_t vm_pid(const struct vm *vm);

/** Its connection, borrowed. */
struct qmp *vm_qmp(struct vm *vm);

/** The host's end of the guest's stream, once: then the caller's.  -1 when it was taken. */
int vm_take_stream(struct vm *vm);

/** QEMU's end of that stream, and the files that its disk is on (-1: none): the machine's own,
 *  and the frozen one under it.  Borrowed. */
int vm_guest_end(const struct vm *vm);
int vm_disk(const struct vm *vm);
int vm_frozen(const struct vm *vm);

/** What its memory began as: a file, borrowed, or -1 for zeros; and how large it is. */
int vm_memory(const struct vm *vm);
uint64_t vm_memory_bytes(const struct vm *vm);

/** What its control group counts, into those fields of *ret that it tells of: cpu, memory, peak. */
void vm_usage(const struct vm *vm, struct computer_usage *ret);

/** How often its kernel has killed a program because memory was short. */
unsigned vm_oom_kills(struct vm *vm);

/** `cont` and `stop`; both wait until it is so. */
NODISCARD bool vm_run(struct vm *vm, const struct wait *w, struct error *err);
NODISCARD bool vm_halt(struct vm *vm, const struct wait *w, struct error *err);

/** Leave QEMU in good order (quit) and wait for the end. */
NODISCARD bool vm_quit(struct vm *vm, const struct wait *w, struct error *err);

/** Block until it has ended by itself. */
NODISCARD bool vm_await_end(struct vm *vm, const struct wait *w, struct error *err);

/** Why it ended, "" before. */
void vm_why(struct vm *vm, char *buf, size_t size);

/** The last @lines lines of the console as valid UTF-8 without control characters but the line
 *  ends; the number of bytes, or -1 when memory ran out. */
long vm_console(struct vm *vm, unsigned lines, struct buf *out);
