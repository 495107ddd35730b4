/* Asking a tab, its dialogs, and where a point of its last picture is. */
#include "tools/browser_internal.h"

#include <math.h>

json_t *browser_params(struct error *err, const char *format, ...)
{
    va_list ap;
    json_t *params;

    va_start(ap, format);
    params = json_vpack_ex(NULL, 0, format, ap);
    va_end(ap);
    if (!params)
        error_set(err, ERR_NOMEM, "a call to the browser");
    return params;
}

const char *browser_tab_id(const struct browser_tab *tab)
{
    return tab->id;
}

void browser_tab_where(struct browser_tab *tab, char *url, size_t url_size, char *title,
                       size_t title_size)
{
    pthread_mutex_lock(&tab->browser->lock);
    (void)snprintf(url, url_size, "%s", tab->url);
    (void)snprintf(title, title_size, "%s", tab->title);
    pthread_mutex_unlock(&tab->browser->lock);
}

uint64_t browser_tab_document(struct browser_tab *tab)
{
    uint64_t document;

    pthread_mutex_lock(&tab->browser->lock);
    document = tab->document;
    pthread_mutex_unlock(&tab->browser->lock);
    return document;
}

bool browser_learn_titles(struct browser *b, const struct wait *w, struct error *err)
{
    json_t *answer = cdp_call(b->cdp, "", "Target.getTargets", NULL, w, err);
    const json_t *info;
    size_t i;

    if (!answer)
        return false;
    pthread_mutex_lock(&b->lock);
    json_array_foreach (json_object_get(answer, "targetInfos"), i, info) {
        const char *id = json_string_value(json_object_get(info, "targetId"));
        struct browser_tab *tab = id ? browser_tab_find_locked(b, id) : NULL;

        if (!tab)
            continue;
        browser_copy(tab->title, sizeof tab->title, json_object_get(info, "title"));
        /* Without a title the browser shows the address. */
        if (strstr(tab->url, tab->title))
            tab->title[0] = '\0';
    }
    pthread_mutex_unlock(&b->lock);
    json_decref(answer);
    return true;
}

/* ---- calls ---- */

static bool state_ok(struct browser_tab *tab, struct error *err)
{
    bool closed, crashed;

    pthread_mutex_lock(&tab->browser->lock);
    closed = tab->closed;
    crashed = tab->crashed;
    pthread_mutex_unlock(&tab->browser->lock);
    if (closed)
        return error_set(err, ERR_LOST, "tab %s was closed; browser_tabs lists those that are open",
                         tab->id);
    if (crashed)
        return error_set(err, ERR_LOST,
                         "the page of tab %s crashed; browser_navigate opens it (or another) again",
                         tab->id);
    return true;
}

static json_t *ask(struct browser_tab *tab, const char *session, const char *method, json_t *params,
                   const struct wait *w, struct error *err)
{
    struct error failed = ERROR_INIT, state = ERROR_INIT;
    struct browser_dialog dialog;
    json_t *answer;

    if (!state_ok(tab, err)) {
        json_decref(params);
        return NULL;
    }
    answer = cdp_ask(tab->browser->cdp, session, method, params, &tab->interrupts, w, &failed);
    if (answer)
        return answer;
    if (cdp_alive(tab->browser->cdp) && !state_ok(tab, &state))
        failed = state;
    else if (failed.code == ERR_BUSY && browser_tab_dialog(tab, &dialog))
        (void)snprintf(failed.text, sizeof failed.text,
                       "a dialog opened (%s \"%.200s\") and the page waits; answer it with "
                       "browser_act",
                       dialog.type, dialog.message);
    if (err)
        *err = failed;
    return NULL;
}

json_t *browser_call(struct browser_tab *tab, const char *method, json_t *params,
                     const struct wait *w, struct error *err)
{
    return ask(tab, tab->session, method, params, w, err);
}

json_t *browser_frame_call(struct browser_tab *tab, const struct browser_frame *frame,
                           const char *method, json_t *params, const struct wait *w,
                           struct error *err)
{
    return ask(tab, frame ? frame->session : tab->session, method, params, w, err);
}

/* ---- dialogs ---- */

bool browser_tab_dialog(struct browser_tab *tab, struct browser_dialog *ret)
{
    bool open;

    pthread_mutex_lock(&tab->browser->lock);
    open = tab->dialog_open;
    if (open)
        *ret = tab->dialog;
    pthread_mutex_unlock(&tab->browser->lock);
    return open;
}

bool browser_tab_answer(struct browser_tab *tab, bool accept, const char *text,
                        const struct wait *w, struct error *err)
{
    char session[BROWSER_ID_MAX + 1];
    json_t *params, *answer;
    unsigned interrupts;
    bool open;

    pthread_mutex_lock(&tab->browser->lock);
    open = tab->dialog_open;
    interrupts = atomic_load(&tab->interrupts);
    memcpy(session, tab->dialog_session, sizeof session);
    pthread_mutex_unlock(&tab->browser->lock);
    if (!open)
        return error_set(err, ERR_NOT_FOUND, "no dialog is open in tab %s", tab->id);
    params = text ? browser_params(err, "{s:b,s:s}", "accept", accept, "promptText", text)
                  : browser_params(err, "{s:b}", "accept", accept);
    if (!params)
        return false;
    answer = cdp_call(tab->browser->cdp, session, "Page.handleJavaScriptDialog", params, w, err);
    if (!answer)
        return false;
    json_decref(answer);
    pthread_mutex_lock(&tab->browser->lock);
    /* Unless another one has opened by now. */
    if (atomic_load(&tab->interrupts) == interrupts)
        tab->dialog_open = false;
    pthread_mutex_unlock(&tab->browser->lock);
    return true;
}

bool browser_tab_chooser(struct browser_tab *tab, const struct browser_mark *mark, char *ret_frame,
                         int64_t *ret_backend_node)
{
    bool asked;

    pthread_mutex_lock(&tab->browser->lock);
    asked = tab->chooser_seq > mark->seq && tab->chooser_node > 0;
    if (asked) {
        memcpy(ret_frame, tab->chooser_frame, sizeof tab->chooser_frame);
        *ret_backend_node = tab->chooser_node;
    }
    pthread_mutex_unlock(&tab->browser->lock);
    return asked;
}

/* ---- pictures ---- */

bool browser_tab_point(struct browser_tab *tab, double image_x, double image_y, double *ret_x,
                       double *ret_y, const struct wait *w, struct error *err)
{
    struct browser_shot shot;
    json_t *metrics, *view;
    double left, top;

    pthread_mutex_lock(&tab->browser->lock);
    shot = tab->shot;
    shot.valid &= shot.document == tab->document;
    pthread_mutex_unlock(&tab->browser->lock);
    if (!shot.valid)
        return error_set(err, ERR_INVALID,
                         "coordinates are those of the last browser_screenshot of this page, and "
                         "there is none; take one first");
    if (!(image_x >= 0 && image_y >= 0 && image_x <= shot.width && image_y <= shot.height))
        return error_set(err, ERR_INVALID, "the point is outside of the last screenshot, %.0fx%.0f",
                         shot.width, shot.height);
    metrics = browser_call(tab, "Page.getLayoutMetrics", NULL, w, err);
    if (!metrics)
        return false;
    view = json_object_get(metrics, "cssVisualViewport");
    left = json_number_value(json_object_get(view, "pageX"));
    top = json_number_value(json_object_get(view, "pageY"));
    json_decref(metrics);
    *ret_x = shot.x + image_x / shot.scale - left;
    *ret_y = shot.y + image_y / shot.scale - top;
    return true;
}

/* ---- references ---- */

void *browser_tab_keep_refs(struct browser_tab *tab, const struct browser_refs *refs)
{
    void *arg;

    pthread_mutex_lock(&tab->browser->lock);
    if (!tab->has_refs) {
        tab->refs_kept = *refs;
        tab->has_refs = true;
    }
    arg = tab->refs_kept.arg;
    pthread_mutex_unlock(&tab->browser->lock);
    return arg;
}

const struct browser_refs *browser_tab_refs(struct browser_tab *tab)
{
    bool has;

    pthread_mutex_lock(&tab->browser->lock);
    has = tab->has_refs;
    pthread_mutex_unlock(&tab->browser->lock);
    return has ? &tab->refs_kept : NULL;
}
