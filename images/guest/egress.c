#include "images/guest/egress.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include "images/guest/inside.h"
#include "images/guest/relay.h"

#define ACCEPTED_PER_TURN 16
#define BACKLOG           128

#ifndef IP_FREEBIND
#define IP_FREEBIND 15
#endif

int egress_listen(uint16_t port)
{
    struct sockaddr_in address = { .sin_family = AF_INET,
                                   .sin_port = htons(port),
                                   .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    int on = 1;

    if (fd < 0)
        return -1;
    /* The loopback interface may come up only after us. */
    (void)setsockopt(fd, IPPROTO_IP, IP_FREEBIND, &on, sizeof on);
    (void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(fd, (const struct sockaddr *)&address, sizeof address) != 0 ||
        listen(fd, BACKLOG) != 0) {
        int error = errno;

        close(fd);
        errno = error;
        return -1;
    }
    return fd;
}

static void on_gone(struct inside *in)
{
    struct egress *e = &in->egress;

    e->count--;
    if (e->source.fd >= 0 && e->ready)
        evloop_post(&in->loop, &e->work);
}

static void carry(struct egress *e, int fd)
{
    const uint8_t kind = WIRE_OPEN_EGRESS;
    struct relay *r = relay_open(e->in, lane_new_number(&e->in->lanes), on_gone);

    if (!r) {
        close(fd);
        return;
    }
    e->count++;
    lane_send(&r->lane, WIRE_OPEN, 0, &kind, 1);
    if (!relay_start(r, fd)) {
        close(fd);
        lane_finish(&r->lane);
    }
}

static void accept_some(struct evloop_work *w)
{
    struct egress *e = CONTAINER_OF(w, struct egress, work);

    for (int i = 0; i < ACCEPTED_PER_TURN; i++) {
        int fd;

        /* What is over waits in the backlog, and after that in connect(). */
        if (e->count >= EGRESS_CONNECTIONS_MAX || e->in->lanes.live >= LANES_MAX)
            return;
        fd = accept4(e->source.fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
        if (fd >= 0) {
            carry(e, fd);
        } else if (errno == EAGAIN) {
            e->ready = false;
            return;
        } else if (errno != EINTR && errno != ECONNABORTED) {
            return; /* out of descriptors or memory: again when a connection ends or comes */
        }
    }
    evloop_post(&e->in->loop, &e->work);
}

static void on_ready(struct evloop_source *s, uint32_t events)
{
    struct egress *e = CONTAINER_OF(s, struct egress, source);

    (void)events;
    e->ready = true;
    evloop_post(&e->in->loop, &e->work);
}

bool egress_init(struct egress *e, struct inside *in, int fd)
{
    e->in = in;
    e->source.fd = -1;
    e->source.ready = on_ready;
    e->work.run = accept_some;
    return fd < 0 || evloop_watch(&in->loop, &e->source, fd, EPOLLIN, false);
}

void egress_fini(struct egress *e)
{
    int fd = e->source.fd;

    evloop_cancel(&e->work);
    if (fd < 0)
        return;
    evloop_unwatch(&e->in->loop, &e->source);
    close(fd);
}
