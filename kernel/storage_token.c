/* Cursors and tokens: bytes that come back from outside, so each carries proof that it is ours. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "kernel/base/base64.h"
#include "kernel/base/fd.h"
#include "kernel/base/id.h"
#include "kernel/storage_internal.h"

#define CURSOR_MAC_BYTES 16u
#define TOKEN_HEAD_BYTES                                                    \
    (SHA256_BYTES + 8u + 8u + 1u) /* proof, expiry, version, space's length \
                                   */

/* ---- proof ---- */

static void put_number(uint8_t out[8], uint64_t number)
{
    for (size_t i = 0; i < 8; i++)
        out[i] = (uint8_t)(number >> 8 * i);
}

static uint64_t get_number(const uint8_t in[8])
{
    uint64_t number = 0;

    for (size_t i = 0; i < 8; i++)
        number |= (uint64_t)in[i] << 8 * i;
    return number;
}

void storage_mac(const uint8_t secret[STORAGE_SECRET_BYTES], const struct storage_part *parts,
                 size_t count, uint8_t ret[SHA256_BYTES])
{
    uint8_t pad[64], inner[SHA256_BYTES], length[8];
    struct sha256 h;

    for (size_t i = 0; i < sizeof pad; i++)
        pad[i] = (uint8_t)((i < STORAGE_SECRET_BYTES ? secret[i] : 0) ^ 0x36);
    sha256_init(&h);
    sha256_add(&h, pad, sizeof pad);
    for (size_t i = 0; i < count; i++) {
        put_number(length, parts[i].len);
        sha256_add(&h, length, sizeof length);
        sha256_add(&h, parts[i].data, parts[i].len);
    }
    sha256_end(&h, inner);
    for (size_t i = 0; i < sizeof pad; i++)
        pad[i] ^= 0x36 ^ 0x5c;
    sha256_init(&h);
    sha256_add(&h, pad, sizeof pad);
    sha256_add(&h, inner, sizeof inner);
    sha256_end(&h, ret);
}

/* Takes as long whatever differs. */
static bool same(const uint8_t *a, const uint8_t *b, size_t len)
{
    uint8_t differs = 0;

    for (size_t i = 0; i < len; i++)
        differs |= a[i] ^ b[i];
    return differs == 0;
}

/* ---- cursors ---- */

static void cursor_mac(const uint8_t secret[STORAGE_SECRET_BYTES], enum storage_cursor_kind kind,
                       const char *space, const char *bound, const char *position,
                       uint8_t ret[SHA256_BYTES])
{
    static const char *const names[] = { "cursor of a list", "cursor of versions" };
    const struct storage_part parts[] = { { names[kind], strlen(names[kind]) },
                                          { space, strlen(space) },
                                          { bound, strlen(bound) },
                                          { position, strlen(position) } };

    storage_mac(secret, parts, ARRAY_LEN(parts), ret);
}

char *storage_cursor_make(const uint8_t secret[STORAGE_SECRET_BYTES], enum storage_cursor_kind kind,
                          const char *space, const char *bound, const char *position,
                          struct error *err)
{
    CLEANUP(buf_fini) struct buf raw = BUF_INIT;
    CLEANUP(buf_fini) struct buf text = BUF_INIT;
    uint8_t mac[SHA256_BYTES];
    char *cursor = NULL;

    cursor_mac(secret, kind, space, bound, position, mac);
    buf_append(&raw, mac, CURSOR_MAC_BYTES);
    buf_append_str(&raw, position);
    if (!raw.failed && base64_encode(&text, raw.data, raw.len))
        cursor = buf_take(&text, NULL);
    if (!cursor)
        error_set(err, ERR_NOMEM, "cursor");
    return cursor;
}

bool storage_cursor_read(const uint8_t secret[STORAGE_SECRET_BYTES], enum storage_cursor_kind kind,
                         const char *space, const char *bound, const char *cursor,
                         char ret_position[STORAGE_KEY_BYTES + 1], struct error *err)
{
    CLEANUP(buf_fini) struct buf raw = BUF_INIT;
    struct error why = ERROR_INIT;
    uint8_t mac[SHA256_BYTES];
    const size_t most = (CURSOR_MAC_BYTES + STORAGE_KEY_BYTES + 2) / 3 * 4;
    size_t len = strnlen(cursor, most + 1);

    if (len <= most && !base64_decode(&raw, cursor, len, &why) && why.code == ERR_NOMEM)
        return error_set(err, ERR_NOMEM, "cursor");
    if (raw.len > CURSOR_MAC_BYTES && raw.len <= CURSOR_MAC_BYTES + STORAGE_KEY_BYTES) {
        const char *position = raw.data + CURSOR_MAC_BYTES;

        cursor_mac(secret, kind, space, bound, position, mac);
        if (strlen(position) == raw.len - CURSOR_MAC_BYTES &&
            same(mac, (const uint8_t *)raw.data, CURSOR_MAC_BYTES)) {
            memcpy(ret_position, position, raw.len - CURSOR_MAC_BYTES + 1);
            return true;
        }
    }
    return error_set(err, ERR_INVALID,
                     "this cursor does not belong to this list; ask again without one");
}

/* ---- tokens ---- */

static void token_mac(const uint8_t secret[STORAGE_SECRET_BYTES], const uint8_t *body, size_t len,
                      uint8_t ret[SHA256_BYTES])
{
    const struct storage_part parts[] = { { "token", 5 }, { body, len } };

    storage_mac(secret, parts, ARRAY_LEN(parts), ret);
}

bool storage_token_make(const uint8_t secret[STORAGE_SECRET_BYTES],
                        const struct storage_grant *grant, char ret_token[STORAGE_TOKEN_BYTES],
                        struct error *err)
{
    CLEANUP(buf_fini) struct buf text = BUF_INIT;
    uint8_t raw[TOKEN_HEAD_BYTES + STORAGE_SPACE_BYTES + STORAGE_KEY_BYTES];
    size_t space_len = strlen(grant->space), key_len = strlen(grant->key);
    size_t len = TOKEN_HEAD_BYTES + space_len + key_len;

    _Static_assert((sizeof raw + 2) / 3 * 4 < STORAGE_TOKEN_BYTES, "the longest token fits");
    put_number(raw + SHA256_BYTES, (uint64_t)grant->expires_wall_ns);
    put_number(raw + SHA256_BYTES + 8, grant->version);
    raw[TOKEN_HEAD_BYTES - 1] = (uint8_t)space_len;
    memcpy(raw + TOKEN_HEAD_BYTES, grant->space, space_len);
    memcpy(raw + TOKEN_HEAD_BYTES + space_len, grant->key, key_len);
    token_mac(secret, raw + SHA256_BYTES, len - SHA256_BYTES, raw);
    if (!base64_encode(&text, raw, len))
        return error_set(err, ERR_NOMEM, "token");
    memcpy(ret_token, text.data, text.len + 1);
    return true;
}

bool storage_token_read(const uint8_t secret[STORAGE_SECRET_BYTES], const char *token,
                        struct storage_grant *ret, struct error *err)
{
    CLEANUP(buf_fini) struct buf raw = BUF_INIT;
    struct error why = ERROR_INIT;
    uint8_t mac[SHA256_BYTES];
    size_t len = strnlen(token, STORAGE_TOKEN_BYTES), space_len, key_len;
    const uint8_t *in;

    if (len < STORAGE_TOKEN_BYTES && !base64_decode(&raw, token, len, &why) &&
        why.code == ERR_NOMEM)
        return error_set(err, ERR_NOMEM, "token");
    if (raw.len <= TOKEN_HEAD_BYTES)
        return error_set(err, ERR_INVALID, "this is no token of storage");
    in = (const uint8_t *)raw.data;
    token_mac(secret, in + SHA256_BYTES, raw.len - SHA256_BYTES, mac);
    if (!same(mac, in, SHA256_BYTES))
        return error_set(err, ERR_DENIED, "the token was not made by this kernel");
    /* Ours, so it has the form that we gave it; a look costs nothing. */
    space_len = in[TOKEN_HEAD_BYTES - 1];
    if (space_len > STORAGE_SPACE_BYTES || raw.len - TOKEN_HEAD_BYTES <= space_len)
        return error_set(err, ERR_INVALID, "this is no token of storage");
    key_len = raw.len - TOKEN_HEAD_BYTES - space_len;
    if (key_len > STORAGE_KEY_BYTES)
        return error_set(err, ERR_INVALID, "this is no token of storage");
    *ret = (struct storage_grant){ .expires_wall_ns = (int64_t)get_number(in + SHA256_BYTES),
                                   .version = get_number(in + SHA256_BYTES + 8) };
    memcpy(ret->space, in + TOKEN_HEAD_BYTES, space_len);
    memcpy(ret->key, in + TOKEN_HEAD_BYTES + space_len, key_len);
    return true;
}

/* ---- the secret ---- */

bool storage_secret_load(const char *path, uint8_t ret[STORAGE_SECRET_BYTES], struct error *err)
{
    CLEANUP(fd_closep) int fd = open(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    uint8_t secret[STORAGE_SECRET_BYTES + 1];
    struct stat st;
    ssize_t n;

    if (fd < 0 && errno == ENOENT) {
        id_random(secret, STORAGE_SECRET_BYTES);
        if (!fd_replace_file(path, secret, STORAGE_SECRET_BYTES, 0600, err))
            return false;
        memcpy(ret, secret, STORAGE_SECRET_BYTES);
        return true;
    }
    if (fd < 0 || fstat(fd, &st) < 0)
        return error_set_errno(err, errno, "open %s", path);
    if (st.st_mode & 077)
        return error_set(err, ERR_DENIED,
                         "%s can be read by others: remove it (all tokens end with it)", path);
    n = fd_read_full(fd, secret, sizeof secret, err);
    if (n < 0)
        return error_prefix(err, "%s", path);
    if (n != STORAGE_SECRET_BYTES)
        return error_set(err, ERR_IO, "%s is damaged: remove it (all tokens end with it)", path);
    memcpy(ret, secret, STORAGE_SECRET_BYTES);
    return true;
}
