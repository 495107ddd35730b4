/* browser_snapshot: what is in the page, as text. */
#include "kernel/base/clock.h"
#include "kernel/base/limits.h"
#include "tools/browser_act.h"

#define TEXT_BYTES (LIMIT_RESULT_TEXT_BYTES - 3000u) /* the rest is for the lines around it */

const struct json_field browser_snapshot_fields[] = {
    { .name = "root",
      .description = "Only what is in this ref, selector or frame",
      .kind = JSON_KIND_STRING,
      .offset = offsetof(struct browser_snapshot_args, root),
      .min = 1,
      .max = 400 },
    { .name = "depth",
      .description = "Levels to show",
      .kind = JSON_KIND_INT,
      .offset = offsetof(struct browser_snapshot_args, depth),
      .min = 1,
      .max = 1000 },
    { .name = "changed",
      .description = "Only what differs from the last one: + new, ~ changed, - gone",
      .kind = JSON_KIND_BOOL,
      .offset = offsetof(struct browser_snapshot_args, changed) },
    { .name = "match",
      .description = "Only lines with this text or role (a|b: either), and what they are in",
      .kind = JSON_KIND_STRING,
      .offset = offsetof(struct browser_snapshot_args, match),
      .min = 1,
      .max = 400 },
    { .name = "links",
      .description = "With the links' URLs",
      .kind = JSON_KIND_BOOL,
      .offset = offsetof(struct browser_snapshot_args, links) },
    { .name = "cursor",
      .description = "Line to go on from",
      .kind = JSON_KIND_INT,
      .offset = offsetof(struct browser_snapshot_args, cursor),
      .min = 0,
      .max = INT32_MAX },
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

    if (!browser_use(call, a->computer, a->tab, false, &use, err))
        return false;
    o = outline_of(use.tab, err);
    ok = o && outline_text(o, use.tab, &wish, &text, &call->wait, err) &&
         answer(call, use.tab, a, use.note, &text, err);
    buf_fini(&text.text);
    return ok;
}
