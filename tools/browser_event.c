/* What the browser says without being asked, taken in on the thread that reads. */
#include "tools/browser_internal.h"

#include <stdlib.h>

#include "kernel/base/utf8.h"

/* ---- helpers ---- */

void browser_copy(char *to, size_t size, const json_t *string)
{
    const char *text = json_string_value(string);
    size_t len = text ? strlen(text) : 0; /* not beyond a NUL */

    len = utf8_cut(text ? text : "", len, MIN(len, size - 1));
    memcpy(to, text ? text : "", len);
    to[len] = '\0';
}

static const char *text_of(const json_t *object, const char *key)
{
    const char *text = json_string_value(json_object_get(object, key));

    return text ? text : "";
}

void browser_happened_locked(struct browser *b, enum browser_kind kind, unsigned tab,
                             unsigned other, const char *fmt, ...)
{
    struct browser_happening *h = &b->happened[b->seq % BROWSER_EVENTS_MAX];
    char text[1200];
    va_list ap;
    size_t len;

    va_start(ap, fmt);
    (void)vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    len = strlen(text);
    len = utf8_cut(text, len, MIN(len, sizeof h->text - 1));
    *h = (struct browser_happening){ .seq = ++b->seq, .kind = kind, .tab = tab, .other = other };
    memcpy(h->text, text, len);
}

struct browser_tab *browser_tab_find_locked(struct browser *b, const char *id)
{
    LIST_FOR_EACH (node, &b->tabs) {
        struct browser_tab *tab = LIST_ENTRY(node, struct browser_tab, link);

        if (!strcmp(tab->id, id) || !strcmp(tab->target, id))
            return tab;
    }
    return NULL;
}

static struct browser_session *session_find(struct browser_tab *tab, const char *id)
{
    for (unsigned i = 0; i < BROWSER_SESSIONS_MAX; i++)
        if (tab->sessions[i].id[0] && !strcmp(tab->sessions[i].id, id))
            return &tab->sessions[i];
    return NULL;
}

static struct browser_tab *tab_of_locked(struct browser *b, const char *session)
{
    LIST_FOR_EACH (node, &b->tabs) {
        struct browser_tab *tab = LIST_ENTRY(node, struct browser_tab, link);

        if (!strcmp(tab->session, session) || session_find(tab, session))
            return tab;
    }
    return NULL;
}

/* ---- tabs come and go ---- */

/* Frames of other processes, workers of a page, and service workers it comes under. */
static void attach_inner(struct cdp *cdp, const char *session)
{
    cdp_post(cdp, session, "Target.setAutoAttach",
             json_pack("{s:b,s:b,s:b,s:[{s:s},{s:s},{s:s}]}", "autoAttach", 1,
                       "waitForDebuggerOnStart", 1, "flatten", 1, "filter", "type", "iframe",
                       "type", "worker", "type", "service_worker"));
    cdp_post(cdp, session, "Runtime.runIfWaitingForDebugger", NULL);
}

static void record(struct cdp *cdp, const char *session)
{
    cdp_post(cdp, session, "Runtime.enable", NULL);
    cdp_post(cdp, session, "Log.enable", NULL);
    cdp_post(
        cdp, session, "Network.enable",
        json_pack("{s:i,s:i}", "maxTotalBufferSize", 16 << 20, "maxResourceBufferSize", 4 << 20));
}

static void set_up(struct browser *b, const char *session, bool page)
{
    struct cdp *cdp = b->cdp;

    cdp_post(cdp, session, "Page.enable", NULL);
    record(cdp, session);
    cdp_post(cdp, session, "Page.setInterceptFileChooserDialog", json_pack("{s:b}", "enabled", 1));
    if (page) {
        cdp_post(cdp, session, "Page.setLifecycleEventsEnabled", json_pack("{s:b}", "enabled", 1));
        cdp_post(cdp, session, "Emulation.setFocusEmulationEnabled",
                 json_pack("{s:b}", "enabled", 1));
        cdp_post(cdp, session, "Emulation.setDeviceMetricsOverride",
                 json_pack("{s:i,s:i,s:i,s:b}", "width", BROWSER_WIDTH, "height", BROWSER_HEIGHT,
                           "deviceScaleFactor", 1, "mobile", 0));
    }
    attach_inner(cdp, session);
}

static struct browser_tab *tab_new(struct browser *b, const char *session, const json_t *info)
{
    struct browser_tab *tab = calloc(1, sizeof *tab);

    if (!tab)
        return NULL;
    atomic_init(&tab->refs, 1);
    tab->browser = b;
    (void)snprintf(tab->session, sizeof tab->session, "%s", session);
    browser_copy(tab->target, sizeof tab->target, json_object_get(info, "targetId"));
    browser_copy(tab->url, sizeof tab->url, json_object_get(info, "url"));
    browser_copy(tab->title, sizeof tab->title, json_object_get(info, "title"));
    return tab;
}

static void on_page(struct browser *b, const char *session, const json_t *info)
{
    struct browser_tab *tab = NULL, *opener;
    bool full;

    pthread_mutex_lock(&b->lock);
    full = b->tab_count >= BROWSER_TABS_MAX;
    if (!full && (tab = tab_new(b, session, info))) {
        opener = browser_tab_find_locked(b, text_of(info, "openerId"));
        tab->number = ++b->last_tab;
        (void)snprintf(tab->id, sizeof tab->id, "t%u", tab->number);
        list_append(&b->tabs, &tab->link);
        b->tab_count++;
        tab->opener = opener ? opener->number : 0;
        if (!b->current)
            b->current = tab;
        browser_happened_locked(b, BROWSER_OPENED, tab->opener, tab->number, "%s", "");
        pthread_cond_broadcast(&b->changed);
    } else if (full) {
        browser_happened_locked(b, BROWSER_CLOSED, 0, 0,
                                "a pop-up was closed: there are %u tabs already", BROWSER_TABS_MAX);
    }
    pthread_mutex_unlock(&b->lock);
    if (tab)
        set_up(b, session, true);
    if (tab)
        return;
    /* Its opener waits for it to begin. */
    cdp_post(b->cdp, session, "Runtime.runIfWaitingForDebugger", NULL);
    cdp_post(b->cdp, "", "Target.closeTarget",
             json_pack("{s:s}", "targetId", text_of(info, "targetId")));
}

/* A frame of another process, or a worker. */
static void on_inner(struct browser *b, const char *parent, const char *session, const json_t *info)
{
    bool worker = strcmp(text_of(info, "type"), "iframe") != 0, kept = false;
    struct browser_tab *tab;

    pthread_mutex_lock(&b->lock);
    tab = tab_of_locked(b, parent);
    for (unsigned i = 0; tab && i < BROWSER_SESSIONS_MAX && !kept; i++) {
        struct browser_session *s = &tab->sessions[i];

        if (s->id[0])
            continue;
        (void)snprintf(s->id, sizeof s->id, "%s", session);
        browser_copy(s->target, sizeof s->target, json_object_get(info, "targetId"));
        browser_copy(s->parent_frame, sizeof s->parent_frame,
                     json_object_get(info, "parentFrameId"));
        s->worker = worker;
        kept = true;
    }
    pthread_mutex_unlock(&b->lock);
    if (kept && !worker) {
        set_up(b, session, false);
        return;
    }
    if (kept)
        record(b->cdp, session);
    attach_inner(b->cdp, session);
}

static void on_attached(struct browser *b, const char *parent, const json_t *params)
{
    const json_t *info = json_object_get(params, "targetInfo");
    const char *session = text_of(params, "sessionId"), *type = text_of(info, "type");

    if (!*session || strlen(session) > BROWSER_ID_MAX)
        return;
    if (!strcmp(type, "page") && !*parent)
        on_page(b, session, info);
    else if (!strcmp(type, "iframe") || !strcmp(type, "worker") || !strcmp(type, "service_worker"))
        on_inner(b, parent, session, info);
    else
        cdp_post(b->cdp, session, "Runtime.runIfWaitingForDebugger", NULL);
}

static void forget_worlds(struct browser_tab *tab, const char *session)
{
    for (unsigned i = 0; i < BROWSER_WORLDS_MAX; i++)
        if (!strcmp(tab->worlds[i].session, session))
            tab->worlds[i].context = 0;
}

static void on_detached_locked(struct browser *b, const char *session)
{
    struct browser_tab *tab = tab_of_locked(b, session);

    if (!tab)
        return;
    forget_worlds(tab, session);
    if (strcmp(tab->session, session) != 0) {
        session_find(tab, session)->id[0] = '\0';
        return;
    }
    tab->closed = true;
    atomic_fetch_add(&tab->interrupts, 1);
    list_remove(&tab->link);
    b->tab_count--;
    if (b->current == tab) {
        b->current = NULL;
        /* Its opener comes back, or else the newest. */
        LIST_FOR_EACH (node, &b->tabs) {
            struct browser_tab *other = LIST_ENTRY(node, struct browser_tab, link);

            b->current = other;
            if (other->number == tab->opener)
                break;
        }
    }
    browser_happened_locked(b, BROWSER_CLOSED, tab->opener, tab->number, "tab %s closed", tab->id);
    browser_happened_locked(b, BROWSER_CLOSED, tab->number, tab->number, "tab %s closed", tab->id);
    browser_tab_unref(tab);
}

/* ---- what happens in a page ---- */

static void on_navigated(struct browser_tab *tab, const json_t *params)
{
    const json_t *frame = json_object_get(params, "frame");

    if (*text_of(frame, "parentId"))
        return;
    browser_copy(tab->url, sizeof tab->url, json_object_get(frame, "url"));
    browser_copy(tab->loader, sizeof tab->loader, json_object_get(frame, "loaderId"));
    tab->title[0] = '\0';
    tab->document++;
    tab->content = tab->loaded = tab->crashed = tab->starting = false;
    tab->loading = true;
    tab->dialog_open = false;
    browser_happened_locked(tab->browser, BROWSER_NAVIGATED, tab->number, 0, "%s", tab->url);
}

static void on_lifecycle(struct browser_tab *tab, const json_t *params)
{
    const char *name = text_of(params, "name");

    if (strcmp(text_of(params, "loaderId"), tab->loader) != 0 ||
        strcmp(text_of(params, "frameId"), tab->target) != 0)
        return;
    if (!strcmp(name, "DOMContentLoaded"))
        tab->content = true;
    if (!strcmp(name, "load"))
        tab->content = tab->loaded = true;
}

static void on_dialog(struct browser_tab *tab, const char *session, const json_t *params)
{
    struct browser_dialog *d = &tab->dialog;

    browser_copy(d->type, sizeof d->type, json_object_get(params, "type"));
    browser_copy(d->message, sizeof d->message, json_object_get(params, "message"));
    browser_copy(d->value, sizeof d->value, json_object_get(params, "defaultPrompt"));
    (void)snprintf(tab->dialog_session, sizeof tab->dialog_session, "%s", session);
    tab->dialog_open = true;
    atomic_fetch_add(&tab->interrupts, 1);
    browser_happened_locked(tab->browser, BROWSER_DIALOG, tab->number, 0, "dialog: %s \"%s\"",
                            d->type, d->message);
}

static void on_crash(struct browser_tab *tab)
{
    tab->crashed = true;
    tab->loading = tab->starting = tab->dialog_open = false;
    atomic_fetch_add(&tab->interrupts, 1);
    browser_happened_locked(tab->browser, BROWSER_CRASHED, tab->number, 0,
                            "the page crashed; browser_navigate opens it again");
}

static void on_chooser(struct browser_tab *tab, const json_t *params)
{
    browser_copy(tab->chooser_frame, sizeof tab->chooser_frame, json_object_get(params, "frameId"));
    tab->chooser_node = json_integer_value(json_object_get(params, "backendNodeId"));
    browser_happened_locked(tab->browser, BROWSER_DIALOG, tab->number, 0,
                            "the page asks for a file: upload it with browser_act");
    tab->chooser_seq = tab->browser->seq;
}

static void on_main_frame(struct browser_tab *tab, const char *method, const json_t *params)
{
    if (!strcmp(method, "Page.frameNavigated")) {
        on_navigated(tab, params);
    } else if (!strcmp(method, "Page.lifecycleEvent")) {
        on_lifecycle(tab, params);
    } else if (!strcmp(method, "Inspector.targetCrashed")) {
        on_crash(tab);
    } else if (strcmp(text_of(params, "frameId"), tab->target) != 0) {
        return;
    } else if (!strcmp(method, "Page.navigatedWithinDocument")) {
        browser_copy(tab->url, sizeof tab->url, json_object_get(params, "url"));
        browser_happened_locked(tab->browser, BROWSER_WITHIN, tab->number, 0, "%s", tab->url);
    } else if (!strcmp(method, "Page.frameStartedNavigating") ||
               !strcmp(method, "Page.frameRequestedNavigation")) {
        /* A fragment, or what becomes a download or another tab, brings no document. */
        const char *type = text_of(params, "navigationType");

        tab->starting = strcmp(type, "sameDocument") != 0 &&
                        strcmp(type, "historySameDocument") != 0 &&
                        strcmp(text_of(params, "disposition"), "download") != 0 &&
                        strcmp(text_of(params, "disposition"), "newTab") != 0 &&
                        strcmp(text_of(params, "disposition"), "newWindow") != 0;
    } else if (!strcmp(method, "Page.frameStartedLoading")) {
        tab->loading = true;
    } else if (!strcmp(method, "Page.frameStoppedLoading")) {
        tab->loading = tab->starting = false;
    }
}

static void on_context(struct browser_tab *tab, const char *session, const char *method,
                       const json_t *params)
{
    json_int_t id = json_integer_value(json_object_get(params, "executionContextId"));

    if (!strcmp(method, "Runtime.executionContextCreated")) {
        const json_t *context = json_object_get(params, "context");
        const json_t *aux = json_object_get(context, "auxData");

        id = json_integer_value(json_object_get(context, "id"));
        if (json_is_true(json_object_get(aux, "isDefault")) && id > 0)
            browser_world_keep_locked(tab, session, text_of(aux, "frameId"), true, id);
        return;
    }
    if (!strcmp(method, "Runtime.executionContextsCleared")) {
        forget_worlds(tab, session);
        return;
    }
    for (unsigned i = 0; i < BROWSER_WORLDS_MAX; i++)
        if (tab->worlds[i].context == id && !strcmp(tab->worlds[i].session, session))
            tab->worlds[i].context = 0;
}

static void on_tab_locked(struct browser_tab *tab, const char *session, const char *method,
                          const json_t *params)
{
    const struct browser_session *inner = session_find(tab, session);

    if (browser_record_locked(tab, session, method, params) || (inner && inner->worker))
        return;
    if (!strncmp(method, "Runtime.executionContext", 24))
        on_context(tab, session, method, params);
    else if (!strcmp(method, "Page.javascriptDialogOpening"))
        on_dialog(tab, session, params);
    else if (!strcmp(method, "Page.javascriptDialogClosed"))
        tab->dialog_open = false;
    else if (!strcmp(method, "Page.fileChooserOpened"))
        on_chooser(tab, params);
    else if (!strcmp(session, tab->session))
        on_main_frame(tab, method, params);
}

/* ---- downloads ---- */

static struct browser_download *download_find(struct browser *b, const char *guid)
{
    for (unsigned i = 0; i < BROWSER_DOWNLOADS_MAX; i++)
        if (b->downloads[i].number && !strcmp(b->downloads[i].guid, guid))
            return &b->downloads[i];
    return NULL;
}

static void on_download_locked(struct browser *b, const json_t *params)
{
    struct browser_download *d = &b->downloads[b->last_download % BROWSER_DOWNLOADS_MAX];
    struct browser_tab *tab = browser_tab_find_locked(b, text_of(params, "frameId"));

    *d = (struct browser_download){ .number = ++b->last_download, .tab = tab ? tab->number : 0 };
    browser_copy(d->guid, sizeof d->guid, json_object_get(params, "guid"));
    browser_copy(d->name, sizeof d->name, json_object_get(params, "suggestedFilename"));
    browser_copy(d->url, sizeof d->url, json_object_get(params, "url"));
    if (tab)
        tab->starting = false;
    browser_happened_locked(b, BROWSER_DOWNLOAD, d->tab, d->number,
                            "download: %s is under way, to " BROWSER_DOWNLOADS, d->name);
}

static void on_progress_locked(struct browser *b, const json_t *params)
{
    struct browser_download *d = download_find(b, text_of(params, "guid"));
    const char *state = text_of(params, "state"), *path = text_of(params, "filePath");
    double bytes = json_number_value(json_object_get(params, "receivedBytes"));

    if (!d || d->over || !strcmp(state, "inProgress"))
        return;
    d->over = true;
    for (unsigned i = 0; i < BROWSER_EVENTS_MAX; i++)
        if (b->happened[i].kind == BROWSER_DOWNLOAD && b->happened[i].other == d->number)
            b->happened[i].kind = BROWSER_NOTHING;
    if (strcmp(state, "completed") != 0)
        browser_happened_locked(b, BROWSER_DOWNLOAD, d->tab, d->number,
                                "download: %s was broken off", d->name);
    else if (*path)
        browser_happened_locked(b, BROWSER_DOWNLOAD, d->tab, d->number, "download: %s, %.0f bytes",
                                path, bytes);
    else
        browser_happened_locked(b, BROWSER_DOWNLOAD, d->tab, d->number,
                                "download: " BROWSER_DOWNLOADS "/%s, %.0f bytes", d->name, bytes);
}

/* ---- in and out ---- */

static void on_event(void *arg, const char *session, const char *method, json_t *params)
{
    struct browser *b = arg;
    struct browser_tab *tab;
    unsigned before = 0, after = 0;

    if (!strcmp(method, "Target.attachedToTarget")) {
        on_attached(b, session, params);
        return;
    }
    pthread_mutex_lock(&b->lock);
    if (!strcmp(method, "Target.detachedFromTarget")) {
        on_detached_locked(b, text_of(params, "sessionId"));
        after = 1;
    } else if (!strcmp(method, "Browser.downloadWillBegin")) {
        on_download_locked(b, params);
    } else if (!strcmp(method, "Browser.downloadProgress")) {
        on_progress_locked(b, params);
    } else if (*session && (tab = tab_of_locked(b, session))) {
        before = atomic_load(&tab->interrupts);
        on_tab_locked(tab, session, method, params);
        after = atomic_load(&tab->interrupts);
    }
    pthread_cond_broadcast(&b->changed);
    pthread_mutex_unlock(&b->lock);
    if (before != after)
        cdp_wake(b->cdp);
}

static void on_lost(void *arg, const char *why)
{
    struct browser *b = arg;

    pthread_mutex_lock(&b->lock);
    b->state = BROWSER_OVER;
    (void)snprintf(b->why, sizeof b->why, "%s", why);
    pthread_cond_broadcast(&b->changed);
    pthread_mutex_unlock(&b->lock);
}

const struct cdp_events browser_events = { .event = on_event, .lost = on_lost };
