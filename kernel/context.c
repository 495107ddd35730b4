#include "kernel/context.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernel/base/clock.h"
#include "kernel/base/json.h"
#include "kernel/storage.h"

#define FORMAT       1
#define LIST_MAX     100u
#define VALUE_MAX    (64u << 20)
#define CLEAN_BEYOND 2u /* versions that are looked at again, for a server killed in between */

struct place {
    struct kernel *kernel;
    struct agent *agent;
    struct storage *storage;
    char space[96];
    const struct wait *wait;
};

static bool place_init(struct place *p, struct kernel *k, struct agent *a, const struct wait *w,
                       struct error *err)
{
    *p = (struct place){ .kernel = k, .agent = a, .wait = w };
    (void)snprintf(p->space, sizeof p->space, "~context.%s", agent_name(a));
    p->storage = kernel_storage(k, err);
    return p->storage != NULL;
}

static bool check_name(const char *name, struct error *err)
{
    size_t len = strlen(name);

    if (len >= 1 && len <= CONTEXT_NAME_BYTES && name[0] != '.' &&
        strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-") == len)
        return true;
    return error_set(err, ERR_INVALID,
                     "a context's name is 1 to %u of the characters A-Z a-z 0-9 _ . - and does not "
                     "begin with a dot",
                     CONTEXT_NAME_BYTES);
}

static bool unknown(const char *name, uint64_t version, struct error *err)
{
    static const char next[] = "agent_context {\"action\":\"list\"} tells those there are";

    if (version)
        return error_set(err, ERR_NOT_FOUND,
                         "no version %llu of the context \"%s\" is kept; leave out the version for "
                         "the newest, or %s",
                         (unsigned long long)version, name, next);
    return error_set(err, ERR_NOT_FOUND, "there is no context \"%s\"; %s", name, next);
}

/* ---- reading ---- */

static json_t *read_version(struct place *p, const char *name, uint64_t version,
                            struct storage_stat *ret, struct error *err)
{
    CLEANUP(buf_fini) struct buf value = BUF_INIT;
    struct error why = ERROR_INIT;
    json_t *saved;

    if (!storage_get(p->storage, p->space, name, version, 0, VALUE_MAX, &value, p->wait, ret,
                     &why)) {
        if (why.code == ERR_NOT_FOUND)
            (void)unknown(name, version, err);
        else
            error_set(err, why.code, "%s", why.text);
        return NULL;
    }
    saved = json_parse(buf_str(&value), value.len, err);
    if (saved && json_integer_value(json_object_get(saved, "format")) == FORMAT)
        return saved;
    json_decref(saved);
    error_set(err, ERR_UNSUPPORTED, "context \"%s\" was saved by another version of this program",
              name);
    return NULL;
}

/* ---- snapshots ---- */

static void delete_snapshots(struct place *p, const json_t *computers)
{
    size_t i;
    json_t *one;

    json_array_foreach (computers, i, one) {
        const char *id = json_string_value(json_object_get(one, "snapshot"));

        /* Gone already, by a person or by an earlier try: as good. */
        if (id)
            UNCHECKED(computers_checkpoint_delete(kernel_computers(p->kernel), p->agent, id, NULL));
    }
}

/* How a value begins that holds no snapshot: told there, so that nobody has to read on. */
static const char without_snapshots[] = "{\"format\":1,\"snapshots\":0,";

static bool has_snapshots(struct place *p, const char *name, uint64_t version)
{
    CLEANUP(buf_fini) struct buf head = BUF_INIT;

    return storage_get(p->storage, p->space, name, version, 0, sizeof without_snapshots - 1, &head,
                       p->wait, NULL, NULL) &&
           strcmp(buf_str(&head), without_snapshots) != 0;
}

static void delete_snapshots_of(struct place *p, const char *name, uint64_t version)
{
    struct storage_stat stat;
    json_t *saved =
        has_snapshots(p, name, version) ? read_version(p, name, version, &stat, NULL) : NULL;

    if (saved)
        delete_snapshots(p, json_object_get(saved, "computers"));
    json_decref(saved);
}

/* One computer as it stands: what it was, its snapshot, its runs.  NULL: not saved. */
static json_t *save_computer(struct place *p, const char *name, const json_t *row,
                             struct error *err)
{
    struct computers *cs = kernel_computers(p->kernel);
    const char *handle = json_string_value(json_object_get(row, "computer"));
    char label[CONTEXT_NAME_BYTES + 16];
    struct id id;
    json_t *runs, *one;

    (void)snprintf(label, sizeof label, "context %s", name);
    runs = computers_runs(cs, p->agent, handle, err);
    if (!runs)
        return NULL;
    if (!computers_save(cs, p->agent, handle, label, &id, p->wait, err)) {
        json_decref(runs);
        error_prefix(err, "save computer %s", handle);
        return NULL;
    }
    one = json_pack("{s:s, s:s, s:b, s:o}", "computer", handle, "snapshot", id.text, "default",
                    json_is_true(json_object_get(row, "default")), "runs", runs);
    if (!one) {
        UNCHECKED(computers_checkpoint_delete(cs, p->agent, id.text, NULL));
        error_set(err, ERR_NOMEM, "context");
    }
    return one;
}

static json_t *save_computers(struct place *p, const char *name, struct error *err)
{
    json_t *list = computers_list(kernel_computers(p->kernel), p->agent, err);
    json_t *saved = list ? json_array() : NULL;
    size_t i;
    json_t *row;

    json_array_foreach (list, i, row) {
        json_t *one = save_computer(p, name, row, err);

        if (!one || json_array_append_new(saved, one) < 0) {
            delete_snapshots(p, saved);
            json_decref(saved);
            json_decref(list);
            return NULL;
        }
    }
    json_decref(list);
    return saved;
}

/* ---- saving ---- */

static bool write_value(struct place *p, const char *name, const struct context_parts *parts,
                        json_t *computers, struct storage_stat *ret, struct error *err)
{
    CLEANUP(buf_fini) struct buf text = BUF_INIT;
    json_t *value = json_pack("{s:i, s:I, s:O?, s:O?, s:O}", "format", FORMAT, "snapshots",
                              (json_int_t)json_array_size(computers), "messages", parts->messages,
                              "variables", parts->variables, "computers", computers);
    bool ok = value && json_write(value, &text);

    json_decref(value);
    if (!ok)
        return error_set(err, ERR_NOMEM, "context");
    return storage_put(p->storage, p->space, name, text.data, text.len, STORAGE_ANY, p->wait, ret,
                       err);
}

/* {"computer", "snapshot"} of each. */
static json_t *brief(const json_t *computers)
{
    json_t *list = json_array();
    size_t i;
    json_t *one;

    json_array_foreach (computers, i, one) {
        if (json_array_append_new(list, json_pack("{s:O, s:O}", "computer",
                                                  json_object_get(one, "computer"), "snapshot",
                                                  json_object_get(one, "snapshot"))) < 0) {
            json_decref(list);
            return NULL;
        }
    }
    return list;
}

json_t *context_save(struct kernel *k, struct agent *a, const char *name,
                     const struct context_parts *parts, const struct wait *w, struct error *err)
{
    struct storage_stat stat;
    struct place p;
    json_t *computers, *report;

    if (!check_name(name, err) || !place_init(&p, k, a, w, err))
        return NULL;
    computers = parts->computers ? save_computers(&p, name, err) : json_array();
    if (!computers)
        return NULL;
    if (!write_value(&p, name, parts, computers, &stat, err)) {
        delete_snapshots(&p, computers);
        json_decref(computers);
        return NULL;
    }
    for (uint64_t n = 0; n < CLEAN_BEYOND && stat.version > CONTEXT_COMPUTERS_KEPT + n; n++)
        delete_snapshots_of(&p, name, stat.version - CONTEXT_COMPUTERS_KEPT - n);
    report = json_pack("{s:s, s:I, s:o}", "context", name, "version", (json_int_t)stat.version,
                       "computers", brief(computers));
    json_decref(computers);
    if (!report)
        error_set(err, ERR_NOMEM, "context; it was saved as version %llu",
                  (unsigned long long)stat.version);
    return report;
}

/* ---- restoring ---- */

static bool restore_computer(struct place *p, const json_t *one, json_t *made, json_t *missing)
{
    struct computers *cs = kernel_computers(p->kernel);
    const char *was = json_string_value(json_object_get(one, "computer"));
    const char *snapshot = json_string_value(json_object_get(one, "snapshot"));
    struct error why = ERROR_INIT;
    struct computer *c =
        was && snapshot ? computers_restore(cs, p->agent, snapshot, NULL, p->wait, &why) : NULL;
    bool ok;

    if (!c)
        return json_array_append_new(missing, json_pack("{s:s?, s:s}", "computer", was, "why",
                                                        why.text[0] ? why.text : "not recorded")) ==
               0;
    /* Gone again already: a call without a computer then makes a new one. */
    if (json_is_true(json_object_get(one, "default")))
        UNCHECKED(computers_make_default(cs, p->agent, computer_id(c), NULL));
    ok = json_array_append_new(
             made, json_pack("{s:s, s:s}", "was", was, "computer", computer_id(c))) == 0;
    computer_unref(c);
    return ok;
}

static bool add_runs(json_t *runs, const json_t *one)
{
    size_t i;
    json_t *run;

    json_array_foreach (json_object_get(one, "runs"), i, run) {
        if (json_array_append_new(runs, json_pack("{s:O, s:O, s:O, s:O}", "computer",
                                                  json_object_get(one, "computer"), "run",
                                                  json_object_get(run, "run"), "command",
                                                  json_object_get(run, "command"), "state",
                                                  json_object_get(run, "state"))) < 0)
            return false;
    }
    return true;
}

static bool restore_parts(struct place *p, const json_t *saved, bool computers, json_t *report)
{
    json_t *made = json_array(), *missing = json_array(), *runs = json_array();
    bool ok = made && missing && runs;
    size_t i;
    json_t *one;

    json_array_foreach (json_object_get(saved, "computers"), i, one) {
        ok = ok && add_runs(runs, one);
        if (computers)
            ok = ok && restore_computer(p, one, made, missing);
    }
    /* Each takes its value also when it fails. */
    ok = json_object_set_new(report, "computers", made) == 0 && ok;
    ok = json_object_set_new(report, "missing", missing) == 0 && ok;
    ok = json_object_set_new(report, "runs", runs) == 0 && ok;
    return ok;
}

json_t *context_restore(struct kernel *k, struct agent *a, const char *name, uint64_t version,
                        bool computers, const struct wait *w, struct error *err)
{
    struct storage_stat stat;
    json_t *saved, *report;
    struct place p;
    char when[32];

    if (!check_name(name, err) || !place_init(&p, k, a, w, err))
        return NULL;
    saved = read_version(&p, name, version, &stat, err);
    if (!saved)
        return NULL;
    report = json_pack(
        "{s:s, s:I, s:s, s:O*, s:O*}", "context", name, "version", (json_int_t)stat.version,
        "saved", clock_iso8601(stat.wall_ns, when, sizeof when), "messages",
        json_object_get(saved, "messages"), "variables", json_object_get(saved, "variables"));
    if (!report || !restore_parts(&p, saved, computers, report)) {
        json_decref(report);
        report = NULL;
        error_set(err, ERR_NOMEM, "context");
    }
    json_decref(saved);
    return report;
}

/* ---- the list, and deleting ---- */

json_t *context_list(struct kernel *k, struct agent *a, const struct wait *w, struct error *err)
{
    struct storage_page page;
    json_t *list = json_array();
    bool ok = list != NULL;
    struct place p;
    char when[32];

    if (!place_init(&p, k, a, w, err) ||
        !storage_list(p.storage, p.space, "", NULL, LIST_MAX, w, &page, err)) {
        json_decref(list);
        return NULL;
    }
    for (size_t i = 0; ok && i < page.count; i++)
        ok = json_array_append_new(
                 list, json_pack("{s:s, s:I, s:I, s:s}", "context", page.items[i].key, "version",
                                 (json_int_t)page.items[i].version, "bytes",
                                 (json_int_t)page.items[i].bytes, "saved",
                                 clock_iso8601(page.items[i].wall_ns, when, sizeof when))) == 0;
    storage_page_fini(&page);
    if (ok)
        return list;
    json_decref(list);
    error_set(err, ERR_NOMEM, "list of contexts");
    return NULL;
}

bool context_delete(struct kernel *k, struct agent *a, const char *name, const struct wait *w,
                    struct error *err)
{
    struct error why = ERROR_INIT;
    struct storage_stat stat;
    struct place p;
    uint64_t newest;

    if (!check_name(name, err) || !place_init(&p, k, a, w, err))
        return false;
    if (!storage_delete(p.storage, p.space, name, STORAGE_ANY, w, &stat, &why))
        return why.code == ERR_NOT_FOUND ? unknown(name, 0, err)
                                         : error_set(err, why.code, "%s", why.text);
    newest = stat.version - 1;
    for (uint64_t n = 0; n < CONTEXT_COMPUTERS_KEPT + CLEAN_BEYOND && newest > n; n++)
        delete_snapshots_of(&p, name, newest - n);
    return true;
}
