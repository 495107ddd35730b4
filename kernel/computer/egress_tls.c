#include "kernel/computer/egress_tls.h"

#include <string.h>

#include "kernel/base/attr.h"

#define RECORD_HEADER      5u
#define RECORD_MAX         (16u << 10)
#define RECORD_HANDSHAKE   22
#define CLIENT_HELLO       1
#define EXTENSION_NAME     0
#define NAME_TYPE_HOST     0
#define CONTENT_TYPE_FIRST 20 /* change_cipher_spec */
#define CONTENT_TYPE_LAST  24 /* heartbeat */

/* A window that shrinks from the front; every read checks what is left. */
struct cursor {
    const uint8_t *at;
    size_t left;
};

static bool take(struct cursor *from, size_t len, struct cursor *ret)
{
    if (len > from->left)
        return false;
    *ret = (struct cursor){ from->at, len };
    from->at += len;
    from->left -= len;
    return true;
}

static bool take_number(struct cursor *from, size_t bytes, size_t *ret)
{
    struct cursor number;

    if (!take(from, bytes, &number))
        return false;
    *ret = 0;
    while (number.left--)
        *ret = *ret << 8 | *number.at++;
    return true;
}

/* A vector whose length takes @bytes. */
static bool take_vector(struct cursor *from, size_t bytes, struct cursor *ret)
{
    size_t len;

    return take_number(from, bytes, &len) && take(from, len, ret);
}

static enum egress_tls bad(struct egress_hello *ret, const char *why)
{
    ret->why = why;
    return EGRESS_TLS_BAD;
}

static enum egress_tls read_name(struct cursor extension, struct egress_hello *ret)
{
    struct cursor list, name;
    size_t type;

    if (!take_vector(&extension, 2, &list) || extension.left || !take_number(&list, 1, &type) ||
        !take_vector(&list, 2, &name) || !name.left)
        return bad(ret, "its TLS server name is malformed");
    if (type != NAME_TYPE_HOST || list.left)
        return bad(ret, "its TLS ClientHello has more than one server name");
    if (name.left > EGRESS_TLS_NAME_MAX)
        return bad(ret, "its TLS server name is too long");
    for (size_t i = 0; i < name.left; i++) {
        if (name.at[i] <= ' ' || name.at[i] > '~')
            return bad(ret, "its TLS server name is malformed");
    }
    memcpy(ret->name, name.at, name.left);
    ret->name[name.left] = '\0';
    return EGRESS_TLS_HELLO;
}

static enum egress_tls read_hello(const uint8_t *data, size_t len, struct egress_hello *ret)
{
    struct cursor body = { data, len }, skip, session, ciphers, compressions, extensions, extension;
    bool named = false;
    size_t type;

    if (!take(&body, 2 + 32, &skip) || !take_vector(&body, 1, &session) || session.left > 32 ||
        !take_vector(&body, 2, &ciphers) || ciphers.left < 2 || ciphers.left % 2 ||
        !take_vector(&body, 1, &compressions) || !compressions.left)
        return bad(ret, "its TLS ClientHello is malformed");
    if (!body.left)
        return EGRESS_TLS_HELLO; /* TLS 1.2 and older without any extension */
    if (!take_vector(&body, 2, &extensions) || body.left)
        return bad(ret, "its TLS ClientHello is malformed");
    while (extensions.left) {
        if (!take_number(&extensions, 2, &type) || !take_vector(&extensions, 2, &extension))
            return bad(ret, "its TLS ClientHello is malformed");
        if (type != EXTENSION_NAME)
            continue;
        if (named)
            return bad(ret, "its TLS ClientHello has more than one server name");
        named = true;
        if (read_name(extension, ret) == EGRESS_TLS_BAD)
            return EGRESS_TLS_BAD;
    }
    return EGRESS_TLS_HELLO;
}

/* TLS, plain, or not to be told yet.  Any TLS record counts, because a server may put up with a
 * stray alert before the ClientHello; so does the form of SSL 2, which old servers answer. */
static enum egress_tls begins_tls(const uint8_t *data, size_t len)
{
    if (data[0] >= CONTENT_TYPE_FIRST && data[0] <= CONTENT_TYPE_LAST) {
        if (len < 2)
            return EGRESS_TLS_MORE;
        return data[1] == 3 ? EGRESS_TLS_HELLO : EGRESS_TLS_PLAIN;
    }
    if (!(data[0] & 0x80))
        return EGRESS_TLS_PLAIN;
    if (len < 3)
        return EGRESS_TLS_MORE;
    if (data[2] != CLIENT_HELLO)
        return EGRESS_TLS_PLAIN;
    if (len < 4)
        return EGRESS_TLS_MORE;
    if (data[3] == 3)
        return EGRESS_TLS_BAD;
    if (data[3])
        return EGRESS_TLS_PLAIN;
    if (len < 5)
        return EGRESS_TLS_MORE;
    return data[4] == 2 ? EGRESS_TLS_BAD : EGRESS_TLS_PLAIN;
}

/* Where the handshake message ends up when its records are joined. */
struct join {
    uint8_t message[EGRESS_TLS_MAX];
    size_t len;
};

static enum egress_tls join_records(const uint8_t *data, size_t len, struct join *join,
                                    struct egress_hello *ret)
{
    size_t at = 0, want = 4; /* type and length of the message */

    while (at < len) {
        size_t size, have;

        if (data[at] != RECORD_HANDSHAKE)
            return bad(ret, "its first TLS message is not a ClientHello");
        if (len - at >= 2 && data[at + 1] != 3)
            return bad(ret, "its TLS record is malformed");
        if (len - at < RECORD_HEADER)
            return EGRESS_TLS_MORE;
        size = (size_t)data[at + 3] << 8 | data[at + 4];
        if (!size || size > RECORD_MAX)
            return bad(ret, "its TLS record is malformed");
        at += RECORD_HEADER;
        have = MIN(size, len - at);
        for (size_t i = 0; i < have; i++) {
            join->message[join->len++] = data[at + i];
            if (join->message[0] != CLIENT_HELLO)
                return bad(ret, "its first TLS message is not a ClientHello");
            if (join->len == 4)
                want += (size_t)join->message[1] << 16 | (size_t)join->message[2] << 8 |
                        join->message[3];
            if (want > EGRESS_TLS_MAX)
                return bad(ret, "its TLS ClientHello is too large");
            if (join->len == want && want > 4)
                return EGRESS_TLS_HELLO;
            if (join->len == 4 && want == 4)
                return bad(ret, "its TLS ClientHello is malformed");
        }
        at += have;
        if (have < size)
            break;
    }
    return EGRESS_TLS_MORE;
}

enum egress_tls egress_tls_read(const uint8_t *data, size_t len, struct egress_hello *ret)
{
    size_t seen = MIN(len, EGRESS_TLS_MAX);
    struct join join; /* 16 KiB of stack, filled only as far as the message reaches */
    enum egress_tls verdict;

    ret->name[0] = '\0';
    ret->why = NULL;
    join.len = 0;
    if (!len)
        return EGRESS_TLS_MORE;
    verdict = begins_tls(data, len);
    if (verdict == EGRESS_TLS_BAD)
        return bad(ret, "it begins with an SSL 2 hello, which has no server name");
    if (verdict != EGRESS_TLS_HELLO)
        return verdict;
    verdict = join_records(data, seen, &join, ret);
    if (verdict == EGRESS_TLS_HELLO)
        return read_hello(join.message + 4, join.len - 4, ret);
    if (verdict == EGRESS_TLS_MORE && len >= EGRESS_TLS_MAX)
        return bad(ret, "its TLS ClientHello is too large");
    return verdict;
}
