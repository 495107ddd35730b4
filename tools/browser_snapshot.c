/* browser_snapshot: what is in the page, as text. */
#include "kernel/base/clock.h"
#include "kernel/base/limits.h"
#include "tools/browser_act.h"

#define TEXT_BYTES (LIMIT_RESULT_TEXT_BYTES - 3000u) /* the rest is for the lines around it */

const struct json_field browser_snapshot_fields[] = {
    { .name = "root",
      .description = "Ref or selector to begin at",
      .kind = JSON_KIND_STRING,
      .offset = offsetof(struct browser_snapshot_args, root) },
    { .name = "depth",
      .kind = JSON_KIND_INT,
      .offset = offsetof(struct browser_snapshot_args, depth) },
    { .name = "changed",
      .description = "Only changes since the last",
      .kind = JSON_KIND_BOOL,
      .offset = offsetof(struct browser_snapshot_args, changed) },
    { .name = "match",
      .description = "Only lines with this text or role, or a|b",
      .kind = JSON_KIND_STRING,
      .offset = offsetof(struct browser_snapshot_args, match) },
    { .name = "links",
      .description = "With URLs",
      .kind = JSON_KIND_BOOL,
      .offset = offsetof(struct browser_snapshot_args, links) },
    { .name = "cursor",
      .kind = JSON_KIND_INT,
      .offset = offsetof(struct browser_snapshot_args, cursor) },
    BROWSER_FIELDS(struct browser_snapshot_args),
    { .name = NULL },
};

static bool answer(struct tool_call *call, struct browser_tab *tab,
                   const struct browser_snapshot_args *a, const char *note,
                   const struct outline_text *t, struct error *err)
{
    CLEANUP(buf_fini) struct buf out = BUF_INIT;
    char url[1000], title[300];

    if (note && note[0])
        buf_printf(&out, "%s\n", note);
    if (a->cursor == 0 && !a->changed) {
        browser_tab_where(tab, url, sizeof(url), title, sizeof(title));
        buf_printf(&out, "%s \"%s\"\n", url, title);
    }
    buf_append(&out, t->text.data, t->text.len);
    if (t->count == 0)
        buf_append_str(&out, a->changed  ? "nothing changed"
                             : a->cursor ? "no more lines"
                             : a->match  ? "nothing matches"
                                         : "nothing to see");
    if (t->skipped + t->count < t->total)
        buf_printf(&out, "\n[lines %zu to %zu of %zu; cursor: %zu goes on, or use match or root]",
                   t->skipped, t->skipped + t->count - 1, t->total, t->skipped + t->count);
    if (out.failed)
        return error_set(err, ERR_NOMEM, "a snapshot");
    return result_text(call->result, out.data, out.len, NULL, err);
}

bool browser_snapshot(struct tool_call *call, const void *args, struct error *err)
{
    const struct browser_snapshot_args *a = args;
    CLEANUP(browser_use_fini) struct browser_use use = { .tab = NULL };
    struct outline_wish wish = {
        .root = a->root,
        .match = a->match,
        .depth = a->depth,
        .skip = a->cursor,
        .changed = a->changed,
        .urls = a->links,
        .most = TEXT_BYTES,
    };
    struct outline_text text = { .text = BUF_INIT };
    struct outline *o;
    bool ok;

    if (a->depth < 0 || a->cursor < 0 || a->cursor > INT32_MAX)
        return error_set(err, ERR_INVALID, "depth and cursor count lines: 0 or more");
    if (!browser_use(call, a->computer, a->tab, false, &use, err))
        return false;
    o = outline_of(use.tab, err);
    ok = o && outline_text(o, use.tab, &wish, &text, &call->wait, err) &&
         answer(call, use.tab, a, use.note, &text, err);
    buf_fini(&text.text);
    return ok;
}
