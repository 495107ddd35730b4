#include "kernel/syscall.h"

#include <assert.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "kernel/agent.h"
#include "kernel/kernel_state.h"

/* The struct of arguments lies behind the syscall in the same allocation. */
#define ARGS_OFFSET                                                                 \
    ((sizeof(struct syscall) + _Alignof(max_align_t) - 1) / _Alignof(max_align_t) * \
     _Alignof(max_align_t))

struct syscall *syscall_new(enum syscall_class class, struct agent *agent, const struct tool *tool,
                            json_t *arguments, struct error *err)
{
    static const struct json_field no_fields[] = { { .name = NULL } };
    struct syscall *sc = malloc(ARGS_OFFSET + tool->args_size);

    if (!sc) {
        error_set(err, ERR_NOMEM, "call of %s", tool->name);
        return NULL;
    }
    memset(sc, 0, offsetof(struct syscall, note));
    sc->note[0] = '\0';
    result_init(&sc->result);
    error_clear(&sc->error);
    sc->args = memset((char *)sc + ARGS_OFFSET, 0, tool->args_size);
    if (!json_fields_read(tool->fields ? tool->fields : no_fields, arguments, sc->args, err)) {
        error_prefix(err, "%s", tool->name);
        free(sc);
        return NULL;
    }
    sc->class = class;
    sc->agent = agent_ref(agent);
    sc->tool = tool;
    sc->json = json_incref(arguments);
    cancel_init(&sc->cancel);
    atomic_init(&sc->stop, SYSCALL_STOP_NONE);
    atomic_init(&sc->completed, false);
    pthread_mutex_init(&sc->note_lock, NULL);
    list_init(&sc->link);
    list_init(&sc->flight);
    return sc;
}

void syscall_drop_aside(struct syscall *sc)
{
    void *aside = STEAL(sc->aside);

    if (aside)
        sc->aside_free(aside);
}

void syscall_free(struct syscall *sc)
{
    if (!sc)
        return;
    assert(!list_linked(&sc->flight) && !sc->queued);
    syscall_drop_aside(sc);
    result_fini(&sc->result);
    cancel_fini(&sc->cancel);
    pthread_mutex_destroy(&sc->note_lock);
    agent_unref(sc->agent);
    json_decref(sc->json);
    free(sc);
}

void syscall_cancel(struct syscall *sc)
{
    if (list_linked(&sc->flight))
        kernel_cancel(sc->kernel, sc);
}

const char *syscall_class_name(enum syscall_class class)
{
    static const char *const names[SYSCALL_CLASS_COUNT] = {
        [SYSCALL_LLM] = "llm",
        [SYSCALL_MEMORY] = "memory",
        [SYSCALL_STORAGE] = "storage",
        [SYSCALL_TOOL] = "tool",
    };

    return (unsigned)class < SYSCALL_CLASS_COUNT ? names[class] : "unknown";
}

const char *syscall_state_name(enum syscall_state state)
{
    static const char *const names[] = {
        [SYSCALL_CREATED] = "created",     [SYSCALL_QUEUED] = "queued",
        [SYSCALL_RUNNING] = "running",     [SYSCALL_DONE] = "done",
        [SYSCALL_FAILED] = "failed",       [SYSCALL_CANCELLED] = "cancelled",
        [SYSCALL_TIMED_OUT] = "timed_out",
    };

    return (unsigned)state < ARRAY_LEN(names) ? names[state] : "unknown";
}
