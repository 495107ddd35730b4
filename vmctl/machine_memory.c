/*
 * A machine's memory, written into another QEMU that was started from the same file.  Both map it
 * privately, so only the pages that one of the two has for itself can differ, and which those are
 * the kernel tells.  The server sees them as the parent of both.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "kernel/base/fd.h"
#include "vmctl/machine.h"

#define PAGE_LEAST  4096u
#define SPAN        (2u << 20)  /* is looked at, at a time */
#define PIECE       (64u << 10) /* is copied at a time, and stays in the processor's cache */
#define COPIERS_MAX 4

/* What the kernel says of a page. */
#define IN_MEMORY (1ull << 63)
#define SWAPPED   (1ull << 62)
#define OF_FILE   (1ull << 61)

struct view {
    int memory, pages; /* of its process */
    uint64_t at;       /* where the guest's begins */
};

struct copying {
    struct view from, to;
    uint64_t bytes;
    size_t page;
    bool from_zero; /* both began as zeros */
    const struct wait *wait;
    atomic_uint_fast64_t next; /* where nobody copies yet */
};

/* One of those that copy it, span by span. */
struct copier {
    struct copying *all;
    pthread_t thread;
    bool started, ok;
    struct error why;
    bool ours[2][SPAN / PAGE_LEAST];
    uint8_t piece[PIECE];
};

/* ---- finding it ---- */

/* "Host virtual address for 0x0 (ram) is 0x7f…" */
static bool parse_address(const json_t *said, uint64_t *ret)
{
    const char *text = json_string_value(said);
    const char *at = text ? strstr(text, " is 0x") : NULL;

    *ret = at ? strtoull(at + strlen(" is "), NULL, 16) : 0;
    return *ret && *ret % PAGE_LEAST == 0;
}

static bool find_memory(struct vm *vm, uint64_t *ret, const struct wait *w, struct error *err)
{
    json_t *args = json_pack("{s:s}", "command-line", "gpa2hva 0"), *said;
    bool ok;

    if (!args)
        return error_set(err, ERR_NOMEM, "a command for QEMU");
    if (!qmp_call(vm_qmp(vm), "human-monitor-command", args, &said, w, err))
        return false;
    ok = parse_address(said, ret);
    json_decref(said);
    return ok || error_set(err, ERR_UNSUPPORTED, "QEMU does not tell where its memory is");
}

static bool open_file(pid_t pid, const char *name, int flags, int *ret, struct error *err)
{
    char path[40];

    (void)snprintf(path, sizeof path, "/proc/%d/%s", (int)pid, name);
    *ret = open(path, flags | O_CLOEXEC);
    return *ret >= 0 || error_set(err, ERR_UNSUPPORTED, "%s: %s", path, strerror(errno));
}

/* The files are of the process that was opened, whoever has its number later; and it still had it
 * when they were, if it has not ended by now. */
static bool view_open(struct view *v, struct vm *vm, int flags, const struct wait *w,
                      struct error *err)
{
    if (!open_file(vm_pid(vm), "mem", flags, &v->memory, err) ||
        !open_file(vm_pid(vm), "pagemap", O_RDONLY, &v->pages, err))
        return false;
    if (vm_state(vm) == VM_ENDED)
        return error_set(err, ERR_LOST, "the machine has ended");
    return find_memory(vm, &v->at, w, err);
}

static void view_close(struct view *v)
{
    fd_close(v->memory);
    fd_close(v->pages);
}

/* ---- copying it ---- */

static bool read_at(int fd, void *data, size_t len, uint64_t at, struct error *err)
{
    for (size_t done = 0; done < len;) {
        ssize_t n = pread(fd, (char *)data + done, len - done, (off_t)(at + done));

        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return error_set_errno(err, n < 0 ? errno : EIO, "read the memory of the machine");
        done += (size_t)n;
    }
    return true;
}

static bool write_at(int fd, const void *data, size_t len, uint64_t at, struct error *err)
{
    for (size_t done = 0; done < len;) {
        ssize_t n = pwrite(fd, (const char *)data + done, len - done, (off_t)(at + done));

        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return error_set_errno(err, n < 0 ? errno : EIO, "write the memory of the copy");
        done += (size_t)n;
    }
    return true;
}

/* Or neither is one. */
static bool is_same_file(int a, int b)
{
    struct stat of_a, of_b;

    if (a < 0 || b < 0)
        return a < 0 && b < 0;
    return fstat(a, &of_a) == 0 && fstat(b, &of_b) == 0 && of_a.st_dev == of_b.st_dev &&
           of_a.st_ino == of_b.st_ino;
}

/* Which of @count pages from @at on are no longer the file's. */
static bool look(const struct copying *c, const struct view *v, uint64_t at, size_t count,
                 bool ret[SPAN / PAGE_LEAST], struct error *err)
{
    uint64_t pages[SPAN / PAGE_LEAST] = { 0 };

    if (!read_at(v->pages, pages, count * sizeof pages[0], (v->at + at) / c->page * 8, err))
        return false;
    for (size_t i = 0; i < count; i++)
        ret[i] = (pages[i] & (IN_MEMORY | SWAPPED)) && !(pages[i] & OF_FILE);
    return true;
}

static bool is_zero(const uint8_t *data, size_t len)
{
    return data[0] == 0 && memcmp(data, data + 1, len - 1) == 0;
}

/* @count pages from @first of the span at @at, which fit into a piece. */
static bool copy_piece(struct copier *p, uint64_t at, size_t first, size_t count)
{
    const struct copying *c = p->all;
    uint64_t begin = at + first * c->page;
    size_t i = 0;

    if (!read_at(c->from.memory, p->piece, count * c->page, c->from.at + begin, &p->why))
        return false;
    while (i < count) {
        size_t until = i;

        /* What is zero here and has never been touched there is so already. */
        while (until < count && !(c->from_zero && !p->ours[1][first + until] &&
                                  is_zero(p->piece + until * c->page, c->page)))
            until++;
        if (until > i && !write_at(c->to.memory, p->piece + i * c->page, (until - i) * c->page,
                                   c->to.at + begin + i * c->page, &p->why))
            return false;
        i = until + 1;
    }
    return true;
}

static bool copy_span(struct copier *p, uint64_t at)
{
    const struct copying *c = p->all;
    size_t count = (size_t)MIN(SPAN, c->bytes - at) / c->page;
    size_t i = 0;

    if (!look(c, &c->from, at, count, p->ours[0], &p->why) ||
        !look(c, &c->to, at, count, p->ours[1], &p->why))
        return false;
    while (i < count) {
        size_t until = i;

        while (until < count && until - i < PIECE / c->page &&
               (p->ours[0][until] || p->ours[1][until]))
            until++;
        if (until > i && !copy_piece(p, at, i, until - i))
            return false;
        i = MAX(until, i + 1);
    }
    return true;
}

static void *copy_spans(void *arg)
{
    struct copier *p = arg;
    struct copying *c = p->all;
    uint64_t at;

    p->ok = true;
    while (p->ok && (at = atomic_fetch_add(&c->next, SPAN)) < c->bytes)
        p->ok = wait_check(c->wait, &p->why) && copy_span(p, at);
    if (!p->ok)
        atomic_store(&c->next, c->bytes); /* the others need not go on */
    return NULL;
}

/* The machine stands still meanwhile, so all processors are for this. */
static bool copy_by_many(struct copying *c, struct error *err)
{
    long many = MIN(sysconf(_SC_NPROCESSORS_ONLN), COPIERS_MAX);
    struct copier *copiers = calloc(COPIERS_MAX, sizeof *copiers);
    bool ok = true;

    if (!copiers)
        return error_set(err, ERR_NOMEM, "a buffer");
    for (long i = 0; i < COPIERS_MAX; i++)
        copiers[i].all = c;
    for (long i = 1; i < many; i++) /* without help it takes longer */
        copiers[i].started = pthread_create(&copiers[i].thread, NULL, copy_spans, &copiers[i]) == 0;
    (void)copy_spans(&copiers[0]);
    copiers[0].started = true;
    for (long i = 0; i < COPIERS_MAX; i++) {
        if (i && copiers[i].started)
            pthread_join(copiers[i].thread, NULL);
        if (ok && copiers[i].started && !copiers[i].ok)
            ok = error_set(err, copiers[i].why.code, "%s", copiers[i].why.text);
    }
    free(copiers);
    return ok;
}

bool machine_memory_copy(struct vm *from, struct vm *to, const struct wait *w, struct error *err)
{
    struct copying c = { .from = { .memory = -1, .pages = -1 },
                         .to = { .memory = -1, .pages = -1 },
                         .bytes = vm_memory_bytes(from),
                         .page = (size_t)sysconf(_SC_PAGESIZE),
                         .from_zero = vm_memory(from) < 0,
                         .wait = w };
    bool ok;

    atomic_init(&c.next, 0);
    if (c.page < PAGE_LEAST || c.page > PIECE || c.bytes != vm_memory_bytes(to) ||
        !is_same_file(vm_memory(from), vm_memory(to)))
        return error_set(err, ERR_UNSUPPORTED, "the two have not started from the same");
    ok = view_open(&c.from, from, O_RDONLY, w, err) && view_open(&c.to, to, O_RDWR, w, err) &&
         copy_by_many(&c, err);
    view_close(&c.from);
    view_close(&c.to);
    return ok;
}
