/* tools/list: composed once for each shape that a revision wants, then copied. */
#include "mcp/server_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* What is as the protocol assumes anyway (not read-only, destructive, not idempotent, open to the
 * world) is left out, and so is what says nothing of a tool that only reads: the list is read by a
 * model. */
static void put_annotations(struct buf *out, const struct tool *tool)
{
    bool reads = tool->flags & TOOL_READS;
    const struct {
        const char *name;
        bool said, value;
    } hints[] = {
        { "readOnlyHint", reads, true },
        { "destructiveHint", !reads && !(tool->flags & TOOL_DESTROYS), false },
        { "idempotentHint", !reads && (tool->flags & TOOL_IDEMPOTENT), true },
        { "openWorldHint", !(tool->flags & TOOL_OPEN_WORLD), false },
    };
    bool any = false;

    for (size_t i = 0; i < ARRAY_LEN(hints); i++) {
        if (!hints[i].said)
            continue;
        buf_printf(out, "%s\"%s\":%s", any ? "," : ",\"annotations\":{", hints[i].name,
                   hints[i].value ? "true" : "false");
        any = true;
    }
    if (any)
        buf_append_char(out, '}');
}

/* @fields NULL: a tool without arguments. */
static bool put_schema(struct buf *out, const char *name, const struct json_field *fields)
{
    static const struct json_field none[] = { { .name = NULL } };
    json_t *schema = json_fields_schema(fields ? fields : none);
    bool ok = schema && buf_printf(out, ",\"%s\":", name) && json_write(schema, out);

    json_decref(schema);
    return ok;
}

static bool put_tool(struct buf *out, const struct tool *tool, const struct revision *r)
{
    buf_append_str(out, "{\"name\":");
    jsonrpc_put_string(out, tool->name, strlen(tool->name));
    if (revision_has_title(r)) {
        buf_append_str(out, ",\"title\":");
        jsonrpc_put_string(out, tool->title, strlen(tool->title));
    }
    buf_append_str(out, ",\"description\":");
    jsonrpc_put_string(out, tool->description, strlen(tool->description));
    if (!put_schema(out, "inputSchema", tool->fields))
        return false;
    if (tool->output && revision_has_structured(r) &&
        !put_schema(out, "outputSchema", tool->output))
        return false;
    if (revision_has_annotations(r))
        put_annotations(out, tool);
    if (tool->flags & TOOL_HOST)
        buf_append_str(out, ",\"_meta\":{\"anthropic/requiresUserInteraction\":true}");
    return buf_append_char(out, '}') && !out->failed;
}

/* The tools [from, from + SERVER_PAGE_TOOLS) of the first @count, and the cursor after them. */
static bool put_page(struct mcp_server *s, const struct revision *r, size_t from, size_t count,
                     struct buf *out)
{
    const struct toolmgr *tools = kernel_tools(s->options.kernel);
    size_t to = MIN(count, from + SERVER_PAGE_TOOLS);

    revision_open_result(r, out);
    buf_append_str(out, "\"tools\":[");
    for (size_t i = from; i < to; i++) {
        if (i > from)
            buf_append_char(out, ',');
        if (!put_tool(out, toolmgr_at(tools, i), r))
            return false;
    }
    buf_append_str(out, "],");
    if (to < count)
        buf_printf(out, "\"nextCursor\":\"after-%zu\",", to);
    revision_close_result(r, true, out);
    return !out->failed;
}

/* The place that our own cursor names; an empty one is the beginning. */
static bool parse_cursor(const json_t *cursor, size_t count, size_t *ret_from)
{
    const char *text = json_string_value(cursor);
    unsigned long from;
    char *end;

    *ret_from = 0;
    if (!cursor)
        return true;
    if (!text || strlen(text) != json_string_length(cursor))
        return false;
    if (text[0] == '\0')
        return true;
    if (strncmp(text, "after-", 6) != 0 || text[6] < '1' || text[6] > '9')
        return false;
    from = strtoul(text + 6, &end, 10);
    *ret_from = from;
    return *end == '\0' && from < count && from % SERVER_PAGE_TOOLS == 0;
}

static size_t shape_of(const struct revision *r)
{
    if (r->era == REVISION_MODERN)
        return 3;
    return (size_t)revision_has_annotations(r) + (size_t)revision_has_title(r);
}

void server_list_tools(struct mcp_server *s, const struct jsonrpc *m, const struct revision *r)
{
    struct buf *page = &s->tools[shape_of(r)];
    CLEANUP(buf_fini) struct buf later = BUF_INIT;
    size_t begin = server_compose(s);
    const json_t *asked = json_object_get(json_object_get(m->params, "_meta"), REVISION_ALL_TOOLS);
    const struct toolmgr *tools = kernel_tools(s->options.kernel);
    size_t count = json_is_true(asked) ? toolmgr_count(tools) : toolmgr_listed(tools);
    size_t from;

    if (!parse_cursor(json_object_get(m->params, "cursor"), count, &from)) {
        server_refuse(s, m->id, JSONRPC_INVALID_PARAMS,
                      "params.cursor is not one that tools/list gave; leave it out to begin again");
        return;
    }
    if (from > 0 || json_is_true(asked))
        page = &later;
    if (page->len == 0 && !put_page(s, r, from, count, page)) {
        buf_fini(page);
        buf_init(page, 0);
        server_refuse(s, m->id, JSONRPC_INTERNAL_ERROR, "out of memory for the list of tools");
        return;
    }
    jsonrpc_begin_result(&s->out, m->id);
    buf_append(&s->out, page->data, page->len);
    jsonrpc_end(&s->out);
    server_commit_answer(s, begin, m->id);
}
