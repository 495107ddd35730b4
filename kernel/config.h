/*
 * config - one JSON file, checked by field tables; every key has a default.
 *
 * Sizes in the file are numbers of MiB or KiB as the key's name says; times are milliseconds or
 * seconds likewise.  An unknown key is refused by name.
 * Ownership: config_free().  Threads: any; constant once loaded.
 */
#pragma once

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "kernel/base/error.h"

struct config {
    struct {
        const char *name;  /* "default" */
        const char *group; /* "" */
    } agent;

    struct {
        const char *kind;       /* "sandbox" */
        json_t *allow;          /* egress rules of every new computer that names none */
        int64_t memory_mb;      /* 1024 */
        int64_t disk_mb;        /* 512 */
        int64_t cpus_milli;     /* 0: all */
        int64_t pids;           /* 512 */
        int64_t idle_timeout_s; /* 3600; 0: never */
        int64_t max_per_agent;  /* 32 */
        json_t *allow_ceiling;  /* egress rules beyond which no agent may ask; NULL: no bound */
    } computer;

    struct {
        const char *cgroup; /* auto, v1, v2, none */
        int64_t host_uid;   /* 1879048192 */
        int64_t pool_size;  /* 2 */
    } sandbox;

    struct {
        json_t *upload_from; /* host folders from which files may be sent into a computer */
        json_t *download_to; /* host folders into which files may be fetched */
        bool client_roots;   /* the client's roots count as both (legacy era) */
    } files;

    struct {
        const char *policy;      /* fifo */
        int64_t queue;           /* 1024 */
        int64_t workers;         /* 128 */
        int64_t call_timeout_ms; /* 45000: after this a call answers "still running" */
    } tool;

    struct {
        json_t *groups; /* tool families that are offered; NULL: all */
        json_t *rules;  /* access.h */
    } access;

    struct {
        bool enabled;    /* true */
        bool power_safe; /* false */
        const char *dir; /* "": the state folder's audit/ */
    } audit;

    struct {
        const char *level; /* warn */
    } log;

    json_t *json;       /* what the strings borrow from */
    const char *source; /* the file's path, "" for the defaults alone */
};

/** @path NULL: the user's file if there is one (paths.h: config/config.json), else the defaults.  A
 * named file must exist.  @overrides (may be NULL): an object merged over the file, from the
 * command line. ERR_INVALID: file, key, what was expected. */
NODISCARD struct config *config_load(const char *path, json_t *overrides, struct error *err);

/** The same from memory.  @text NULL: the defaults alone.  @source: what errors call it; ""
 * allowed. */
NODISCARD struct config *config_parse(const char *text, size_t len, const char *source,
                                      json_t *overrides, struct error *err);
void config_free(struct config *c);
DEFINE_CLEANUP(struct config, config_free)

/** Every key with its value, as JSON with indentation 2, for free().  */
NODISCARD char *config_show(const struct config *c, struct error *err);

/** Every key with type, default, range and description, as text for people, for free(). */
NODISCARD char *config_describe(struct error *err);
