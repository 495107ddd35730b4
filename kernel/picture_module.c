/* The module "picture": libpng. */
#include "kernel/picture_png.h"

extern const struct picture_png aios_picture_png;

__attribute__((visibility("default"))) const struct picture_png aios_picture_png = {
    .head = { .abi = PLUGIN_ABI, .size = sizeof(struct picture_png) },
    .write_to_memory = png_image_write_to_memory,
};
