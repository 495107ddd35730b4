#include "kernel/computer/egress_host.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>

#include "kernel/base/attr.h"

#define LABEL_MAX 63u

static char lower(char c)
{
    return c >= 'A' && c <= 'Z' ? (char)(c - 'A' + 'a') : c;
}

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static bool is_hex(char c)
{
    return is_digit(c) || (c >= 'a' && c <= 'f');
}

/* Would the last label make inet_aton() and its like take the name for an address? */
static bool looks_numeric(const char *name)
{
    const char *dot = strrchr(name, '.');
    const char *label = dot ? dot + 1 : name;

    if (label[0] == '0' && label[1] == 'x') {
        for (label += 2; is_hex(*label); label++)
            continue;
        return !*label;
    }
    if (!is_digit(*label))
        return false;
    while (is_digit(*label))
        label++;
    return !*label;
}

static bool unmap(struct egress_address *address)
{
    static const uint8_t mapped[12] = { [10] = 0xff, [11] = 0xff };

    return address->v4 = !memcmp(address->bytes, mapped, sizeof mapped);
}

static bool parse_v4(const char *text, struct egress_address *ret)
{
    memset(ret->bytes, 0, 10);
    ret->bytes[10] = ret->bytes[11] = 0xff;
    ret->v4 = true;
    return inet_pton(AF_INET, text, ret->bytes + 12) == 1;
}

static bool parse_v6(const char *text, struct egress_address *ret)
{
    if (inet_pton(AF_INET6, text, ret->bytes) != 1)
        return false;
    (void)unmap(ret);
    return true;
}

static const char *address_host(struct egress_host *ret)
{
    char text[INET6_ADDRSTRLEN];

    ret->is_address = true;
    snprintf(ret->name, sizeof ret->name, "%s", egress_address_text(&ret->address, text));
    return NULL;
}

static const char *parse_v6_host(const char *text, size_t len, struct egress_host *ret)
{
    char inner[INET6_ADDRSTRLEN];

    if (len >= 2 && text[0] == '[' && text[len - 1] == ']') {
        text++;
        len -= 2;
    }
    if (memchr(text, '%', len))
        return "an address with a zone is not reachable from a computer";
    if (len >= sizeof inner || memchr(text, '\0', len))
        return "that is not an IPv6 address";
    memcpy(inner, text, len);
    inner[len] = '\0';
    if (!parse_v6(inner, &ret->address))
        return "that is not an IPv6 address";
    return address_host(ret);
}

const char *egress_host_parse(const char *text, size_t len, struct egress_host *ret)
{
    size_t label = 0;
    bool dotted = false;

    *ret = (struct egress_host){ .is_address = false };
    if (!len)
        return "the host is empty";
    if (text[0] == '[' || memchr(text, ':', len))
        return parse_v6_host(text, len, ret);
    if (text[len - 1] == '.') {
        dotted = true;
        len--;
    }
    if (!len || len > EGRESS_HOST_MAX)
        return "a host name has 1 to 253 characters";
    for (size_t i = 0; i < len; i++) {
        char c = lower(text[i]);

        if ((unsigned char)c >= 0x80)
            return "a host name must be given in its ASCII form (xn--...)";
        if (c == '.') {
            if (!label)
                return "a host name has an empty part";
            label = 0;
        } else if (!is_digit(c) && !(c >= 'a' && c <= 'z') && c != '-' && c != '_') {
            return "a host name has only letters, digits, '-', '_' and '.'";
        } else if (++label > LABEL_MAX) {
            return "a part of a host name has at most 63 characters";
        }
        ret->name[i] = c;
    }
    if (!label)
        return "a host name has an empty part";
    if (!looks_numeric(ret->name))
        return NULL;
    if (dotted || !parse_v4(ret->name, &ret->address))
        return "an address must be written as four decimal numbers, or as IPv6";
    return address_host(ret);
}

const char *egress_authority(const struct egress_host *host, uint16_t port, char *buf)
{
    bool v6 = host->is_address && !host->address.v4;

    snprintf(buf, EGRESS_AUTHORITY_MAX, "%s%s%s:%u", v6 ? "[" : "", host->name, v6 ? "]" : "",
             (unsigned)port);
    return buf;
}

const char *egress_clean(const char *text, size_t len, char *buf, size_t size)
{
    size_t n = MIN(len, size - 1);

    for (size_t i = 0; i < n; i++)
        buf[i] = text[i] > ' ' && text[i] <= '~' ? text[i] : '?';
    buf[n] = '\0';
    return buf;
}

uint16_t egress_port_parse(const char *text, size_t len)
{
    uint32_t port = 0;

    if (!len || len > 5 || text[0] == '0')
        return 0;
    for (size_t i = 0; i < len; i++) {
        if (!is_digit(text[i]))
            return 0;
        port = port * 10 + (uint32_t)(text[i] - '0');
    }
    return port <= UINT16_MAX ? (uint16_t)port : 0;
}

/* ---- addresses ---- */

bool egress_address_from(const struct sockaddr_storage *from, struct egress_address *ret)
{
    if (from->ss_family == AF_INET) {
        const struct sockaddr_in *in = (const struct sockaddr_in *)(const void *)from;

        memset(ret->bytes, 0, 10);
        ret->bytes[10] = ret->bytes[11] = 0xff;
        memcpy(ret->bytes + 12, &in->sin_addr, 4);
        ret->v4 = true;
        return true;
    }
    if (from->ss_family == AF_INET6) {
        const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)(const void *)from;

        memcpy(ret->bytes, &in6->sin6_addr, 16);
        (void)unmap(ret);
        return true;
    }
    return false;
}

void egress_address_to(const struct egress_address *address, uint16_t port,
                       struct sockaddr_storage *ret)
{
    memset(ret, 0, sizeof *ret);
    if (address->v4) {
        struct sockaddr_in *in = (struct sockaddr_in *)(void *)ret;

        in->sin_family = AF_INET;
        in->sin_port = htons(port);
        memcpy(&in->sin_addr, address->bytes + 12, 4);
    } else {
        struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)(void *)ret;

        in6->sin6_family = AF_INET6;
        in6->sin6_port = htons(port);
        memcpy(&in6->sin6_addr, address->bytes, 16);
    }
}

const char *egress_address_text(const struct egress_address *address, char buf[INET6_ADDRSTRLEN])
{
    int family = address->v4 ? AF_INET : AF_INET6;

    /* Cannot fail: the family is known and the buffer large enough for both. */
    return inet_ntop(family, address->bytes + (address->v4 ? 12 : 0), buf, INET6_ADDRSTRLEN);
}

bool egress_same_prefix(const uint8_t *a, const uint8_t *b, unsigned bits)
{
    unsigned whole = bits / 8, rest = bits % 8;

    if (memcmp(a, b, whole) != 0)
        return false;
    return !rest || !((a[whole] ^ b[whole]) >> (8 - rest));
}

static const char *special_v4(const uint8_t bytes[4])
{
    static const struct {
        uint8_t prefix[4];
        uint8_t bits;
        const char *what;
    } ranges[] = {
        { { 0 }, 8, "an address of this host" },
        { { 10 }, 8, "a private address" },
        { { 100, 64 }, 10, "a private address (carrier-grade NAT)" },
        { { 127 }, 8, "a loopback address" },
        { { 168, 63, 129, 16 }, 32, "a cloud metadata address" },
        { { 169, 254 }, 16, "a link-local or cloud metadata address" },
        { { 172, 16 }, 12, "a private address" },
        { { 192, 0, 0 }, 24, "a special-purpose address" },
        { { 192, 0, 2 }, 24, "an address for documentation" },
        { { 192, 88, 99 }, 24, "a special-purpose address" },
        { { 192, 168 }, 16, "a private address" },
        { { 198, 18 }, 15, "an address for benchmarks" },
        { { 198, 51, 100 }, 24, "an address for documentation" },
        { { 203, 0, 113 }, 24, "an address for documentation" },
        { { 224 }, 4, "a multicast address" },
        { { 240 }, 4, "a reserved or broadcast address" },
    };

    for (size_t i = 0; i < ARRAY_LEN(ranges); i++) {
        if (egress_same_prefix(bytes, ranges[i].prefix, ranges[i].bits))
            return ranges[i].what;
    }
    return NULL;
}

const char *egress_address_special(const struct egress_address *address)
{
    static const struct {
        uint8_t prefix[16];
        uint8_t bits;
        const char *what;
    } ranges[] = {
        { { [15] = 1 }, 128, "a loopback address" },
        { { 0xfc }, 7, "a private address" },
        { { 0xfe, 0x80 }, 10, "a link-local address" },
        { { 0xfe, 0xc0 }, 10, "a private address (site-local)" },
        { { 0xff }, 8, "a multicast address" },
        { { 0x20, 0x01 }, 23, "a special-purpose address" },
        { { 0x20, 0x01, 0x0d, 0xb8 }, 32, "an address for documentation" },
        { { 0x3f, 0xff }, 20, "an address for documentation" },
    };
    static const uint8_t nat64[12] = { 0x00, 0x64, 0xff, 0x9b };
    const uint8_t *bytes = address->bytes;

    if (address->v4)
        return special_v4(bytes + 12);
    if (!memcmp(bytes, nat64, sizeof nat64))
        return special_v4(bytes + 12);
    if (bytes[0] == 0x20 && bytes[1] == 0x02) /* 6to4 carries its IPv4 address after the prefix */
        return special_v4(bytes + 2);
    for (size_t i = 0; i < ARRAY_LEN(ranges); i++) {
        if (egress_same_prefix(bytes, ranges[i].prefix, ranges[i].bits))
            return ranges[i].what;
    }
    /* Global unicast is 2000::/3.  The rest is unspecified, IPv4-compatible, local NAT64
     * (64:ff9b:1::/48), discard-only (100::/64), or nobody's. */
    return bytes[0] >> 5 == 1 ? NULL : "a special-purpose address";
}
