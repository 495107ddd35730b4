#include "tools/browser_outline_internal.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernel/base/utf8.h"

extern const char browser_script[]; /* browser_script.S: the files of tools/page */

struct outline {
    pthread_mutex_t lock;
    json_int_t next_ref;                                 /* no reference below it is given anew */
    char frames[OUTLINE_FRAMES_MAX][BROWSER_ID_MAX + 1]; /* [0] is frame 1 */
    unsigned frame_count;
};

/* ---- what is kept with a tab ---- */

static void free_kept(void *arg)
{
    struct outline *o = arg;

    if (o) {
        pthread_mutex_destroy(&o->lock);
        free(o);
    }
}

static bool kept_object(void *arg, struct browser_tab *tab, const char *ref,
                        struct browser_frame *ret_frame, char *ret_object, const struct wait *w,
                        struct error *err)
{
    CLEANUP(outline_target_fini) struct outline_target t = OUTLINE_TARGET_INIT;
    struct browser_frame *frame;

    if (!outline_target(arg, tab, ref, &t, w, err) ||
        !outline_object(arg, tab, &t, ret_object, BROWSER_ID_MAX + 1, w, err))
        return false;
    frame = &t.frames.at[t.frame - t.frames.at];
    *ret_frame = *frame;
    frame->url = NULL;
    frame->name = NULL;
    return true;
}

static bool kept_box(void *arg, struct browser_tab *tab, const char *ref, struct browser_box *ret,
                     const struct wait *w, struct error *err)
{
    CLEANUP(outline_target_fini) struct outline_target t = OUTLINE_TARGET_INIT;
    json_t *box;
    char why[2];
    double x, y, right, bottom;

    if (!outline_target(arg, tab, ref, &t, w, err))
        return false;
    box = outline_eval(arg, tab, t.frame,
                       "async (target) => { const el = aiosPage.resolve(target);"
                       " el.scrollIntoView({ block: 'center', inline: 'center', behavior: "
                       "'instant' }); await new Promise((done) => setTimeout(done, 50));"
                       " const b = el.getBoundingClientRect(); return [b.x, b.y, b.width, "
                       "b.height]; }",
                       json_pack("[s]", t.local), w, err);
    if (!box)
        return false;
    x = json_number_value(json_array_get(box, 0));
    y = json_number_value(json_array_get(box, 1));
    right = x + json_number_value(json_array_get(box, 2));
    bottom = y + json_number_value(json_array_get(box, 3));
    json_decref(box);
    if (right <= x || bottom <= y)
        return error_set(err, ERR_INVALID, "%s has no size, so there is nothing to see of it", ref);
    /* The first may scroll the frames, so that both are asked again after it. */
    if (!outline_point(arg, tab, &t, &(double){ x }, &(double){ y }, why, sizeof(why), w, err) ||
        !outline_point(arg, tab, &t, &x, &y, why, sizeof(why), w, err) ||
        !outline_point(arg, tab, &t, &right, &bottom, why, sizeof(why), w, err))
        return false;
    *ret = (struct browser_box){ .x = x, .y = y, .width = right - x, .height = bottom - y };
    return true;
}

struct outline *outline_of(struct browser_tab *tab, struct error *err)
{
    const struct browser_refs *kept = browser_tab_refs(tab);
    struct browser_refs mine = { .free_arg = free_kept, .object = kept_object, .box = kept_box };
    struct outline *o;
    void *there;

    if (kept)
        return kept->arg;
    o = calloc(1, sizeof(*o));
    if (!o) {
        error_set(err, ERR_NOMEM, "the references of a tab");
        return NULL;
    }
    pthread_mutex_init(&o->lock, NULL);
    o->next_ref = 1;
    mine.arg = o;
    there = browser_tab_keep_refs(tab, &mine);
    if (there != o)
        free_kept(o);
    return there;
}

unsigned outline_number(struct outline *o, const char *id)
{
    unsigned number = 0;

    pthread_mutex_lock(&o->lock);
    for (unsigned i = 0; i < o->frame_count && !number; i++)
        if (strcmp(o->frames[i], id) == 0)
            number = i + 1;
    if (!number && o->frame_count < OUTLINE_FRAMES_MAX && strlen(id) <= BROWSER_ID_MAX) {
        (void)snprintf(o->frames[o->frame_count], sizeof(o->frames[0]), "%s", id);
        number = ++o->frame_count;
    }
    pthread_mutex_unlock(&o->lock);
    return number;
}

const struct browser_frame *outline_numbered(struct outline *o, const struct browser_frames *frames,
                                             unsigned number)
{
    char id[BROWSER_ID_MAX + 1] = "";

    pthread_mutex_lock(&o->lock);
    if (number > 0 && number <= o->frame_count)
        memcpy(id, o->frames[number - 1], sizeof(id));
    pthread_mutex_unlock(&o->lock);
    for (size_t i = 0; id[0] && i < frames->count; i++)
        if (strcmp(frames->at[i].id, id) == 0)
            return &frames->at[i];
    return NULL;
}

void outline_saw(struct outline *o, const json_t *reply)
{
    json_int_t next = json_integer_value(json_object_get(reply, "next"));

    pthread_mutex_lock(&o->lock);
    if (next > o->next_ref)
        o->next_ref = next;
    pthread_mutex_unlock(&o->lock);
}

/* ---- the script ---- */

static bool install(struct outline *o, struct browser_tab *tab, const struct browser_frame *frame,
                    const struct wait *w, struct error *err)
{
    CLEANUP(buf_fini) struct buf function = BUF_INIT;
    json_int_t from;
    json_t *done;

    pthread_mutex_lock(&o->lock);
    from = o->next_ref;
    pthread_mutex_unlock(&o->lock);
    buf_append_str(&function, "function (from) { globalThis.aiosFrom = from;\n");
    buf_append_str(&function, browser_script);
    buf_append_str(&function, "\n}");
    if (function.failed)
        return error_set(err, ERR_NOMEM, "the script of a page");
    done = browser_frame_eval(tab, frame, buf_str(&function), json_pack("[I]", from), w, err);
    json_decref(done);
    return done != NULL;
}

/* What the script threw: "stale: …". */
static void tell_thrown(const char *text, struct error *err)
{
    const char *colon = strstr(text, ": ");

    if (strncmp(text, "stale: ", 7) == 0)
        error_set(err, ERR_NOT_FOUND, "%.300s; take a browser_snapshot for what is there now",
                  text + 7);
    else if (strncmp(text, "missing: ", 9) == 0)
        error_set(err, ERR_NOT_FOUND, "%.300s; take a browser_snapshot to see what there is",
                  text + 9);
    else if (strncmp(text, "many: ", 6) == 0 || strncmp(text, "unknown: ", 9) == 0)
        error_set(err, ERR_INVALID, "%.400s", colon + 2);
    else
        error_set(err, ERR_INVALID, "the page's script: %.400s", text);
}

json_t *outline_eval(struct outline *o, struct browser_tab *tab, const struct browser_frame *frame,
                     const char *body, json_t *args, const struct wait *w, struct error *err)
{
    CLEANUP(buf_fini) struct buf function = BUF_INIT;
    json_t *result = NULL;
    const char *thrown;

    buf_printf(&function,
               "async function (...a) { if (!globalThis.aiosAct) return { install: 1 }; try { "
               "return { value: await (%s)(...a) }; } catch (e) { return { thrown: String(e.message"
               " ?? e) }; } }",
               body);
    if (function.failed || !args) {
        error_set(err, ERR_NOMEM, "a call of the page's script");
        json_decref(args);
        return NULL;
    }
    for (int round = 0; round < 3; round++) {
        result = browser_frame_eval(tab, frame, buf_str(&function), json_incref(args), w, err);
        if (!result || !json_object_get(result, "install"))
            break;
        json_decref(result);
        result = NULL;
        if (!install(o, tab, frame, w, err))
            break;
        if (round == 2)
            error_set(err, ERR_BUSY, "the page keeps on loading anew; try again");
    }
    json_decref(args);
    if (!result)
        return NULL;
    thrown = json_string_value(json_object_get(result, "thrown"));
    if (thrown) {
        tell_thrown(thrown, err);
        json_decref(result);
        return NULL;
    }
    args = json_incref(json_object_get(result, "value"));
    json_decref(result);
    return args ? args : json_null();
}

/* ---- elements ---- */

unsigned outline_ref_frame(const char *ref, const char **ret_local)
{
    unsigned number = 0;
    size_t i = 1;

    *ret_local = ref;
    if (ref[0] != 'f')
        return 0;
    for (; isdigit((unsigned char)ref[i]) && i < 6; i++)
        number = number * 10 + (unsigned)(ref[i] - '0');
    if (i == 1 || (ref[i] && (ref[i] != 'e' || !isdigit((unsigned char)ref[i + 1]))))
        return 0;
    *ret_local = ref + i;
    return number;
}

void outline_target_fini(struct outline_target *t)
{
    browser_frames_fini(&t->frames);
}

/* The number of a frame that is no element's: a selector is looked for in all of them. */
static bool find_everywhere(struct outline *o, struct browser_tab *tab, struct outline_target *t,
                            const struct wait *w, struct error *err)
{
    struct error first = ERROR_INIT;

    for (size_t i = 0; i < t->frames.count; i++) {
        struct error e = ERROR_INIT;
        json_t *there = outline_eval(o, tab, &t->frames.at[i],
                                     "(target) => 'e' + aiosPage.refFor(aiosPage.resolve(target))",
                                     json_pack("[s]", t->local), w, &e);

        if (there) {
            t->frame = &t->frames.at[i];
            t->number = i ? outline_number(o, t->frame->id) : 0;
            json_decref(there);
            return true;
        }
        if (i == 0)
            first = e;
        if (e.code != ERR_NOT_FOUND && i == 0)
            break;
    }
    if (err)
        *err = first;
    return false;
}

bool outline_target(struct outline *o, struct browser_tab *tab, const char *ref,
                    struct outline_target *ret, const struct wait *w, struct error *err)
{
    const char *local = "";
    int n;

    if (!browser_frames(tab, &ret->frames, w, err))
        return false;
    ret->number = ref ? outline_ref_frame(ref, &local) : 0;
    ret->frame = ret->number ? outline_numbered(o, &ret->frames, ret->number) : ret->frames.at;
    ret->whole = !local[0];
    if (!ret->frame || ret->frames.count == 0)
        return error_set(err, ERR_NOT_FOUND,
                         "%.60s: this frame is no longer in the page; take a browser_snapshot for "
                         "what is there now",
                         ref ? ref : "");
    n = snprintf(ret->local, sizeof(ret->local), "%s", local);
    if (n < 0 || (size_t)n >= sizeof(ret->local))
        return error_set(err, ERR_INVALID, "a reference is e12 or f2e7, not %d characters long", n);
    if (ret->whole || ret->number || (local[0] == 'e' && isdigit((unsigned char)local[1])) ||
        ret->frames.count == 1)
        return true;
    return find_everywhere(o, tab, ret, w, err);
}

const char *outline_object_id(const json_t *reply, const char *key)
{
    return json_string_value(json_object_get(json_object_get(reply, key), "objectId"));
}

bool outline_object(struct outline *o, struct browser_tab *tab, const struct outline_target *t,
                    char *ret_object, size_t size, const struct wait *w, struct error *err)
{
    int64_t context;
    json_t *there, *reply;
    char expression[64];
    const char *id;
    int n;

    /* By its number, which every element that was found has. */
    there = outline_eval(o, tab, t->frame,
                         "(target) => 'e' + aiosPage.refFor(aiosPage.resolve(target))",
                         json_pack("[s]", t->whole ? "html" : t->local), w, err);
    if (!there)
        return false;
    (void)snprintf(expression, sizeof(expression), "aiosPage.resolve('%.20s')",
                   json_string_value(there) ? json_string_value(there) : "");
    json_decref(there);
    if (!browser_frame_world(tab, t->frame, &context, w, err))
        return false;
    reply = browser_frame_call(tab, t->frame, "Runtime.evaluate",
                               json_pack("{ss sI ss}", "expression", expression, "contextId",
                                         (json_int_t)context, "objectGroup", "aios"),
                               w, err);
    if (!reply)
        return false;
    id = outline_object_id(reply, "result");
    n = id ? snprintf(ret_object, size, "%s", id) : -1;
    json_decref(reply);
    if (n < 0 || (size_t)n >= size)
        return error_set(err, ERR_NOT_FOUND,
                         "%.60s is no longer in the page; take a "
                         "browser_snapshot for what is there now",
                         t->local);
    return true;
}

static const struct browser_frame *frame_by_id(const struct browser_frames *frames, const char *id)
{
    for (size_t i = 0; id[0] && i < frames->count; i++)
        if (strcmp(frames->at[i].id, id) == 0)
            return &frames->at[i];
    return NULL;
}

/* The element of @parent that holds @frame: an object of our world there. */
static bool owner_object(struct browser_tab *tab, const struct browser_frame *parent,
                         const struct browser_frame *frame, char *ret_object, size_t size,
                         const struct wait *w, struct error *err)
{
    int64_t context;
    json_int_t node;
    json_t *reply = browser_frame_call(tab, parent, "DOM.getFrameOwner",
                                       json_pack("{ss}", "frameId", frame->id), w, err);
    const char *id;
    int n;

    if (!reply)
        return false;
    node = json_integer_value(json_object_get(reply, "backendNodeId"));
    json_decref(reply);
    if (!browser_frame_world(tab, parent, &context, w, err))
        return false;
    reply = browser_frame_call(tab, parent, "DOM.resolveNode",
                               json_pack("{sI sI ss}", "backendNodeId", node, "executionContextId",
                                         (json_int_t)context, "objectGroup", "aios"),
                               w, err);
    if (!reply)
        return false;
    id = outline_object_id(reply, "object");
    n = id ? snprintf(ret_object, size, "%s", id) : -1;
    json_decref(reply);
    if (n < 0 || (size_t)n >= size)
        return error_set(err, ERR_NOT_FOUND, "the frame is no longer in the page");
    return true;
}

bool outline_point(struct outline *o, struct browser_tab *tab, const struct outline_target *t,
                   double *x, double *y, char *ret_why, size_t why_size, const struct wait *w,
                   struct error *err)
{
    const struct browser_frame *frame = t->frame;

    ret_why[0] = '\0';
    for (unsigned depth = 0; frame->parent[0] && depth < OUTLINE_DEPTH_MAX; depth++) {
        const struct browser_frame *parent = frame_by_id(&t->frames, frame->parent);
        char object[BROWSER_ID_MAX + 1];
        const char *why;
        json_t *at;

        if (!parent)
            return error_set(err, ERR_NOT_FOUND, "the frame is no longer in the page");
        /* The script must be there before it is called on an object. */
        at = outline_eval(o, tab, parent, "() => 1", json_array(), w, err);
        json_decref(at);
        if (!at || !owner_object(tab, parent, frame, object, sizeof(object), w, err))
            return false;
        at = browser_object_eval(tab, parent, object,
                                 "function (x, y) { return aiosAct.frameAt(this, x, y); }",
                                 json_pack("[ff]", *x, *y), w, err);
        if (!at)
            return false;
        *x = json_number_value(json_object_get(at, "x"));
        *y = json_number_value(json_object_get(at, "y"));
        why = json_string_value(json_object_get(at, "why"));
        if (why && !ret_why[0])
            (void)snprintf(ret_why, why_size, "%s", why);
        json_decref(at);
        frame = parent;
    }
    return true;
}
