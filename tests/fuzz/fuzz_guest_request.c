/*
 * The guest against a hostile host: whatever arrives, it neither crashes nor hangs, keeps to its
 * bounds, and says nothing that is not a frame.  It runs in this process, inert (it starts, stops
 * and connects to nothing), with a fresh folder for "/".
 *
 * Input: the host's bytes; each 0xfe 0xfe in them is where the guest has a few turns of its loop.
 */
#include <fcntl.h>
#include <ftw.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "images/guest/inside.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define CHECK(cond)  \
    do {             \
        if (!(cond)) \
            abort(); \
    } while (0)
#define TURNS 8

struct host {
    struct inside in;
    struct wire_reader reader;
    int fd;
    bool going;
};

static int remove_one(const char *path, const struct stat *st, int kind, struct FTW *at)
{
    (void)st;
    (void)kind;
    (void)at;
    (void)chmod(path, 0700);
    (void)remove(path);
    return 0;
}

static void put(const char *dir, const char *name)
{
    char path[128];
    int fd;

    (void)snprintf(path, sizeof path, "%s/%s", dir, name);
    fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    CHECK(fd >= 0 && write(fd, "0123456789", 10) == 10);
    close(fd);
}

static void furnish(const char *dir)
{
    char path[128];

    put(dir, "f");
    (void)snprintf(path, sizeof path, "%s/d", dir);
    CHECK(mkdir(path, 0700) == 0);
    put(dir, "d/g");
    (void)snprintf(path, sizeof path, "%s/l", dir);
    CHECK(symlink("d/../f", path) == 0);
    (void)snprintf(path, sizeof path, "%s/p", dir);
    CHECK(mkfifo(path, 0600) == 0);
}

/* Everything the guest says must be frames that a host would take. */
static void drain(struct host *h)
{
    struct wire_header head;
    const uint8_t *payload;
    enum wire_status status;
    ssize_t n;

    do {
        size_t room;
        uint8_t *at = wire_reader_space(&h->reader, &room);

        n = recv(h->fd, at, room, MSG_DONTWAIT);
        if (n > 0)
            wire_reader_filled(&h->reader, (size_t)n);
        while ((status = wire_reader_next(&h->reader, &head, &payload)) == WIRE_OK)
            continue;
        CHECK(status == WIRE_MORE);
    } while (n > 0);
}

static void turn(struct host *h)
{
    for (int i = 0; i < TURNS && h->going; i++)
        h->going = inside_turn(&h->in, 0);
    drain(h);
}

static void feed(struct host *h, const uint8_t *data, size_t size)
{
    while (size > 0 && h->going) {
        ssize_t n = send(h->fd, data, size, MSG_DONTWAIT | MSG_NOSIGNAL);

        if (n > 0) {
            data += n;
            size -= (size_t)n;
        }
        if (size > 0)
            turn(h);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct host h;
    static uint8_t storage[4 * WIRE_PAYLOAD_MAX];
    char dir[] = "/tmp/aios-fuzz-XXXXXX";
    struct inside_options opt = { .listen_fd = -1, .root = dir, .inert = true };
    int fds[2];
    size_t from = 0;

    (void)signal(SIGPIPE, SIG_IGN);
    CHECK(mkdtemp(dir));
    furnish(dir);
    CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) == 0);
    memset(&h, 0, sizeof h);
    h.reader = (struct wire_reader){ .data = storage, .cap = sizeof storage };
    h.fd = fds[0];
    opt.stream = fds[1];
    CHECK(inside_init(&h.in, &opt));
    h.going = true;
    for (size_t i = 0; i + 1 < size; i++) {
        if (data[i] != 0xfe || data[i + 1] != 0xfe)
            continue;
        feed(&h, data + from, i - from);
        turn(&h);
        from = i + 2;
        i++;
    }
    if (from < size)
        feed(&h, data + from, size - from);
    turn(&h);
    turn(&h);
    inside_fini(&h.in);
    close(h.fd);
    (void)nftw(dir, remove_one, 16, FTW_DEPTH | FTW_PHYS);
    return 0;
}
