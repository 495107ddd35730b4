/*
 * What waits in a pool is a clone that is woken, has run a program that does nothing, and is
 * halted: it costs memory and no time.  Who takes it sets its clock, and has a computer like any
 * other.
 */
#include <string.h>

#include "kernel/base/clock.h"
#include "kernel/base/log.h"
#include "vmctl/machine.h"

#define MAKE_NS (60 * CLOCK_NS_PER_S)
#define SETTLE_NS                                                                                 \
    (200 * CLOCK_NS_PER_MS)               /* a start takes a processor from who took the last one \
                                           */
#define TAKE_NS     (10 * CLOCK_NS_PER_S) /* should its QEMU not answer, another is made */
#define TURN_NS     (100 * CLOCK_NS_PER_MS)
#define MEMORY_EACH (64ull << 20) /* measured with 256 MiB: 45 */
#define MEMORY_PART 4u            /* of a larger one's own that it has written to, at most */

/* ---- what waits ---- */

/* Soon replaced, so that nobody who is in a hurry finds it dead. */
static void on_event(void *arg, struct computer *c, const struct computer_event *event)
{
    (void)c;
    if (event->kind == COMPUTER_EVENT_LOST)
        pool_check(arg);
}

static struct machine *make(const struct machine_image *image, const struct wait *w,
                            struct error *err)
{
    static const struct computer_spec nothing;
    const struct computer_hooks hooks = { .loop = image->spec.loop,
                                          .on_event = on_event,
                                          .arg = image->pool };
    struct machine *m = machine_new(image->backend, image, &image->spec, &nothing, &hooks, err);

    if (!m)
        return NULL;
    m->vm = template_clone(image->template, machine_on_ended, m, w, err);
    if (!m->vm || !machine_attach(m, false, w, err)) {
        machine_give_up(m);
        return NULL;
    }
    template_warm(computer_guest(&m->base), w);
    if (vm_halt(m->vm, w, err))
        return m;
    computer_unref(&m->base);
    return NULL;
}

static void *on_make(void *arg, const struct wait *w, struct error *err)
{
    const struct machine_image *image = arg;
    struct backend *b = image->backend;
    struct machine *m;

    pthread_mutex_lock(&b->lock);
    b->filling++;
    pthread_mutex_unlock(&b->lock);
    m = make(image, w, err);
    pthread_mutex_lock(&b->lock);
    b->filling--;
    pthread_cond_broadcast(&b->made);
    pthread_mutex_unlock(&b->lock);
    return m;
}

static bool on_alive(void *arg, void *item)
{
    struct machine *m = item;
    char why[8];

    (void)arg;
    computer_lost_reason(&m->base, why, sizeof why);
    return !why[0] && vm_state(m->vm) == VM_PREPARED;
}

static void on_kill(void *arg, void *item)
{
    (void)arg;
    vm_kill(((struct machine *)item)->vm);
}

static void on_destroy(void *arg, void *item)
{
    struct machine *m = item;

    (void)arg;
    computer_silence(&m->base); /* the pool may go before the last that is said of it */
    computer_unref(&m->base);
}

/* ---- the pool of an image ---- */

bool machine_pool_new(struct machine_image *image, struct error *err)
{
    const struct pool_config config = {
        .size = MIN(image->backend->pool_size, POOL_SIZE_MAX),
        .make = on_make,
        .alive = on_alive,
        .kill = on_kill,
        .destroy = on_destroy,
        .arg = image,
        .make_ns = MAKE_NS,
        .settle_ns = SETTLE_NS,
        .memory_each =
            MAX(MEMORY_EACH, ((uint64_t)image->spec.argv.memory_mib << 20) / MEMORY_PART),
    };

    image->pool = config.size ? pool_new(&config, err) : NULL;
    return image->pool || !config.size;
}

/* It has stood still since it was made. */
static bool go_on(struct machine *m, const struct computer_spec *asked,
                  const struct computer_hooks *hooks, const struct wait *w, struct error *err)
{
    const struct computer_spec filled = machine_fill(&m->spec, asked);
    struct guest *g = computer_guest(&m->base);

    return computer_adopt(&m->base, &filled, hooks, err) && vm_run(m->vm, w, err) &&
           guest_set_time(g, clock_wall_ns(), w, err) && machine_limit(m, w, err);
}

struct machine *machine_pool_take(const struct machine_image *image,
                                  const struct computer_spec *asked,
                                  const struct computer_hooks *hooks, const struct wait *w)
{
    struct wait brief = *w;
    struct error why = ERROR_INIT;
    struct machine *m;

    if (!image->pool || hooks->loop != image->spec.loop)
        return NULL;
    m = pool_take(image->pool);
    if (!m)
        return NULL;
    brief.deadline_ns = MIN(w->deadline_ns, clock_add_ns(clock_now_ns(), TAKE_NS));
    if (go_on(m, asked, hooks, &brief, &why))
        return m;
    /* Whatever it is that cannot be done, making another tells. */
    log_line(LOG_INFO, "vm_pool", "event=not_taken why=%s", LOG_ESC(why.text));
    on_destroy(NULL, m);
    return NULL;
}

void machine_pool_begin(const struct machine_image *image)
{
    if (image->pool)
        pool_busy(image->pool, 1);
}

void machine_pool_end(const struct machine_image *image)
{
    if (!image->pool)
        return;
    pool_busy(image->pool, -1);
    (void)pool_start(image->pool);
}

void machine_pool_free_all(struct backend *b)
{
    for (struct machine_image *image = b->images; image; image = image->next) {
        if (image->pool)
            pool_stop(image->pool);
    }
    /* QEMU is started by the loop, so that nobody may wait for a pool and keep the loop from it. */
    pthread_mutex_lock(&b->lock);
    while (b->filling) {
        const struct wait w = { .deadline_ns = clock_add_ns(clock_now_ns(), TURN_NS) };

        (void)loop_wait_cond(b->spec.loop, &w, &b->made, &b->lock);
    }
    pthread_mutex_unlock(&b->lock);
    for (struct machine_image *image = b->images; image; image = image->next)
        pool_free(STEAL(image->pool));
}
