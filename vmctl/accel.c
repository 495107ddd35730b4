#include "vmctl/accel.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <time.h>
#include <unistd.h>
#if defined(__x86_64__)
#include <x86intrin.h>
#endif

#include "kernel/base/fd.h"
#include "kernel/base/sha256.h"
#include "kernel/base/utf8.h"
#include "kernel/computer/guest.h"

#define DEVICE      "/dev/kvm"
#define KVM_API     12
#define BELIEVED_S  (24 * 3600) /* that it does not work */
#define CPUINFO_MAX (4u << 20)
#define NOTE_MAX    512u
#define MEASURE_NS  (15 * CLOCK_NS_PER_MS)

/* ---- the key ---- */

static void add_file(struct sha256 *h, const struct stat *st)
{
    const int64_t identity[4] = { (int64_t)st->st_dev, (int64_t)st->st_ino, (int64_t)st->st_size,
                                  (int64_t)st->st_mtim.tv_sec };

    sha256_add(h, identity, sizeof identity);
}

/* What of a processor decides: its name, its microcode and its features, of the first one. */
static void add_processor(struct sha256 *h)
{
    char *text = fd_read_file(AT_FDCWD, "/proc/cpuinfo", CPUINFO_MAX, NULL, NULL);

    for (char *line = text; line && *line && *line != '\n';) {
        size_t len = strcspn(line, "\n");

        if (!strncmp(line, "model", 5) || !strncmp(line, "microcode", 9) ||
            !strncmp(line, "flags", 5) || !strncmp(line, "vendor_id", 9))
            sha256_add(h, line, len);
        line += len + (line[len] == '\n');
    }
    free(text);
}

bool accel_add_host(struct sha256 *h)
{
    struct utsname host;

    if (uname(&host) != 0)
        return false;
    sha256_add(h, host.release, strlen(host.release));
    sha256_add(h, host.version, strlen(host.version));
    add_processor(h);
    return true;
}

static bool make_key(const struct accel_query *q, char ret[SHA256_HEX])
{
    uint8_t digest[SHA256_BYTES];
    struct sha256 h;
    struct stat st;

    sha256_init(&h);
    if (stat(q->program, &st) != 0)
        return false;
    add_file(&h, &st);
    if (q->kernel_fd >= 0 && fstat(q->kernel_fd, &st) == 0)
        add_file(&h, &st);
    if (!accel_add_host(&h))
        return false;
    sha256_end(&h, digest);
    sha256_hex(digest, ret);
    return true;
}

static char *note_path(const struct accel_query *q, const char *key)
{
    CLEANUP(buf_fini) struct buf path = BUF_INIT;

    if (!q->cache_dir || !buf_printf(&path, "%s/accel-%.16s", q->cache_dir, key))
        return NULL;
    return buf_take(&path, NULL);
}

/* ---- what is kept: "kvm|tcg SECONDS WHY\n" ---- */

static bool read_note(const char *path, struct accel_verdict *ret)
{
    char *text, *end;
    bool kvm, ok;
    long long at_s, now_s = (long long)(clock_wall_ns() / CLOCK_NS_PER_S);
    size_t len;

    text = fd_read_file(AT_FDCWD, path, NOTE_MAX, &len, NULL);
    if (!text)
        return false;
    kvm = !strncmp(text, "kvm ", 4);
    ok = (kvm || !strncmp(text, "tcg ", 4)) && text[len - 1] == '\n' && utf8_valid(text, len);
    if (ok) {
        text[len - 1] = '\0';
        at_s = strtoll(text + 4, &end, 10);
        ok = end > text + 4 && *end == ' ' && (kvm || (at_s <= now_s && now_s - at_s < BELIEVED_S));
    }
    if (ok) {
        ret->accel = kvm ? ARGV_KVM : ARGV_TCG;
        ret->cached = true;
        (void)snprintf(ret->why, sizeof ret->why, "%.190s", end + 1);
    }
    free(text);
    return ok;
}

/* A verdict that cannot be kept is found again. */
static void write_note(const char *dir, const char *path, const struct accel_verdict *v)
{
    char text[NOTE_MAX];
    int n = snprintf(text, sizeof text, "%s %lld %s\n", v->accel == ARGV_KVM ? "kvm" : "tcg",
                     (long long)(clock_wall_ns() / CLOCK_NS_PER_S), v->why);

    if (n > 0 && (size_t)n < sizeof text && fd_mkdirs(dir, 0700, NULL))
        UNCHECKED(fd_replace_file(path, text, (size_t)n, 0600, NULL));
}

/* ---- the verdict ---- */

static void decide(struct accel_verdict *v, enum argv_accel accel, const char *why)
{
    size_t len = strlen(why);
    size_t n = utf8_cut(why, len, MIN(len, sizeof v->why - 1));

    v->accel = accel;
    memcpy(v->why, why, n);
    v->why[n] = '\0';
    for (char *c = v->why; *c; c++) {
        if ((unsigned char)*c < ' ')
            *c = ' ';
    }
}

/* What can be told without starting anything. */
static bool is_usable(const char *device, struct accel_verdict *v)
{
    CLEANUP(fd_closep) int fd = open(device, O_RDWR | O_CLOEXEC);
    char why[160], reason[96];

    if (fd < 0) {
        int saved = errno;

        (void)snprintf(why, sizeof why, "%s: %s%s", device,
                       strerror_r(saved, reason, sizeof reason),
                       saved == EACCES ? "; its group may use it" : "");
        decide(v, ARGV_TCG, why);
        return false;
    }
    if (ioctl(fd, KVM_GET_API_VERSION, 0) != KVM_API) {
        (void)snprintf(why, sizeof why, "%s does not speak the interface of KVM", device);
        decide(v, ARGV_TCG, why);
        return false;
    }
    return true;
}

static void try_it(const struct accel_query *q, struct accel_verdict *v, const struct wait *w)
{
    struct wait brief = *w;
    struct error why = ERROR_INIT;
    char text[256];

    brief.deadline_ns = MIN(w->deadline_ns, clock_add_ns(clock_now_ns(), ACCEL_BOOT_NS));
    if (q->boot(q->arg, &brief, &why)) {
        decide(v, ARGV_KVM, "a guest booted under KVM");
        return;
    }
    (void)snprintf(text, sizeof text, "%s opens, but no guest boots under it: %.150s",
                   q->device ? q->device : DEVICE, why.text);
    decide(v, ARGV_TCG, text);
}

void accel_choose(const struct accel_query *query, struct accel_verdict *ret, const struct wait *w)
{
    struct accel_verdict v = { .accel = ARGV_TCG };
    char key[SHA256_HEX];
    char *path = NULL;

    if (is_usable(query->device ? query->device : DEVICE, &v)) {
        if (make_key(query, key))
            path = note_path(query, key);
        if (!path || !read_note(path, &v)) {
            try_it(query, &v, w);
            /* Nothing was found out when somebody else's time was too short. */
            if (path && (v.accel == ARGV_KVM || wait_check(w, NULL)))
                write_note(query->cache_dir, path, &v);
        }
    }
    free(path);
    *ret = v;
}

bool accel_boot(void *arg, const struct wait *w, struct error *err)
{
    static const struct guest_events no_events = { .on_lost = NULL };
    CLEANUP(vm_freep) struct vm *vm = NULL;
    CLEANUP(guest_freep) struct guest *g = NULL;
    CLEANUP(fd_closep) int stream = -1;
    struct vm_spec spec = *(const struct vm_spec *)arg;

    spec.argv.accel = ARGV_KVM;
    spec.argv.append = NULL; /* without the disk, which is no part of the question */
    spec.argv.disk_base_fd = -1;
    spec.extra_gid = accel_group();
    vm = vm_start(&spec, NULL, NULL, w, err);
    if (!vm)
        return false;
    stream = vm_take_stream(vm);
    g = guest_new(spec.loop, stream, &no_events, NULL, err);
    if (!g)
        return false;
    (void)fd_steal(&stream);
    return guest_ready(g, w, err) && guest_ping(g, w, err);
}

gid_t accel_group(void)
{
    struct stat st;

    return stat(DEVICE, &st) == 0 && (st.st_mode & S_IRWXG) ? st.st_gid : 0;
}

/* ---- the clock ---- */

#if defined(__x86_64__)
struct moment {
    int64_t ns;
    uint64_t ticks;
};

/* The pair that was read closest together, of a few. */
static struct moment look(void)
{
    struct moment best = { .ns = 0 };
    uint64_t narrowest = UINT64_MAX;

    for (int i = 0; i < 16; i++) {
        uint64_t before = __rdtsc();
        struct timespec ts;
        uint64_t after;

        clock_gettime(CLOCK_MONOTONIC_RAW, &ts);
        after = __rdtsc();
        if (after - before < narrowest) {
            narrowest = after - before;
            best.ns = (int64_t)ts.tv_sec * CLOCK_NS_PER_S + ts.tv_nsec;
            best.ticks = before + (after - before) / 2;
        }
    }
    return best;
}

uint32_t accel_tsc_khz(void)
{
    const struct timespec pause = { .tv_nsec = MEASURE_NS };
    struct moment a = look(), b;
    uint64_t khz;

    (void)nanosleep(&pause, NULL);
    b = look();
    if (b.ns <= a.ns || b.ticks <= a.ticks)
        return 0;
    khz = (uint64_t)((double)(b.ticks - a.ticks) * 1e6 / (double)(b.ns - a.ns) + 0.5);
    return khz < UINT32_MAX ? (uint32_t)khz : 0;
}
#else
uint32_t accel_tsc_khz(void)
{
    return 0;
}
#endif
