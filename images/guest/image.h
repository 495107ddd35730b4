/*
 * image - the guest program as bytes, for programs that start computers.
 */
#pragma once

#include <stddef.h>

extern const unsigned char guest_image[];
extern const size_t guest_image_len;
