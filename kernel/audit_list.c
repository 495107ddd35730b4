/* The rows of the audit, over all of its files. */
#include <sqlite3.h>
#include <stdlib.h>
#include <string.h>

#include "kernel/audit.h"
#include "kernel/audit_reader.h"

struct listing {
    const char *dir;
    const char *match; /* NULL: all rows */
    struct audit_files files;
    uint64_t *counts; /* rows to be shown of each file; NULL: all that match */
    bool (*fn)(void *arg, const struct audit_row *row);
    void *arg;
    bool stopped;
};

#define MATCHES " FROM audit WHERE ?1 IS NULL OR agent = ?1 OR subject = ?1 OR kind = ?2"

static int kind_of(const char *name)
{
    for (int kind = 0; kind < AUDIT_KIND_COUNT; kind++) {
        if (!strcmp(audit_kind_name((enum audit_kind)kind), name))
            return kind;
    }
    return -1;
}

/* -1 in SQL is no limit. */
static void bind(struct audit_reader *r, const struct listing *l, uint64_t limit)
{
    if (l->match)
        (void)sqlite3_bind_text(r->stmt, 1, l->match, -1, SQLITE_STATIC);
    (void)sqlite3_bind_int(r->stmt, 2, l->match ? kind_of(l->match) : -1);
    (void)sqlite3_bind_int64(r->stmt, 3, limit < INT64_MAX ? (sqlite3_int64)limit : -1);
}

/* Opens the file @i of the list.  *ret_some: there is something in it; a file may have been removed
 * since the list was made, and one whose maker was killed has no tables yet. */
static bool open_file(const struct listing *l, size_t i, struct audit_reader *ret, bool *ret_some,
                      struct error *err)
{
    bool missing;

    *ret_some = false;
    if (!audit_reader_open(ret, l->dir, l->files.numbers[i], &missing, err))
        return false;
    return missing || audit_reader_has(ret, "audit", ret_some, err);
}

/* Which rows are the last @last, from the newest file back. */
static bool count_last(struct listing *l, uint64_t last, struct error *err)
{
    l->counts = calloc(l->files.count, sizeof l->counts[0]);
    if (!l->counts)
        return error_set(err, ERR_NOMEM, "list of the audit");
    for (size_t i = l->files.count; i-- > 0 && last;) {
        CLEANUP(audit_reader_fini) struct audit_reader r = { .sql = NULL };
        bool some;

        if (!open_file(l, i, &r, &some, err))
            return false;
        if (!some)
            continue;
        if (!audit_reader_prepare(&r, "SELECT count(*) FROM (SELECT 1" MATCHES " LIMIT ?3)", err))
            return false;
        bind(&r, l, last);
        if (sqlite3_step(r.stmt) != SQLITE_ROW)
            return audit_reader_failed(&r, err);
        l->counts[i] = (uint64_t)sqlite3_column_int64(r.stmt, 0);
        last -= l->counts[i];
    }
    return true;
}

static bool show_file(struct listing *l, size_t i, struct error *err)
{
    CLEANUP(audit_reader_fini) struct audit_reader r = { .sql = NULL };
    bool some;
    int rc;

    if (!open_file(l, i, &r, &some, err))
        return false;
    if (!some)
        return true;
    if (!audit_reader_prepare(&r,
                              "SELECT * FROM (SELECT " AUDIT_READER_COLUMNS MATCHES
                              " ORDER BY seq DESC LIMIT ?3) ORDER BY seq",
                              err))
        return false;
    bind(&r, l, l->counts ? l->counts[i] : UINT64_MAX);
    while ((rc = sqlite3_step(r.stmt)) == SQLITE_ROW) {
        struct audit_stored stored;
        struct audit_row row;

        audit_reader_row(&r, &stored);
        row = (struct audit_row){ .seq = stored.seq,
                                  .wall_ns = stored.record.wall_ns,
                                  .kind = (enum audit_kind)stored.record.kind,
                                  .syscall = stored.record.syscall,
                                  .server = stored.server.data,
                                  .agent = stored.record.text[AUDIT_FIELD_AGENT].data,
                                  .subject = stored.record.text[AUDIT_FIELD_SUBJECT].data,
                                  .decision = stored.record.text[AUDIT_FIELD_DECISION].data,
                                  .rule = stored.record.text[AUDIT_FIELD_RULE].data,
                                  .detail = stored.record.text[AUDIT_FIELD_DETAIL].data };
        if (!l->fn(l->arg, &row)) {
            l->stopped = true;
            return true;
        }
    }
    return rc == SQLITE_DONE || audit_reader_failed(&r, err);
}

static bool show(struct listing *l, uint64_t last, struct error *err)
{
    if (!l->files.count)
        return error_set(err, ERR_NOT_FOUND, "there is no audit log in %s", l->dir);
    if (last && !count_last(l, last, err))
        return false;
    for (size_t i = 0; i < l->files.count && !l->stopped; i++) {
        if (l->counts && !l->counts[i])
            continue;
        if (!show_file(l, i, err))
            return false;
    }
    return true;
}

bool audit_list(const char *dir, uint64_t last, const char *match,
                bool (*fn)(void *arg, const struct audit_row *row), void *arg, struct error *err)
{
    struct listing l = { .dir = dir, .match = match, .fn = fn, .arg = arg };
    bool ok;

    if (!audit_reader_move_orphans(dir, err) || !audit_files_list(dir, &l.files, err))
        return false;
    ok = show(&l, last, err);
    free(l.counts);
    audit_files_fini(&l.files);
    return ok;
}
