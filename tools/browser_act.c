/* browser_act: acting on a page as a person would. */
#include "tools/browser_act.h"

#include "kernel/base/clock.h"

#define MARGIN_NS      (20 * CLOCK_NS_PER_S) /* for what follows once the element is there */
#define DRAG_STEPS     4
#define TIMEOUT_MS_MAX 30000

static const char *const actions[] = {
    "click", "double_click", "right_click", "hover",  "type",   "fill",   "press",   "select",
    "check", "uncheck",      "drag",        "scroll", "upload", "accept", "dismiss", NULL,
};

const struct json_field browser_act_fields[] = {
    { .name = "action",
      .description = "accept, dismiss: a dialog",
      .kind = JSON_KIND_ENUM,
      .required = true,
      .offset = offsetof(struct browser_act_args, action),
      .choices = actions },
    { .name = "ref",
      .description = "Ref, CSS selector, text=…, or x,y in the last screenshot",
      .kind = JSON_KIND_STRING,
      .offset = offsetof(struct browser_act_args, ref) },
    { .name = "text",
      .description = "To type or fill; keys to press, as Control+a; a prompt's answer",
      .kind = JSON_KIND_TEXT,
      .offset = offsetof(struct browser_act_args, text) },
    { .name = "fields",
      .description = "To fill several: ref to value",
      .kind = JSON_KIND_MAP,
      .offset = offsetof(struct browser_act_args, fields) },
    { .name = "values",
      .description = "Options to select, or files to upload",
      .kind = JSON_KIND_STRINGS,
      .offset = offsetof(struct browser_act_args, values) },
    { .name = "to",
      .description = "Where to drag, as ref",
      .kind = JSON_KIND_STRING,
      .offset = offsetof(struct browser_act_args, to) },
    { .name = "dy",
      .description = "To scroll; without: ref into view",
      .kind = JSON_KIND_NUMBER,
      .offset = offsetof(struct browser_act_args, dy) },
    { .name = "dx", .kind = JSON_KIND_NUMBER, .offset = offsetof(struct browser_act_args, dx) },
    { .name = "snapshot",
      .description = "With the changed lines",
      .kind = JSON_KIND_BOOL,
      .offset = offsetof(struct browser_act_args, snapshot) },
    { .name = "timeout_ms",
      .kind = JSON_KIND_INT,
      .offset = offsetof(struct browser_act_args, timeout_ms),
      .fallback = 5000 },
    BROWSER_FIELDS(struct browser_act_args),
    { .name = NULL },
};

/* ---- keyboard ---- */

/* Into @ref, at its end, or wherever the focus is. */
static bool take_focus(struct act *act, bool editable, struct error *err)
{
    json_t *focused;

    double x, y;

    if (!act->a->ref)
        return act_begin(act, NULL, NEED_BARE, NULL, err);
    if (act_is_point(act->a->ref, &x, &y))
        return act_click(act, act->a->ref, false, 1, err);
    if (!act_begin(act, act->a->ref, editable ? NEED_EDITABLE : NEED_STILL, NULL, err))
        return false;
    focused =
        act_eval(act, "(el, atEnd) => aiosAct.focus(el, atEnd)", json_pack("[b]", editable), err);
    if (json_is_false(focused))
        error_set(err, ERR_INVALID, "%s does not take the focus", act->a->ref);
    json_decref(focused);
    return focused && !json_is_false(focused);
}

static bool type_text(struct act *act, struct error *err)
{
    if (!act->a->text.data)
        return error_set(err, ERR_INVALID,
                         "to type send \"text\"; keys such as Enter go by the "
                         "action press");
    return take_focus(act, true, err) &&
           browser_input_type(&act->in, act->a->text.data, act->a->text.len, err);
}

static bool press_keys(struct act *act, struct error *err)
{
    if (!act->a->text.data)
        return error_set(err, ERR_INVALID,
                         "to press send the keys as \"text\", such as "
                         "\"Enter\" or \"Control+a Delete\"");
    return take_focus(act, false, err) && browser_input_keys(&act->in, act->a->text.data, err);
}

/* ---- mouse ---- */

static bool drop_point(struct act *act, double *x, double *y, struct error *err)
{
    const char *to = act->a->to;
    double image_x, image_y;
    bool ok;

    if (act_is_point(to, &image_x, &image_y))
        return browser_tab_point(act->tab, image_x, image_y, x, y, &act->wait, err);
    ok = act_begin(act, to, NEED_STILL, NULL, err);
    *x = act->x;
    *y = act->y;
    return ok;
}

static bool drag(struct act *act, struct error *err)
{
    double from_x, from_y, x, y;
    bool ok;

    if (!act->a->to)
        return error_set(err, ERR_INVALID, "to drag send \"to\": a ref or x,y");
    if (!act_point(act, NEED_ENABLED, err))
        return false;
    from_x = act->x;
    from_y = act->y;
    /* Pressed first: finding the other end may scroll. */
    if (!browser_input_move(&act->in, from_x, from_y, false, err) ||
        !browser_input_button(&act->in, from_x, from_y, false, true, 1, err))
        return false;
    ok = drop_point(act, &x, &y, err);
    for (int i = 1; ok && i <= DRAG_STEPS; i++)
        ok = browser_input_move(&act->in, from_x + (x - from_x) * i / DRAG_STEPS,
                                from_y + (y - from_y) * i / DRAG_STEPS, true, err);
    /* Once more: what is dragged over must have seen it before it is let go. */
    if (ok)
        ok = browser_input_move(&act->in, x, y, true, err);
    if (!ok) {
        UNCHECKED(browser_input_button(&act->in, from_x, from_y, false, false, 1, NULL));
        return false;
    }
    return browser_input_button(&act->in, x, y, false, false, 1, err);
}

static json_t *scroll_state(struct act *act, struct error *err)
{
    static const char body[] =
        "(target, dx, dy, x, y) => aiosAct.scrollState(target ? aiosAct.on(target) : "
        "document.elementFromPoint(x, y), dx, dy)";

    return outline_eval(act->o, act->tab, act->target.frame, body,
                        json_pack("[s ffff]", act->found ? act->target.local : "", act->a->dx,
                                  act->a->dy, act->x, act->y),
                        &act->wait, err);
}

static bool scroll(struct act *act, struct error *err)
{
    const struct browser_act_args *a = act->a;
    json_t *before, *after = NULL, *waited = NULL;
    bool ok;

    if (a->dx == 0 && a->dy == 0) {
        if (!a->ref)
            return error_set(err, ERR_INVALID,
                             "to scroll send \"dy\" (pixels, down is positive), "
                             "\"dx\", or the \"ref\" to bring into view");
        if (!act_begin(act, a->ref, NEED_STILL, NULL, err))
            return false;
        buf_printf(&act->said, "%s is in view", a->ref);
        return true;
    }
    if (a->ref) {
        if (!act_point(act, NEED_STILL, err))
            return false;
    } else {
        json_t *middle;

        if (!act_begin(act, NULL, NEED_BARE, NULL, err))
            return false;
        middle =
            outline_eval(act->o, act->tab, act->target.frame,
                         "() => [innerWidth / 2, innerHeight / 2]", json_array(), &act->wait, err);
        if (!middle)
            return false;
        act->x = json_number_value(json_array_get(middle, 0));
        act->y = json_number_value(json_array_get(middle, 1));
        json_decref(middle);
    }
    before = scroll_state(act, err);
    if (!before)
        return false;
    ok = browser_input_wheel(&act->in, act->x, act->y, a->dx, a->dy, err);
    if (ok && !act->in.dialog) {
        /* Wheels glide: until nothing moves any more. */
        waited = outline_eval(act->o, act->tab, act->target.frame,
                              "async (target, dx, dy, x, y) => { const at = () => { const s = "
                              "aiosAct.scrollState(target ? aiosAct.on(target) : "
                              "document.elementFromPoint(x, y), dx, dy); return s.left + ',' + "
                              "s.top; }; let was = '', same = 0; for (let i = 0; i < 40 && same < "
                              "4; i++) { await new Promise((done) => setTimeout(done, 40)); const "
                              "now = at(); same = now === was ? same + 1 : 0; was = now; } }",
                              json_pack("[s ffff]", act->found ? act->target.local : "", a->dx,
                                        a->dy, act->x, act->y),
                              &act->wait, err);
        json_decref(waited);
        ok = waited != NULL;
        after = ok ? scroll_state(act, err) : NULL;
        ok = after != NULL;
    }
    if (after)
        buf_printf(&act->said, "%s at %lld of %lld down, %lld of %lld across",
                   json_equal(before, after) ? "nothing scrolled: it is" : "scrolled: it is",
                   (long long)json_integer_value(json_object_get(after, "top")),
                   (long long)json_integer_value(json_object_get(after, "height")),
                   (long long)json_integer_value(json_object_get(after, "left")),
                   (long long)json_integer_value(json_object_get(after, "width")));
    json_decref(before);
    json_decref(after);
    return ok;
}

/* ---- the call ---- */

static bool perform(struct act *act, struct error *err)
{
    const struct browser_act_args *a = act->a;

    switch ((enum browser_action)a->action) {
    case ACT_CLICK:
        return act_click(act, act->a->ref, false, 1, err);
    case ACT_DOUBLE_CLICK:
        return act_click(act, act->a->ref, false, 2, err);
    case ACT_RIGHT_CLICK:
        return act_click(act, act->a->ref, true, 1, err);
    case ACT_HOVER:
        return act_point(act, NEED_STILL, err) &&
               browser_input_move(&act->in, act->x, act->y, false, err);
    case ACT_TYPE:
        return type_text(act, err);
    case ACT_FILL:
        return act_fill(act, err);
    case ACT_PRESS:
        return press_keys(act, err);
    case ACT_SELECT:
        return act_select(act, err);
    case ACT_CHECK:
        return act_check(act, true, err);
    case ACT_UNCHECK:
        return act_check(act, false, err);
    case ACT_DRAG:
        return drag(act, err);
    case ACT_SCROLL:
        return scroll(act, err);
    case ACT_UPLOAD:
        return act_upload(act, err);
    case ACT_ACCEPT:
    case ACT_DISMISS:
        return browser_tab_answer(act->tab, a->action == ACT_ACCEPT, a->text.data, &act->wait, err);
    }
    return error_set(err, ERR_INTERNAL, "an action without a case");
}

bool browser_act(struct tool_call *call, const void *args, struct error *err)
{
    const struct browser_act_args *a = args;
    CLEANUP(browser_use_fini) struct browser_use use = { .tab = NULL };
    struct act act = { .call = call, .a = a, .wait = call->wait };
    bool answers = a->action == ACT_ACCEPT || a->action == ACT_DISMISS;
    bool ok;

    if (a->timeout_ms < 0 || a->timeout_ms > TIMEOUT_MS_MAX)
        return error_set(err, ERR_INVALID, "timeout_ms is 0 to %d", TIMEOUT_MS_MAX);
    if (!browser_use(call, a->computer, a->tab, answers, &use, err))
        return false;
    act.tab = use.tab;
    act.o = outline_of(use.tab, err);
    if (!act.o)
        return false;
    act.until_ns =
        clock_add_ns(clock_now_ns(), browser_patience(use.tab, a->timeout_ms * CLOCK_NS_PER_MS));
    act.wait.deadline_ns = MIN(call->wait.deadline_ns,
                               clock_add_ns(act.until_ns, browser_patience(use.tab, MARGIN_NS)));
    act.in = (struct browser_input){ .tab = use.tab, .w = &act.wait };
    browser_mark(act.tab, &act.mark);
    if (use.note && use.note[0])
        buf_printf(&act.said, "%s", use.note);
    ok = perform(&act, err) && act_finish(&act, err) &&
         result_text(call->result, buf_str(&act.said), act.said.len, NULL, err);
    outline_target_fini(&act.target);
    buf_fini(&act.said);
    return ok;
}

static const struct tool tools[] = {
    { .name = "browser_snapshot",
      .title = "Read a page",
      .description = "Outline of the page: role \"name\" [ref states] = \"value\"; refs are for "
                     "browser_act",
      .fields = browser_snapshot_fields,
      .args_size = sizeof(struct browser_snapshot_args),
      .flags = TOOL_READS,
      .handler = browser_snapshot },
    { .name = "browser_act",
      .title = "Act on a page",
      .description = "Click, type, fill …: waits until the element is ready, says what changed",
      .fields = browser_act_fields,
      .args_size = sizeof(struct browser_act_args),
      .flags = TOOL_DESTROYS | TOOL_OPEN_WORLD,
      .handler = browser_act },
};

const struct toolset toolset_browser_act = { .name = "browser",
                                             .tools = tools,
                                             .count = ARRAY_LEN(tools) };
