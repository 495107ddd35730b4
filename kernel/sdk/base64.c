/* Bytes as text that JSON can carry. */
#include <stdlib.h>

#include "kernel/sdk/sdk.h"

char *sdk_base64_encode(const void *data, size_t len)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const unsigned char *from = data;
    char *text = malloc((len + 2) / 3 * 4 + 1), *at = text;

    for (size_t i = 0; text && i < len; i += 3) {
        size_t left = len - i;
        unsigned bits = (unsigned)from[i] << 16 | (left > 1 ? (unsigned)from[i + 1] << 8 : 0) |
                        (left > 2 ? from[i + 2] : 0);

        *at++ = digits[bits >> 18 & 63];
        *at++ = digits[bits >> 12 & 63];
        *at++ = left > 1 ? digits[bits >> 6 & 63] : '=';
        *at++ = left > 2 ? digits[bits & 63] : '=';
    }
    if (text)
        *at = '\0';
    return text;
}

static int digit(char c)
{
    if (c >= 'A' && c <= 'Z')
        return c - 'A';
    if (c >= 'a' && c <= 'z')
        return c - 'a' + 26;
    if (c >= '0' && c <= '9')
        return c - '0' + 52;
    return c == '+' ? 62 : c == '/' ? 63 : -1;
}

unsigned char *sdk_base64_decode(const char *text, size_t len, size_t *ret_len)
{
    unsigned char *data = malloc(len / 4 * 3 + 4);
    unsigned bits = 0, have = 0;
    size_t n = 0;

    if (!data)
        return NULL;
    for (size_t i = 0; i < len && digit(text[i]) >= 0; i++) {
        bits = (bits << 6 | (unsigned)digit(text[i])) & 0xffffffu;
        have += 6;
        if (have >= 8) {
            have -= 8;
            data[n++] = (unsigned char)(bits >> have);
        }
    }
    data[n] = '\0';
    *ret_len = n;
    return data;
}
