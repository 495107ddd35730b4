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

/** How the calls of one class wait and are taken: a part of the sections tool, llm, memory and
 *  storage. */
struct config_queue {
    const char *policy;  /* fifo, priority, sjf, rr, edf */
    int64_t queue;       /* calls that may wait */
    int64_t workers;     /* that may run at once */
    int64_t workers_min; /* threads that stay when there is nothing to do */
    const char *cpus;    /* cpus.h; "": any */
    bool fair;           /* agents share alike, whatever the policy */
    int64_t quantum_ms;  /* rr */
    int64_t ageing_ms;   /* priority: waiting for so long counts as one step more */
};

struct config {
    struct {
        const char *name;  /* "default" */
        const char *group; /* "" */
    } agent;

    struct {
        const char *kind;       /* sandbox, vm */
        const char *image;      /* "": base */
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
        const char *program;    /* QEMU; "": qemu-system-x86_64 from the usual folders */
        const char *images_dir; /* "": the cache folder's images/, where `aios image` puts them */
        int64_t memory_mb;      /* 0: what the image says */
        int64_t pool_size;      /* 1 */
        int64_t swap_after_s;   /* 600; 0: never */
    } vm;

    struct {
        json_t *upload_from; /* host folders from which files may be sent into a computer */
        json_t *download_to; /* host folders into which files may be fetched */
        bool client_roots;   /* the client's roots count as both (legacy era) */
    } files;

    struct {
        struct config_queue calls; /* fifo, 1024, 128 */
        int64_t call_timeout_ms;   /* 45000: after this a call answers "still running" */
    } tool;

    struct {
        const char *backend;       /* sqlite, file, postgres, s3 */
        const char *dir;           /* "": the state folder's storage/ */
        int64_t quota_mb;          /* 1024, of each agent; 0: none */
        int64_t max_value_mb;      /* 64 */
        int64_t versions;          /* 16 kept of each key */
        int64_t cache_mb;          /* 32 */
        struct config_queue calls; /* fifo, 1024, 4 */
    } storage;

    struct {
        const char *dsn_env; /* AIOS_POSTGRES: the variable that holds the connection string */
        int64_t connections; /* 4 */
    } postgres;

    struct {
        const char *endpoint; /* "https://s3.eu-central-1.amazonaws.com" */
        const char *bucket;
        const char *region;         /* us-east-1 */
        const char *prefix;         /* "" */
        bool path_style;            /* true */
        const char *access_key_env; /* AWS_ACCESS_KEY_ID */
        const char *secret_key_env; /* AWS_SECRET_ACCESS_KEY */
        const char *ca_file;        /* "" */
        int64_t part_mb;            /* 8: larger values go up in parts of this size */
    } s3;

    struct {
        const char *dir;           /* "": the state folder's memory/ */
        int64_t quota_mb;          /* 64 resident, of each agent */
        int64_t max_notes;         /* 100000 of each agent */
        int64_t lru_k;             /* 2: the k-th last use decides what is evicted */
        bool embed;                /* true: vectors when a provider has an embedding model */
        struct config_queue calls; /* fifo, 1024, 4 */
    } memory;

    struct {
        json_t *providers;         /* array of objects, llm_provider.h; NULL: none */
        int64_t timeout_ms;        /* 120000 for one answer */
        int64_t idle_ms;           /* 30000 between two pieces of one */
        int64_t retries;           /* 3 */
        int64_t breaker_failures;  /* 5 in a row open the breaker */
        int64_t breaker_open_ms;   /* 15000 */
        int64_t budget_tokens;     /* 0: none; of each agent, as long as the kernel lives */
        bool sampling;             /* true: the host's model is the last of the chain */
        struct config_queue calls; /* fifo, 1024, 16 */
    } llm;

    struct {
        json_t *groups;        /* tool families that are offered; NULL: all */
        json_t *rules;         /* access.h */
        json_t *quotas;        /* likewise */
        json_t *agents;        /* kernel_agent_known(): group, roles and weight of agents by name */
        int64_t ask_timeout_s; /* 60: how long a person may take to answer */
    } access;

    struct {
        bool enabled;    /* true */
        bool power_safe; /* false */
        const char *dir; /* "": the state folder's audit/ */
        int64_t max_mb;  /* 256: beyond this a new file is begun; 0: never */
        int64_t keep;    /* 16 older files; 0: all */
    } audit;

    struct {
        const char *socket; /* "": the run-time folder's aios.sock */
        json_t *users;      /* uids as text, beside the server's own and root; NULL: none */
        int64_t max_hosts;  /* 256 */
    } serve;

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
