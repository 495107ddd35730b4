#include "kernel/audit_orphan.h"

#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "kernel/base/id.h"

static void set_aside(const char *dir, const char *name)
{
    char from[PATH_MAX], to[PATH_MAX];

    if (snprintf(from, sizeof from, "%s/%s", dir, name) < (int)sizeof from &&
        snprintf(to, sizeof to, "%s/damaged-%s", dir, name) < (int)sizeof to)
        (void)rename(from, to);
}

static bool move_whole(struct audit_db *db, const char *dir, const char *name,
                       struct audit_journal *j, struct error *err)
{
    struct audit_cursor cursor;
    bool torn = false;

    audit_journal_begin(j, &cursor);
    while (cursor.left && !torn) {
        if (!audit_db_move(db, j, &cursor, NULL, &torn, err))
            return false;
        audit_journal_release(j, cursor.passed);
        cursor.passed = 0;
    }
    if (torn) {
        if (!audit_db_note_loss(db, name, "the end of the journal could not be read; it is kept",
                                err))
            return false;
        set_aside(dir, name);
    }
    return true;
}

static bool is_journal(const struct dirent *entry)
{
    return !strncmp(entry->d_name, AUDIT_JOURNAL_PREFIX, sizeof AUDIT_JOURNAL_PREFIX - 1);
}

static bool move_one(struct audit_db *db, const char *dir, const char *name, bool *ret_found,
                     struct error *err)
{
    struct audit_journal *j = NULL;
    char server[NAME_MAX + 1];

    switch (audit_journal_adopt(dir, name, &j)) {
    case AUDIT_IN_USE:
        return true;
    case AUDIT_DAMAGED:
        *ret_found = true;
        if (!audit_db_note_loss(db, name, "the journal could not be read; it is kept", err))
            return false;
        set_aside(dir, name);
        return true;
    case AUDIT_ADOPTED:
        break;
    }
    *ret_found = true;
    (void)snprintf(server, sizeof server, "%s", audit_journal_server(j));
    if (!move_whole(db, dir, name, j, err)) {
        audit_journal_close(j, false);
        return false;
    }
    audit_journal_close(j, true);
    audit_db_forget(db, server);
    return true;
}

/* What a server left that was killed before its journal had its name. */
static void drop_unnamed(const char *dir, const char *name)
{
    struct audit_journal *j = NULL;

    switch (audit_journal_adopt(dir, name, &j)) {
    case AUDIT_ADOPTED:
        audit_journal_close(j, true);
        break;
    case AUDIT_DAMAGED:
        set_aside(dir, name);
        break;
    case AUDIT_IN_USE:
        break;
    }
}

bool audit_orphan_move(struct audit_db *db, const char *dir, bool *ret_found, struct error *err)
{
    DIR *stream = opendir(dir);
    bool ok = true;

    *ret_found = false;
    if (!stream)
        return error_set_errno(err, errno, "read %s", dir);
    for (struct dirent *entry; ok && !*ret_found && (entry = readdir(stream));) {
        if (is_journal(entry))
            ok = move_one(db, dir, entry->d_name, ret_found, err);
        else if (!strncmp(entry->d_name, AUDIT_JOURNAL_FRESH, sizeof AUDIT_JOURNAL_FRESH - 1))
            drop_unnamed(dir, entry->d_name);
    }
    (void)closedir(stream);
    return ok;
}

bool audit_orphan_any(const char *dir)
{
    DIR *stream = opendir(dir);
    bool found = false;

    if (!stream)
        return false;
    for (struct dirent *entry; !found && (entry = readdir(stream));)
        found = is_journal(entry);
    (void)closedir(stream);
    return found;
}
