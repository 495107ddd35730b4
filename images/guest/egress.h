/*
 * egress - the proxy port inside: every connection to it becomes a channel to the host.
 *
 * Threads: one.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "images/guest/evloop.h"

#define EGRESS_PORT            3128
#define EGRESS_CONNECTIONS_MAX 256u

struct inside;

struct egress {
    struct evloop_source source; /* the listening socket; fd -1: none */
    struct evloop_work work;
    struct inside *in;
    size_t count;
    bool ready; /* connections may be waiting */
};

/** A listening socket on 127.0.0.1, or -1 and errno. */
int egress_listen(uint16_t port);

/** Takes @fd, listening and non-blocking, on success. */
bool egress_init(struct egress *e, struct inside *in, int fd);
void egress_fini(struct egress *e);
