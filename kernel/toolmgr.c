#include "kernel/toolmgr.h"

#include <stdlib.h>
#include <string.h>

#include "kernel/base/utf8.h"

#define NAME_MAX_BYTES        64u
#define DESCRIPTION_MAX_BYTES 2047u
#define FIELDS_DEPTH_MAX      4

struct toolmgr {
    const struct tool **listed; /* in order of registration */
    const struct tool **sorted; /* by name, for looking up */
    size_t count;
    size_t shown; /* the first ones of @listed, once @ended */
    bool ended;
};

struct toolmgr *toolmgr_new(struct error *err)
{
    struct toolmgr *m = calloc(1, sizeof *m);

    if (!m)
        error_set(err, ERR_NOMEM, "table of tools");
    return m;
}

void toolmgr_free(struct toolmgr *m)
{
    if (!m)
        return;
    free(m->listed);
    free(m->sorted);
    free(m);
}

static bool name_fits(const char *name, const char *charset)
{
    size_t len = name ? strlen(name) : 0;

    return len && len <= NAME_MAX_BYTES && strspn(name, charset) == len;
}

/* What a model reads must be there, be text, and be short enough for a list of all. */
static bool description_fits(const char *text)
{
    size_t len = text ? strlen(text) : 0;

    return len && len <= DESCRIPTION_MAX_BYTES && utf8_valid(text, len);
}

static bool check_fields(const struct tool *tool, const struct json_field *fields, int depth,
                         struct error *err)
{
    if (depth > FIELDS_DEPTH_MAX)
        return error_set(err, ERR_INVALID, "tool %s: its fields are nested too deep", tool->name);
    for (const struct json_field *f = fields; f && f->name; f++) {
        if (!name_fits(f->name, "abcdefghijklmnopqrstuvwxyz0123456789_"))
            return error_set(err, ERR_INVALID, "tool %s: bad field name \"%s\"", tool->name,
                             f->name);
        /* Some names say it all, and the list of tools has to stay short. */
        if (f->description && !description_fits(f->description))
            return error_set(err, ERR_INVALID, "tool %s: field %s has no fitting description",
                             tool->name, f->name);
        if (f->kind == JSON_KIND_ENUM && !f->choices)
            return error_set(err, ERR_INVALID, "tool %s: field %s has no choices", tool->name,
                             f->name);
        if ((f->kind == JSON_KIND_OBJECT || f->kind == JSON_KIND_OBJECTS) &&
            !check_fields(tool, f->fields, depth + 1, err))
            return false;
    }
    return true;
}

static bool check_tool(const struct tool *tool, struct error *err)
{
    if (!name_fits(tool->name, "abcdefghijklmnopqrstuvwxyz_"))
        return error_set(err, ERR_INVALID, "bad tool name \"%s\"", tool->name ? tool->name : "");
    if (!tool->title || !tool->title[0])
        return error_set(err, ERR_INVALID, "tool %s has no title", tool->name);
    if (!description_fits(tool->description))
        return error_set(err, ERR_INVALID, "tool %s: its description must have 1 to %u bytes",
                         tool->name, DESCRIPTION_MAX_BYTES);
    if (!tool->handler)
        return error_set(err, ERR_INVALID, "tool %s has no handler", tool->name);
    if (tool->fields && tool->fields[0].name && !tool->args_size)
        return error_set(err, ERR_INVALID, "tool %s: fields without a struct", tool->name);
    if ((tool->flags & TOOL_READS) && (tool->flags & TOOL_DESTROYS))
        return error_set(err, ERR_INVALID, "tool %s both only reads and destroys", tool->name);
    return check_fields(tool, tool->fields, 1, err) && check_fields(tool, tool->output, 1, err);
}

/* The first place in sorted[0..count) that is not before @name. */
static size_t place_of(const struct toolmgr *m, size_t count, const char *name)
{
    size_t low = 0, high = count;

    while (low < high) {
        size_t middle = low + (high - low) / 2;

        if (strcmp(m->sorted[middle]->name, name) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static bool grow(struct toolmgr *m, size_t more, struct error *err)
{
    const struct tool **table;

    table = reallocarray(m->listed, m->count + more, sizeof(struct tool *));
    if (table)
        m->listed = table;
    if (table)
        table = reallocarray(m->sorted, m->count + more, sizeof(struct tool *));
    if (!table)
        return error_set(err, ERR_NOMEM, "table of %zu tools", m->count + more);
    m->sorted = table;
    return true;
}

/* A family comes whole or not at all: m->count is only moved when all of it is in. */
bool toolmgr_add(struct toolmgr *m, const struct toolset *set, struct error *err)
{
    size_t before = m->count;

    if (!set->count)
        return true;
    if (!grow(m, set->count, err))
        return false;
    for (size_t i = 0; i < set->count; i++) {
        const struct tool *tool = &set->tools[i];
        size_t at;

        if (!check_tool(tool, err))
            break;
        at = place_of(m, m->count, tool->name);
        if (at < m->count && !strcmp(m->sorted[at]->name, tool->name)) {
            error_set(err, ERR_EXISTS, "tool %s is there twice", tool->name);
            break;
        }
        memmove(m->sorted + at + 1, m->sorted + at, (m->count - at) * sizeof(struct tool *));
        m->sorted[at] = tool;
        m->listed[m->count++] = tool;
    }
    if (m->count == before + set->count)
        return true;
    while (m->count > before) {
        size_t at = place_of(m, m->count, m->listed[m->count - 1]->name);

        m->count--;
        memmove(m->sorted + at, m->sorted + at + 1, (m->count - at) * sizeof(struct tool *));
    }
    return false;
}

const struct tool *toolmgr_find(const struct toolmgr *m, const char *name)
{
    size_t at = place_of(m, m->count, name);

    return at < m->count && !strcmp(m->sorted[at]->name, name) ? m->sorted[at] : NULL;
}

size_t toolmgr_count(const struct toolmgr *m)
{
    return m->count;
}

void toolmgr_end_list(struct toolmgr *m)
{
    if (!m->ended)
        m->shown = m->count;
    m->ended = true;
}

size_t toolmgr_listed(const struct toolmgr *m)
{
    return m->ended ? m->shown : m->count;
}

const struct tool *toolmgr_at(const struct toolmgr *m, size_t index)
{
    return index < m->count ? m->listed[index] : NULL;
}
