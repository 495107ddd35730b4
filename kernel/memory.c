#include "kernel/memory.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include "kernel/base/clock.h"
#include "kernel/base/fd.h"
#include "kernel/base/id.h"
#include "kernel/base/paths.h"
#include "kernel/config.h"
#include "kernel/memory_internal.h"

#define LOCK_NAME "memory.lock"
#define OPEN_NS   (15 * CLOCK_NS_PER_S)
#define CLOSE_NS  (5 * CLOCK_NS_PER_S)
#define USAGE_NS  (5 * CLOCK_NS_PER_S)
#define MIB       (1ll << 20)

/* ---- opening ---- */

/* The lock is the open file's, so the kernel takes it back however this process ends. */
static bool lock_folder(struct memory *m, struct error *err)
{
    char path[PATH_MAX];
    struct error why = ERROR_INIT;
    long holder;

    if (snprintf(path, sizeof path, "%s/" LOCK_NAME, m->dir) >= (int)sizeof path)
        return error_set_errno(err, ENAMETOOLONG, "memory folder");
    m->lock_fd = fd_lock(AT_FDCWD, path, &holder, &why);
    if (m->lock_fd >= 0)
        return true;
    if (why.code == ERR_BUSY)
        return error_set(
            err, ERR_BUSY,
            "another kernel (process %ld) uses the notes in %s: end it, share them with "
            "`aios serve` and `aios mcp --connect`, or set memory.dir",
            holder, m->dir);
    return error_set(err, why.code, "%s", why.text);
}

static bool open_folder(struct memory *m, const struct config *config, struct error *err)
{
    m->dir =
        *config->memory.dir ? strdup(config->memory.dir) : paths_get(PATHS_STATE, "memory", err);
    if (!m->dir)
        return *config->memory.dir ? error_set(err, ERR_NOMEM, "memory folder") : false;
    return fd_mkdirs(m->dir, 0700, err) && lock_folder(m, err);
}

struct memory *memory_open(const struct config *config, struct storage *storage, struct llm *llm,
                           struct event_bus *bus, struct error *err)
{
    struct wait w = { .deadline_ns = clock_add_ns(clock_now_ns(), OPEN_NS) };
    CLEANUP(memory_closep) struct memory *m = calloc(1, sizeof *m);

    if (!m) {
        error_set(err, ERR_NOMEM, "memory");
        return NULL;
    }
    m->storage = storage;
    m->llm = llm;
    m->bus = bus;
    m->lock_fd = -1;
    m->quota = config->memory.quota_mb * MIB;
    m->max_notes = config->memory.max_notes;
    m->k = (unsigned)config->memory.lru_k;
    m->embed = config->memory.embed;
    pthread_mutex_init(&m->lock, NULL);
    memory_lane_init(&m->mover, 1);
    atomic_init(&m->gone, true); /* by a kernel before this one */
    if (!open_folder(m, config, err))
        return NULL;
    m->db = memory_db_open(m->dir, &w, err);
    if (!m->db || !memory_uses_open(m, &w, err))
        return NULL;
    m->vectors = memory_vectors_new(m->dir, err);
    if (!m->vectors)
        return NULL;
    return STEAL(m);
}

void memory_close(struct memory *m)
{
    struct wait w = { .deadline_ns = clock_add_ns(clock_now_ns(), CLOSE_NS) };

    if (!m)
        return;
    if (m->db)
        memory_uses_flush(m, &w);
    memory_vectors_free(m->vectors);
    memory_db_free(m->db);
    fd_close(m->lock_fd);
    memory_lane_fini(&m->mover);
    pthread_mutex_destroy(&m->lock);
    free(m->dir);
    free(m);
}

bool memory_usage(struct memory *m, const char *agent, struct memory_usage *ret, struct error *err)
{
    struct wait w = { .deadline_ns = clock_add_ns(clock_now_ns(), USAGE_NS) };
    CLEANUP(memory_db_releasep) struct memory_conn *c = memory_db_reader(m->db, &w, err);
    char name[MEMORY_SCOPE_BYTES];
    struct memory_scope scope;

    if (!c || !memory_scope(c, memory_scope_name('a', agent, name), false, &scope, err))
        return false;
    *ret = (struct memory_usage){
        .notes = (uint64_t)scope.notes,
        .resident_notes = (uint64_t)scope.resident,
        .resident_bytes = (uint64_t)scope.resident_bytes,
        .stored_bytes = (uint64_t)scope.stored_bytes,
        .quota_bytes = (uint64_t)m->quota,
        .evictions = (uint64_t)scope.evictions,
        .faults = (uint64_t)scope.faults,
    };
    return true;
}

/* ---- reading ---- */

static bool not_found(const char *id, struct error *err)
{
    return error_set(err, ERR_NOT_FOUND, "no note %.39s; memory_search finds the ids of notes", id);
}

/* The note if @who may see it. */
static bool find(struct memory *m, const struct memory_who *who, const char *id,
                 const struct wait *w, struct memory_row *ret, bool *ret_own, struct error *err)
{
    CLEANUP(memory_db_releasep) struct memory_conn *c = NULL;
    struct memory_asker asker;

    *ret = (struct memory_row){ .n = 0 };
    if (!id_is(id, "note"))
        return not_found(id, err);
    c = memory_db_reader(m->db, w, err);
    if (!c || !memory_asker(c, who, false, &asker, err) || !memory_row_get(c, 0, id, ret, err))
        return false;
    if (!memory_may_read(&asker, ret)) {
        memory_row_fini(ret);
        return not_found(id, err);
    }
    *ret_own = ret->owner == asker.own.s;
    return true;
}

bool memory_get(struct memory *m, const struct memory_who *who, const char *id,
                const struct wait *w, struct memory_note *ret, struct error *err)
{
    CLEANUP(memory_row_fini) struct memory_row row;
    int64_t n;
    bool own;

    if (!find(m, who, id, w, &row, &own, err))
        return false;
    n = row.n;
    if (!row.resident) {
        if (!memory_load(m, &row, NULL, w, err))
            return false;
        memory_bring_back(m, &row, 1, w);
    }
    memory_row_to_note(&row, ret);
    memory_used(m, n, w);
    return true;
}

/* ---- deleting ---- */

static bool drop_row(struct memory_conn *c, const struct memory_row *row,
                     struct memory_freed *freed, struct error *err)
{
    struct memory_change change = { .notes = -1 };

    if (row->resident) {
        change.resident = -1;
        change.resident_bytes = -row->bytes;
    } else {
        change.stored_bytes = -row->bytes;
    }
    /* Without its text its words stay in the index, where they lead nowhere. */
    if (row->text && !memory_index(c, row, false, NULL, err))
        return false;
    if (row->copy != 0) {
        CLEANUP(memory_stmt_donep) sqlite3_stmt *stmt = memory_stmt(c, MEMORY_GONE_ADD, err);

        if (!stmt)
            return false;
        (void)sqlite3_bind_int64(stmt, 1, row->n);
        (void)sqlite3_bind_text(stmt, 2, row->owner_name, -1, SQLITE_STATIC);
        (void)sqlite3_bind_text(stmt, 3, row->id, -1, SQLITE_STATIC);
        if (!memory_run(c, stmt, err))
            return false;
    }
    return memory_vector_drop(c, row->n, freed, err) &&
           MEMORY_DO(c, MEMORY_TEXT_DROP, NULL, err, row->n) &&
           MEMORY_DO(c, MEMORY_NOTE_DROP, NULL, err, row->n) &&
           memory_count(c, row->owner, &change, NULL, err);
}

/* *ret_again: it changed since it was read. */
static bool try_delete(struct memory *m, const struct memory_row *seen, const struct wait *w,
                       bool *ret_again, struct error *err)
{
    CLEANUP(memory_db_releasep) struct memory_conn *c = memory_db_begin(m->db, w, err);
    CLEANUP(memory_row_fini) struct memory_row row = { .n = 0 };
    struct memory_freed freed = { .count = 0 };

    if (!c || !memory_row_get(c, seen->n, NULL, &row, err))
        return false;
    if (row.n == 0)
        return not_found(seen->id, err);
    *ret_again = row.version != seen->version || row.resident != seen->resident;
    if (*ret_again)
        return true;
    if (!row.text && seen->text && !memory_row_text(&row, seen->text, seen->len, err))
        return false;
    if (!drop_row(c, &row, &freed, err) || !memory_db_commit(STEAL(c), err))
        return false;
    memory_vector_freed(m, &freed);
    if (row.copy != 0)
        atomic_store(&m->gone, true);
    return true;
}

bool memory_delete(struct memory *m, const struct memory_who *who, const char *id,
                   const struct wait *w, struct error *err)
{
    for (int attempt = 0; attempt < MEMORY_TRIES; attempt++) {
        CLEANUP(memory_row_fini) struct memory_row row;
        struct error why = ERROR_INIT;
        bool own, again = false, missing = false;

        if (!find(m, who, id, w, &row, &own, err))
            return false;
        if (!own)
            return error_set(err, ERR_DENIED, "note %s belongs to %s, who alone may delete it",
                             row.id, row.owner_name);
        /* What storage has lost cannot be read, but it can be deleted. */
        if (!row.resident && !memory_load(m, &row, &missing, w, &why) && !missing) {
            if (err)
                *err = why;
            return false;
        }
        if (!try_delete(m, &row, w, &again, err))
            return false;
        if (!again) {
            memory_sweep(m, w);
            return true;
        }
    }
    return error_set(err, ERR_BUSY, "note %s keeps changing; try again", id);
}
