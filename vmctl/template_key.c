#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "kernel/base/buf.h"
#include "kernel/base/clock.h"
#include "kernel/base/fd.h"
#include "vmctl/accel.h"
#include "vmctl/template_store.h"

#define FORMAT      "template 1" /* changes when older templates are not to be used any more */
#define VERSION_MAX 4096u
#define CHUNK_BYTES (256u << 10)
#define LOOK_MS     50 /* how often a cancelled wait is noticed */

/* ---- QEMU's version ---- */

static bool await(int fd, const struct wait *w, struct error *err)
{
    struct pollfd p = { .fd = fd, .events = POLLIN };

    while (poll(&p, 1, clock_left_ms(w->deadline_ns, LOOK_MS)) <= 0) {
        if (!wait_check(w, err))
            return false;
    }
    return true;
}

/* Until it says no more, or too much. */
static bool hear(const struct process *p, char *text, size_t size, size_t *ret_len,
                 const struct wait *w, struct error *err)
{
    for (*ret_len = 0; *ret_len < size;) {
        ssize_t n = read(p->words_fd, text + *ret_len, size - *ret_len);

        if (n == 0)
            return true;
        if (n > 0)
            *ret_len += (size_t)n;
        else if (errno != EAGAIN && errno != EINTR)
            return error_set_errno(err, errno, "hear its version");
        else if (!await(p->words_fd, w, err))
            return false;
    }
    return error_set(err, ERR_IO, "it says too much about its version");
}

static bool add_version(struct sha256 *h, const struct vm_spec *spec, const struct wait *w,
                        struct error *err)
{
    const char *const argv[] = { spec->program, "--version", NULL };
    const struct process_plan plan = { .program = spec->program,
                                       .argv = (char *const *)unconst(argv),
                                       .uid = spec->uid,
                                       .gid = spec->gid };
    char text[VERSION_MAX];
    siginfo_t how = { .si_pid = 0 };
    struct process p = { .pidfd = -1 };
    size_t len = 0;
    bool ok;

    if (!(spec->start ? spec->start : process_start)(&plan, &p, err))
        return false;
    ok = hear(&p, text, sizeof text, &len, w, err) && await(p.pidfd, w, err);
    if (!ok)
        (void)syscall(SYS_pidfd_send_signal, p.pidfd, SIGKILL, NULL, 0);
    while (waitid((idtype_t)P_PIDFD, (id_t)p.pidfd, &how, WEXITED) < 0 && errno == EINTR)
        continue;
    fd_close(p.words_fd);
    fd_close(p.pidfd);
    if (ok && (how.si_code != CLD_EXITED || how.si_status != 0 || !len))
        ok = error_set(err, ERR_IO, "it does not tell its version");
    sha256_add(h, text, len);
    return ok || error_prefix(err, "ask %s", spec->program);
}

/* ---- files ---- */

static void add_number(struct sha256 *h, uint64_t n)
{
    sha256_add(h, &n, sizeof n);
}

static void add_identity(struct sha256 *h, const struct stat *st)
{
    add_number(h, st->st_dev);
    add_number(h, st->st_ino);
    add_number(h, (uint64_t)st->st_size);
    add_number(h, (uint64_t)st->st_mtim.tv_sec);
    add_number(h, (uint64_t)st->st_mtim.tv_nsec);
}

static bool add_content(struct sha256 *h, int fd, struct error *err)
{
    uint8_t *chunk = malloc(CHUNK_BYTES);
    off_t at = 0;
    ssize_t n;

    if (!chunk)
        return error_set(err, ERR_NOMEM, "read a file");
    while ((n = pread(fd, chunk, CHUNK_BYTES, at)) > 0 || (n < 0 && errno == EINTR)) {
        if (n > 0) {
            sha256_add(h, chunk, (size_t)n);
            at += n;
        }
    }
    if (n < 0)
        error_set_errno(err, errno, "read the kernel or the initramfs");
    free(chunk);
    add_number(h, (uint64_t)at); /* where one ends and the next begins */
    return n == 0;
}

bool template_key(const struct vm_spec *spec, const char *image, char ret[SHA256_HEX],
                  const struct wait *w, struct error *err)
{
    CLEANUP(buf_fini) struct buf shape = BUF_INIT;
    const struct argv_spec *argv = &spec->argv;
    uint8_t digest[SHA256_BYTES];
    struct sha256 h;
    struct stat st;

    sha256_init(&h);
    sha256_add(&h, FORMAT, sizeof FORMAT);
    if (!argv_shape(argv, &shape) ||
        !buf_printf(&shape, " firmware=%s image=%s", argv->firmware ? argv->firmware : "",
                    image ? image : ""))
        return error_set(err, ERR_NOMEM, "the key of a template");
    sha256_add(&h, shape.data, shape.len + 1);
    if (stat(spec->program, &st) != 0)
        return error_set_errno(err, errno, "look at %s", spec->program);
    add_identity(&h, &st);
    if (argv->disk_base_fd >= 0) {
        if (fstat(argv->disk_base_fd, &st) != 0)
            return error_set_errno(err, errno, "look at the disk image");
        add_identity(&h, &st);
    }
    if (argv->accel == ARGV_KVM && !accel_add_host(&h))
        return error_set_errno(err, errno, "look at the host");
    if (!add_version(&h, spec, w, err) || !add_content(&h, argv->kernel_fd, err) ||
        !add_content(&h, argv->initrd_fd, err))
        return false;
    sha256_end(&h, digest);
    sha256_hex(digest, ret);
    return true;
}
