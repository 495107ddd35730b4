/*
 * What programs may write.  A file without a name holds the rest of the disk: blocks that nobody
 * can have are never written, so that what the machine takes on the host stays as small as well.
 */
#include "images/guest/machine.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/fsuid.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "images/guest/inside.h"

#define ROOT        "/"
#define FULL_BYTES  (64u << 10) /* a disk with less than this free is full, as in a sandbox */
#define FULL_INODES 8u

static uint64_t used_bytes(const struct statvfs *fs)
{
    return (uint64_t)(fs->f_blocks - fs->f_bfree) * fs->f_frsize;
}

uint64_t machine_disk_used(void)
{
    struct statvfs fs;

    return statvfs(ROOT, &fs) == 0 ? used_bytes(&fs) : 0;
}

void machine_disk_release(struct machine *m)
{
    if (m->ballast_fd >= 0)
        close(m->ballast_fd);
    m->ballast_fd = -1;
}

/* The disk is none of the user's. */
static int open_nameless(const struct inside *in)
{
    int fd;

    (void)setfsuid(0);
    fd = open(ROOT, O_TMPFILE | O_RDWR | O_CLOEXEC, 0);
    (void)setfsuid(in->user);
    return fd;
}

/* 0 or an errno. */
static int keep_disk_to(struct inside *in, uint64_t bytes)
{
    struct machine *m = &in->machine;
    uint64_t written, left, room;
    struct statvfs fs;

    machine_disk_release(m);
    if (!bytes)
        return 0;
    if (statvfs(ROOT, &fs) != 0)
        return errno;
    written = used_bytes(&fs) > in->disk_before ? used_bytes(&fs) - in->disk_before : 0;
    left = bytes > written ? bytes - written : 0;
    room = (uint64_t)fs.f_bavail * fs.f_frsize;
    if (room <= left)
        return 0;
    m->ballast_fd = open_nameless(in);
    if (m->ballast_fd < 0)
        return errno;
    /* Without room for all of it there is less than that for anybody else, too. */
    if (fallocate(m->ballast_fd, 0, 0, (off_t)(room - left)) == 0 || errno == ENOSPC)
        return 0;
    return errno;
}

void machine_limit_disk(struct inside *in, uint32_t channel, struct wire_in *args)
{
    uint64_t bytes = wire_get_u64(args);
    int error;

    if (!wire_in_done(args))
        error = EBADMSG;
    else if (in->inert || !in->user)
        error = EPERM;
    else
        error = keep_disk_to(in, bytes);
    lane_reply_to(in, channel, error, NULL, 0);
}

bool machine_disk_full(const struct inside *in)
{
    struct statvfs fs;

    return in->user && statvfs(ROOT, &fs) == 0 && fs.f_blocks > 0 &&
           ((uint64_t)fs.f_bavail * fs.f_frsize < FULL_BYTES || fs.f_favail < FULL_INODES);
}
