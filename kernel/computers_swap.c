#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "kernel/base/clock.h"
#include "kernel/base/fd.h"
#include "kernel/base/log.h"
#include "kernel/computers_internal.h"

/*
 * Putting aside what nobody uses: on disk instead of in memory.  It comes back by itself at the
 * next byte, so nothing here needs to be undone.
 */

#define SWAP_NS        (120 * CLOCK_NS_PER_S) /* for one, on a slow disk */
#define LOOK_NS        (10 * CLOCK_NS_PER_S)  /* how often the memory is looked at */
#define SCARCE_SHARE   16u                    /* less than this part of the memory is available */
#define MEMINFO_MAX    (64u << 10)
#define LIVE_CHECK_MIN (CLOCK_NS_PER_S / 100)

static int64_t swap_ns(const struct computers *cs)
{
    int64_t seconds = cs->config->vm.swap_after_s;

    return seconds > 0 ? seconds * CLOCK_NS_PER_S : CLOCK_NEVER;
}

static uint64_t meminfo_kib(const char *text, const char *key)
{
    const char *at = strstr(text, key);

    return at ? strtoull(at + strlen(key), NULL, 10) : 0;
}

static bool memory_is_scarce(void)
{
    char *text = fd_read_file(AT_FDCWD, "/proc/meminfo", MEMINFO_MAX, NULL, NULL);
    uint64_t total = text ? meminfo_kib(text, "MemTotal:") : 0;
    bool scarce = total && meminfo_kib(text, "MemAvailable:") < total / SCARCE_SHARE;

    free(text);
    return scarce;
}

bool computers_swap_watch_locked(struct computers_entry *e, const struct computer *c,
                                 struct error *err)
{
    int64_t first_ns = MIN(swap_ns(e->cs), LOOK_NS);

    if (swap_ns(e->cs) == CLOCK_NEVER || !c->ops->swap_out)
        return true;
    e->swaps = true;
    return computers_reaper_by_locked(e->cs, clock_add_ns(clock_now_ns(), first_ns), err);
}

void computers_used_locked(struct computers_entry *e)
{
    e->used_ns = clock_now_ns();
    if (!e->put_aside)
        return;
    e->put_aside = false;
    UNCHECKED(computers_swap_watch_locked(e, e->c, NULL)); /* the reaper runs */
}

static void look_later(struct computers_entry *e)
{
    e->swap_look_ns =
        clock_add_ns(clock_now_ns(), MAX(MIN(swap_ns(e->cs) / 4, LOOK_NS), LIVE_CHECK_MIN));
}

/* Opens the lock. */
static void put_aside_locked(struct computers *cs, struct computers_entry *e)
{
    struct wait w = { .deadline_ns = clock_add_ns(clock_now_ns(), SWAP_NS), .cancel = &cs->stop };
    struct computer *c = computer_ref(e->c);
    char agent[COMPUTERS_AGENT_BYTES];
    struct error err = ERROR_INIT;

    if (computer_in_use(c)) { /* by a call that takes long */
        look_later(e);
        pthread_mutex_unlock(&cs->lock);
        computer_unref(c);
        pthread_mutex_lock(&cs->lock);
        return;
    }
    memcpy(agent, e->agent, sizeof agent);
    /* Also when it fails: it is tried again after the next use. */
    e->put_aside = true;
    pthread_mutex_unlock(&cs->lock);
    if (computer_swap_out(c, &w, &err)) {
        event_publish(cs->bus, "computer.swapped", agent, computer_id(c), "%s", "");
    } else if (err.code != ERR_LOST && err.code != ERR_CANCELLED && err.code != ERR_BUSY) {
        log_line(LOG_WARN, "swap_out_failed", "computer=%s why=%s", computer_id(c),
                 LOG_ESC(err.text));
    }
    computer_unref(c);
    pthread_mutex_lock(&cs->lock);
}

static int64_t due_ns(const struct computers_entry *e)
{
    return MAX(clock_add_ns(e->used_ns, swap_ns(e->cs)), e->swap_look_ns);
}

/* The one that is idle longest, of those whose turn it is, or with @scarce of all. */
static struct computers_entry *choose_locked(struct computers *cs, bool scarce, int64_t now_ns,
                                             int64_t *ret_next)
{
    struct computers_entry *found = NULL;

    LIST_FOR_EACH (node, &cs->entries) {
        struct computers_entry *e = LIST_ENTRY(node, struct computers_entry, link);
        int64_t at_ns = due_ns(e);

        if (!e->swaps || e->put_aside || e->ending)
            continue;
        if (scarce)
            at_ns = MIN(at_ns, MAX(clock_add_ns(e->used_ns, LOOK_NS), e->swap_look_ns));
        if (at_ns > now_ns)
            *ret_next = MIN(*ret_next, MIN(at_ns, clock_add_ns(now_ns, LOOK_NS)));
        else if (!found || e->used_ns < found->used_ns)
            found = e;
    }
    return found;
}

bool computers_swap_one_locked(struct computers *cs, int64_t *ret_next)
{
    int64_t now_ns = clock_now_ns();
    struct computers_entry *e;

    *ret_next = CLOCK_NEVER;
    e = choose_locked(cs, false, now_ns, ret_next);
    if (!e && *ret_next == CLOCK_NEVER)
        return false;
    if (!e) {
        bool scarce;

        pthread_mutex_unlock(&cs->lock);
        scarce = memory_is_scarce();
        pthread_mutex_lock(&cs->lock);
        e = scarce ? choose_locked(cs, true, now_ns, ret_next) : NULL;
        if (!e)
            return false;
    }
    if (computers_runs_keep_it_locked(cs, &e)) {
        if (e)
            look_later(e);
    } else if (e) {
        put_aside_locked(cs, e);
    }
    return true; /* the list may be another by now */
}
