#include "kernel/computer/egress_socks.h"

#include <arpa/inet.h>
#include <string.h>

#define COMMAND_CONNECT 1
#define TYPE_IPV4       1
#define TYPE_NAME       3
#define TYPE_IPV6       4

enum egress_socks egress_socks_greeting(const uint8_t *data, size_t len, size_t *ret_used)
{
    if (len < 2)
        return EGRESS_SOCKS_MORE;
    if (data[0] != EGRESS_SOCKS_VERSION)
        return EGRESS_SOCKS_BAD;
    if (len < 2u + data[1])
        return EGRESS_SOCKS_MORE;
    *ret_used = 2u + data[1];
    return memchr(data + 2, 0, data[1]) ? EGRESS_SOCKS_DONE : EGRESS_SOCKS_BAD;
}

static enum egress_socks bad(struct egress_socks_request *ret, enum egress_socks_code code,
                             const char *why)
{
    ret->code = code;
    ret->why = why;
    return EGRESS_SOCKS_BAD;
}

static const char *read_host(const uint8_t *data, size_t len, uint8_t type,
                             struct egress_socks_request *ret)
{
    char text[INET6_ADDRSTRLEN];

    if (type == TYPE_NAME) {
        (void)egress_clean((const char *)data, len, ret->shown, sizeof ret->shown);
        return egress_host_parse((const char *)data, len, &ret->host);
    }
    (void)inet_ntop(type == TYPE_IPV4 ? AF_INET : AF_INET6, data, text, sizeof text);
    (void)egress_clean(text, strlen(text), ret->shown, sizeof ret->shown);
    return egress_host_parse(text, strlen(text), &ret->host);
}

enum egress_socks egress_socks_request(const uint8_t *data, size_t len, size_t *ret_used,
                                       struct egress_socks_request *ret)
{
    size_t at = 4, size;
    const char *why;

    *ret = (struct egress_socks_request){ .code = EGRESS_SOCKS_OK };
    if (len >= 1 && data[0] != EGRESS_SOCKS_VERSION)
        return bad(ret, EGRESS_SOCKS_FAILURE, "the SOCKS5 request is malformed");
    if (len >= 2 && data[1] != COMMAND_CONNECT)
        return bad(ret, EGRESS_SOCKS_COMMAND, "only the CONNECT command of SOCKS5 is served");
    if (len >= 3 && data[2])
        return bad(ret, EGRESS_SOCKS_FAILURE, "the SOCKS5 request is malformed");
    if (len < at)
        return EGRESS_SOCKS_MORE;
    switch (data[3]) {
    case TYPE_IPV4:
        size = 4;
        break;
    case TYPE_IPV6:
        size = 16;
        break;
    case TYPE_NAME:
        if (len < 5)
            return EGRESS_SOCKS_MORE;
        size = data[4];
        at = 5;
        break;
    default:
        return bad(ret, EGRESS_SOCKS_ADDRESS, "the SOCKS5 address has an unknown type");
    }
    if (len < at + size + 2)
        return EGRESS_SOCKS_MORE;
    *ret_used = at + size + 2;
    ret->port = (uint16_t)(data[at + size] << 8 | data[at + size + 1]);
    why = read_host(data + at, size, data[3], ret);
    if (why)
        return bad(ret, EGRESS_SOCKS_NOT_ALLOWED, why);
    if (!ret->port)
        return bad(ret, EGRESS_SOCKS_NOT_ALLOWED, "port 0 does not exist");
    return EGRESS_SOCKS_DONE;
}

void egress_socks_reply(enum egress_socks_code code, uint8_t ret[EGRESS_SOCKS_REPLY_BYTES])
{
    memset(ret, 0, EGRESS_SOCKS_REPLY_BYTES);
    ret[0] = EGRESS_SOCKS_VERSION;
    ret[1] = (uint8_t)code;
    ret[3] = TYPE_IPV4; /* the bound address is nobody's business: 0.0.0.0:0 */
}
