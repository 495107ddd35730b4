#include "kernel/history.h"

#include <stdlib.h>

#define PLACES 8192u /* a power of two; for some thousand agents */
#define PROBES 8u    /* places next to each other in which a pair may lie */
#define SHIFT  3     /* the latest counts for 1 / 2^SHIFT */

/* A call that took many times longer than usual was held up by something else, more often than not;
 * it counts as no more than so many times the usual.  What has really become slower shows soon. */
#define OUTLIER_TIMES 4
#define OUTLIER_NS    1000
#define LONGEST_NS    (INT64_C(1) << 50)

struct pair {
    const void *tool;  /* NULL: free */
    const void *agent; /* NULL: of all agents */
    int64_t mean_ns;
    uint64_t seen;
};

struct history {
    struct pair pairs[PLACES];
};

struct history *history_new(struct error *err)
{
    struct history *h = calloc(1, sizeof *h);

    if (!h)
        error_set(err, ERR_NOMEM, "history of calls");
    return h;
}

void history_free(struct history *h)
{
    free(h);
}

static size_t place_of(const void *tool, const void *agent)
{
    /* Mixed so that every bit of both addresses reaches the upper ones. */
    uint64_t x = (uint64_t)(uintptr_t)tool * UINT64_C(0x9e3779b97f4a7c15) ^
                 (uint64_t)(uintptr_t)agent * UINT64_C(0xc2b2ae3d27d4eb4f);

    x ^= x >> 29;
    x *= UINT64_C(0xbf58476d1ce4e5b9);
    return (size_t)(x >> 40) % PLACES;
}

/* PLACES when it is not there. */
static size_t find(const struct history *h, const void *tool, const void *agent)
{
    size_t first = place_of(tool, agent);

    for (size_t i = 0; i < PROBES; i++) {
        size_t at = (first + i) % PLACES;

        if (h->pairs[at].tool == tool && h->pairs[at].agent == agent)
            return at;
    }
    return PLACES;
}

/* A free place, or the one of the pair that was seen least. */
static struct pair *make_room(struct history *h, const void *tool, const void *agent)
{
    size_t at = place_of(tool, agent);
    struct pair *least = &h->pairs[at];

    for (size_t i = 0; i < PROBES; i++) {
        struct pair *p = &h->pairs[(at + i) % PLACES];

        if (!p->tool)
            return p;
        /* What all agents together taught is kept. */
        if (!least->agent || (p->agent && p->seen < least->seen))
            least = p;
    }
    return least;
}

static void learn(struct history *h, const void *tool, const void *agent, int64_t took_ns)
{
    size_t at = find(h, tool, agent);
    struct pair *p = at < PLACES ? &h->pairs[at] : make_room(h, tool, agent);

    if (at == PLACES)
        *p = (struct pair){ .tool = tool,
                            .agent = agent,
                            .mean_ns = MIN(MAX(took_ns, 0), LONGEST_NS) };
    took_ns = MIN(MAX(took_ns, 0), p->mean_ns * OUTLIER_TIMES + OUTLIER_NS);
    p->mean_ns += (took_ns - p->mean_ns) / (1 << SHIFT);
    p->seen++;
}

void history_learn(struct history *h, const void *tool, const void *agent, int64_t took_ns)
{
    learn(h, tool, agent, took_ns);
    learn(h, tool, NULL, took_ns);
}

int64_t history_expect(const struct history *h, const void *tool, const void *agent)
{
    size_t at = find(h, tool, agent);

    if (at == PLACES)
        at = find(h, tool, NULL);
    if (at == PLACES)
        return 0;
    return MAX(h->pairs[at].mean_ns, 1);
}
