/*
 * machines - the back end of virtual machines as configured, made when the first one is asked for.
 *
 * Until then it costs nothing: no file is looked at, and QEMU may be missing.
 * Threads: any.
 */
#pragma once

#include "kernel/config.h"
#include "vmctl/vmctl.h"

/** For computers_add_backend().  @config is borrowed, and so is @sandboxes, with whose control
 *  groups it shares. */
NODISCARD struct computer_backend *machines_backend(struct loop *loop, const struct config *config,
                                                    struct computer_backend *sandboxes,
                                                    struct error *err);

/** Where things are.  Strings for machines_places_fini(); `config` borrows them and @config's. */
struct machines_places {
    char *images, *cache, *state, *overlays;
    struct vmctl_config config;
};
NODISCARD bool machines_places(const struct config *config, struct machines_places *ret,
                               struct error *err);
void machines_places_fini(struct machines_places *p);

/** QEMU's path, for free().  ERR_UNSUPPORTED says what to install. */
NODISCARD char *machines_program(const struct config *config, struct error *err);
