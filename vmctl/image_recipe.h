/*
 * image_recipe - what an image is made of: a folder with packages, recipe.json and a script.
 *
 *   packages     one Debian package a line; "#" begins a comment
 *   recipe.json  description, kernel (a Debian package), disk_mib, and what its virtual machines
 *                are like: memory_mib, env, screen; optional as a whole
 *   script       run as root by /bin/sh inside the new system; optional
 *
 * Ownership: image_recipe_load() fills, image_recipe_fini() frees.  Threads: any.
 */
#pragma once

#include <jansson.h>
#include <stdint.h>

#include "kernel/base/error.h"
#include "kernel/base/sha256.h"

struct image_recipe {
    char *name;        /* of the folder */
    char *description; /* may be "" */
    char *packages;    /* "bash,git" */
    char *kernel;
    char *script; /* "" when there is none */
    uint64_t disk_mib;
    json_t *machine; /* an object: memory_mib, env, screen, those that are said */
    char hash[SHA256_HEX];
};

/** The hash is over the files of the folder, and @builder, @architecture and @suite.
 *  ERR_NOT_FOUND when @folder has no packages; ERR_INVALID says what is wrong in it. */
NODISCARD bool image_recipe_load(const char *folder, const char *builder, const char *architecture,
                                 const char *suite, struct image_recipe *ret, struct error *err);
/** Where the recipe @name is, for free(): @name itself if it has a slash, or a folder of that name
 *  in @own (NULL: none) or among those that come with the program.  ERR_NOT_FOUND. */
NODISCARD char *image_recipe_folder(const char *name, const char *own, struct error *err);
void image_recipe_fini(struct image_recipe *r);
