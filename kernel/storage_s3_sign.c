#include "kernel/storage_s3_sign.h"

#include <stdio.h>
#include <string.h>

#define BLOCK_BYTES 64

static void hash(const void *data, size_t len, uint8_t digest[SHA256_BYTES])
{
    struct sha256 h;

    sha256_init(&h);
    sha256_add(&h, data, len);
    sha256_end(&h, digest);
}

void s3_hmac(const void *key, size_t key_len, const void *data, size_t len,
             uint8_t ret_mac[SHA256_BYTES])
{
    uint8_t block[BLOCK_BYTES] = { 0 }, pad[BLOCK_BYTES], inner[SHA256_BYTES];
    struct sha256 h;

    if (key_len > sizeof block)
        hash(key, key_len, block);
    else if (key_len > 0)
        memcpy(block, key, key_len);
    for (size_t i = 0; i < sizeof pad; i++)
        pad[i] = block[i] ^ 0x36;
    sha256_init(&h);
    sha256_add(&h, pad, sizeof pad);
    sha256_add(&h, data, len);
    sha256_end(&h, inner);
    for (size_t i = 0; i < sizeof pad; i++)
        pad[i] = block[i] ^ 0x5c;
    sha256_init(&h);
    sha256_add(&h, pad, sizeof pad);
    sha256_add(&h, inner, sizeof inner);
    sha256_end(&h, ret_mac);
    explicit_bzero(block, sizeof block);
    explicit_bzero(pad, sizeof pad);
}

static void hmac_text(uint8_t key[SHA256_BYTES], const char *text)
{
    uint8_t mac[SHA256_BYTES];

    s3_hmac(key, SHA256_BYTES, text, strlen(text), mac);
    memcpy(key, mac, sizeof mac);
}

void s3_date(time_t when, char ret_date[S3_DATE_BYTES])
{
    struct tm tm;

    if (!gmtime_r(&when, &tm) || strftime(ret_date, S3_DATE_BYTES, "%Y%m%dT%H%M%SZ", &tm) == 0)
        (void)snprintf(ret_date, S3_DATE_BYTES, "19700101T000000Z");
}

bool s3_encode(struct buf *ret, const char *text, bool slash)
{
    static const char plain[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~";
    bool ok = true;

    for (; ok && *text; text++) {
        if (strchr(plain, *text) || (slash && *text == '/'))
            ok = buf_append_char(ret, *text);
        else
            ok = buf_printf(ret, "%%%02X", (unsigned char)*text);
    }
    return ok;
}

/* Values lose the spaces around them, and runs of spaces become one. */
static bool append_value(struct buf *b, const char *value)
{
    bool ok = true;

    value += strspn(value, " ");
    while (ok && *value) {
        size_t word = strcspn(value, " ");
        size_t gap = strspn(value + word, " ");

        ok = buf_append(b, value, word) && (!value[word + gap] || buf_append_char(b, ' '));
        value += word + gap;
    }
    return ok;
}

static bool names(const struct s3_signed *r, struct buf *b)
{
    bool ok = true;

    for (size_t i = 0; ok && i < r->header_count; i++)
        ok = buf_printf(b, "%s%s", i ? ";" : "", r->headers[i].name);
    return ok;
}

static bool canonical(const struct s3_signed *r, struct buf *b)
{
    bool ok = buf_printf(b, "%s\n%s\n%s\n", r->method, r->path, r->query);

    for (size_t i = 0; ok && i < r->header_count; i++)
        ok = buf_printf(b, "%s:", r->headers[i].name) && append_value(b, r->headers[i].value) &&
             buf_append_char(b, '\n');
    return ok && buf_append_char(b, '\n') && names(r, b) && buf_printf(b, "\n%s", r->payload_hash);
}

static bool signing_key(const struct s3_key *key, const char *day, uint8_t ret[SHA256_BYTES])
{
    struct buf secret = BUF_INIT;
    bool ok = buf_printf(&secret, "AWS4%s", key->secret);

    if (ok) {
        s3_hmac(secret.data, secret.len, day, strlen(day), ret);
        hmac_text(ret, key->region);
        hmac_text(ret, key->service);
        hmac_text(ret, "aws4_request");
        explicit_bzero(secret.data, secret.len);
    }
    buf_fini(&secret);
    return ok;
}

bool s3_sign(const struct s3_key *key, const struct s3_signed *request, struct buf *ret)
{
    struct buf text = BUF_INIT;
    uint8_t digest[SHA256_BYTES], mac[SHA256_BYTES];
    char hex[SHA256_HEX], day[9], scope[160];
    bool ok;
    int len;

    (void)snprintf(day, sizeof day, "%.8s", request->date);
    len = snprintf(scope, sizeof scope, "%s/%s/%s/aws4_request", day, key->region, key->service);
    ok = len > 0 && (size_t)len < sizeof scope && canonical(request, &text);
    if (ok) {
        hash(text.data, text.len, digest);
        sha256_hex(digest, hex);
        buf_clear(&text);
        ok = buf_printf(&text, "AWS4-HMAC-SHA256\n%s\n%s\n%s", request->date, scope, hex) &&
             signing_key(key, day, digest);
    }
    if (ok) {
        s3_hmac(digest, sizeof digest, text.data, text.len, mac);
        sha256_hex(mac, hex);
        explicit_bzero(digest, sizeof digest);
        ok = buf_printf(ret, "AWS4-HMAC-SHA256 Credential=%s/%s,SignedHeaders=", key->access,
                        scope) &&
             names(request, ret) && buf_printf(ret, ",Signature=%s", hex);
    }
    buf_fini(&text);
    return ok;
}
