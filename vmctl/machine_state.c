/*
 * The state of a machine on its way: to a file, from one, or to another QEMU that waits for it.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "kernel/base/clock.h"
#include "kernel/base/fd.h"
#include "vmctl/machine.h"

#define STATE_NAME "state"
#define NO_LIMIT   (1ll << 40) /* bytes a second */
#define CANCEL_NS  (2 * CLOCK_NS_PER_S)
#define COPY_BYTES (1u << 20)
#define SETTLE_MS  1
#define PIPE_BYTES (8 << 20)

/* ---- QEMU's part ---- */

static bool set_up(struct qmp *q, const struct wait *w, struct error *err)
{
    json_t *capabilities =
        json_pack("{s:[{s:s,s:b},{s:s,s:b}]}", "capabilities", "capability", "x-ignore-shared",
                  "state", 0, "capability", "events", "state", 1);
    json_t *parameters = json_pack("{s:I}", "max-bandwidth", (json_int_t)NO_LIMIT);

    if (!capabilities || !parameters) {
        json_decref(capabilities);
        json_decref(parameters);
        return error_set(err, ERR_NOMEM, "a command for QEMU");
    }
    if (!qmp_call(q, "migrate-set-capabilities", capabilities, NULL, w, err)) {
        json_decref(parameters);
        return false;
    }
    return qmp_call(q, "migrate-set-parameters", parameters, NULL, w, err);
}

static bool begin(struct qmp *q, const char *command, int fd, const struct wait *w,
                  struct error *err)
{
    json_t *args;

    if (!set_up(q, w, err) || !qmp_pass_fd(q, STATE_NAME, fd, w, err))
        return false;
    args = json_pack("{s:s}", "uri", "fd:" STATE_NAME);
    if (!args)
        return error_set(err, ERR_NOMEM, "a command for QEMU");
    return qmp_call(q, command, args, NULL, w, err);
}

/* @mark: from before it began. */
static bool finish(struct qmp *q, uint64_t mark, const struct wait *w, struct error *err)
{
    for (;;) {
        json_t *data = NULL;
        const char *status;
        bool done, failed;

        if (!qmp_await(q, &mark, "MIGRATION", &data, w, err))
            return false;
        status = json_string_value(json_object_get(data, "status"));
        done = status && !strcmp(status, "completed");
        failed = status && (!strcmp(status, "failed") || !strcmp(status, "cancelled"));
        json_decref(data);
        if (done)
            return true;
        if (failed)
            return error_set(err, ERR_IO, "QEMU could not move the state of the machine");
    }
}

/* A machine whose saving was given up must not go on saving. */
static void give_up(struct qmp *q)
{
    const struct wait w = { .deadline_ns = clock_add_ns(clock_now_ns(), CANCEL_NS) };
    uint64_t mark = qmp_event_mark(q);

    if (qmp_call(q, "migrate_cancel", NULL, NULL, &w, NULL))
        (void)!finish(q, mark, &w, NULL);
}

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
    uint64_t mark = qmp_event_mark(q);
    struct error why = ERROR_INIT;

    if (begin(q, "migrate", fd, w, &why) && finish(q, mark, w, &why) && settle(q, w, &why))
        return true;
    if (why.code == ERR_TIMEOUT || why.code == ERR_CANCELLED)
        give_up(q);
    return error_set(err, why.code, "%s", why.text);
}

bool machine_state_load(struct vm *vm, int fd, const struct wait *w, struct error *err)
{
    struct qmp *q = vm_qmp(vm);
    uint64_t mark = qmp_event_mark(q);

    return begin(q, "migrate-incoming", fd, w, err) && finish(q, mark, w, err);
}

bool machine_state_pass(struct vm *from, struct vm *to, const struct wait *w, struct error *err)
{
    uint64_t mark = qmp_event_mark(vm_qmp(to));
    const int room = PIPE_BYTES;
    int pair[2];
    bool ok;

    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) != 0)
        return error_set_errno(err, errno, "a socket pair");
    /* So that the two take turns less often; not every server may. */
    if (setsockopt(pair[0], SOL_SOCKET, SO_SNDBUFFORCE, &room, sizeof room) != 0)
        (void)setsockopt(pair[0], SOL_SOCKET, SO_SNDBUF, &room, sizeof room);
    ok = begin(vm_qmp(to), "migrate-incoming", pair[1], w, err);
    fd_close(pair[1]);
    ok = ok && machine_state_save(from, pair[0], w, err);
    fd_close(pair[0]);
    return ok && finish(vm_qmp(to), mark, w, err);
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
