/* The contexts of one computer, kept with it. */
#include "tools/code_context.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#define SHELF_KEY    "code"
#define CONTEXTS_MAX 16u /* of one computer: each is a process or two */

struct shelf {
    atomic_uint refs;
    pthread_mutex_t lock; /* guards what follows */
    struct code_context *contexts[CONTEXTS_MAX];
    size_t count;
};

static void shelf_unref(struct shelf *s)
{
    if (!s || atomic_fetch_sub(&s->refs, 1) > 1)
        return;
    for (size_t i = 0; i < s->count; i++)
        code_context_unref(s->contexts[i]);
    pthread_mutex_destroy(&s->lock);
    free(s);
}
DEFINE_CLEANUP(struct shelf, shelf_unref)

/* The computer is gone. */
static void shelf_drop(void *thing)
{
    struct shelf *s = thing;

    pthread_mutex_lock(&s->lock);
    for (size_t i = 0; i < s->count; i++)
        code_context_retire(s->contexts[i]);
    pthread_mutex_unlock(&s->lock);
    shelf_unref(s);
}

static void take_ref(void *arg, void *thing)
{
    struct shelf *s = thing;

    atomic_fetch_add(&s->refs, 1);
    *(struct shelf **)arg = s;
}

static struct shelf *shelf_get(struct computers *cs, struct computer *c, struct error *err)
{
    struct shelf *s = NULL;
    struct error late = ERROR_INIT;

    if (computers_attached(cs, c, SHELF_KEY, take_ref, &s))
        return s;
    s = calloc(1, sizeof *s);
    if (!s) {
        error_set(err, ERR_NOMEM, "the contexts of a computer");
        return NULL;
    }
    atomic_init(&s->refs, 2);
    pthread_mutex_init(&s->lock, NULL);
    if (computers_attach(cs, c, SHELF_KEY, s, shelf_drop, &late))
        return s;
    atomic_store(&s->refs, 1);
    shelf_unref(s);
    s = NULL;
    /* Another call was faster, or the computer is gone. */
    if (late.code == ERR_EXISTS && computers_attached(cs, c, SHELF_KEY, take_ref, &s))
        return s;
    if (err)
        *err = late;
    return NULL;
}

static struct code_context *find_locked(const struct shelf *s, enum code_language language,
                                        const char *name)
{
    for (size_t i = 0; i < s->count; i++)
        if (code_context_language(s->contexts[i]) == language &&
            strcmp(code_context_name(s->contexts[i]), name) == 0)
            return code_context_ref(s->contexts[i]);
    return NULL;
}

/* Make room by forgetting one that holds nothing. */
static bool make_room_locked(struct shelf *s)
{
    for (size_t i = 0; i < s->count; i++) {
        if (!code_context_used(s->contexts[i])) {
            code_context_unref(s->contexts[i]);
            s->contexts[i] = s->contexts[--s->count];
            return true;
        }
    }
    return false;
}

static bool tell_full_locked(const struct shelf *s, struct error *err)
{
    struct buf names;

    buf_init(&names, 320);
    for (size_t i = 0; i < s->count; i++)
        buf_printf(&names, "%s%s \"%s\"", i ? ", " : "",
                   code_language_names[code_context_language(s->contexts[i])],
                   code_context_name(s->contexts[i]));
    error_set(err, ERR_LIMIT,
              "this computer has %u contexts already (%s); use one of them, or end one with "
              "restart: true and no code",
              CONTEXTS_MAX, buf_str(&names));
    buf_fini(&names);
    return false;
}

struct code_context *code_context_get(struct tool_call *call, struct computer *c,
                                      enum code_language language, const char *name,
                                      struct error *err)
{
    CLEANUP(shelf_unrefp) struct shelf *s = shelf_get(kernel_computers(call->kernel), c, err);
    struct code_context *ctx;

    if (!s)
        return NULL;
    pthread_mutex_lock(&s->lock);
    ctx = find_locked(s, language, name);
    if (!ctx && s->count == CONTEXTS_MAX && !make_room_locked(s)) {
        tell_full_locked(s, err);
    } else if (!ctx) {
        ctx = code_context_new(kernel_loop(call->kernel), language, name, err);
        if (ctx)
            s->contexts[s->count++] = code_context_ref(ctx);
    }
    pthread_mutex_unlock(&s->lock);
    return ctx;
}
