/* The frames of a page, whichever process they live in, and running functions in them. */
#include "tools/browser_internal.h"

#include <stdlib.h>

#include "kernel/base/json.h"

#define FRAMES_MAX 256u
#define WORLD_NAME "aios"

void browser_frame_fini(struct browser_frame *frame)
{
    free(frame->url);
    free(frame->name);
    frame->url = frame->name = NULL;
}

void browser_frames_fini(struct browser_frames *frames)
{
    for (size_t i = 0; i < frames->count; i++)
        browser_frame_fini(&frames->at[i]);
    free(frames->at);
    *frames = (struct browser_frames){ .at = NULL };
}

/* ---- which there are ---- */

static bool add(struct browser_frames *frames, const char *session, const char *parent,
                const json_t *node, bool root, struct error *err)
{
    const json_t *info = json_object_get(node, "frame");
    const json_t *child;
    const char *url = json_string_value(json_object_get(info, "url"));
    const char *name = json_string_value(json_object_get(info, "name"));
    struct browser_frame *f, *grown;
    char id[BROWSER_ID_MAX + 1];
    size_t i;

    browser_copy(id, sizeof id, json_object_get(info, "id"));
    if (frames->count >= FRAMES_MAX || !id[0])
        return true;
    for (i = 0; i < frames->count; i++)
        if (!strcmp(frames->at[i].id, id))
            return true;
    grown = reallocarray(frames->at, frames->count + 1, sizeof *grown);
    if (!grown)
        return error_set(err, ERR_NOMEM, "the frames of a page");
    frames->at = grown;
    f = &frames->at[frames->count];
    *f = (struct browser_frame){ .own_session = root,
                                 .url = strdup(url ? url : ""),
                                 .name = strdup(name ? name : "") };
    memcpy(f->id, id, sizeof f->id);
    (void)snprintf(f->session, sizeof f->session, "%s", session);
    (void)snprintf(f->parent, sizeof f->parent, "%s", parent);
    frames->count++;
    if (!f->url || !f->name)
        return error_set(err, ERR_NOMEM, "the frames of a page");
    json_array_foreach (json_object_get(node, "childFrames"), i, child)
        if (!add(frames, session, id, child, false, err))
            return false;
    return true;
}

static bool add_session(struct browser_tab *tab, const struct browser_session *s,
                        struct browser_frames *frames, const struct wait *w, struct error *err)
{
    struct browser_frame in = { .url = NULL };
    struct error gone = ERROR_INIT;
    char parent[BROWSER_ID_MAX + 1];
    json_t *answer;
    const json_t *tree;
    bool ok;

    (void)snprintf(in.session, sizeof in.session, "%s", s->id);
    answer = browser_frame_call(tab, &in, "Page.getFrameTree", NULL, w, &gone);
    if (!answer) {
        /* It went while we asked. */
        if (gone.code == ERR_NOT_FOUND || gone.code == ERR_INVALID)
            return true;
        if (err)
            *err = gone;
        return false;
    }
    tree = json_object_get(answer, "frameTree");
    browser_copy(parent, sizeof parent,
                 json_object_get(json_object_get(tree, "frame"), "parentId"));
    ok = add(frames, s->id, parent[0] ? parent : s->parent_frame, tree, true, err);
    json_decref(answer);
    return ok;
}

/* Frames of other processes are found in the order in which they came: parents go first. */
static void order(struct browser_frames *frames)
{
    for (size_t i = 1; i < frames->count; i++) {
        size_t parent = 0;

        for (size_t k = i + 1; k < frames->count; k++)
            if (!strcmp(frames->at[k].id, frames->at[i].parent))
                parent = k;
        if (parent > 0) {
            struct browser_frame late = frames->at[parent];

            memmove(&frames->at[i + 1], &frames->at[i], (parent - i) * sizeof late);
            frames->at[i] = late;
        }
    }
}

bool browser_frames(struct browser_tab *tab, struct browser_frames *ret, const struct wait *w,
                    struct error *err)
{
    struct browser_session *sessions;
    struct browser_frames frames = { .at = NULL };
    json_t *answer = browser_call(tab, "Page.getFrameTree", NULL, w, err);
    bool ok;

    if (!answer)
        return false;
    ok = add(&frames, tab->session, "", json_object_get(answer, "frameTree"), true, err);
    json_decref(answer);
    sessions = ok ? malloc(sizeof tab->sessions) : NULL;
    if (ok && !sessions)
        ok = error_set(err, ERR_NOMEM, "the frames of a page");
    if (ok) {
        pthread_mutex_lock(&tab->browser->lock);
        memcpy(sessions, tab->sessions, sizeof tab->sessions);
        pthread_mutex_unlock(&tab->browser->lock);
    }
    for (unsigned i = 0; ok && i < BROWSER_SESSIONS_MAX; i++)
        if (sessions[i].id[0] && !sessions[i].worker)
            ok = add_session(tab, &sessions[i], &frames, w, err);
    free(sessions);
    if (ok && frames.count == 0)
        ok = error_set(err, ERR_PROTOCOL, "the browser names no frame of tab %s", tab->id);
    if (!ok) {
        browser_frames_fini(&frames);
        return false;
    }
    order(&frames);
    *ret = frames;
    return true;
}

/* ---- our world in them ---- */

static const char *frame_id(const struct browser_tab *tab, const struct browser_frame *frame)
{
    return frame ? frame->id : tab->target;
}

struct browser_world *browser_world_find_locked(struct browser_tab *tab, const char *session,
                                                const char *frame, bool page)
{
    for (unsigned i = 0; i < BROWSER_WORLDS_MAX; i++) {
        struct browser_world *world = &tab->worlds[i];

        if (world->context && world->page == page && !strcmp(world->frame, frame) &&
            !strcmp(world->session, session))
            return world;
    }
    return NULL;
}

void browser_world_keep_locked(struct browser_tab *tab, const char *session, const char *frame,
                               bool page, int64_t context)
{
    struct browser_world *world = &tab->worlds[tab->next_world++ % BROWSER_WORLDS_MAX];

    *world = (struct browser_world){ .context = context, .page = page };
    (void)snprintf(world->session, sizeof world->session, "%s", session);
    (void)snprintf(world->frame, sizeof world->frame, "%s", frame);
}

bool browser_frame_world(struct browser_tab *tab, const struct browser_frame *frame,
                         int64_t *ret_context, const struct wait *w, struct error *err)
{
    const char *id = frame_id(tab, frame), *session = frame ? frame->session : tab->session;
    json_t *params, *answer;
    struct browser_world *world;
    int64_t context = 0;

    pthread_mutex_lock(&tab->browser->lock);
    world = browser_world_find_locked(tab, session, id, false);
    context = world ? world->context : 0;
    pthread_mutex_unlock(&tab->browser->lock);
    if (context) {
        *ret_context = context;
        return true;
    }
    params = browser_params(err, "{s:s,s:s}", "frameId", id, "worldName", WORLD_NAME);
    answer =
        params ? browser_frame_call(tab, frame, "Page.createIsolatedWorld", params, w, err) : NULL;
    if (!answer)
        return false;
    context = json_integer_value(json_object_get(answer, "executionContextId"));
    json_decref(answer);
    if (context <= 0)
        return error_set(err, ERR_PROTOCOL, "the browser made no context");
    pthread_mutex_lock(&tab->browser->lock);
    browser_world_keep_locked(tab, session, id, false, context);
    pthread_mutex_unlock(&tab->browser->lock);
    *ret_context = context;
    return true;
}

static void forget_world(struct browser_tab *tab, const struct browser_frame *frame,
                         int64_t context)
{
    const char *session = frame ? frame->session : tab->session;

    pthread_mutex_lock(&tab->browser->lock);
    for (unsigned i = 0; i < BROWSER_WORLDS_MAX; i++)
        if (tab->worlds[i].context == context && !strcmp(tab->worlds[i].session, session))
            tab->worlds[i].context = 0;
    pthread_mutex_unlock(&tab->browser->lock);
}

/* ---- functions ---- */

/* [{"value": …}, …] of @args, which is taken. */
static json_t *arguments(json_t *args)
{
    json_t *list = json_array();
    json_t *arg;
    size_t i;

    json_array_foreach (args, i, arg)
        if (!list || json_array_append_new(list, json_pack("{s:O}", "value", arg)) != 0) {
            json_decref(list);
            list = NULL;
            break;
        }
    json_decref(args);
    return list;
}

static json_t *outcome(json_t *answer, struct error *err)
{
    const json_t *thrown = json_object_get(answer, "exceptionDetails");
    json_t *value = NULL;

    if (thrown) {
        const json_t *exception = json_object_get(thrown, "exception");
        const char *text = json_string_value(json_object_get(exception, "description"));

        if (!text)
            text = json_string_value(json_object_get(exception, "value"));
        if (!text)
            text = json_string_value(json_object_get(thrown, "text"));
        error_set(err, ERR_INVALID, "%.400s", text ? text : "it threw");
    } else {
        value = json_object_get(json_object_get(answer, "result"), "value");
        value = value ? json_incref(value) : json_null();
    }
    json_decref(answer);
    return value;
}

static json_t *call_function(struct browser_tab *tab, const struct browser_frame *frame,
                             const char *function, json_t *args, const char *object,
                             int64_t context, const struct wait *w, struct error *err)
{
    json_t *params =
        json_pack("{s:s,s:O,s:b,s:b,s:b}", "functionDeclaration", function, "arguments", args,
                  "returnByValue", 1, "awaitPromise", 1, "userGesture", 1);
    json_t *answer;
    bool ok = params != NULL;

    if (ok && object)
        ok = json_object_set_new(params, "objectId", json_string(object)) == 0;
    else if (ok)
        ok = json_object_set_new(params, "executionContextId", json_integer(context)) == 0;
    if (!ok) {
        json_decref(params);
        error_set(err, ERR_NOMEM, "a call to the page");
        return NULL;
    }
    answer = browser_frame_call(tab, frame, "Runtime.callFunctionOn", params, w, err);
    return answer ? outcome(answer, err) : NULL;
}

json_t *browser_frame_eval(struct browser_tab *tab, const struct browser_frame *frame,
                           const char *function, json_t *args, const struct wait *w,
                           struct error *err)
{
    json_t *list = arguments(args);
    json_t *value = NULL;

    if (!list) {
        error_set(err, ERR_NOMEM, "a call to the page");
        return NULL;
    }
    for (int attempt = 0; attempt < 2 && !value; attempt++) {
        struct error failed = ERROR_INIT;
        int64_t context;

        if (browser_frame_world(tab, frame, &context, w, &failed)) {
            value = call_function(tab, frame, function, list, NULL, context, w, &failed);
            if (value)
                break;
            if (failed.code == ERR_NOT_FOUND) {
                forget_world(tab, frame, context);
                if (attempt == 0)
                    continue; /* the document was just replaced */
            }
        }
        if (err)
            *err = failed;
        break;
    }
    json_decref(list);
    return value;
}

json_t *browser_object_eval(struct browser_tab *tab, const struct browser_frame *frame,
                            const char *object, const char *function, json_t *args,
                            const struct wait *w, struct error *err)
{
    json_t *list = arguments(args);
    json_t *value = NULL;

    if (list)
        value = call_function(tab, frame, function, list, object, 0, w, err);
    else
        error_set(err, ERR_NOMEM, "a call to the page");
    json_decref(list);
    return value;
}
