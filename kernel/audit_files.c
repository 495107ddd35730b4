#include "kernel/audit_files.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "kernel/audit_db.h"

#define NUMBER_DIGITS 6u
#define NUMBER_MAX    999999u

/* False for a name that is none of ours. */
static bool parse(const char *name, unsigned *ret)
{
    static const char prefix[] = "audit-";
    size_t digits;

    if (!strcmp(name, AUDIT_DB_NAME)) {
        *ret = 0;
        return true;
    }
    if (strncmp(name, prefix, sizeof prefix - 1) != 0)
        return false;
    name += sizeof prefix - 1;
    digits = strspn(name, "0123456789");
    if (digits != NUMBER_DIGITS || strcmp(name + digits, ".db") != 0)
        return false;
    *ret = (unsigned)strtoul(name, NULL, 10);
    return *ret > 0;
}

static int by_number(const void *a, const void *b)
{
    unsigned x = *(const unsigned *)a, y = *(const unsigned *)b;

    return (x > y) - (x < y);
}

static bool add(struct audit_files *files, unsigned number)
{
    /* In steps of 16: there are few. */
    if (files->count % 16 == 0) {
        unsigned *more = reallocarray(files->numbers, files->count + 16, sizeof files->numbers[0]);

        if (!more)
            return false;
        files->numbers = more;
    }
    files->numbers[files->count++] = number;
    return true;
}

bool audit_files_list(const char *dir, struct audit_files *ret, struct error *err)
{
    DIR *stream = opendir(dir);
    bool ok = true;

    *ret = (struct audit_files){ .count = 0 };
    if (!stream)
        return errno == ENOENT || error_set_errno(err, errno, "read %s", dir);
    for (struct dirent *entry; ok && (entry = readdir(stream));) {
        unsigned number;

        if (parse(entry->d_name, &number))
            ok = add(ret, number) || error_set(err, ERR_NOMEM, "list of audit files");
    }
    (void)closedir(stream);
    if (!ok)
        audit_files_fini(ret);
    else if (ret->count)
        qsort(ret->numbers, ret->count, sizeof ret->numbers[0], by_number);
    return ok;
}

void audit_files_fini(struct audit_files *files)
{
    free(files->numbers);
    *files = (struct audit_files){ .count = 0 };
}

const char *audit_files_name(unsigned number, char buf[AUDIT_FILES_NAME_BYTES])
{
    if (number)
        (void)snprintf(buf, AUDIT_FILES_NAME_BYTES, "audit-%06u.db", number);
    else
        (void)snprintf(buf, AUDIT_FILES_NAME_BYTES, "%s", AUDIT_DB_NAME);
    return buf;
}

bool audit_files_path(const char *dir, unsigned number, char path[PATH_MAX], struct error *err)
{
    char name[AUDIT_FILES_NAME_BYTES];

    if (number > NUMBER_MAX)
        return error_set(err, ERR_LIMIT, "the audit has had %u files", NUMBER_MAX);
    if (snprintf(path, PATH_MAX, "%s/%s", dir, audit_files_name(number, name)) >= PATH_MAX)
        return error_set_errno(err, ENAMETOOLONG, "audit folder");
    return true;
}

void audit_files_remove(const char *dir, unsigned number)
{
    static const char *const ends[] = { "", "-wal", "-shm" };
    char path[PATH_MAX], whole[PATH_MAX + 8];

    if (!audit_files_path(dir, number, path, NULL))
        return;
    for (size_t i = 0; i < ARRAY_LEN(ends); i++) {
        (void)snprintf(whole, sizeof whole, "%s%s", path, ends[i]);
        (void)unlink(whole);
    }
}
