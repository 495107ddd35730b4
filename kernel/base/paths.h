/*
 * paths - where this user's files live: configuration, state, run-time, cache.
 *
 * XDG base directories, with AIOS_HOME as an override for all of them (tests use it).  As root
 * without XDG variables: /etc/aios, /var/lib/aios, /run/aios, /var/cache/aios.
 * Threads: any.
 */
#pragma once

#include <stddef.h>

#include "kernel/base/error.h"

enum paths_kind { PATHS_CONFIG, PATHS_STATE, PATHS_RUNTIME, PATHS_CACHE };

/** The folder (not made), joined with "/@name" when @name is not NULL, for free().
 *  ERR_NOMEM, or ERR_NOT_FOUND when neither HOME nor anything else tells. */
NODISCARD char *paths_get(enum paths_kind kind, const char *name, struct error *err);
