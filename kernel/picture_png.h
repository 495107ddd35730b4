/*
 * picture_png - the part of libpng that picture.c uses, as the table that the module "picture"
 * exports.  Like http_curl.h.
 */
#pragma once

#include <png.h>

#include "kernel/plugin.h"

#define PICTURE_PNG_SYMBOL "aios_picture_png"

struct picture_png {
    struct plugin_head head;
    int (*write_to_memory)(png_imagep, void *, png_alloc_size_t *, int, const void *, png_int_32,
                           const void *);
};
