/*
 * Times the way of a syscall with a handler that does nothing: access check, queue, policy, worker,
 * completion on the loop.
 *
 *   dispatch closed [key=value …]   so many calls stay in flight; each that is done is followed by
 *                                   another of the same agent.  Prints calls a second.
 *   dispatch open [key=value …]     calls arrive at a fixed rate whatever becomes of them.  Prints
 *                                   how many were done and the quantiles of their way.
 *
 * Keys: agents, flight, calls, rate, seconds, service_us, workers, class, policy, fair, audit.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "kernel/base/clock.h"
#include "kernel/base/fd.h"
#include "kernel/base/limits.h"
#include "kernel/kernel.h"

struct options {
    long agents, flight, calls, rate, seconds, service_us, workers;
    enum syscall_class class;
    const char *policy;
    bool fair, audit;
};

struct bench {
    struct options o;
    struct config *config;
    struct loop *loop;
    struct kernel *k;
    struct agent **agents;
    long submitted, done, failed;
    int64_t *way_ns; /* from submission to the completion on the loop, of each call */
    struct loop_timer arrival;
    int64_t next_ns;
};

static void die(const char *what)
{
    (void)fprintf(stderr, "dispatch: %s\n", what);
    exit(1);
}

static bool do_nothing(struct tool_call *call, const void *args, struct error *err)
{
    (void)call;
    (void)args;
    (void)err;
    return true;
}

/* As a provider would: the worker waits for somebody else. */
static bool wait_a_little(struct tool_call *call, const void *args, struct error *err)
{
    struct timespec pause = { .tv_nsec = 1000 };

    (void)call;
    (void)args;
    (void)err;
    clock_nanosleep(CLOCK_MONOTONIC, 0, &pause, NULL);
    return true;
}

static struct tool null_tool = {
    .name = "null", .title = "Null", .description = "Does nothing.", .handler = do_nothing
};

static void submit(struct bench *b, struct agent *agent, syscall_done_fn *done)
{
    struct error err = ERROR_INIT;
    struct syscall *sc = syscall_new(b->o.class, agent, &null_tool, NULL, &err);

    if (!sc)
        die(err.text);
    sc->done = done;
    sc->done_arg = b;
    b->submitted++;
    if (kernel_submit(b->k, sc, &err))
        return;
    b->failed++;
    b->done++;
    syscall_free(sc);
}

static void finish(struct bench *b, struct syscall *sc)
{
    b->way_ns[b->done % b->o.calls] = clock_now_ns() - sc->submitted_ns;
    b->done++;
    b->failed += sc->state != SYSCALL_DONE;
}

static void on_closed_done(struct syscall *sc)
{
    struct bench *b = sc->done_arg;

    finish(b, sc);
    if (b->submitted < b->o.calls)
        submit(b, sc->agent, on_closed_done);
    syscall_free(sc);
}

static void on_open_done(struct syscall *sc)
{
    finish(sc->done_arg, sc);
    syscall_free(sc);
}

static int by_size(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;

    return (x > y) - (x < y);
}

static void print_ways(struct bench *b)
{
    static const double quantiles[] = { 0.5, 0.9, 0.99, 1.0 };
    static const char *const names[] = { "p50_us", "p90_us", "p99_us", "max_us" };
    size_t count = (size_t)(b->done < b->o.calls ? b->done : b->o.calls);

    qsort(b->way_ns, count, sizeof b->way_ns[0], by_size);
    for (size_t i = 0; i < 4; i++) {
        size_t at = (size_t)(quantiles[i] * (double)(count - 1));

        printf(", \"%s\": %.1f", names[i], (double)b->way_ns[at] / 1e3);
    }
}

static double cpu_seconds(void)
{
    struct rusage u;

    getrusage(RUSAGE_SELF, &u);
    return (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) +
           (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) / 1e6;
}

static void closed(struct bench *b)
{
    double cpu = cpu_seconds();
    int64_t start_ns = clock_now_ns(), took_ns;

    for (long i = 0; i < b->o.flight; i++)
        submit(b, b->agents[i % b->o.agents], on_closed_done);
    while (b->done < b->o.calls)
        loop_turn(b->loop, 100);
    took_ns = clock_now_ns() - start_ns;
    printf("{ \"agents\": %ld, \"flight\": %ld, \"calls\": %ld, \"failed\": %ld, \"per_s\": %.0f, "
           "\"ns\": %.0f, \"cpu_ns\": %.0f",
           b->o.agents, b->o.flight, b->done, b->failed, (double)b->done * 1e9 / (double)took_ns,
           (double)took_ns / (double)b->done, (cpu_seconds() - cpu) * 1e9 / (double)b->done);
    print_ways(b);
    printf(" }\n");
}

static void on_arrival(struct loop_timer *timer)
{
    struct bench *b = CONTAINER_OF(timer, struct bench, arrival);
    int64_t now_ns = clock_now_ns();

    while (b->submitted < b->o.calls && b->next_ns <= now_ns) {
        submit(b, b->agents[b->submitted % b->o.agents], on_open_done);
        b->next_ns += CLOCK_NS_PER_S / b->o.rate;
    }
    if (b->submitted < b->o.calls && !loop_timer_start(b->loop, timer, b->next_ns, on_arrival))
        die("no memory");
}

static void open_loop(struct bench *b)
{
    b->next_ns = clock_now_ns();
    on_arrival(&b->arrival);
    while (b->done < b->o.calls)
        loop_turn(b->loop, 100);
    printf("{ \"agents\": %ld, \"rate\": %ld, \"calls\": %ld, \"failed\": %ld", b->o.agents,
           b->o.rate, b->done, b->failed);
    print_ways(b);
    printf(" }\n");
}

/* ---- setting up ---- */

static void parse(struct options *o, const char *word)
{
    static const struct {
        const char *key;
        size_t offset;
    } numbers[] = {
        { "agents", offsetof(struct options, agents) },
        { "flight", offsetof(struct options, flight) },
        { "calls", offsetof(struct options, calls) },
        { "rate", offsetof(struct options, rate) },
        { "seconds", offsetof(struct options, seconds) },
        { "service_us", offsetof(struct options, service_us) },
        { "workers", offsetof(struct options, workers) },
    };
    const char *equals = strchr(word, '=');
    size_t len = equals ? (size_t)(equals - word) : 0;

    if (!equals)
        die(word);
    for (size_t i = 0; i < ARRAY_LEN(numbers); i++) {
        if (strlen(numbers[i].key) == len && !strncmp(word, numbers[i].key, len)) {
            *(long *)(void *)((char *)o + numbers[i].offset) = strtol(equals + 1, NULL, 10);
            return;
        }
    }
    if (!strncmp(word, "policy=", 7))
        o->policy = equals + 1;
    else if (!strcmp(word, "class=llm"))
        o->class = SYSCALL_LLM;
    else if (!strcmp(word, "fair=1"))
        o->fair = true;
    else if (!strcmp(word, "audit=1"))
        o->audit = true;
    else if (strcmp(word, "audit=0") != 0 && strcmp(word, "fair=0") != 0 &&
             strcmp(word, "class=tool") != 0)
        die(word);
}

static struct config *configure(const struct options *o, const char *dir)
{
    struct error err = ERROR_INIT;
    json_t *json = json_pack("{s:{s:s, s:i, s:i}, s:{s:b, s:s}}", "tool", "policy", o->policy,
                             "queue", (int)LIMIT_QUEUE, "workers", (int)o->workers, "audit",
                             "enabled", (int)o->audit, "dir", dir);
    struct config *config = config_parse(NULL, 0, "", json, &err);

    json_decref(json);
    if (!config)
        die(err.text);
    return config;
}

static void prepare(struct bench *b, const char *dir)
{
    struct error err = ERROR_INIT;

    b->config = configure(&b->o, dir);
    b->loop = loop_new(&err);
    b->k = b->loop ? kernel_new(b->loop, b->config, &err) : NULL;
    b->agents = calloc((size_t)b->o.agents, sizeof(struct agent *));
    b->way_ns = calloc((size_t)b->o.calls, sizeof b->way_ns[0]);
    if (!b->k || !b->agents || !b->way_ns)
        die(err.text);
    for (long i = 0; i < b->o.agents; i++) {
        char name[32];

        (void)snprintf(name, sizeof name, "agent-%ld", i);
        b->agents[i] = kernel_agent(b->k, name, NULL, &err);
        if (!b->agents[i])
            die(err.text);
    }
}

static void release(struct bench *b)
{
    for (long i = 0; i < b->o.agents; i++)
        agent_unref(b->agents[i]);
    kernel_free(b->k);
    loop_free(b->loop);
    config_free(b->config);
    free(b->agents);
    free(b->way_ns);
}

int main(int argc, char **argv)
{
    struct bench b = { .o = { .agents = 1,
                              .flight = 2000,
                              .calls = 500000,
                              .rate = 20,
                              .seconds = 15,
                              .workers = 2,
                              .policy = "fifo" } };
    char dir[] = "/tmp/aios-dispatch.XXXXXX";
    bool is_open = argc > 1 && !strcmp(argv[1], "open");

    if (!is_open && (argc < 2 || strcmp(argv[1], "closed") != 0))
        die("closed or open?");
    for (int i = 2; i < argc; i++)
        parse(&b.o, argv[i]);
    if (is_open)
        b.o.calls = b.o.rate * b.o.seconds;
    if (b.o.agents < 1 || b.o.calls < 1 || b.o.flight < 1 || b.o.rate < 1)
        die("out of range");
    if (b.o.service_us)
        null_tool.handler = wait_a_little;
    if (!mkdtemp(dir))
        die("temporary folder");
    prepare(&b, dir);
    if (is_open)
        open_loop(&b);
    else
        closed(&b);
    release(&b);
    if (!fd_remove_tree(AT_FDCWD, dir, NULL))
        die("temporary folder");
    return b.failed ? 1 : 0;
}
