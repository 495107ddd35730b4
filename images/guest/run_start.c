#include "images/guest/run_state.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

#include "images/guest/inside.h"

#define OOM_SCORE    "300" /* programs before the guest */
#define ENDS         SPAWN_FDS
#define DEFAULT_ROWS 24
#define DEFAULT_COLS 80

void run_forget_assembled(struct run *r)
{
    r->lane.in->assembling_bytes -= r->assembled_cap;
    free(r->assembled);
    r->assembled = NULL;
    r->assembled_len = 0;
    r->assembled_cap = 0;
}

void run_fail(struct run *r, int status, enum spawn_stage stage)
{
    uint8_t byte = (uint8_t)stage;

    lane_reply(&r->lane, status, &byte, 1);
    lane_finish(&r->lane);
}

static void close_ends(int ends[ENDS])
{
    for (size_t i = 0; i < ENDS; i++) {
        /* A merged stream or a terminal is the same descriptor several times. */
        for (size_t j = i + 1; j < ENDS; j++) {
            if (ends[j] == ends[i])
                ends[j] = -1;
        }
        if (ends[i] >= 0)
            close(ends[i]);
        ends[i] = -1;
    }
}

/* A pipe towards us: the program's end in *ret_end. */
static int open_out(struct tap *t, int *ret_end)
{
    int fds[2];

    if (pipe2(fds, O_CLOEXEC) != 0)
        return errno;
    *ret_end = fds[1];
    if (fcntl(fds[0], F_SETFL, O_NONBLOCK) != 0 || !tap_open(t, fds[0], false)) {
        close(fds[0]);
        return errno;
    }
    return 0;
}

static int open_in(struct sink *s, int *ret_end)
{
    int fds[2];

    if (pipe2(fds, O_CLOEXEC) != 0)
        return errno;
    *ret_end = fds[0];
    if (fcntl(fds[1], F_SETFL, O_NONBLOCK) != 0 || !sink_open(s, fds[1], SINK_PIPE)) {
        close(fds[1]);
        return errno;
    }
    return 0;
}

int run_set_size(int master, uint16_t rows, uint16_t cols)
{
    struct winsize size = { .ws_row = rows ? rows : DEFAULT_ROWS,
                            .ws_col = cols ? cols : DEFAULT_COLS };

    return ioctl(master, TIOCSWINSZ, &size) == 0 ? 0 : errno;
}

static int open_terminal(struct run *r, const struct spawn_request *req, int ends[ENDS])
{
    int master = open("/dev/ptmx", O_RDWR | O_NOCTTY | O_CLOEXEC | O_NONBLOCK);
    int unlock = 0;
    int other, slave;

    if (master < 0)
        return errno;
    if (ioctl(master, TIOCSPTLCK, &unlock) != 0 ||
        run_set_size(master, req->rows, req->cols) != 0 ||
        (slave = ioctl(master, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC)) < 0) {
        close(master);
        return errno;
    }
    ends[0] = ends[1] = ends[2] = slave;
    /* Reading and writing are watched apart, which takes a descriptor each. */
    other = fcntl(master, F_DUPFD_CLOEXEC, SPAWN_FDS);
    if (other < 0 || !sink_open(&r->input, other, SINK_TERMINAL)) {
        if (other >= 0)
            close(other);
        close(master);
        return errno;
    }
    if (!tap_open(&r->out, master, true)) {
        close(master);
        return errno;
    }
    return 0;
}

static int open_streams(struct run *r, const struct spawn_request *req, int ends[ENDS])
{
    int error = 0;

    if (req->flags & WIRE_SPAWN_PTY) {
        error = open_terminal(r, req, ends);
    } else {
        error = open_out(&r->out, &ends[1]);
        if (!error && req->flags & WIRE_SPAWN_MERGE)
            ends[2] = ends[1];
        else if (!error)
            error = open_out(&r->err, &ends[2]);
        if (!error && req->flags & WIRE_SPAWN_STDIN)
            error = open_in(&r->input, &ends[0]);
    }
    if (!error && req->flags & WIRE_SPAWN_CONTROL) {
        error = open_in(&r->control_in, &ends[3]);
        if (!error)
            error = open_out(&r->control_out, &ends[4]);
    }
    return error;
}

/* So that a computer short of memory loses a program and not its guest. Not worth a microsecond
 * before the answer is out. */
static void raise_oom_score(pid_t pid)
{
    char path[40] = "/proc/";
    char digits[12];
    size_t at = 6, n = 0;
    int fd;

    for (pid_t v = pid; v > 0; v /= 10)
        digits[n++] = (char)('0' + v % 10);
    while (n > 0)
        path[at++] = digits[--n];
    memcpy(path + at, "/oom_score_adj", sizeof "/oom_score_adj");
    fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0)
        return;
    (void)!write(fd, OOM_SCORE, sizeof OOM_SCORE - 1);
    close(fd);
}

static void on_spawned(void *arg, int status, enum spawn_stage stage)
{
    struct run *r = arg;
    uint8_t bytes[4];
    struct wire_out o = { .data = bytes, .cap = sizeof bytes };

    r->spawn = NULL;
    if (status != 0) {
        run_fail(r, status, stage);
        return;
    }
    wire_put_u32(&o, (uint32_t)r->pid);
    lane_reply(&r->lane, 0, bytes, o.len);
    r->state = RUN_LIVE;
    lane_wake(&r->lane);
    if (!r->lane.in->inert) {
        uplink_flush(&r->lane.in->up);
        raise_oom_score(r->pid);
    }
}

/* Without a process: as if it had started and ended at once, with nothing said. */
static void start_inert(struct run *r, int ends[ENDS])
{
    close_ends(ends);
    on_spawned(r, 0, SPAWN_STAGE_EXEC);
    r->state = RUN_OVER;
}

void run_start(struct run *r, const uint8_t *payload, size_t len)
{
    struct inside *in = r->lane.in;
    struct spawn_request req;
    int error = spawn_parse(payload, len, &req);

    if (error) {
        run_fail(r, error, SPAWN_STAGE_RESOURCES);
        return;
    }
    error = open_streams(r, &req, req.plan.fds);
    if (!error && in->inert) {
        start_inert(r, req.plan.fds);
        spawn_request_free(&req);
        return;
    }
    r->last = (req.flags & WIRE_SPAWN_LAST) != 0;
    req.plan.terminal = (req.flags & WIRE_SPAWN_PTY) != 0;
    r->state = RUN_STARTING;
    if (!error) {
        int ends[ENDS];

        memcpy(ends, req.plan.fds, sizeof ends);
        error = spawn_start(in, &req, on_spawned, r, &r->spawn, &r->pid);
        close_ends(ends);
    } else {
        close_ends(req.plan.fds);
    }
    spawn_request_free(&req);
    if (error) {
        run_fail(r, error, SPAWN_STAGE_RESOURCES);
        return;
    }
    list_append(&in->runs, &r->link);
}

int run_assemble(struct run *r, const uint8_t *payload, size_t len)
{
    struct inside *in = r->lane.in;
    size_t need = r->assembled_len + len;

    if (need > WIRE_SPAWN_MAX)
        return E2BIG;
    if (need > r->assembled_cap) {
        size_t cap = MIN(MAX(need, r->assembled_cap * 2), WIRE_SPAWN_MAX);
        uint8_t *more;

        if (in->assembling_bytes + cap - r->assembled_cap > INSIDE_ASSEMBLING_MAX)
            return ENOMEM;
        more = realloc(r->assembled, cap);
        if (!more)
            return ENOMEM;
        in->assembling_bytes += cap - r->assembled_cap;
        r->assembled = more;
        r->assembled_cap = cap;
    }
    if (len > 0)
        memcpy(r->assembled + r->assembled_len, payload, len);
    r->assembled_len = need;
    return 0;
}
