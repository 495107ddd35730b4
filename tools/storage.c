/* The family storage: the agent's own keys and values, kept beyond its computers. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "kernel/base/base64.h"
#include "kernel/base/clock.h"
#include "kernel/base/utf8.h"
#include "kernel/storage.h"
#include "tools/toolkit.h"

#define SHOWN_BYTES  (24u << 10) /* of a value in one answer */
#define PAGE_DEFAULT 100
#define SHARE_S      3600
#define SHARE_S_MAX  (30 * 86400)

#define KEY_FIELD(type, needed)                                                       \
    {                                                                                 \
        .name = "key", .description = "Like notes/plan.md", .kind = JSON_KIND_STRING, \
        .required = needed, .offset = offsetof(type, key)                             \
    }

#define IF_VERSION_FIELD(type, text)                                           \
    {                                                                          \
        .name = "if_version", .description = text, .kind = JSON_KIND_INT,      \
        .offset = offsetof(type, if_version), .max = INT64_MAX, .fallback = -1 \
    }

static struct storage *open_storage(struct tool_call *call, struct error *err)
{
    return kernel_storage(call->kernel, err);
}

static uint64_t condition(int64_t if_version)
{
    return if_version < 0 ? STORAGE_ANY : (uint64_t)if_version;
}

/* ---- storage_put and storage_delete ---- */

struct put_args {
    const char *key, *base64, *from;
    struct json_text value;
    int64_t if_version;
};

static const struct json_field put_fields[] = {
    KEY_FIELD(struct put_args, true),
    { .name = "value",
      .description = "Text to keep",
      .kind = JSON_KIND_TEXT,
      .offset = offsetof(struct put_args, value) },
    { .name = "base64",
      .description = "Instead of value: bytes",
      .kind = JSON_KIND_STRING,
      .offset = offsetof(struct put_args, base64) },
    { .name = "from",
      .description = "Instead of value: a key to copy",
      .kind = JSON_KIND_STRING,
      .offset = offsetof(struct put_args, from) },
    IF_VERSION_FIELD(struct put_args, "Only if this is the newest; 0: only if there is none"),
    { .name = NULL },
};

struct delete_args {
    const char *key;
    int64_t if_version;
    bool purge;
};

static const struct json_field delete_fields[] = {
    KEY_FIELD(struct delete_args, true),
    IF_VERSION_FIELD(struct delete_args, "Only if this is the newest"),
    { .name = "purge",
      .description = "Forget its versions too: frees quota, no way back",
      .kind = JSON_KIND_BOOL,
      .offset = offsetof(struct delete_args, purge) },
    { .name = NULL },
};

/* One call on its way into a transaction. */
struct writing {
    struct storage_op op;
    struct buf bytes; /* what was base64 */
    bool whole;       /* it is one operation, which may share a transaction */
};

static bool prepare_put(const struct put_args *a, struct writing *w, struct error *err)
{
    int given = (a->value.data != NULL) + (a->base64 != NULL) + (a->from != NULL);

    if (given != 1)
        return error_set(err, ERR_INVALID, "send one of \"value\", \"base64\" and \"from\"");
    if (a->base64 && !base64_decode(&w->bytes, a->base64, strlen(a->base64), err))
        return error_prefix(err, "base64");
    w->whole = !a->from;
    w->op = (struct storage_op){
        .kind = STORAGE_PUT,
        .key = a->key,
        .data = a->base64 ? buf_str(&w->bytes) : a->value.data,
        .len = a->base64 ? w->bytes.len : a->value.len,
        .if_version = condition(a->if_version),
    };
    return true;
}

static bool prepare_delete(const struct delete_args *a, struct writing *w, struct error *err)
{
    if (a->purge && a->if_version >= 0)
        return error_set(err, ERR_INVALID, "\"purge\" takes no \"if_version\"");
    w->whole = !a->purge;
    w->op = (struct storage_op){ .kind = STORAGE_DELETE,
                                 .key = a->key,
                                 .if_version = condition(a->if_version) };
    return true;
}

static bool is_delete(const struct tool_call *call);

static bool answer_write(struct tool_call *call, const struct storage_stat *stat, bool purged,
                         struct error *err)
{
    if (!stat->deleted)
        return result_printf(call->result, err,
                             "kept \"%s\" as version %" PRIu64 ", %" PRIu64 " bytes", stat->key,
                             stat->version, stat->bytes);
    if (purged)
        return result_printf(call->result, err, "deleted \"%s\" and all its versions", stat->key);
    return result_printf(
        call->result, err,
        "deleted \"%s\" with version %" PRIu64
        "; storage_versions {\"key\":…,\"action\":\"rollback\",\"version\":%" PRIu64
        "} brings it back",
        stat->key, stat->version, stat->version - 1);
}

static bool write_alone(struct tool_call *call, const void *args, struct writing *w,
                        struct error *err)
{
    const char *space = agent_name(call->agent);
    struct storage *s = open_storage(call, err);
    bool ok;

    if (!s)
        return false;
    if (w->whole)
        ok = storage_batch(s, space, &w->op, 1, &call->wait, NULL, err);
    else if (is_delete(call))
        ok = storage_purge(s, space, w->op.key, &call->wait, &w->op.stat, err);
    else
        ok = storage_copy(s, space, ((const struct put_args *)args)->from, w->op.key,
                          w->op.if_version, &call->wait, &w->op.stat, err);
    return ok && answer_write(call, &w->op.stat, !w->whole, err);
}

static bool prepare(struct tool_call *call, const void *args, struct writing *w, struct error *err)
{
    *w = (struct writing){ .bytes = BUF_INIT };
    return is_delete(call) ? prepare_delete(args, w, err) : prepare_put(args, w, err);
}

static bool storage_tool_write(struct tool_call *call, const void *args, struct error *err)
{
    struct writing w;
    bool ok = prepare(call, args, &w, err) && write_alone(call, args, &w, err);

    buf_fini(&w.bytes);
    return ok;
}

/* Calls that waited together go into one transaction; each succeeds or fails alone. */
static void storage_tool_writes(struct tool_batched *calls, size_t count)
{
    struct writing *writings = calloc(count, sizeof *writings);
    struct storage_write *writes = calloc(count, sizeof *writes);
    struct storage *s = NULL;
    size_t n = 0;

    for (size_t i = 0; i < count; i++) {
        struct tool_batched *c = &calls[i];

        if (!writings || !writes) {
            error_set(&c->err, ERR_NOMEM, "%zu writes", count);
            continue;
        }
        c->ok = prepare(&c->call, c->args, &writings[i], &c->err) &&
                (s || (s = open_storage(&c->call, &c->err)) != NULL);
        if (c->ok && !writings[i].whole)
            c->ok = write_alone(&c->call, c->args, &writings[i], &c->err);
        else if (c->ok)
            writes[n++] = (struct storage_write){ .space = agent_name(c->call.agent),
                                                  .ops = &writings[i].op,
                                                  .count = 1,
                                                  .wait = &c->call.wait };
    }
    if (n > 0)
        storage_write_many(s, writes, n);
    for (size_t i = 0, k = 0; i < count && k < n; i++) {
        struct tool_batched *c = &calls[i];

        if (writes[k].ops != &writings[i].op)
            continue;
        c->ok = writes[k].ok && answer_write(&c->call, &writings[i].op.stat, false, &c->err);
        if (!writes[k].ok)
            c->err = writes[k].err;
        k++;
    }
    for (size_t i = 0; i < count && writings; i++)
        buf_fini(&writings[i].bytes);
    free(writings);
    free(writes);
}

/* ---- storage_get ---- */

struct get_args {
    const char *key, *token;
    int64_t version, offset, max;
};

static const struct json_field get_fields[] = {
    KEY_FIELD(struct get_args, false),
    { .name = "token",
      .description = "Instead of key: what another agent shared",
      .kind = JSON_KIND_STRING,
      .offset = offsetof(struct get_args, token) },
    { .name = "version",
      .description = "Default: the newest",
      .kind = JSON_KIND_INT,
      .offset = offsetof(struct get_args, version),
      .min = 1,
      .max = INT64_MAX },
    { .name = "offset",
      .description = "Byte to begin at",
      .kind = JSON_KIND_INT,
      .offset = offsetof(struct get_args, offset),
      .max = INT64_MAX },
    { .name = "max",
      .description = "Most bytes",
      .kind = JSON_KIND_INT,
      .offset = offsetof(struct get_args, max),
      .min = 1,
      .max = SHOWN_BYTES,
      .fallback = SHOWN_BYTES },
    { .name = NULL },
};

/* The text, which must not end inside a character unless the value does; or base64, in which three
 * bytes take four. */
static bool show_value(struct tool_call *call, struct buf *value, bool at_end, size_t *ret_shown,
                       bool *ret_base64, struct error *err)
{
    CLEANUP(buf_fini) struct buf text = BUF_INIT;
    size_t len = value->len;

    for (size_t back = 0; !at_end && back < 3 && len > 1 && !utf8_valid(value->data, len); back++)
        len--;
    *ret_base64 = !utf8_valid(buf_str(value), len);
    *ret_shown = *ret_base64 ? MIN(value->len, SHOWN_BYTES / 4 * 3) : len;
    if (*ret_shown == 0)
        return true;
    if (!*ret_base64)
        return result_text(call->result, value->data, len, NULL, err);
    if (!base64_encode(&text, value->data, *ret_shown))
        return error_set(err, ERR_NOMEM, "the value");
    return result_text(call->result, text.data, text.len, NULL, err);
}

static bool storage_tool_get(struct tool_call *call, const void *args, struct error *err)
{
    const struct get_args *a = args;
    CLEANUP(buf_fini) struct buf value = BUF_INIT;
    struct storage *s;
    struct storage_stat stat;
    uint64_t offset = (uint64_t)a->offset, end;
    size_t shown;
    bool ok, base64;
    char when[32];

    if (!a->key == !a->token || (a->token && a->version))
        return error_set(err, ERR_INVALID, "send \"key\", perhaps with \"version\", or \"token\"");
    s = open_storage(call, err);
    if (!s)
        return false;
    ok = a->token ? storage_get_shared(s, a->token, offset, (size_t)a->max, &value, &call->wait,
                                       &stat, err)
                  : storage_get(s, agent_name(call->agent), a->key, (uint64_t)a->version, offset,
                                (size_t)a->max, &value, &call->wait, &stat, err);
    if (!ok || !show_value(call, &value, offset + value.len >= stat.bytes, &shown, &base64, err))
        return false;
    end = MIN(offset, stat.bytes) + shown;
    (void)clock_iso8601(stat.wall_ns, when, sizeof when);
    if (shown == stat.bytes)
        return result_printf(call->result, err, "[%sversion %" PRIu64 ", %" PRIu64 " bytes, %s]",
                             base64 ? "base64; " : "", stat.version, stat.bytes, when);
    return result_printf(
        call->result, err,
        "[%sversion %" PRIu64 ", bytes %" PRIu64 " to %" PRIu64 " of %" PRIu64 ", %s%s]",
        base64 ? "base64; " : "", stat.version, MIN(offset, stat.bytes), end, stat.bytes, when,
        end < stat.bytes ? "; go on with \"offset\" at the last" : "");
}

/* ---- storage_list ---- */

struct list_args {
    const char *prefix, *cursor;
    int64_t limit;
};

static const struct json_field list_fields[] = {
    { .name = "prefix",
      .description = "Like notes/",
      .kind = JSON_KIND_STRING,
      .offset = offsetof(struct list_args, prefix) },
    { .name = "cursor",
      .description = "From the answer before",
      .kind = JSON_KIND_STRING,
      .offset = offsetof(struct list_args, cursor) },
    { .name = "limit",
      .description = "Most keys",
      .kind = JSON_KIND_INT,
      .offset = offsetof(struct list_args, limit),
      .min = 1,
      .max = 200,
      .fallback = PAGE_DEFAULT },
    { .name = NULL },
};

static void put_item(struct buf *out, const struct storage_stat *item, bool with_key)
{
    char when[32];

    if (with_key)
        buf_printf(out, "%s  ", item->key);
    buf_printf(out, "version %" PRIu64 "  ", item->version);
    if (item->deleted)
        buf_append_str(out, "deleted");
    else
        buf_printf(out, "%" PRIu64 " bytes", item->bytes);
    buf_printf(out, "  %s\n", clock_iso8601(item->wall_ns, when, sizeof when));
}

static bool answer_page(struct tool_call *call, const struct storage_page *page, bool with_key,
                        const char *foot, struct error *err)
{
    CLEANUP(buf_fini) struct buf out = BUF_INIT;

    for (size_t i = 0; i < page->count; i++)
        put_item(&out, &page->items[i], with_key);
    buf_append_str(&out, foot);
    if (page->cursor)
        buf_printf(&out, "\n[more with \"cursor\":\"%s\"]", page->cursor);
    if (out.failed)
        return error_set(err, ERR_NOMEM, "a list of %zu", page->count);
    return result_text(call->result, out.data, out.len, "ask for fewer with \"limit\"", err);
}

static bool storage_tool_list(struct tool_call *call, const void *args, struct error *err)
{
    const struct list_args *a = args;
    const char *space = agent_name(call->agent);
    struct storage *s = open_storage(call, err);
    struct storage_page page;
    struct storage_usage usage;
    char foot[200], quota[48] = "";
    bool ok;

    if (!s || !storage_usage(s, space, &call->wait, &usage, err) ||
        !storage_list(s, space, a->prefix ? a->prefix : "",
                      a->cursor && a->cursor[0] ? a->cursor : NULL, (size_t)a->limit, &call->wait,
                      &page, err))
        return false;
    if (usage.quota_bytes)
        (void)snprintf(quota, sizeof quota, " of %" PRIu64, usage.quota_bytes);
    (void)snprintf(foot, sizeof foot,
                   "[%zu keys here; in all %" PRIu64 " keys, %" PRIu64 " versions, %" PRIu64
                   "%s bytes]",
                   page.count, usage.keys, usage.versions, usage.bytes, quota);
    ok = answer_page(call, &page, true, foot, err);
    storage_page_fini(&page);
    return ok;
}

/* ---- storage_versions ---- */

enum { ACTION_LIST, ACTION_ROLLBACK, ACTION_SHARE };
static const char *const actions[] = { "list", "rollback", "share", NULL };

struct versions_args {
    const char *key, *time;
    int action;
    int64_t version, seconds;
};

static const struct json_field versions_fields[] = {
    KEY_FIELD(struct versions_args, true),
    { .name = "action",
      .description = "share: a token for others' storage_get",
      .kind = JSON_KIND_ENUM,
      .offset = offsetof(struct versions_args, action),
      .choices = actions },
    { .name = "version",
      .description = "To roll back to or share",
      .kind = JSON_KIND_INT,
      .offset = offsetof(struct versions_args, version),
      .min = 1,
      .max = INT64_MAX },
    { .name = "time",
      .description = "Roll back to then, like 2026-01-31T12:00:00Z",
      .kind = JSON_KIND_STRING,
      .offset = offsetof(struct versions_args, time) },
    { .name = "seconds",
      .description = "How long the token holds",
      .kind = JSON_KIND_INT,
      .offset = offsetof(struct versions_args, seconds),
      .min = 1,
      .max = SHARE_S_MAX,
      .fallback = SHARE_S },
    { .name = NULL },
};

/* "+02:00", "-0530" or "Z", as what is to be taken off. */
static bool read_zone(const char *text, int64_t *ret_s)
{
    int64_t sign = text[0] == '-' ? -1 : 1;
    unsigned digits[4];
    size_t n = 0;

    *ret_s = 0;
    if ((text[0] == 'Z' || text[0] == 'z') && text[1] == '\0')
        return true;
    if (text[0] != '+' && text[0] != '-')
        return false;
    for (const char *p = text + 1; *p; p++) {
        if (*p == ':' && n == 2)
            continue;
        if (*p < '0' || *p > '9' || n == 4)
            return false;
        digits[n++] = (unsigned)(*p - '0');
    }
    if (n != 4 || digits[0] * 10 + digits[1] > 23 || digits[2] > 5)
        return false;
    *ret_s =
        sign * (int64_t)((digits[0] * 10 + digits[1]) * 3600 + (digits[2] * 10 + digits[3]) * 60);
    return true;
}

/* The last nanosecond that is written like this: what is shown as 12:00:00.123Z lies behind that
 * moment, and must be found by it. */
static bool read_time(const char *text, int64_t *ret_ns, struct error *err)
{
    struct tm tm = { .tm_sec = 0 };
    const char *rest = strptime(text, "%Y-%m-%dT%H:%M:%S", &tm);
    int64_t unit = CLOCK_NS_PER_S, fraction = 0, zone_s, whole;

    if (rest && *rest == '.') {
        for (rest++; *rest >= '0' && *rest <= '9'; rest++) {
            if (unit > 1) {
                unit /= 10;
                fraction += (*rest - '0') * unit;
            }
        }
    }
    if (!rest || !clock_is_date(&tm) || !read_zone(rest, &zone_s) ||
        __builtin_mul_overflow((int64_t)timegm(&tm) - zone_s, CLOCK_NS_PER_S, &whole))
        return error_set(err, ERR_INVALID,
                         "\"%s\" is no time such as 2026-01-31T12:00:00Z or …+01:00", text);
    *ret_ns = whole + fraction + unit - 1;
    return true;
}

static bool list_versions(struct tool_call *call, struct storage *s, const struct versions_args *a,
                          struct error *err)
{
    struct storage_page page;
    char foot[64];
    bool ok;

    if (!storage_versions(s, agent_name(call->agent), a->key, NULL, PAGE_DEFAULT, &call->wait,
                          &page, err))
        return false;
    (void)snprintf(foot, sizeof foot, "[%zu versions are kept%s]", page.count,
                   page.cursor ? ", and older ones" : "");
    free(STEAL(page.cursor));
    ok = page.count > 0 ? answer_page(call, &page, false, foot, err)
                        : error_set(err, ERR_NOT_FOUND, "there is no \"%s\"", a->key);
    storage_page_fini(&page);
    return ok;
}

static bool roll_back(struct tool_call *call, struct storage *s, const struct versions_args *a,
                      struct error *err)
{
    struct storage_stat stat;
    int64_t wall_ns = 0;

    if (!a->version == !a->time)
        return error_set(err, ERR_INVALID, "a rollback needs \"version\" or \"time\"");
    if ((a->time && !read_time(a->time, &wall_ns, err)) ||
        !storage_rollback(s, agent_name(call->agent), a->key, (uint64_t)a->version, wall_ns,
                          &call->wait, &stat, err))
        return false;
    return result_printf(call->result, err, "\"%s\" is as it was, as version %" PRIu64 "%s",
                         stat.key, stat.version, stat.deleted ? ": deleted" : "");
}

static bool share(struct tool_call *call, struct storage *s, const struct versions_args *a,
                  struct error *err)
{
    int64_t until = clock_wall_ns() + a->seconds * CLOCK_NS_PER_S;
    char token[STORAGE_TOKEN_BYTES], when[32];
    CLEANUP(buf_fini) struct buf nothing = BUF_INIT;

    /* Who is given the token should not be the one who learns that there is nothing. */
    if (!storage_get(s, agent_name(call->agent), a->key, (uint64_t)a->version, 0, 0, &nothing,
                     &call->wait, NULL, err))
        return false;
    if (!storage_share(s, agent_name(call->agent), a->key, (uint64_t)a->version, until, token, err))
        return false;
    return result_printf(call->result, err, "%s\n[reads \"%s\" until %s]", token, a->key,
                         clock_iso8601(until, when, sizeof when));
}

static bool storage_tool_versions(struct tool_call *call, const void *args, struct error *err)
{
    const struct versions_args *a = args;
    struct storage *s = open_storage(call, err);

    if (!s)
        return false;
    if (a->action == ACTION_ROLLBACK)
        return roll_back(call, s, a, err);
    if (a->action == ACTION_SHARE)
        return share(call, s, a, err);
    return list_versions(call, s, a, err);
}

/* ---- the family ---- */

static const struct tool tools[] = {
    { .name = "storage_put",
      .title = "Keep a value",
      .description = "Keep text or bytes under a key of your own, beyond this conversation and any "
                     "computer. Every put makes a new version; old ones can be brought back.",
      .fields = put_fields,
      .args_size = sizeof(struct put_args),
      .class = SYSCALL_STORAGE,
      .handler = storage_tool_write,
      .batch = storage_tool_writes },
    { .name = "storage_get",
      .title = "Read a value",
      .description = "Read a kept value, or a part of it; bytes that are no text come as base64.",
      .fields = get_fields,
      .args_size = sizeof(struct get_args),
      .flags = TOOL_READS,
      .class = SYSCALL_STORAGE,
      .handler = storage_tool_get },
    { .name = "storage_list",
      .title = "List kept keys",
      .description = "List your keys in order, with version, size, time, and the quota in use.",
      .fields = list_fields,
      .args_size = sizeof(struct list_args),
      .flags = TOOL_READS,
      .class = SYSCALL_STORAGE,
      .handler = storage_tool_list },
    { .name = "storage_delete",
      .title = "Delete a key",
      .description = "Delete a key. Its versions stay for a rollback, and count, unless purged.",
      .fields = delete_fields,
      .args_size = sizeof(struct delete_args),
      .flags = TOOL_DESTROYS,
      .class = SYSCALL_STORAGE,
      .handler = storage_tool_write,
      .batch = storage_tool_writes },
    { .name = "storage_versions",
      .title = "Versions of a key",
      .description = "List a key's versions, roll it back to one, or share it by a token.",
      .fields = versions_fields,
      .args_size = sizeof(struct versions_args),
      .class = SYSCALL_STORAGE,
      .handler = storage_tool_versions },
};

static bool is_delete(const struct tool_call *call)
{
    return call->tool->fields == delete_fields;
}

const struct toolset toolset_storage = {
    .name = "storage", .tools = tools, .count = ARRAY_LEN(tools), .unlisted = true
};
