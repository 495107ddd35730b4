/* The family memory: an agent's notes. */
#include "kernel/memory.h"

#include <ctype.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "kernel/agent.h"
#include "kernel/base/clock.h"
#include "kernel/base/utf8.h"
#include "tools/toolkit.h"

#define SHOWN_BYTES  (24u << 10) /* of all texts in one answer */
#define SHOWN_LEAST  300u        /* of each, however many there are */
#define PAGE_DEFAULT 10

static struct memory_who who_asks(const struct tool_call *call)
{
    return (struct memory_who){ .agent = agent_name(call->agent),
                                .group = agent_group(call->agent) };
}

/* "note_… v2, 2026-11-21T20:23:15Z, by bob, shared [tag, tag]" */
static bool put_head(struct buf *out, const struct memory_note *note, const char *reader)
{
    char when[32];
    size_t i;
    json_t *tag;

    (void)clock_iso8601(note->updated_wall_ns, when, sizeof when);
    (void)buf_printf(out, "%s v%" PRIu64 ", %.19sZ", note->id, note->version, when);
    if (strcmp(note->owner, reader) != 0)
        (void)buf_printf(out, ", by %s", note->owner);
    else if (note->shared)
        (void)buf_append_str(out, ", shared");
    json_array_foreach (note->tags, i, tag)
        (void)buf_printf(out, "%s%s", i ? ", " : " [", json_string_value(tag));
    return buf_append_str(out, json_array_size(note->tags) ? "]\n" : "\n");
}

/* ---- memory_save ---- */

static const char *const share_choices[] = { "private", "group", "all", NULL };

struct save_args {
    struct json_text text;
    json_t *tags;
    const char *id;
    int share;
};

static const struct json_field save_fields[] = {
    { .name = "text",
      .description = "The note, one fact or topic",
      .kind = JSON_KIND_TEXT,
      .required = true,
      .offset = offsetof(struct save_args, text) },
    { .name = "tags",
      .description = "Words to filter by",
      .kind = JSON_KIND_STRINGS,
      .offset = offsetof(struct save_args, tags),
      .min = 0,
      .max = MEMORY_TAGS },
    { .name = "id",
      .description = "Replace this note of yours (tags and share stay unless given)",
      .kind = JSON_KIND_STRING,
      .offset = offsetof(struct save_args, id) },
    { .name = "share",
      .description = "Who may read it (default private)",
      .kind = JSON_KIND_ENUM,
      .offset = offsetof(struct save_args, share),
      .choices = share_choices,
      .fallback = MEMORY_KEEP },
    { .name = NULL },
};

static bool memory_save_tool(struct tool_call *call, const void *args, struct error *err)
{
    const struct save_args *a = args;
    struct memory *m = kernel_memory(call->kernel, err);
    struct memory_who who = who_asks(call);
    struct memory_note note;
    bool ok;

    if (!m || !memory_save(m, &who, a->id && *a->id ? a->id : NULL, a->text.data, a->text.len,
                           a->tags, (enum memory_sharing)a->share, 0, &call->wait, &note, err))
        return false;
    ok = result_printf(call->result, err, "saved %s v%" PRIu64, note.id, note.version);
    memory_note_fini(&note);
    return ok;
}

/* ---- memory_search ---- */

struct search_args {
    const char *text, *since, *until;
    json_t *tags;
    bool semantic, shared;
    int64_t limit, offset;
};

static const struct json_field search_fields[] = {
    { .name = "text",
      .description = "Words or a question; \"a phrase\" in quotes. Left out: the newest notes",
      .kind = JSON_KIND_STRING,
      .offset = offsetof(struct search_args, text) },
    { .name = "tags",
      .description = "Only with all of these",
      .kind = JSON_KIND_STRINGS,
      .offset = offsetof(struct search_args, tags),
      .min = 0,
      .max = MEMORY_TAGS },
    { .name = "since",
      .description = "Changed since: 2026-11-21, 2026-11-21T09:30Z, or 7d (ago)",
      .kind = JSON_KIND_STRING,
      .offset = offsetof(struct search_args, since) },
    { .name = "until",
      .description = "Changed before",
      .kind = JSON_KIND_STRING,
      .offset = offsetof(struct search_args, until) },
    { .name = "semantic",
      .description = "By meaning, not words",
      .kind = JSON_KIND_BOOL,
      .offset = offsetof(struct search_args, semantic) },
    { .name = "shared",
      .description = "Also what others share",
      .kind = JSON_KIND_BOOL,
      .offset = offsetof(struct search_args, shared) },
    { .name = "limit",
      .description = "Most notes",
      .kind = JSON_KIND_INT,
      .offset = offsetof(struct search_args, limit),
      .min = 1,
      .max = MEMORY_PAGE_MAX,
      .fallback = PAGE_DEFAULT },
    { .name = "offset",
      .description = "Notes to leave out first",
      .kind = JSON_KIND_INT,
      .offset = offsetof(struct search_args, offset),
      .min = 0,
      .max = MEMORY_OFFSET_MAX },
    { .name = NULL },
};

/* "12h": so long ago. */
static bool read_age(const char *text, int64_t *ret)
{
    static const char units[] = "smhdw";
    static const int64_t seconds[] = { 1, 60, 3600, 86400, 604800 };
    size_t digits = strspn(text, "0123456789");
    const char *unit = digits && digits < 7 && text[digits] ? strchr(units, text[digits]) : NULL;
    int64_t now = clock_wall_ns() / CLOCK_NS_PER_S, age;

    if (!unit || text[digits + 1])
        return false;
    age = strtoll(text, NULL, 10) * seconds[unit - units];
    *ret = age < now ? (now - age) * CLOCK_NS_PER_S : 1; /* 0 would be no bound */
    return true;
}

/* "2026-11-21", "2026-11-21T09:30", with seconds, with Z or +01:00; UTC where none is given. */
static bool read_date(const char *text, int64_t *ret)
{
    struct tm tm = { .tm_mday = 1 }, zone = { .tm_mday = 1 };
    int east = 0; /* seconds */
    const char *end = strptime(text, "%Y-%m-%d", &tm);
    time_t t;

    if (end && (*end == 'T' || *end == ' ')) {
        const char *clock = end + 1;

        end = strptime(clock, "%H:%M:%S", &tm);
        if (!end)
            end = strptime(clock, "%H:%M", &tm);
        if (end && *end == '.')
            end += 1 + strspn(end + 1, "0123456789");
    }
    if (end && (*end == '+' || *end == '-')) {
        int sign = *end == '-' ? -1 : 1;

        end = strptime(end + 1, "%H:%M", &zone);
        east = sign * (zone.tm_hour * 60 + zone.tm_min) * 60;
    } else if (end && *end == 'Z') {
        end++;
    }
    if (!end || *end || tm.tm_year < 70 || tm.tm_year > 300 || !clock_is_date(&tm))
        return false;
    t = timegm(&tm) - east;
    *ret = t > 0 ? (int64_t)t * CLOCK_NS_PER_S : 1;
    return true;
}

static bool read_time(const char *name, const char *text, int64_t *ret, struct error *err)
{
    if (!text || !*text || read_age(text, ret) || read_date(text, ret))
        return true;
    return error_set(err, ERR_INVALID,
                     "\"%s\" must be a time such as 2026-11-21, 2026-11-21T09:30Z, or 7d for seven "
                     "days ago",
                     name);
}

static bool put_note(struct buf *out, const struct memory_note *note, const char *reader,
                     size_t most)
{
    size_t len = strlen(note->text), shown = len > most ? utf8_cut(note->text, len, most) : len;

    (void)put_head(out, note, reader);
    if (note->away)
        (void)buf_append_str(out, "(its text is in storage, which does not answer now)\n");
    (void)buf_append(out, note->text, shown);
    if (shown < len)
        (void)buf_printf(out, "… (%zu of %zu bytes; memory_get shows all)", shown, len);
    return buf_append_str(out, note->away ? "" : "\n");
}

static bool answer_found(struct tool_call *call, const struct search_args *a,
                         const struct memory_found *found, struct error *err)
{
    CLEANUP(buf_fini) struct buf out = BUF_INIT;
    const char *reader = agent_name(call->agent);
    size_t most = found->count ? MAX(SHOWN_BYTES / found->count, (size_t)SHOWN_LEAST) : 0;

    for (size_t i = 0; i < found->count; i++) {
        if (i > 0)
            (void)buf_append_char(&out, '\n');
        (void)put_note(&out, &found->notes[i], reader, most);
    }
    if (found->count == 0)
        (void)buf_append_str(&out, a->offset ? "no more notes\n" : "no notes found\n");
    if (found->more)
        (void)buf_printf(&out, "\n[more: offset %" PRId64 "]\n", a->offset + (int64_t)a->limit);
    if (out.failed)
        return error_set(err, ERR_NOMEM, "the answer");
    return result_text(call->result, out.data, out.len, "ask for fewer with \"limit\"", err);
}

static bool memory_search_tool(struct tool_call *call, const void *args, struct error *err)
{
    const struct search_args *a = args;
    struct memory *m = kernel_memory(call->kernel, err);
    struct memory_who who = who_asks(call);
    struct memory_query q = { .text = a->text,
                              .semantic = a->semantic,
                              .tags = a->tags,
                              .shared = a->shared,
                              .offset = (size_t)a->offset,
                              .limit = (size_t)a->limit };
    struct memory_found found;
    bool ok;

    if (!m || !read_time("since", a->since, &q.since_wall_ns, err) ||
        !read_time("until", a->until, &q.until_wall_ns, err) ||
        !memory_search(m, &who, &q, &call->wait, &found, err))
        return false;
    ok = answer_found(call, a, &found, err);
    memory_found_fini(&found);
    return ok;
}

/* ---- memory_get, memory_delete ---- */

struct id_args {
    const char *id;
    int64_t offset;
};

#define ID_FIELD                                                                                \
    {                                                                                           \
        .name = "id", .description = "Of the note", .kind = JSON_KIND_STRING, .required = true, \
        .offset = offsetof(struct id_args, id), .min = 1, .max = 64                             \
    }

static const struct json_field get_fields[] = {
    ID_FIELD,
    { .name = "offset",
      .description = "Byte to begin at, for a long note",
      .kind = JSON_KIND_INT,
      .offset = offsetof(struct id_args, offset),
      .min = 0,
      .max = MEMORY_NOTE_BYTES },
    { .name = NULL },
};

static const struct json_field delete_fields[] = { ID_FIELD, { .name = NULL } };

static bool answer_note(struct tool_call *call, const struct memory_note *note, int64_t offset,
                        struct error *err)
{
    CLEANUP(buf_fini) struct buf out = BUF_INIT;
    size_t len = strlen(note->text), begin = utf8_cut(note->text, len, MIN(len, (size_t)offset));
    size_t end = utf8_cut(note->text, len, MIN(len, begin + SHOWN_BYTES));

    (void)put_head(&out, note, agent_name(call->agent));
    (void)buf_append(&out, note->text + begin, end - begin);
    (void)buf_append_char(&out, '\n');
    if (end < len)
        (void)buf_printf(&out, "[bytes %zu to %zu of %zu; more: offset %zu]\n", begin, end, len,
                         end);
    if (out.failed)
        return error_set(err, ERR_NOMEM, "the answer");
    return result_text(call->result, out.data, out.len, NULL, err);
}

static bool memory_get_tool(struct tool_call *call, const void *args, struct error *err)
{
    const struct id_args *a = args;
    struct memory *m = kernel_memory(call->kernel, err);
    struct memory_who who = who_asks(call);
    struct memory_note note;
    bool ok;

    if (!m || !memory_get(m, &who, a->id, &call->wait, &note, err))
        return false;
    ok = answer_note(call, &note, a->offset, err);
    memory_note_fini(&note);
    return ok;
}

static bool memory_delete_tool(struct tool_call *call, const void *args, struct error *err)
{
    const struct id_args *a = args;
    struct memory *m = kernel_memory(call->kernel, err);
    struct memory_who who = who_asks(call);

    return m && memory_delete(m, &who, a->id, &call->wait, err) &&
           result_printf(call->result, err, "deleted %s", a->id);
}

/* ---- the family ---- */

static const struct tool tools[] = {
    { .name = "memory_save",
      .title = "Save a note",
      .description = "Remember something beyond this session: saves a note, or replaces one by id.",
      .fields = save_fields,
      .args_size = sizeof(struct save_args),
      .flags = TOOL_DESTROYS,
      .class = SYSCALL_MEMORY,
      .handler = memory_save_tool },
    { .name = "memory_search",
      .title = "Search notes",
      .description =
          "Find saved notes, best match first. Look here before asking what may be known.",
      .fields = search_fields,
      .args_size = sizeof(struct search_args),
      .flags = TOOL_READS,
      .class = SYSCALL_MEMORY,
      .handler = memory_search_tool },
    { .name = "memory_get",
      .title = "Read a note",
      .description = "Show a whole note.",
      .fields = get_fields,
      .args_size = sizeof(struct id_args),
      .flags = TOOL_READS,
      .class = SYSCALL_MEMORY,
      .handler = memory_get_tool },
    { .name = "memory_delete",
      .title = "Delete a note",
      .description = "Delete a note of yours for good.",
      .fields = delete_fields,
      .args_size = sizeof(struct id_args),
      .flags = TOOL_DESTROYS | TOOL_IDEMPOTENT,
      .class = SYSCALL_MEMORY,
      .handler = memory_delete_tool },
};

const struct toolset toolset_memory = {
    .name = "memory", .tools = tools, .count = ARRAY_LEN(tools), .unlisted = true
};
