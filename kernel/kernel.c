#include "kernel/kernel.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "kernel/base/clock.h"
#include "kernel/base/limits.h"
#include "kernel/base/log.h"
#include "kernel/base/paths.h"
#include "kernel/kernel_state.h"

#define STOP_NS      CLOCK_NS_PER_S
#define STOP_TURN_MS 50

/* ---- making ---- */

static bool open_audit(struct kernel *k, struct error *err)
{
    CLEANUP(audit_closep) struct audit *audit = NULL;
    struct audit_config config = { .power_safe = k->config->audit.power_safe,
                                   .max_bytes = k->config->audit.max_mb << 20,
                                   .keep = (unsigned)k->config->audit.keep };
    const char *dir = k->config->audit.dir;
    char *state_dir = NULL, detail[64];

    config.dir = dir;
    if (!dir || !*dir) {
        state_dir = paths_get(PATHS_STATE, "audit", err);
        if (!state_dir)
            return false;
        config.dir = state_dir;
    }
    audit = audit_open(&config, err);
    free(state_dir);
    if (!audit)
        return false;
    (void)snprintf(detail, sizeof detail, "version %s, pid %ld", AIOS_VERSION, (long)getpid());
    if (!audit_append(
            audit,
            &(struct audit_entry){
                .kind = AUDIT_SERVER, .subject = "server", .decision = "start", .detail = detail },
            err))
        return false;
    k->audit = STEAL(audit);
    return true;
}

/* With the first syscall, so that a server that is only asked what it can do touches no disk.
 * A server that cannot record stays up and says so at each call: whoever starts it sees the reason,
 * and nothing is ever done unrecorded. */
void kernel_open_audit(struct kernel *k)
{
    if (k->audit_tried)
        return;
    k->audit_tried = true;
    if (!k->config->audit.enabled)
        return;
    if (open_audit(k, &k->audit_error)) {
        computers_set_audit(k->computers, k->audit);
        return;
    }
    error_prefix(&k->audit_error, "the audit log cannot be written, so nothing is done (see the "
                                  "configuration keys audit.dir and audit.enabled)");
    log_line(LOG_ERROR, "audit_unavailable", "why=%s", LOG_ESC(k->audit_error.text));
}

struct kernel *kernel_new(struct loop *loop, const struct config *config, struct error *err)
{
    CLEANUP(kernel_freep) struct kernel *k = calloc(1, sizeof *k);

    if (!k) {
        error_set(err, ERR_NOMEM, "kernel");
        return NULL;
    }
    k->loop = loop;
    k->config = config;
    list_init(&k->flight);
    pthread_mutex_init(&k->agents_lock, NULL);
    pthread_mutex_init(&k->services_lock, NULL);
    k->access = access_new(config->access.rules, config->access.quotas, err);
    if (!k->access)
        return NULL;
    k->bus = event_bus_new(err);
    if (!k->bus)
        return NULL;
    k->tools = toolmgr_new(err);
    if (!k->tools)
        return NULL;
    if (!kernel_make_queues(k, err))
        return NULL;
    k->computers = computers_new(loop, config, NULL, k->bus, err);
    if (!k->computers)
        return NULL;
    return STEAL(k);
}

/* ---- ending ---- */

static void drain(struct kernel *k)
{
    int64_t deadline_ns = clock_add_ns(clock_now_ns(), STOP_NS);
    size_t left = 0;

    LIST_FOR_EACH_SAFE (node, &k->flight)
        kernel_cancel(k, LIST_ENTRY(node, struct syscall, flight));
    while (!list_empty(&k->flight) && clock_now_ns() < deadline_ns)
        loop_turn(k->loop, clock_left_ms(deadline_ns, STOP_TURN_MS));
    LIST_FOR_EACH (node, &k->flight)
        left++;
    if (left)
        log_line(LOG_WARN, "slow_stop", "calls=%zu", left);
}

static void close_audit(struct kernel *k)
{
    struct error err = ERROR_INIT;

    if (k->audit &&
        !audit_append(
            k->audit,
            &(struct audit_entry){ .kind = AUDIT_SERVER, .subject = "server", .decision = "stop" },
            &err))
        log_line(LOG_ERROR, "audit_lost_stop", "why=%s", LOG_ESC(err.text));
    audit_close(k->audit);
}

static void free_agents(struct kernel *k)
{
    for (size_t i = 0; i < k->agent_count; i++) {
        /* Somebody may still hold a reference and look.  False: it failed or ended before. */
        bool ended = agent_change(k->agents[i], AGENT_ENDED);

        (void)ended;
        agent_unref(k->agents[i]);
    }
    free(k->agents);
}

void kernel_free(struct kernel *k)
{
    if (!k)
        return;
    loop_assert_owner(k->loop);
    k->closing = true;
    for (int class = 0; class < SYSCALL_CLASS_COUNT; class ++) {
        if (k->scheds[class])
            sched_close(k->scheds[class]);
    }
    drain(k);
    kernel_quiet_queues(k);
    for (int class = 0; class < SYSCALL_CLASS_COUNT; class ++)
        workers_free(k->workers[class]);
    /* Every thread has posted before it ended, so all that is missing is under way. */
    while (!list_empty(&k->flight))
        loop_turn(k->loop, STOP_TURN_MS);
    computers_free(k->computers);
    kernel_close_services(k);
    kernel_free_queues(k);
    close_audit(k);
    free_agents(k);
    pthread_mutex_destroy(&k->agents_lock);
    toolmgr_free(k->tools);
    event_bus_free(k->bus);
    access_free(k->access);
    free(k);
}

/* ---- agents ---- */

static size_t agent_place_locked(const struct kernel *k, const char *name)
{
    size_t low = 0, high = k->agent_count;

    while (low < high) {
        size_t middle = low + (high - low) / 2;

        if (strcmp(agent_name(k->agents[middle]), name) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static bool agents_grow_locked(struct kernel *k, struct error *err)
{
    size_t cap = MAX(k->agent_cap * 2, 4u);
    struct agent **agents;

    if (k->agent_count < k->agent_cap)
        return true;
    if (k->agent_count >= KERNEL_AGENTS_MAX)
        return error_set(err, ERR_LIMIT, "more than %u agents", KERNEL_AGENTS_MAX);
    agents = reallocarray(k->agents, cap, sizeof(struct agent *));
    if (!agents)
        return error_set(err, ERR_NOMEM, "%zu agents", cap);
    k->agents = agents;
    k->agent_cap = cap;
    return true;
}

static struct agent *agent_of_locked(struct kernel *k, const struct agent_spec *spec,
                                     struct error *err)
{
    const char *name = spec->name, *group = spec->group;
    size_t at = agent_place_locked(k, name);
    struct agent *a;
    bool ready;

    if (at < k->agent_count && !strcmp(agent_name(k->agents[at]), name)) {
        a = k->agents[at];
        /* Access goes by group: the first word stands. */
        if (strcmp(agent_group(a), group ? group : "") != 0) {
            error_set(err, ERR_EXISTS, "agent %s is already here with group \"%s\"", name,
                      agent_group(a));
            return NULL;
        }
        return agent_ref(a);
    }
    if (!agents_grow_locked(k, err))
        return NULL;
    a = agent_new_with(spec, err);
    if (!a)
        return NULL;
    ready = agent_change(a, AGENT_READY);
    assert(ready);
    (void)ready;
    memmove(k->agents + at + 1, k->agents + at, (k->agent_count - at) * sizeof(struct agent *));
    k->agents[at] = a;
    k->agent_count++;
    return agent_ref(a);
}

struct agent *kernel_agent_with(struct kernel *k, const struct agent_spec *spec, struct error *err)
{
    struct agent *a;

    pthread_mutex_lock(&k->agents_lock);
    a = agent_of_locked(k, spec, err);
    pthread_mutex_unlock(&k->agents_lock);
    return a;
}

struct agent *kernel_agent(struct kernel *k, const char *name, const char *group, struct error *err)
{
    const struct agent_spec spec = { .name = name, .group = group };

    return kernel_agent_with(k, &spec, err);
}

static bool name_matches(const char *pattern, const char *name)
{
    size_t len = strcspn(pattern, "*");

    return strncmp(pattern, name, len) == 0 && (pattern[len] == '*' || !name[len]);
}

static const json_t *entry_of(const json_t *agents, const char *name)
{
    for (size_t i = 0; i < json_array_size(agents); i++) {
        const json_t *entry = json_array_get(agents, i);

        if (name_matches(json_string_value(json_object_get(entry, "name")), name))
            return entry;
    }
    return NULL;
}

struct agent *kernel_agent_known(struct kernel *k, const char *name, struct error *err)
{
    const json_t *entry = entry_of(k->config->access.agents, name);
    const json_t *roles = json_object_get(entry, "roles");
    const char *words[AGENT_ROLES_MAX + 1] = { NULL };
    const char *group = json_string_value(json_object_get(entry, "group"));
    const struct agent_spec spec = { .name = name,
                                     .group = group ? group : k->config->agent.group,
                                     .roles = words,
                                     .weight = (int)json_integer_value(
                                         json_object_get(entry, "weight")) };

    for (size_t i = 0; i < MIN(json_array_size(roles), AGENT_ROLES_MAX); i++)
        words[i] = json_string_value(json_array_get(roles, i));
    return kernel_agent_with(k, &spec, err);
}

void kernel_end_agent(struct kernel *k, struct agent *a)
{
    bool known = false;
    size_t at;

    loop_assert_owner(k->loop);
    pthread_mutex_lock(&k->agents_lock);
    at = agent_place_locked(k, agent_name(a));
    if (at < k->agent_count && k->agents[at] == a) {
        k->agent_count--;
        memmove(k->agents + at, k->agents + at + 1, (k->agent_count - at) * sizeof(struct agent *));
        known = true;
    }
    pthread_mutex_unlock(&k->agents_lock);
    /* False: it has ended or failed before. */
    UNCHECKED(agent_change(a, AGENT_ENDED));
    computers_end_agent(k->computers, agent_name(a));
    access_forget(k->access, agent_name(a));
    if (known)
        agent_unref(a);
}

/* ---- looking ---- */

struct toolmgr *kernel_tools(struct kernel *k)
{
    return k->tools;
}

struct computers *kernel_computers(struct kernel *k)
{
    return k->computers;
}

struct event_bus *kernel_events(struct kernel *k)
{
    return k->bus;
}

const struct config *kernel_config(struct kernel *k)
{
    return k->config;
}

struct loop *kernel_loop(struct kernel *k)
{
    return k->loop;
}
