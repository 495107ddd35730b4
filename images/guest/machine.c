#include "images/guest/machine.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/fsuid.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "images/guest/inside.h"
#include "images/guest/sys.h"

#define ENTROPY_MAX  1024u
#define NAME_MAX_LEN 64u
#define KILL_WAIT_NS 1000000000
#define ADD_ENTROPY  0x40085203ul /* RNDADDENTROPY */
#define RESEED       0x5207ul     /* RNDRESEEDCRNG */

struct sync_job {
    struct lane lane;
    struct list link;
    pid_t pid;
};

void machine_init(struct machine *m)
{
    memset(m, 0, sizeof *m);
    list_init(&m->syncs);
    m->ballast_fd = -1;
}

void machine_fini(struct machine *m)
{
    tree_free(&m->stopped_before);
    machine_disk_release(m);
}

/* ---- what a virtual machine needs after it was cloned ---- */

void machine_set_time(struct inside *in, uint32_t channel, struct wire_in *args)
{
    uint64_t ns = wire_get_u64(args);
    struct timespec ts = { .tv_sec = (time_t)(ns / 1000000000u),
                           .tv_nsec = (long)(ns % 1000000000u) };
    int error = 0;

    if (!wire_in_done(args))
        error = EBADMSG;
    else if (in->inert)
        error = EPERM;
    else if (clock_settime(CLOCK_REALTIME, &ts) != 0)
        error = errno;
    lane_reply_to(in, channel, error, NULL, 0);
}

void machine_reseed(struct inside *in, uint32_t channel, struct wire_in *args)
{
    struct {
        int entropy_bits;
        int size;
        uint8_t bytes[ENTROPY_MAX];
    } pool;
    int error = 0;
    int fd;

    if (args->len == 0 || args->len > sizeof pool.bytes) {
        lane_reply_to(in, channel, EBADMSG, NULL, 0);
        return;
    }
    pool.entropy_bits = (int)args->len * 8;
    pool.size = (int)args->len;
    memcpy(pool.bytes, args->data, args->len);
    fd = in->inert ? -1 : open("/dev/urandom", O_RDWR | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0 || ioctl(fd, ADD_ENTROPY, &pool) != 0 || ioctl(fd, RESEED) != 0)
        error = in->inert ? EPERM : errno;
    if (fd >= 0)
        close(fd);
    lane_reply_to(in, channel, error, NULL, 0);
}

static int write_machine_id(const char *id)
{
    int fd = open("/etc/machine-id", O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0444);
    size_t len = strlen(id);
    int error = 0;

    if (fd < 0)
        return errno;
    if (write(fd, id, len) != (ssize_t)len || write(fd, "\n", 1) != 1)
        error = EIO;
    close(fd);
    return error;
}

/* The file is none of the user's. */
static int write_machine_id_as_root(const struct inside *in, const char *id)
{
    int error;

    (void)setfsuid(in->user ? 0 : geteuid());
    error = write_machine_id(id);
    (void)setfsuid(in->user ? in->user : geteuid());
    return error;
}

void machine_set_name(struct inside *in, uint32_t channel, struct wire_in *args)
{
    char name[NAME_MAX_LEN + 1], id[NAME_MAX_LEN + 1];
    int error = 0;

    if (!wire_get_str_into(args, name, sizeof name) || !wire_get_str_into(args, id, sizeof id) ||
        !wire_in_done(args))
        error = EBADMSG;
    else if (in->inert)
        error = EPERM;
    else if (sethostname(name, strlen(name)) != 0)
        error = errno;
    else
        error = write_machine_id_as_root(in, id);
    lane_reply_to(in, channel, error, NULL, 0);
}

/* The kernel counts the user's processes, and ours are not among them. */
void machine_limit(struct inside *in, uint32_t channel, struct wire_in *args)
{
    uint32_t processes = wire_get_u32(args);
    int error = 0;

    if (!wire_in_done(args))
        error = EBADMSG;
    else if (in->inert || !in->user)
        error = EPERM;
    else
        in->processes = processes;
    lane_reply_to(in, channel, error, NULL, 0);
}

/* ---- sync: it may take long, so a child does it ---- */

static void drop_sync(struct lane *lane, bool by_host)
{
    struct sync_job *job = CONTAINER_OF(lane, struct sync_job, lane);

    (void)by_host;
    list_remove(&job->link);
}

void machine_sync(struct inside *in, uint32_t channel, struct wire_in *args)
{
    static const struct lane_ops ops = { .drop = drop_sync };
    struct sync_job *job = NULL;
    int error = 0;

    if (args->len != 0)
        error = EBADMSG;
    else if (!in->inert && !(job = calloc(1, sizeof *job)))
        error = ENOMEM;
    if (!job) {
        lane_reply_to(in, channel, error, NULL, 0);
        return;
    }
    job->pid = fork();
    if (job->pid == 0) {
        sync();
        _exit(0);
    }
    if (job->pid < 0) {
        lane_reply_to(in, channel, errno, NULL, 0);
        free(job);
        return;
    }
    job->lane.one_shot = true;
    lane_open(in, &job->lane, channel, &ops);
    list_append(&in->machine.syncs, &job->link);
}

void machine_reaped(struct inside *in, pid_t pid, int status)
{
    LIST_FOR_EACH (node, &in->machine.syncs) {
        struct sync_job *job = LIST_ENTRY(node, struct sync_job, link);

        if (job->pid != pid)
            continue;
        lane_reply(&job->lane, status == 0 ? 0 : EIO, NULL, 0);
        lane_finish(&job->lane);
        return;
    }
}

/* ---- the end ---- */

static void kill_everything(struct inside *in)
{
    if (in->pid1)
        (void)kill(-1, SIGKILL);
    else
        tree_signal(SIGKILL, tree_choose_below, getpid());
}

void machine_kill_all(struct inside *in)
{
    const struct timespec moment = { .tv_nsec = 10000000 };
    int64_t deadline_ns = sys_now_ns() + KILL_WAIT_NS;
    sigset_t set;

    if (in->inert)
        return;
    sigemptyset(&set);
    sigaddset(&set, SIGCHLD);
    kill_everything(in);
    for (;;) {
        pid_t pid = waitpid(-1, NULL, WNOHANG);

        if (pid < 0 && errno != EINTR)
            return; /* nobody is left */
        if (pid > 0)
            continue;
        if (sys_now_ns() >= deadline_ns)
            return;
        (void)sigtimedwait(&set, NULL, &moment);
        if (!in->pid1) /* orphans may have been handed to us meanwhile */
            kill_everything(in);
    }
}

void machine_shutdown(struct inside *in, uint32_t channel, struct wire_in *args)
{
    int error = args->len == 0 ? 0 : EBADMSG;

    if (!error) {
        machine_kill_all(in);
        in->leaving = true;
    }
    lane_reply_to(in, channel, error, NULL, 0);
}
