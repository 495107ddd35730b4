/*
 * picture - screens as PNG, and smaller ones.
 *
 * libpng is linked to its module (plugin.h), opened when the first picture is made.
 * Threads: any.  Blocking: neither waits; a screen of 1280 x 800 takes some ten milliseconds.
 */
#pragma once

#include "kernel/base/buf.h"
#include "kernel/computer/display.h"

#define PICTURE_EDGE_MAX 16384u /* of what is given */

/** Append the picture, rows of three bytes a pixel as in struct display_frame, to @out as PNG.
 *  ERR_INVALID for a size beyond 1..PICTURE_EDGE_MAX, ERR_LIMIT when it does not fit into @out,
 *  ERR_UNSUPPORTED when the module is missing. */
NODISCARD bool picture_png(const uint8_t *rgb, uint32_t width, uint32_t height, struct buf *out,
                           struct error *err);

/** The size of such a picture once no edge is longer than @long_edge: its own when that is so. */
void picture_fit(uint32_t width, uint32_t height, uint32_t long_edge, uint32_t *ret_width,
                 uint32_t *ret_height);

/** The picture with no edge longer than @long_edge, its shape kept: each pixel is the mean of the
 *  area that it stands for.  One that is small enough is copied.  @ret for display_frame_fini(). */
NODISCARD bool picture_scale(const uint8_t *rgb, uint32_t width, uint32_t height,
                             uint32_t long_edge, struct display_frame *ret, struct error *err);
