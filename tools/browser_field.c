/* What has a value: fields, lists of choices, boxes, files. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "kernel/base/clock.h"
#include "tools/browser_act.h"

/* A field that does not take what it is given says so: programs of pages change what is typed. */
static bool check_content(struct act *act, const char *ref, const char *wanted, struct error *err)
{
    const char *has;
    json_t *now;

    if (act->in.dialog)
        return true;
    now = act_eval(act, "(el) => el.type === 'password' ? null : aiosAct.contentOf(el)",
                   json_array(), err);
    if (!now)
        return false;
    has = json_string_value(now);
    if (has && strcmp(has, wanted) != 0)
        buf_printf(&act->said, "%s%s holds \"%.200s\" now: the page changed what was filled in",
                   act->said.len ? "\n" : "", ref, has);
    json_decref(now);
    return true;
}

static bool set_box(struct act *act, const char *ref, bool wanted, struct error *err)
{
    json_t *state = NULL;
    bool was;

    if (!act_begin(act, ref, NEED_ENABLED, NULL, err))
        return false;
    state = act_eval(act, "(el) => aiosAct.checkedOf(el)", json_array(), err);
    if (!state)
        return false;
    was = json_is_true(json_object_get(state, "checked"));
    if (was != wanted && !wanted && json_is_true(json_object_get(state, "radio"))) {
        json_decref(state);
        return error_set(err, ERR_INVALID,
                         "a radio button cannot be unchecked; check another one of its group");
    }
    json_decref(state);
    if (was == wanted) {
        buf_printf(&act->said, "%s%s was %s already", act->said.len ? "\n" : "", ref,
                   wanted ? "checked" : "unchecked");
        return true;
    }
    if (!act_click(act, ref, false, 1, err))
        return false;
    if (act->in.dialog || browser_tab_document(act->tab) != act->mark.document)
        return true;
    state = act_eval(act, "(el) => aiosAct.checkedOf(el)", json_array(), NULL);
    was = json_is_true(json_object_get(state, "checked"));
    if (state && was != wanted) {
        json_decref(state);
        return error_set(err, ERR_INVALID,
                         "%s was clicked and did not change; the page may have undone it", ref);
    }
    json_decref(state);
    return true;
}

static bool fill_one(struct act *act, const char *ref, const char *value, struct error *err)
{
    json_t *reply;
    bool ok = true;

    if (!act_begin(act, ref, NEED_BARE, NULL, err))
        return false;
    reply = act_eval(act, "(el, value, ms) => aiosAct.fill(el, value, ms)",
                     json_pack("[s I]", value, (json_int_t)act_left_ms(act)), err);
    if (!reply)
        return false;
    if (json_object_get(reply, "check")) {
        ok = set_box(act, ref, json_is_true(json_object_get(reply, "check")), err);
    } else if (json_is_true(json_object_get(reply, "type"))) {
        if (json_is_true(json_object_get(reply, "same")))
            buf_printf(&act->said, "%s%s held this already", act->said.len ? "\n" : "", ref);
        else if (value[0])
            ok = browser_input_insert(&act->in, value, strlen(value), err);
        else
            ok = browser_input_keys(&act->in, "Delete", err);
        ok = ok && check_content(act, ref, value, err);
    } else if (json_is_true(json_object_get(reply, "same"))) {
        buf_printf(&act->said, "%s%s held this already", act->said.len ? "\n" : "", ref);
    }
    json_decref(reply);
    return ok;
}

bool act_fill(struct act *act, struct error *err)
{
    const struct browser_act_args *a = act->a;
    const char *ref;
    json_t *value;
    size_t done = 0;

    if (!a->fields == !(a->ref && a->text.data))
        return error_set(err, ERR_INVALID,
                         "to fill send \"ref\" and \"text\", or \"fields\": {ref: value, …}");
    if (!a->fields)
        return fill_one(act, a->ref, a->text.data, err);
    json_object_foreach (a->fields, ref, value) {
        if (!fill_one(act, ref, json_string_value(value), err))
            return error_prefix(err, "%zu of %zu fields are filled; %s", done,
                                json_object_size(a->fields), ref);
        done++;
        if (act->in.dialog)
            break;
    }
    return true;
}

bool act_select(struct act *act, struct error *err)
{
    const struct browser_act_args *a = act->a;
    json_t *values = a->values                ? json_incref(a->values)
                     : a->text.data && a->ref ? json_pack("[s]", a->text.data)
                                              : NULL;
    json_t *reply;

    if (!values || !a->ref) {
        json_decref(values);
        return error_set(err, ERR_INVALID,
                         "to select send \"ref\" and \"values\": the options' "
                         "texts or values");
    }
    if (!act_begin(act, a->ref, NEED_BARE, NULL, err)) {
        json_decref(values);
        return false;
    }
    reply = act_eval(act, "(el, values, ms) => aiosAct.select(el, values, ms)",
                     json_pack("[o I]", values, (json_int_t)act_left_ms(act)), err);
    if (!reply)
        return false;
    if (json_is_true(json_object_get(reply, "same")))
        buf_append_str(&act->said, "this was selected already");
    json_decref(reply);
    return true;
}

bool act_check(struct act *act, bool wanted, struct error *err)
{
    if (!act->a->ref)
        return error_set(err, ERR_INVALID, "send the \"ref\" of the checkbox");
    return set_box(act, act->a->ref, wanted, err);
}

/* ---- files ---- */

static bool check_files(struct act *act, struct error *err)
{
    CLEANUP(computer_unrefp)
    struct computer *computer = toolkit_computer(act->call, act->a->computer, err);
    json_t *file;
    size_t i;

    if (!computer)
        return false;
    json_array_foreach (act->a->values, i, file) {
        const char *path = json_string_value(file);
        struct wire_stat st;

        if (!path || path[0] != '/')
            return error_set(err, ERR_INVALID,
                             "values are absolute paths in the computer, such as /workspace/a.pdf; "
                             "file_write or file_transfer puts them there");
        if (!guest_stat(computer_guest(computer), "/", path, true, &st, &act->wait, err))
            return error_prefix(err, "upload %s", path);
        if (S_ISDIR(st.mode))
            return error_set(err, ERR_INVALID, "%s is a folder; name the files in it", path);
    }
    return true;
}

static bool set_files(struct act *act, const struct browser_frame *frame, json_t *params,
                      struct error *err)
{
    json_t *done;

    if (!params || json_object_set(params, "files", act->a->values) != 0) {
        json_decref(params);
        return error_set(err, ERR_NOMEM, "an upload");
    }
    done = browser_frame_call(act->tab, frame, "DOM.setFileInputFiles", params, &act->wait, err);
    json_decref(done);
    return done != NULL;
}

/* A button that asks for files: which field it asked with. */
static bool choose(struct act *act, struct error *err)
{
    CLEANUP(browser_frames_fini) struct browser_frames frames = { .count = 0 };
    char id[BROWSER_ID_MAX + 1];
    int64_t node;

    if (!browser_tab_chooser(act->tab, &act->mark, id, &node)) {
        json_t *waited = outline_eval(act->o, act->tab, NULL,
                                      "() => new Promise((done) => setTimeout(done, 300))",
                                      json_array(), &act->wait, NULL);

        json_decref(waited);
        if (!browser_tab_chooser(act->tab, &act->mark, id, &node))
            return error_set(err, ERR_INVALID,
                             "%s was clicked and did not ask for files; send the ref of the file "
                             "field or of the button that opens the choice",
                             act->a->ref);
    }
    if (!browser_frames(act->tab, &frames, &act->wait, err))
        return false;
    for (size_t i = 0; i < frames.count; i++)
        if (strcmp(frames.at[i].id, id) == 0)
            return set_files(act, &frames.at[i],
                             json_pack("{sI}", "backendNodeId", (json_int_t)node), err);
    return error_set(err, ERR_NOT_FOUND, "the frame that asked for files is gone");
}

bool act_upload(struct act *act, struct error *err)
{
    const struct browser_act_args *a = act->a;
    json_t *reply = NULL;
    const char *type;
    char object[BROWSER_ID_MAX + 1];
    bool field;

    if (!a->ref || !a->values)
        return error_set(err, ERR_INVALID,
                         "to upload send \"ref\" and \"values\": paths in the computer");
    if (!check_files(act, err) || !act_begin(act, a->ref, NEED_BARE, &reply, err))
        return false;
    type = json_string_value(json_object_get(reply, "type"));
    field = type && strcmp(type, "file") == 0;
    json_decref(reply);
    if (field)
        return outline_object(act->o, act->tab, &act->target, object, sizeof(object), &act->wait,
                              err) &&
               set_files(act, act->target.frame, json_pack("{ss}", "objectId", object), err);
    return act_click(act, a->ref, false, 1, err) && choose(act, err);
}
