#include "vmctl/overlay.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "kernel/base/fd.h"

/* The format, all of it big-endian: a header, the table of reference counts and its one block, and
 * the first table of addresses, each in a cluster of its own.  Nothing else is allocated. */
#define CLUSTER_BITS   16u
#define CLUSTER        (1u << CLUSTER_BITS)
#define CLUSTERS       4u
#define L1_REACH       ((uint64_t)CLUSTER * (CLUSTER / 8)) /* bytes of disk behind one entry */
#define SECTOR         512u
#define HEADER_BYTES   104u
#define REFCOUNT_ORDER 4u /* of 16 bits */

static void put32(uint8_t *at, uint32_t v)
{
    for (int i = 0; i < 4; i++)
        at[i] = (uint8_t)(v >> (24 - 8 * i));
}

static void put64(uint8_t *at, uint64_t v)
{
    put32(at, (uint32_t)(v >> 32));
    put32(at + 4, (uint32_t)v);
}

static bool write_at(int fd, const void *data, size_t len, off_t offset, struct error *err)
{
    ssize_t n;

    do {
        n = pwrite(fd, data, len, offset);
    } while (n < 0 && errno == EINTR);
    if (n < 0)
        return error_set_errno(err, errno, "write a disk image");
    return (size_t)n == len || error_set(err, ERR_IO, "write a disk image: the disk is full");
}

static bool write_image(int fd, uint64_t bytes, struct error *err)
{
    uint8_t header[HEADER_BYTES + 8] = { 'Q', 'F', 'I', 0xfb }; /* and the end of extensions */
    uint8_t table[8], counts[2 * CLUSTERS] = { 0 };

    put32(header + 4, 3); /* version */
    put32(header + 20, CLUSTER_BITS);
    put64(header + 24, bytes);
    put32(header + 36, (uint32_t)((bytes + L1_REACH - 1) / L1_REACH));
    put64(header + 40, 3ull * CLUSTER); /* the addresses */
    put64(header + 48, 1ull * CLUSTER); /* the reference counts */
    put32(header + 56, 1);
    put32(header + 96, REFCOUNT_ORDER);
    put32(header + 100, HEADER_BYTES);
    put64(table, 2ull * CLUSTER);
    for (unsigned i = 0; i < CLUSTERS; i++)
        counts[2 * i + 1] = 1;
    if (ftruncate(fd, (off_t)CLUSTERS * CLUSTER) != 0)
        return error_set_errno(err, errno, "make a disk image");
    return write_at(fd, header, sizeof header, 0, err) &&
           write_at(fd, table, sizeof table, CLUSTER, err) &&
           write_at(fd, counts, sizeof counts, 2 * (off_t)CLUSTER, err);
}

int overlay_make(const char *dir, uint64_t bytes, struct error *err)
{
    CLEANUP(fd_closep) int fd = -1;

    if (bytes == 0 || bytes % SECTOR || bytes > OVERLAY_BYTES_MAX) {
        error_set(err, ERR_INVALID, "a disk of %" PRIu64 " bytes", bytes);
        return -1;
    }
    fd = dir ? open(dir, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600)
             : memfd_create("aios-overlay", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (fd < 0) {
        error_set_errno(err, errno, "make a disk image in %s", dir ? dir : "memory");
        return -1;
    }
    return write_image(fd, bytes, err) ? fd_steal(&fd) : -1;
}
