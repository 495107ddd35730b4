/*
 * The state of a machine on its way: to a file, from one, or to another QEMU that waits for it.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "kernel/base/fd.h"
#include "kernel/base/log.h"
#include "vmctl/machine.h"
#include "vmctl/migrate.h"

#define COPY_BYTES (1u << 20)
#define SETTLE_MS  1
#define PIPE_BYTES (8 << 20)

/* ---- QEMU's part ---- */

/* It tells of the end a moment before it can run the machine again. */
static bool settle(struct qmp *q, const struct wait *w, struct error *err)
{
    for (;;) {
        json_t *data = NULL;
        const char *status;
        bool over;

        if (!qmp_call(q, "query-status", NULL, &data, w, err))
            return false;
        status = json_string_value(json_object_get(data, "status"));
        over = !status || strcmp(status, "finish-migrate") != 0;
        json_decref(data);
        if (over)
            return true;
        (void)poll(NULL, 0, SETTLE_MS);
    }
}

bool machine_state_save(struct vm *vm, int fd, const struct wait *w, struct error *err)
{
    struct qmp *q = vm_qmp(vm);
    struct error why = ERROR_INIT;
    uint64_t mark;

    if (migrate_begin(q, MIGRATE_OUT, fd, true, &mark, w, &why) &&
        migrate_finish(q, mark, w, &why) && settle(q, w, &why))
        return true;
    /* One whose saving was given up must not go on saving. */
    if (why.code == ERR_TIMEOUT || why.code == ERR_CANCELLED)
        migrate_give_up(q);
    return error_set(err, why.code, "%s", why.text);
}

bool machine_state_load(struct vm *vm, int fd, const struct wait *w, struct error *err)
{
    uint64_t mark;

    return migrate_begin(vm_qmp(vm), MIGRATE_IN, fd, true, &mark, w, err) &&
           migrate_finish(vm_qmp(vm), mark, w, err);
}

/* QEMU's own way: everything through a socket. */
static bool pass_all(struct vm *from, struct vm *to, const struct wait *w, struct error *err)
{
    const int room = PIPE_BYTES;
    uint64_t mark;
    int pair[2];
    bool ok;

    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) != 0)
        return error_set_errno(err, errno, "a socket pair");
    /* So that the two take turns less often; not every server may. */
    if (setsockopt(pair[0], SOL_SOCKET, SO_SNDBUFFORCE, &room, sizeof room) != 0)
        (void)setsockopt(pair[0], SOL_SOCKET, SO_SNDBUF, &room, sizeof room);
    ok = migrate_begin(vm_qmp(to), MIGRATE_IN, pair[1], true, &mark, w, err);
    fd_close(pair[1]);
    ok = ok && machine_state_save(from, pair[0], w, err);
    fd_close(pair[0]);
    return ok && migrate_finish(vm_qmp(to), mark, w, err);
}

/* QEMU looks at every page; what both have of the template need not even be looked at. */
static bool pass_changes(struct vm *from, struct vm *to, const struct wait *w, struct error *err)
{
    CLEANUP(fd_closep) int state = memfd_create("aios-state", MFD_CLOEXEC);

    if (state < 0)
        return error_set_errno(err, errno, "a memory file for the state of the machine");
    return machine_memory_copy(from, to, w, err) && migrate_devices(vm_qmp(from), state, w, err) &&
           machine_state_load(to, state, w, err);
}

bool machine_state_pass(struct vm *from, struct vm *to, const struct wait *w, struct error *err)
{
    struct error why = ERROR_INIT;

    if (pass_changes(from, to, w, &why))
        return true;
    if (why.code != ERR_UNSUPPORTED && why.code != ERR_NOT_FOUND)
        return error_set(err, why.code, "%s", why.text);
    log_line(LOG_DEBUG, "vm", "event=copies_all why=%s", LOG_ESC(why.text));
    return pass_all(from, to, w, err);
}

/* ---- disks ---- */

static bool copy_piece(int from, int to, off_t at, off_t end, const struct wait *w,
                       struct error *err)
{
    while (at < end) {
        off_t in = at, out = at;
        size_t len = (size_t)MIN(end - at, (off_t)COPY_BYTES);
        ssize_t n = copy_file_range(from, &in, to, &out, len, 0);
        char bytes[16384];

        if (n < 0 && (errno == EXDEV || errno == EINVAL || errno == EOPNOTSUPP)) {
            n = pread(from, bytes, MIN(len, sizeof bytes), at);
            if (n > 0)
                n = pwrite(to, bytes, (size_t)n, at);
        }
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return error_set_errno(err, errno, "copy the machine's disk");
        if (n == 0)
            return error_set(err, ERR_IO, "copy the machine's disk: it was cut short");
        if (!wait_check(w, err))
            return false;
        at += n;
    }
    return true;
}

bool machine_copy_file(int from, int to, const struct wait *w, struct error *err)
{
    struct stat st;
    off_t at = 0;

    if (fstat(from, &st) != 0 || ftruncate(to, st.st_size) != 0)
        return error_set_errno(err, errno, "copy the machine's disk");
    while (at < st.st_size) {
        off_t data = lseek(from, at, SEEK_DATA), hole;

        if (data < 0 && errno == ENXIO)
            break; /* nothing but a hole is left */
        hole = data < 0 ? -1 : lseek(from, data, SEEK_HOLE);
        if (hole < 0) {
            data = at;
            hole = st.st_size;
        }
        if (!copy_piece(from, to, data, hole, w, err))
            return false;
        at = hole;
    }
    return true;
}
