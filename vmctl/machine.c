#include "vmctl/machine.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "kernel/base/clock.h"
#include "kernel/base/fd.h"
#include "vmctl/display.h"

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
    struct machine *m = machine_of(c);

    if (!machine_bring_in(m, w, err) || !vm_halt(m->vm, w, err))
        return false;
    m->paused = true;
    return true;
}

/* What runs inside must not see that the world has gone on by itself. */
static bool machine_resume(struct computer *c, const struct wait *w, struct error *err)
{
    struct machine *m = machine_of(c);

    if (!machine_bring_in(m, w, err) || !vm_run(m->vm, w, err))
        return false;
    m->paused = false;
    return guest_set_time(computer_guest(c), clock_wall_ns(), w, err);
}

/* ---- figures ---- */

/* The n-th word after the name, which may hold anything. */
static uint64_t stat_number(const char *stat, unsigned n)
{
    const char *at = strrchr(stat, ')');

    for (; at && n; n--)
        at = strchr(at + 1, ' ');
    return at ? strtoull(at + 1, NULL, 10) : 0;
}

static bool look_at_process(pid_t pid, struct computer_usage *ret, struct error *err)
{
    long ticks = sysconf(_SC_CLK_TCK), page = sysconf(_SC_PAGESIZE);
    char path[40];
    char *stat;

    (void)snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
    stat = fd_read_file(AT_FDCWD, path, STAT_MAX, NULL, err);
    if (!stat)
        return error_prefix(err, "look at QEMU");
    ret->cpu_ns = (int64_t)((stat_number(stat, 12) + stat_number(stat, 13)) *
                            (uint64_t)(CLOCK_NS_PER_S / ticks));
    ret->memory_bytes = stat_number(stat, 22) * (uint64_t)page;
    free(stat);
    return true;
}

/* Bytes that a file really takes; 0 for none. */
static uint64_t taken(int fd)
{
    struct stat st;

    return fd >= 0 && fstat(fd, &st) == 0 ? (uint64_t)st.st_blocks * 512 : 0;
}

bool machine_usage_locked(struct machine *m, struct computer_usage *ret, struct error *err)
{
    struct computer_usage usage = { .pids = 0 };

    if (m->vm && !look_at_process(vm_pid(m->vm), &usage, err))
        return false;
    if (m->vm)
        vm_usage(m->vm, &usage);
    usage.disk_bytes = m->vm ? taken(vm_disk(m->vm)) : taken(m->disk) + taken(m->state);
    usage.cpu_ns += m->cpu_before_ns;
    m->peak_bytes = MAX(m->peak_bytes, MAX(usage.memory_bytes, usage.peak_memory_bytes));
    usage.peak_memory_bytes = m->peak_bytes;
    *ret = usage;
    return true;
}

static bool machine_usage(struct computer *c, struct computer_usage *ret, struct error *err)
{
    struct machine *m = machine_of(c);
    bool ok;

    pthread_mutex_lock(&m->lock);
    ok = machine_usage_locked(m, ret, err);
    pthread_mutex_unlock(&m->lock);
    return ok;
}

/* Of processes that may not be nothing is told by its kernel. */
static void machine_strikes(struct computer *c, struct computer_strikes *ret)
{
    struct machine *m = machine_of(c);

    pthread_mutex_lock(&m->lock);
    ret->oom = m->oom_before + (m->vm ? vm_oom_kills(m->vm) : 0);
    pthread_mutex_unlock(&m->lock);
}

/* Its mutexes stay: somebody who brings it back may hold one for a moment yet. */
static void machine_destroy(struct computer *c)
{
    struct machine *m = machine_of(c);
    struct vm *vm;

    pthread_mutex_lock(&m->lock);
    m->destroyed = true;
    vm = STEAL(m->vm);
    pthread_mutex_unlock(&m->lock);
    cancel_raise(&m->cancel);
    machine_swap_fini(m);
    vm_free(vm);
}

/* ---- its screen ---- */

/* The machine, in memory, if it has one. */
static struct machine *with_screen(struct computer *c, const struct wait *w, struct error *err)
{
    struct machine *m = machine_of(c);

    if (!m->image->screen) {
        error_set(err, ERR_UNSUPPORTED, "this computer's image has no screen");
        return NULL;
    }
    return machine_bring_in(m, w, err) ? m : NULL;
}

static bool machine_frame(struct computer *c, bool rgb, struct display_frame *ret,
                          const struct wait *w, struct error *err)
{
    struct machine *m = with_screen(c, w, err);

    return m && vm_display_frame(m->vm, rgb, ret, w, err);
}

static bool machine_input(struct computer *c, const struct display_event *events, size_t count,
                          const struct wait *w, struct error *err)
{
    struct machine *m = with_screen(c, w, err);

    return m && vm_display_input(m->vm, events, count, w, err);
}

static bool machine_resize(struct computer *c, uint32_t width, uint32_t height,
                           const struct wait *w, struct error *err)
{
    struct machine *m = with_screen(c, w, err);

    return m && vm_display_resize(m->vm, computer_guest(c), width, height, w, err);
}

static const struct display_ops screen = {
    .frame = machine_frame,
    .input = machine_input,
    .resize = machine_resize,
};

const struct computer_ops machine_ops = {
    .kind = "vm",
    .pause = machine_pause,
    .resume = machine_resume,
    .checkpoint = machine_checkpoint,
    .usage = machine_usage,
    .strikes = machine_strikes,
    .swap_out = machine_swap_out,
    .is_swapped = machine_is_swapped,
    .destroy = machine_destroy,
    .display = &screen,
};
