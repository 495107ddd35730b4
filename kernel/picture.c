#include "kernel/picture.h"

#include <stdlib.h>
#include <string.h>

#include "kernel/picture_png.h"

#define CHANNELS 3u

static bool size_check(uint32_t width, uint32_t height, struct error *err)
{
    if (width >= 1 && width <= PICTURE_EDGE_MAX && height >= 1 && height <= PICTURE_EDGE_MAX)
        return true;
    return error_set(err, ERR_INVALID, "a picture of %u x %u; an edge has 1 to %u pixels", width,
                     height, PICTURE_EDGE_MAX);
}

bool picture_png(const uint8_t *rgb, uint32_t width, uint32_t height, struct buf *out,
                 struct error *err)
{
    /* Screens are areas of one colour and text: filters make neither smaller. */
    png_image image = { .version = PNG_IMAGE_VERSION,
                        .width = width,
                        .height = height,
                        .format = PNG_FORMAT_RGB,
                        .flags = PNG_IMAGE_FLAG_FAST };
    const struct picture_png *png;
    png_alloc_size_t size;
    uint8_t *bytes;
    bool ok = true;

    if (!size_check(width, height, err))
        return false;
    png = plugin_open("picture", PICTURE_PNG_SYMBOL, sizeof *png, err);
    if (!png)
        return false;
    size = PNG_IMAGE_PNG_SIZE_MAX(image);
    bytes = malloc(size);
    if (!bytes)
        return error_set(err, ERR_NOMEM, "a picture of %u x %u", width, height);
    /* It frees what it holds, whether it succeeds or not. */
    if (!png->write_to_memory(&image, bytes, &size, 0, rgb, (png_int_32)(width * CHANNELS), NULL))
        ok = error_set(err, ERR_INTERNAL, "write a PNG: %s", image.message);
    else if (!buf_append(out, bytes, size))
        ok = error_set(err, ERR_LIMIT, "a picture of %zu bytes", (size_t)size);
    free(bytes);
    return ok;
}

/* ---- smaller ---- */

/* The pixels that the area of a smaller one touches, on one axis, in units of which a source pixel
 * has @small and a smaller one @large: so every border is a whole number. */
struct span {
    uint32_t first, count;
    uint32_t head, tail; /* how much of the first and of the last one */
};

static struct span span_of(uint32_t at, uint32_t large, uint32_t small)
{
    uint64_t from = (uint64_t)at * large, to = from + large;
    struct span s = { .first = (uint32_t)(from / small) };
    uint32_t last = (uint32_t)((to - 1) / small);

    s.count = last - s.first + 1;
    s.head = (uint32_t)MIN((uint64_t)(s.first + 1) * small, to) - (uint32_t)from;
    s.tail = (uint32_t)(to - MAX((uint64_t)last * small, from));
    return s;
}

static uint32_t part(const struct span *s, uint32_t i, uint32_t whole)
{
    return i == 0 ? s->head : i + 1 == s->count ? s->tail : whole;
}

struct shape {
    uint32_t width, height;
};

static void mean(const uint8_t *rgb, struct shape from, struct shape to, const struct span *x,
                 const struct span *y, uint8_t *ret)
{
    uint64_t sum[CHANNELS] = { 0 }, all = (uint64_t)from.width * from.height;

    for (uint32_t j = 0; j < y->count; j++) {
        const uint8_t *row = rgb + ((size_t)(y->first + j) * from.width + x->first) * CHANNELS;
        uint64_t down = part(y, j, to.height);

        for (uint32_t i = 0; i < x->count; i++) {
            uint64_t weight = down * part(x, i, to.width);

            for (uint32_t k = 0; k < CHANNELS; k++)
                sum[k] += weight * row[i * CHANNELS + k];
        }
    }
    for (uint32_t k = 0; k < CHANNELS; k++)
        ret[k] = (uint8_t)((sum[k] + all / 2) / all);
}

/* @edge of a picture whose longer edge @longer becomes @long_edge. */
static uint32_t shrink(uint32_t edge, uint32_t longer, uint32_t long_edge)
{
    return MAX(1u, (uint32_t)(((uint64_t)edge * long_edge + longer / 2) / longer));
}

void picture_fit(uint32_t width, uint32_t height, uint32_t long_edge, uint32_t *ret_width,
                 uint32_t *ret_height)
{
    uint32_t longer = MAX(width, height);

    *ret_width = longer > long_edge ? shrink(width, longer, long_edge) : width;
    *ret_height = longer > long_edge ? shrink(height, longer, long_edge) : height;
}

bool picture_scale(const uint8_t *rgb, uint32_t width, uint32_t height, uint32_t long_edge,
                   struct display_frame *ret, struct error *err)
{
    struct shape from = { width, height }, to;
    uint8_t *bytes;

    if (!size_check(width, height, err) || !size_check(long_edge, long_edge, err))
        return false;
    picture_fit(width, height, long_edge, &to.width, &to.height);
    bytes = reallocarray(NULL, (size_t)to.width * to.height, CHANNELS);
    if (!bytes)
        return error_set(err, ERR_NOMEM, "a picture of %u x %u", to.width, to.height);
    for (uint32_t j = 0; j < to.height; j++) {
        struct span y = span_of(j, height, to.height);

        for (uint32_t i = 0; i < to.width; i++) {
            struct span x = span_of(i, width, to.width);

            mean(rgb, from, to, &x, &y, bytes + ((size_t)j * to.width + i) * CHANNELS);
        }
    }
    *ret = (struct display_frame){ .width = to.width, .height = to.height, .rgb = bytes };
    return true;
}
