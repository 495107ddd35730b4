#include "images/guest/dial.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stddef.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "images/guest/inside.h"
#include "images/guest/place.h"
#include "images/guest/relay.h"

enum { FAMILY_UNIX = 1, FAMILY_V4 = 4, FAMILY_V6 = 6 };

union address {
    struct sockaddr any;
    struct sockaddr_in v4;
    struct sockaddr_in6 v6;
    struct sockaddr_un local;
};

/* 0 or an errno; nothing but this computer itself can be reached. */
static int parse_v4(const char *host, uint16_t port, union address *ret, socklen_t *ret_len)
{
    ret->v4.sin_family = AF_INET;
    ret->v4.sin_port = htons(port);
    *ret_len = sizeof ret->v4;
    if (!strcmp(host, "localhost"))
        host = "127.0.0.1";
    if (inet_pton(AF_INET, host, &ret->v4.sin_addr) != 1)
        return EINVAL;
    return ntohl(ret->v4.sin_addr.s_addr) >> 24 == 127 ? 0 : EACCES;
}

static int parse_v6(const char *host, uint16_t port, union address *ret, socklen_t *ret_len)
{
    ret->v6.sin6_family = AF_INET6;
    ret->v6.sin6_port = htons(port);
    *ret_len = sizeof ret->v6;
    if (!strcmp(host, "localhost"))
        host = "::1";
    if (inet_pton(AF_INET6, host, &ret->v6.sin6_addr) != 1)
        return EINVAL;
    return IN6_IS_ADDR_LOOPBACK(&ret->v6.sin6_addr) ? 0 : EACCES;
}

/* The path is resolved as those of files are, and connected to by descriptor, so that its length
 * is not limited to that of an address. */
static int parse_unix(struct inside *in, const char *path, union address *ret, socklen_t *ret_len,
                      int *ret_hold)
{
    struct place place;
    int error = place_init(&place, in->root_fd, "/", path);
    int fd;

    if (error)
        return error;
    fd = place_open(&place, O_PATH, 0);
    error = errno;
    place_fini(&place);
    if (fd < 0)
        return error;
    ret->local.sun_family = AF_UNIX;
    place_of_fd(fd, ret->local.sun_path);
    *ret_len =
        (socklen_t)(offsetof(struct sockaddr_un, sun_path) + strlen(ret->local.sun_path) + 1);
    *ret_hold = fd;
    return 0;
}

/* 0 or an errno; a Unix path is held by *ret_hold until connect() has been called. */
static int parse(struct inside *in, struct wire_in *args, union address *ret, socklen_t *ret_len,
                 int *ret_hold)
{
    char host[WIRE_PATH_MAX];
    uint8_t family = wire_get_u8(args);
    uint16_t port;

    if (!wire_get_str_into(args, host, sizeof host))
        return EBADMSG;
    port = wire_get_u16(args);
    if (!wire_in_done(args))
        return EBADMSG;
    if (family == FAMILY_V4)
        return parse_v4(host, port, ret, ret_len);
    if (family == FAMILY_V6)
        return parse_v6(host, port, ret, ret_len);
    if (family == FAMILY_UNIX)
        return parse_unix(in, host, ret, ret_len, ret_hold);
    return EAFNOSUPPORT;
}

void dial_request(struct inside *in, uint32_t channel, struct wire_in *args)
{
    union address address = { 0 };
    socklen_t len = 0;
    int hold = -1;
    int error = parse(in, args, &address, &len, &hold);
    struct relay *r = NULL;
    bool pending = false;
    int fd = -1;

    if (!error && in->inert)
        error = ECONNREFUSED;
    if (!error) {
        fd = socket(address.any.sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
        if (fd < 0) {
            error = errno;
        } else if (connect(fd, &address.any, len) != 0) {
            pending = errno == EINPROGRESS;
            error = pending ? 0 : errno;
        }
    }
    if (hold >= 0)
        close(hold);
    if (!error && !(r = relay_open(in, channel, NULL)))
        error = ENOMEM;
    if (!error) {
        relay_connect(r, fd, pending);
        return;
    }
    if (fd >= 0)
        close(fd);
    lane_refuse(in, channel, error, false);
}
