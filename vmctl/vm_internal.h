/*
 * vm_internal - what the files of a virtual machine share: vm_start.c brings it up, vm.c watches it
 * and ends it.
 */
#pragma once

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <uv.h>

#include "kernel/computer/ring.h"
#include "vmctl/vm.h"

#define VM_WORDS_BYTES 300u /* of what QEMU said, in the reason of its end */

struct vm {
    struct loop *loop;      /* constant */
    struct process process; /* constant once started, as is qmp */
    struct qmp *qmp;
    struct cgroup *group; /* constant until vm_free(), which takes it with `lock`; NULL: none */
    atomic_uint refs;     /* the owner, the loop, and each handle */

    int disk, frozen, memory; /* constant once started, as is the next */
    uint64_t memory_bytes;
    pthread_mutex_t call_lock; /* held by the loop while it calls on_ended; guards the next two */
    vm_ended_fn *on_ended;
    void *arg;

    /* The loop's own. */
    uv_poll_t watch_end, watch_console;
    bool watching_end, watching_console;
    int console;
    int held; /* QEMU's end of the guest's stream, so that nobody hears of its end before on_ended
               */

    pthread_mutex_t lock; /* guards everything below */
    pthread_cond_t changed;
    struct loop_post post; /* of vm_free() */
    struct loop_post wake; /* of a cancelled wait */
    bool waking;
    enum vm_state state;
    int stream;
    bool silent; /* nobody is told of the end: not started yet, or let go */
    bool reaped;
    siginfo_t how;
    char why[VM_WORDS_BYTES + 160];
    struct ring lines;
    size_t oom_seen; /* of the words that tell of it */
    unsigned oom_kills;
};

/** Watching the child and its console; on the loop. */
void vm_on_end(uv_poll_t *handle, int status, int events);
void vm_on_console(uv_poll_t *handle, int status, int events);

/** Where a command failed because QEMU is gone, the error becomes why that is.  Returns false. */
bool vm_explain(struct vm *vm, struct error *err);
