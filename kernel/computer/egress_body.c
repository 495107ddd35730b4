#include <string.h>

#include "kernel/computer/egress_http.h"

#define SIZE_DIGITS_MAX 15u
#define SIZE_LINE_MAX   256u
#define TRAILERS_MAX    (8u << 10)

enum {
    CHUNK_SIZE, /* first, so that a zeroed body begins here */
    CHUNK_EXTENSION,
    CHUNK_SIZE_LF,
    CHUNK_DATA,
    CHUNK_DATA_CR,
    CHUNK_DATA_LF,
    TRAILER_START,
    TRAILER_LINE,
    TRAILER_LF,
    LAST_LF,
};

void egress_http_body_init(struct egress_http_body *body, enum egress_framing framing,
                           uint64_t length)
{
    *body = (struct egress_http_body){
        .framing = framing,
        .left = framing == EGRESS_LENGTH ? length : 0,
        .done = framing == EGRESS_NO_BODY || (framing == EGRESS_LENGTH && !length),
    };
}

static int hex_value(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    if (c >= 'A' && c <= 'F')
        return c - 'A' + 10;
    return -1;
}

static bool is_text(char c)
{
    return c == '\t' || ((unsigned char)c >= ' ' && c != 0x7f);
}

static bool size_char(struct egress_http_body *body, char c)
{
    int digit = hex_value(c);

    if (digit >= 0) {
        body->left = body->left << 4 | (unsigned)digit;
        return ++body->digits <= SIZE_DIGITS_MAX;
    }
    if (!body->digits)
        return false;
    if (c == ';') {
        body->state = CHUNK_EXTENSION;
        return true;
    }
    body->state = CHUNK_SIZE_LF;
    return c == '\r';
}

static void size_line_done(struct egress_http_body *body)
{
    body->state = body->left ? CHUNK_DATA : TRAILER_START;
    body->digits = 0;
    body->overhead = 0;
}

/* One byte outside the data of a chunk. */
static bool chunk_char(struct egress_http_body *body, char c, bool *ret_forward)
{
    *ret_forward = true;
    switch (body->state) {
    case CHUNK_SIZE:
        if (!size_char(body, c) || ++body->overhead > SIZE_LINE_MAX)
            return false;
        *ret_forward = c != ';';
        return true;
    case CHUNK_EXTENSION:
        if (c == '\r') {
            body->state = CHUNK_SIZE_LF;
            return true;
        }
        *ret_forward = false;
        return is_text(c) && ++body->overhead <= SIZE_LINE_MAX;
    case CHUNK_SIZE_LF:
        size_line_done(body);
        return c == '\n';
    case CHUNK_DATA_CR:
        body->state = CHUNK_DATA_LF;
        return c == '\r';
    case CHUNK_DATA_LF:
        body->state = CHUNK_SIZE;
        return c == '\n';
    case TRAILER_START:
        if (c == '\r') {
            body->state = LAST_LF;
            return true;
        }
        body->state = TRAILER_LINE;
        *ret_forward = false;
        return is_text(c) && ++body->overhead <= TRAILERS_MAX;
    case TRAILER_LINE:
        *ret_forward = false;
        if (c == '\r') {
            body->state = TRAILER_LF;
            return true;
        }
        return is_text(c) && ++body->overhead <= TRAILERS_MAX;
    case TRAILER_LF:
        body->state = TRAILER_START;
        *ret_forward = false;
        return c == '\n';
    default: /* LAST_LF */
        body->done = true;
        return c == '\n';
    }
}

bool egress_http_body_step(struct egress_http_body *body, const char *data, size_t len,
                           size_t *ret_used, bool *ret_forward)
{
    size_t used = 0;

    *ret_used = 0;
    *ret_forward = true;
    if (body->framing != EGRESS_CHUNKED || body->state == CHUNK_DATA) {
        used = body->left < len ? (size_t)body->left : len;
        body->left -= used;
        *ret_used = used;
        if (!body->left && body->framing == EGRESS_CHUNKED)
            body->state = CHUNK_DATA_CR;
        else if (!body->left)
            body->done = true;
        return true;
    }
    while (used < len && !body->done && body->state != CHUNK_DATA) {
        struct egress_http_body before = *body;
        bool forward;

        if (!chunk_char(body, data[used], &forward))
            return false;
        if (used && forward != *ret_forward) {
            *body = before; /* the next call begins with this byte */
            break;
        }
        *ret_forward = forward;
        used++;
    }
    *ret_used = used;
    return true;
}
