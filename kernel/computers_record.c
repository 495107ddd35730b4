#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "kernel/base/clock.h"
#include "kernel/base/fd.h"
#include "kernel/base/json.h"
#include "kernel/base/paths.h"
#include "kernel/computers_internal.h"

/*
 * One file per checkpoint in the state folder, saved/ID.json, so that servers which share the
 * folder need no lock between them.  The data itself is the back end's, wherever that keeps it.
 */

#define FOLDER           "saved"
#define SUFFIX           ".json"
#define RECORD_MAX_BYTES (1u << 20)

#define FIELD(member) offsetof(struct computers_record, member)

static const struct json_field record_fields[] = {
    { .name = "checkpoint", .kind = JSON_KIND_STRING, .required = true, .offset = FIELD(id) },
    { .name = "agent", .kind = JSON_KIND_STRING, .required = true, .offset = FIELD(agent) },
    { .name = "kind", .kind = JSON_KIND_STRING, .required = true, .offset = FIELD(kind) },
    { .name = "image", .kind = JSON_KIND_STRING, .offset = FIELD(image) },
    { .name = "label", .kind = JSON_KIND_STRING, .offset = FIELD(label) },
    { .name = "from", .kind = JSON_KIND_STRING, .offset = FIELD(from) },
    { .name = "saving", .kind = JSON_KIND_BOOL, .offset = FIELD(saving) },
    { .name = "created_ms",
      .kind = JSON_KIND_INT,
      .offset = FIELD(created_ms),
      .max = 32503680000000 },
    { .name = "labels", .kind = JSON_KIND_MAP, .offset = FIELD(labels) },
    { .name = "allow", .kind = JSON_KIND_STRINGS, .offset = FIELD(allow) },
    { .name = "env", .kind = JSON_KIND_STRINGS, .offset = FIELD(env) },
    { .name = "memory_bytes",
      .kind = JSON_KIND_INT,
      .offset = FIELD(memory_bytes),
      .max = INT64_MAX },
    { .name = "disk_bytes", .kind = JSON_KIND_INT, .offset = FIELD(disk_bytes), .max = INT64_MAX },
    { .name = "cpu_milli", .kind = JSON_KIND_INT, .offset = FIELD(cpu_milli), .max = UINT32_MAX },
    { .name = "pids", .kind = JSON_KIND_INT, .offset = FIELD(pids), .max = UINT32_MAX },
    { .name = "idle_ms", .kind = JSON_KIND_INT, .offset = FIELD(idle_ms) },
    { .name = NULL },
};

void computers_record_fini(struct computers_record *r)
{
    json_decref(r->json);
    r->json = NULL;
}

/* saved/ itself with @id NULL; for free(). */
static char *path_of(const char *id, struct error *err)
{
    char name[ID_SIZE + sizeof FOLDER + sizeof SUFFIX + 1] = FOLDER;

    if (id)
        (void)snprintf(name, sizeof name, FOLDER "/%s" SUFFIX, id);
    return paths_get(PATHS_STATE, name, err);
}

bool computers_record_write(const struct computers_record *r, struct error *err)
{
    json_t *json = json_fields_write(record_fields, r);
    char *folder = path_of(NULL, err), *path = NULL;
    CLEANUP(buf_fini) struct buf text = BUF_INIT;
    bool ok = folder && fd_mkdirs(folder, 0700, err);

    if (ok) {
        path = path_of(r->id, err);
        ok = path != NULL;
    }
    if (ok && (!json || !json_write(json, &text)))
        ok = error_set(err, ERR_NOMEM, "checkpoint");
    /* The environment is in it: nobody else's business. */
    ok = ok && fd_replace_file(path, text.data, text.len, 0600, err);
    json_decref(json);
    free(folder);
    free(path);
    return ok;
}

static bool parse(const char *path, struct computers_record *ret, struct error *err)
{
    size_t len;
    char *text = fd_read_file(AT_FDCWD, path, RECORD_MAX_BYTES, &len, err);
    json_t *json;

    if (!text)
        return false;
    json = json_parse(text, len, err);
    free(text);
    if (!json)
        return false;
    if (!json_fields_read(record_fields, json, ret, err)) {
        json_decref(json);
        return false;
    }
    ret->json = json;
    return true;
}

static bool read_record(const char *id, struct computers_record *ret, struct error *err)
{
    char *path = path_of(id, err);
    bool ok;

    if (!path)
        return false;
    ok = parse(path, ret, err);
    free(path);
    if (ok && strcmp(ret->id, id) != 0) {
        computers_record_fini(ret);
        ok = error_set(err, ERR_IO, "the record of checkpoint %s is another's", id);
    }
    return ok;
}

bool computers_record_read(const char *agent, const char *id, struct computers_record *ret,
                           struct error *err)
{
    struct error why = ERROR_INIT;
    char shown[64];
    bool found;

    found = id_is(id, COMPUTERS_CHECKPOINT_ID) && read_record(id, ret, &why);
    if (found && !ret->saving && !strcmp(ret->agent, agent))
        return true;
    if (found)
        computers_record_fini(ret);
    else if (why.code == ERR_NOMEM)
        return error_set(err, ERR_NOMEM, "%s", why.text);
    return error_set(err, ERR_NOT_FOUND,
                     "no snapshot \"%s\" (unknown, deleted or another agent's); call "
                     "computer_snapshot with action \"list\" to see yours or \"save\" to make one",
                     computers_shown(id, shown));
}

void computers_record_remove(const char *id)
{
    char *path = path_of(id, NULL);

    if (path)
        (void)unlink(path);
    free(path);
}

/* "s_….json" gives the id. */
static bool id_of_name(const char *name, char id[ID_SIZE])
{
    size_t len = strlen(name), suffix = sizeof SUFFIX - 1;

    if (len <= suffix || len - suffix >= ID_SIZE || strcmp(name + len - suffix, SUFFIX) != 0)
        return false;
    (void)snprintf(id, ID_SIZE, "%.*s", (int)(len - suffix), name);
    return id_is(id, COMPUTERS_CHECKPOINT_ID);
}

bool computers_record_each(bool (*fn)(void *arg, const struct computers_record *r), void *arg,
                           struct error *err)
{
    char *folder = path_of(NULL, err);
    bool more = true, ok = true;
    DIR *stream;

    if (!folder)
        return false;
    stream = opendir(folder);
    if (!stream) {
        bool none = errno == ENOENT;

        if (!none)
            error_set_errno(err, errno, "read %s", folder);
        free(folder);
        return none;
    }
    free(folder);
    for (struct dirent *entry; more && (entry = readdir(stream));) {
        struct error why = ERROR_INIT;
        struct computers_record r;
        char id[ID_SIZE];

        if (!id_of_name(entry->d_name, id))
            continue;
        if (read_record(id, &r, &why)) {
            more = fn(arg, &r);
            computers_record_fini(&r);
        } else if (why.code == ERR_NOMEM) {
            more = ok = error_set(err, ERR_NOMEM, "%s", why.text);
        } /* else it is damaged, or gone by now: nobody's */
    }
    (void)closedir(stream);
    return ok;
}
