#include "vmctl/machine.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <fcntl.h>
#include <unistd.h>

#include "kernel/base/clock.h"
#include "kernel/base/fd.h"

#define CONSOLE_LINES 80u /* are looked at */
#define STAT_MAX      4096u

/* Of what the console said last, the line that tells why: a dying kernel says a lot after it. */
static const char *telling_line(char *text)
{
    static const char *const signs[] = { "aios-early: ", "Kernel panic", "Out of memory" };
    const char *found = NULL;
    char *last;

    for (size_t i = 0; i < ARRAY_LEN(signs) && !found; i++)
        found = strstr(text, signs[i]);
    if (found) {
        text[(size_t)(found - text) + strcspn(found, "\n")] = '\0';
        return found;
    }
    last = strrchr(text, '\n');
    return last ? last + 1 : text;
}

void machine_on_ended(void *arg, struct vm *vm, const char *why)
{
    CLEANUP(buf_fini) struct buf lines = BUF_INIT, text = BUF_INIT;
    struct machine *m = arg;

    if (vm_console(vm, CONSOLE_LINES, &lines) > 0 &&
        buf_printf(&text, "%s; console: %s", why, telling_line(lines.data)))
        why = text.data;
    computer_report_lost(&m->base, why);
}

static bool machine_pause(struct computer *c, const struct wait *w, struct error *err)
{
    return vm_halt(machine_of(c)->vm, w, err);
}

/* What runs inside must not see that the world has gone on by itself. */
static bool machine_resume(struct computer *c, const struct wait *w, struct error *err)
{
    return vm_run(machine_of(c)->vm, w, err) &&
           guest_set_time(computer_guest(c), clock_wall_ns(), w, err);
}

/* The n-th word after the name, which may hold anything. */
static uint64_t stat_number(const char *stat, unsigned n)
{
    const char *at = strrchr(stat, ')');

    for (; at && n; n--)
        at = strchr(at + 1, ' ');
    return at ? strtoull(at + 1, NULL, 10) : 0;
}

static bool machine_usage(struct computer *c, struct computer_usage *ret, struct error *err)
{
    long ticks = sysconf(_SC_CLK_TCK), page = sysconf(_SC_PAGESIZE);
    struct computer_usage usage = { .pids = 0 };
    char path[40];
    char *stat;

    (void)snprintf(path, sizeof path, "/proc/%d/stat", (int)vm_pid(machine_of(c)->vm));
    stat = fd_read_file(AT_FDCWD, path, STAT_MAX, NULL, err);
    if (!stat)
        return error_prefix(err, "look at QEMU");
    usage.cpu_ns = (int64_t)((stat_number(stat, 12) + stat_number(stat, 13)) *
                             (uint64_t)(CLOCK_NS_PER_S / ticks));
    usage.memory_bytes = stat_number(stat, 22) * (uint64_t)page;
    usage.peak_memory_bytes = usage.memory_bytes;
    free(stat);
    *ret = usage;
    return true;
}

static void machine_destroy(struct computer *c)
{
    struct machine *m = machine_of(c);

    vm_free(m->vm);
    m->vm = NULL;
}

const struct computer_ops machine_ops = {
    .kind = "vm",
    .pause = machine_pause,
    .resume = machine_resume,
    .usage = machine_usage,
    .destroy = machine_destroy,
};
