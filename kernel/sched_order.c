#include "kernel/sched_order.h"

#include <assert.h>

#include "kernel/agent.h"
#include "kernel/base/clock.h"

/* Each turn costs something, or an agent whose calls take no time would never let go. */
#define CHARGE_LEAST_NS   CLOCK_NS_PER_US
#define CHARGE_UNKNOWN_NS CLOCK_NS_PER_MS /* until it is done and put right */

void sched_order_init(struct sched_order *o, const struct sched_policy *policy,
                      const struct sched_tuning *tuning, int64_t clock_ns)
{
    *o = (struct sched_order){ .policy = policy, .tuning = *tuning, .clock_ns = clock_ns };
}

static bool has_turns(const struct sched_order *o)
{
    return o->policy->in_turn || o->tuning.fair;
}

static struct sched_lane *lane_of(struct sched_order *o, const struct syscall *sc)
{
    return has_turns(o) ? agent_lane(sc->agent, sc->class) : &o->only;
}

static enum sched_speed speed_of(const struct syscall *sc)
{
    return sched_is_quick(sc) ? SCHED_QUICK : SCHED_SLOW;
}

static bool lane_empty(const struct sched_lane *lane)
{
    return !lane->calls[SCHED_SLOW].first && !lane->calls[SCHED_QUICK].first;
}

/* ---- the lanes among each other ---- */

static void lane_out(struct sched_order *o, struct sched_lane *lane)
{
    for (int speed = 0; speed < SCHED_SPEEDS; speed++) {
        if (sched_heap_holds(&lane->places[speed]))
            sched_heap_remove(&o->lanes[speed], &lane->places[speed]);
    }
}

/* Into both heaps, as far as it has calls for them; it is in neither. */
static void lane_in(struct sched_order *o, struct sched_lane *lane)
{
    for (int speed = 0; speed < SCHED_SPEEDS; speed++) {
        struct sched_node *place = &lane->places[speed];

        if (!lane->calls[speed].first)
            continue;
        place->key = o->tuning.fair ? lane->used_ns : 0;
        place->ticket = lane->turn;
        sched_heap_add(&o->lanes[speed], place);
    }
}

static void lane_to_the_end(struct sched_order *o, struct sched_lane *lane)
{
    lane->turn = o->next_turn++;
}

static int64_t by_weight(const struct syscall *sc, int64_t ns)
{
    return ns / agent_weight(sc->agent);
}

/* ---- calls ---- */

void sched_order_add(struct sched_order *o, struct syscall *sc)
{
    struct sched_lane *lane = lane_of(o, sc);
    enum sched_speed speed = speed_of(sc);

    sc->place.key = o->policy->key(sc, &o->tuning);
    sc->place.ticket = sc->ticket;
    if (!has_turns(o)) {
        sched_heap_add(&lane->calls[speed], &sc->place);
        return;
    }
    if (lane_empty(lane)) {
        lane_to_the_end(o, lane);
        lane->used_ns = MAX(lane->used_ns, o->clock_ns);
    }
    sched_heap_add(&lane->calls[speed], &sc->place);
    if (!sched_heap_holds(&lane->places[speed])) {
        lane_out(o, lane);
        lane_in(o, lane);
    }
}

static struct sched_node *sooner(struct sched_node *a, struct sched_node *b)
{
    if (!a || !b)
        return a ? a : b;
    return sched_node_before(b, a) ? b : a;
}

static struct sched_node *first_of(const struct sched_heap heaps[SCHED_SPEEDS], bool quick_only)
{
    return sooner(heaps[SCHED_QUICK].first, quick_only ? NULL : heaps[SCHED_SLOW].first);
}

static struct sched_lane *lane_at(struct sched_node *place, const struct sched_order *o)
{
    if (place == o->lanes[SCHED_QUICK].first)
        return CONTAINER_OF(place, struct sched_lane, places[SCHED_QUICK]);
    return CONTAINER_OF(place, struct sched_lane, places[SCHED_SLOW]);
}

struct syscall *sched_order_first(const struct sched_order *o, bool quick_only)
{
    const struct sched_lane *lane = &o->only;
    struct sched_node *node;

    if (has_turns(o)) {
        struct sched_node *place = first_of(o->lanes, quick_only);

        if (!place)
            return NULL;
        lane = lane_at(place, o);
    }
    node = first_of(lane->calls, quick_only);
    return node ? CONTAINER_OF(node, struct syscall, place) : NULL;
}

void sched_order_remove(struct sched_order *o, struct syscall *sc)
{
    struct sched_lane *lane = lane_of(o, sc);
    enum sched_speed speed = speed_of(sc);

    sched_heap_remove(&lane->calls[speed], &sc->place);
    if (has_turns(o) && !lane->calls[speed].first)
        sched_heap_remove(&o->lanes[speed], &lane->places[speed]);
}

void sched_order_take(struct sched_order *o, struct syscall *sc)
{
    struct sched_lane *lane = lane_of(o, sc);
    int64_t expected_ns;

    if (!has_turns(o)) {
        sched_order_remove(o, sc);
        return;
    }
    lane_out(o, lane);
    sched_heap_remove(&lane->calls[speed_of(sc)], &sc->place);
    lane_to_the_end(o, lane);
    if (o->tuning.fair) {
        o->clock_ns = MAX(o->clock_ns, lane->used_ns);
        expected_ns = sc->expected_ns ? sc->expected_ns - sc->served_ns : CHARGE_UNKNOWN_NS;
        sc->charged_ns = MAX(by_weight(sc, expected_ns), CHARGE_LEAST_NS);
        lane->used_ns += sc->charged_ns;
    }
    lane_in(o, lane);
}

void sched_order_settle(struct sched_order *o, struct syscall *sc, int64_t served_ns)
{
    struct sched_lane *lane;
    int64_t owed_ns;

    if (!o->tuning.fair || !sc->charged_ns)
        return;
    owed_ns = MAX(by_weight(sc, served_ns), CHARGE_LEAST_NS) - sc->charged_ns;
    sc->charged_ns = 0;
    if (!owed_ns)
        return;
    lane = lane_of(o, sc);
    lane_out(o, lane);
    lane->used_ns += owed_ns;
    lane_in(o, lane);
}
