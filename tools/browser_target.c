/* Waiting until an element can be acted on, and telling what came of it. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernel/base/clock.h"
#include "tools/browser_act.h"

#define SETTLE_NS     (10 * CLOCK_NS_PER_S) /* for a navigation that has begun */
#define QUIET_MS      1000                  /* for changes of the document to end */
#define CHANGED_BYTES 8000u
#define DONE          "\ndone" /* said already what */
#define CLICK_ROUNDS  5
#define AGAIN_MS      50 /* between two looks at what covers a frame */

int64_t act_left_ms(const struct act *act)
{
    return clock_left_ms(act->until_ns, 60000);
}

static const char *action_done(const struct act *act)
{
    static const char *const words[] = {
        [ACT_CLICK] = "clicked",      [ACT_DOUBLE_CLICK] = "clicked", [ACT_RIGHT_CLICK] = "clicked",
        [ACT_HOVER] = "pointed at",   [ACT_TYPE] = "typed into",      [ACT_FILL] = "filled",
        [ACT_PRESS] = "focused",      [ACT_SELECT] = "selected from", [ACT_CHECK] = "checked",
        [ACT_UNCHECK] = "unchecked",  [ACT_DRAG] = "dragged",         [ACT_SCROLL] = "scrolled to",
        [ACT_UPLOAD] = "given files", [ACT_ACCEPT] = "answered",      [ACT_DISMISS] = "answered",
    };

    return words[act->a->action];
}

/* "button "Save" could not be clicked within 5000 ms: covered by <div class=overlay>" */
static bool tell_why(const struct act *act, const json_t *reply, const char *why, struct error *err)
{
    const char *what = json_string_value(json_object_get(reply, "what"));

    return error_set(err, ERR_INVALID, "%.120s could not be %s within %lld ms: %.300s",
                     what          ? what
                     : act->a->ref ? act->a->ref
                                   : "it",
                     action_done(act), (long long)browser_patience(act->tab, act->a->timeout_ms),
                     why);
}

static json_t *begin_options(const struct act *act, enum act_need need)
{
    return json_pack("{sI sb sb sb sb}", "ms", (json_int_t)act_left_ms(act), "bare",
                     need == NEED_BARE, "still", need == NEED_STILL, "enabled",
                     (need & (NEED_ENABLED | NEED_EDITABLE)) != 0, "editable",
                     need == NEED_EDITABLE);
}

/* The point in the viewport; what lies over the frames is waited for, too. */
static bool point_of(struct act *act, json_t **reply, enum act_need need, struct error *err)
{
    char why[200];

    for (;;) {
        act->x = act->local_x = json_number_value(json_object_get(*reply, "x"));
        act->y = act->local_y = json_number_value(json_object_get(*reply, "y"));
        if (!outline_point(act->o, act->tab, &act->target, &act->x, &act->y, why, sizeof(why),
                           &act->wait, err))
            return false;
        if (!why[0] || need == NEED_STILL)
            return true;
        if (act_left_ms(act) == 0)
            return tell_why(act, *reply, why, err);
        json_decref(*reply);
        *reply = outline_eval(
            act->o, act->tab, act->target.frame,
            "async (target, o, ms) => { await new Promise((done) => "
            "setTimeout(done, ms)); return aiosAct.begin(target, o); }",
            json_pack("[s o i]", act->target.local, begin_options(act, need), AGAIN_MS), &act->wait,
            err);
        if (!*reply)
            return false;
        if (json_object_get(*reply, "why"))
            return tell_why(act, *reply, json_string_value(json_object_get(*reply, "why")), err);
    }
}

bool act_begin(struct act *act, const char *ref, enum act_need need, json_t **ret_reply,
               struct error *err)
{
    const char *why, *local;
    json_t *reply;
    bool ok = true;

    outline_target_fini(&act->target);
    act->target = (struct outline_target)OUTLINE_TARGET_INIT;
    act->found = false;
    if (!outline_target(act->o, act->tab, ref, &act->target, &act->wait, err))
        return false;
    if (!ref) {
        reply = outline_eval(act->o, act->tab, act->target.frame, "() => { aiosAct.watch(); }",
                             json_array(), &act->wait, err);
        json_decref(reply);
        return reply != NULL;
    }
    if (act->target.whole)
        (void)snprintf(act->target.local, sizeof(act->target.local), "body");
    reply = outline_eval(
        act->o, act->tab, act->target.frame, "(target, o) => aiosAct.begin(target, o)",
        json_pack("[s o]", act->target.local, begin_options(act, need)), &act->wait, err);
    if (!reply)
        return false;
    why = json_string_value(json_object_get(reply, "why"));
    if (why)
        ok = tell_why(act, reply, why, err);
    else if (need != NEED_BARE)
        ok = point_of(act, &reply, need, err);
    if (ok) {
        local = json_string_value(json_object_get(reply, "ref"));
        (void)snprintf(act->target.local, sizeof(act->target.local), "%s", local ? local : "");
        act->found = true;
    }
    if (ok && ret_reply)
        *ret_reply = json_incref(reply);
    json_decref(reply);
    return ok;
}

json_t *act_eval(struct act *act, const char *body, json_t *args, struct error *err)
{
    CLEANUP(buf_fini) struct buf function = BUF_INIT;
    json_t *reply = NULL;

    if (!args || json_array_insert_new(args, 0, json_string(act->target.local)) != 0) {
        json_decref(args);
        error_set(err, ERR_NOMEM, "a call of the page's script");
        return NULL;
    }
    buf_printf(&function, "(target, ...a) => (%s)(aiosAct.on(target), ...a)", body);
    if (function.failed) {
        json_decref(args);
        error_set(err, ERR_NOMEM, "a call of the page's script");
        return NULL;
    }
    reply = outline_eval(act->o, act->tab, act->target.frame, buf_str(&function), args, &act->wait,
                         err);
    if (reply && json_object_get(reply, "why")) {
        tell_why(act, reply, json_string_value(json_object_get(reply, "why")), err);
        json_decref(reply);
        return NULL;
    }
    return reply;
}

bool act_is_point(const char *text, double *ret_x, double *ret_y)
{
    char *end;
    double x = strtod(text, &end);

    if (end == text || *end != ',')
        return false;
    text = end + 1;
    *ret_y = strtod(text, &end);
    *ret_x = x;
    return end != text && *end == '\0';
}

bool act_point(struct act *act, enum act_need need, struct error *err)
{
    const char *ref = act->a->ref;
    double x, y;

    if (!ref)
        return error_set(err, ERR_INVALID,
                         "send \"ref\": a ref of browser_snapshot, a CSS selector, text=…, or x,y "
                         "in the last browser_screenshot");
    if (!act_is_point(ref, &x, &y))
        return act_begin(act, ref, need, NULL, err);
    return act_begin(act, NULL, NEED_BARE, NULL, err) &&
           browser_tab_point(act->tab, x, y, &act->x, &act->y, &act->wait, err);
}

/* What the script answers with true; also when there is nobody to ask: the page went away. */
static bool confirmed(struct act *act, const char *body, json_t *args)
{
    json_t *reply;
    bool yes;

    if (!act->found || act->in.dialog) {
        json_decref(args);
        return true;
    }
    reply = act_eval(act, body, args, NULL);
    yes = !json_is_false(reply);
    json_decref(reply);
    return yes;
}

bool act_click(struct act *act, const char *ref, bool right, int count, struct error *err)
{
    double x, y;

    if (!ref || act_is_point(ref, &x, &y)) {
        if (!act_point(act, NEED_ENABLED, err))
            return false;
    } else if (!act_begin(act, ref, NEED_ENABLED, NULL, err)) {
        return false;
    }
    /* What is pointed at may change the page, and what moves may have moved on: a press that would
       hit something else is kept from the page and made anew. */
    for (int round = 0; round < CLICK_ROUNDS; round++) {
        if (!browser_input_move(&act->in, act->x, act->y, false, err))
            return false;
        if (confirmed(act, "(el, x, y) => aiosAct.guard(el, x, y)",
                      json_pack("[ff]", act->local_x, act->local_y))) {
            if (!browser_input_click(&act->in, act->x, act->y, right, count, err))
                return false;
            if (confirmed(act, "() => aiosAct.unguard()", json_array()))
                return true;
        }
        if (!act_begin(act, ref, NEED_ENABLED, NULL, err))
            return false;
    }
    return error_set(err, ERR_INVALID, "%s moves away whenever it is to be clicked", ref);
}

/* What the script saw of changes; the document may be gone, which is told elsewhere. */
static void quiet_text(struct act *act, char *text, size_t size)
{
    json_t *seen = outline_eval(act->o, act->tab, act->target.frame, "(ms) => aiosAct.settled(ms)",
                                json_pack("[I]", (json_int_t)browser_patience(act->tab, QUIET_MS)),
                                &act->wait, NULL);
    const char *focus = json_string_value(json_object_get(seen, "focus"));
    json_int_t changes = json_integer_value(json_object_get(seen, "changes"));

    if (!seen || (changes == 0 && !(focus && focus[0])))
        (void)snprintf(text, size, "%s", "nothing changed");
    else
        (void)snprintf(text, size, "%s%s%s", changes ? "the page changed" : "",
                       focus && focus[0] ? (changes ? "; focus: " : "focus: ") : "",
                       focus ? focus : "");
    json_decref(seen);
}

bool act_finish(struct act *act, struct error *err)
{
    struct browser_dialog dialog;
    char quiet[300] = "";

    if (!browser_settle(act->tab, &act->mark, browser_patience(act->tab, SETTLE_NS), &act->wait,
                        err))
        return false;
    if (!browser_tab_dialog(act->tab, &dialog) &&
        browser_tab_document(act->tab) == act->mark.document && act->target.frame)
        quiet_text(act, quiet, sizeof(quiet));
    /* Fields tell themselves what they did. */
    if (act->said.len > 0 && strcmp(quiet, "nothing changed") == 0)
        (void)snprintf(quiet, sizeof(quiet), "%s", &DONE[1]);
    if (act->said.len > 0)
        buf_append_char(&act->said, '\n');
    if (act->a->action == ACT_ACCEPT || act->a->action == ACT_DISMISS)
        (void)snprintf(quiet, sizeof(quiet), "%s the dialog",
                       act->a->action == ACT_ACCEPT ? "accepted" : "dismissed");
    if (!browser_changes(act->tab, &act->mark, quiet[0] ? quiet : NULL, &act->said))
        return error_set(err, ERR_NOMEM, "what changed");
    while (act->said.len > 0 && act->said.data[act->said.len - 1] == '\n')
        act->said.data[--act->said.len] = '\0';
    if (act->said.len > strlen(DONE) &&
        !strcmp(buf_str(&act->said) + act->said.len - strlen(DONE), DONE)) {
        act->said.len -= strlen(DONE);
        act->said.data[act->said.len] = '\0';
    }
    if (act->a->snapshot && !browser_tab_dialog(act->tab, &dialog)) {
        struct outline_wish wish = { .changed = true, .most = CHANGED_BYTES };
        struct outline_text t = { .text = BUF_INIT };
        bool ok = outline_text(act->o, act->tab, &wish, &t, &act->wait, err);

        if (ok && t.count > 0)
            buf_printf(&act->said, "\n%s", buf_str(&t.text));
        if (ok && t.count < t.total)
            buf_printf(&act->said, "\n[%zu lines more; cursor: %zu goes on]", t.total - t.count,
                       t.count);
        buf_fini(&t.text);
        if (!ok)
            return false;
    }
    return !act->said.failed || error_set(err, ERR_NOMEM, "what changed");
}
