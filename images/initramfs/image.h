/*
 * image - aios-early as bytes, for programs that start virtual machines.
 */
#pragma once

#include <stddef.h>

extern const unsigned char early_image[];
extern const size_t early_image_len;
