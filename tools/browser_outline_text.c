/* The text of an outline: of each frame what its script says, put together and cut into pages. */
#include <ctype.h>
#include <stdio.h>
#include <string.h>

#include "tools/browser_outline_internal.h"

/* ---- frames and shadow roots that the script must be told of ---- */

/* For each object of the array that aiosPage.pending(@kind) is. */
static bool each_pending(struct outline *o, struct browser_tab *tab,
                         const struct browser_frame *frame, const char *kind,
                         bool (*tell)(struct outline *o, struct browser_tab *tab,
                                      const struct browser_frame *frame, const char *object,
                                      const struct wait *w, struct error *err),
                         const struct wait *w, struct error *err)
{
    char expression[64];
    int64_t context;
    json_t *reply, *properties, *property;
    size_t i;
    bool ok = true;

    (void)snprintf(expression, sizeof(expression), "aiosPage.pending('%s')", kind);
    if (!browser_frame_world(tab, frame, &context, w, err))
        return false;
    reply = browser_frame_call(tab, frame, "Runtime.evaluate",
                               json_pack("{ss sI ss}", "expression", expression, "contextId",
                                         (json_int_t)context, "objectGroup", "aios"),
                               w, err);
    if (!reply)
        return false;
    properties = browser_frame_call(
        tab, frame, "Runtime.getProperties",
        json_pack("{ss* sb}", "objectId", outline_object_id(reply, "result"), "ownProperties", 1),
        w, err);
    json_decref(reply);
    if (!properties)
        return false;
    json_array_foreach (json_object_get(properties, "result"), i, property) {
        const char *name = json_string_value(json_object_get(property, "name"));
        const char *object = outline_object_id(property, "value");

        if (name && isdigit((unsigned char)name[0]) && object)
            ok = ok && tell(o, tab, frame, object, w, err);
    }
    json_decref(properties);
    return ok;
}

static json_t *describe(struct browser_tab *tab, const struct browser_frame *frame,
                        const char *object, const struct wait *w, struct error *err)
{
    return browser_frame_call(tab, frame, "DOM.describeNode",
                              json_pack("{ss si sb}", "objectId", object, "depth", 0, "pierce", 1),
                              w, err);
}

static bool tell_frame(struct outline *o, struct browser_tab *tab,
                       const struct browser_frame *frame, const char *object, const struct wait *w,
                       struct error *err)
{
    json_t *reply = describe(tab, frame, object, w, err);
    const char *id = json_string_value(json_object_get(json_object_get(reply, "node"), "frameId"));
    unsigned number = id ? outline_number(o, id) : 0;
    json_t *done = NULL;

    if (reply)
        done = browser_object_eval(tab, frame, object,
                                   "function (n) { aiosPage.mark(this, n); return 1; }",
                                   json_pack("[i]", (int)number), w, err);
    json_decref(reply);
    json_decref(done);
    return done != NULL;
}

/* An element that may have a shadow root which the page cannot see. */
static bool tell_host(struct outline *o, struct browser_tab *tab, const struct browser_frame *frame,
                      const char *object, const struct wait *w, struct error *err)
{
    json_t *reply = describe(tab, frame, object, w, err);
    json_t *root =
        json_array_get(json_object_get(json_object_get(reply, "node"), "shadowRoots"), 0);
    const char *type = json_string_value(json_object_get(root, "shadowRootType"));
    json_t *argument = json_object();
    json_t *done = NULL;
    int64_t context;

    (void)o;
    if (reply && type && strcmp(type, "closed") == 0 &&
        browser_frame_world(tab, frame, &context, w, err)) {
        json_t *resolved = browser_frame_call(
            tab, frame, "DOM.resolveNode",
            json_pack("{sO sI ss}", "backendNodeId", json_object_get(root, "backendNodeId"),
                      "executionContextId", (json_int_t)context, "objectGroup", "aios"),
            w, NULL);

        json_decref(argument);
        argument = json_pack("{ss*}", "objectId", outline_object_id(resolved, "object"));
        json_decref(resolved);
    }
    if (reply)
        done = browser_frame_call(
            tab, frame, "Runtime.callFunctionOn",
            json_pack("{ss ss s[O]}", "objectId", object, "functionDeclaration",
                      "function (root) { aiosPage.host(this, root); }", "arguments", argument),
            w, err);
    json_decref(argument);
    json_decref(reply);
    json_decref(done);
    return done != NULL;
}

static json_t *ask_frame(struct outline *o, struct browser_tab *tab,
                         const struct browser_frame *frame, json_t *options, const struct wait *w,
                         struct error *err)
{
    static const char body[] = "(o) => aiosPage.snapshot(o)";
    json_t *reply = NULL;

    /* A shadow root may hold another one, and frames: a few rounds, then as it is. */
    for (int round = 0; round < 4; round++) {
        if (!json_is_object(options) ||
            json_object_set_new(options, "final", json_boolean(round == 3)) != 0) {
            error_set(err, ERR_NOMEM, "a snapshot");
            return NULL;
        }
        reply = outline_eval(o, tab, frame, body, json_pack("[O]", options), w, err);
        if (!reply || json_object_get(reply, "text"))
            break;
        if ((json_integer_value(json_object_get(reply, "frames")) > 0 &&
             !each_pending(o, tab, frame, "frames", tell_frame, w, err)) ||
            (json_integer_value(json_object_get(reply, "hosts")) > 0 &&
             !each_pending(o, tab, frame, "hosts", tell_host, w, err))) {
            json_decref(reply);
            return NULL;
        }
        json_decref(reply);
        reply = NULL;
    }
    if (reply)
        outline_saw(o, reply);
    return reply;
}

/* ---- the text ---- */

size_t outline_lines(const char *text, size_t len)
{
    size_t lines = len > 0;

    for (size_t i = 0; i + 1 < len; i++)
        lines += text[i] == '\n';
    return lines;
}

static const char *line_end(const char *text, const char *end)
{
    const char *newline = memchr(text, '\n', (size_t)(end - text));

    return newline ? newline : end;
}

void outline_page(const char *text, size_t len, size_t skip, size_t most, const char **ret_begin,
                  size_t *ret_len, size_t *ret_count)
{
    const char *end = text + len;
    const char *at = text;
    const char *stop;

    for (; skip > 0 && at < end; skip--)
        at = line_end(at, end) + (line_end(at, end) < end);
    *ret_begin = at;
    *ret_count = 0;
    for (stop = at; at < end;) {
        const char *line = line_end(at, end);

        if ((size_t)(line - *ret_begin) > most && *ret_count > 0)
            break;
        stop = line;
        ++*ret_count;
        at = line + (line < end);
    }
    if ((size_t)(stop - *ret_begin) > most) {
        stop = *ret_begin + most;
        while (stop > *ret_begin && ((unsigned char)*stop & 0xc0) == 0x80)
            stop--;
    }
    *ret_len = (size_t)(stop - *ret_begin);
}

bool outline_indent(struct buf *out, const char *text, size_t len, size_t indent)
{
    const char *end = text + len;

    while (text < end) {
        const char *line = line_end(text, end);

        /* The sign of a change stays in front. */
        if (*text == '+' || *text == '-' || *text == '~')
            buf_append_char(out, *text++);
        for (size_t i = 0; i < indent; i++)
            buf_append_char(out, ' ');
        buf_append(out, text, (size_t)(line - text));
        buf_append_char(out, '\n');
        text = line + (line < end);
    }
    return !out->failed;
}

struct join {
    struct outline *o;
    struct browser_tab *tab;
    const struct browser_frames *frames;
    const struct outline_wish *wish;
    const struct wait *w;
};

static json_t *frame_options(const struct join *j, const char *root, unsigned number)
{
    const struct outline_wish *wish = j->wish;
    char prefix[16] = "";

    if (number)
        (void)snprintf(prefix, sizeof(prefix), "f%u", number);
    return json_pack("{ss ss* ss* sI sb sb sb sI sI}", "prefix", prefix, "root", root, "match",
                     wish->match, "depth", (json_int_t)wish->depth, "changed", wish->changed,
                     "urls", wish->urls, "again", wish->skip > 0, "skip", (json_int_t)wish->skip,
                     "most", (json_int_t)wish->most);
}

static bool join_frame(const struct join *j, unsigned number, size_t indent, unsigned depth,
                       struct buf *out, struct error *err);

/* @reply's lines, with those of the frames below them. */
static bool join_lines(const struct join *j, const json_t *reply, size_t indent, unsigned depth,
                       struct buf *out, struct error *err)
{
    const char *at = json_string_value(json_object_get(reply, "text"));
    const char *end = at ? at + strlen(at) : NULL;
    json_t *nested = json_object_get(reply, "nested");
    size_t next = 0;

    for (json_int_t line = 0; at && at < end; line++) {
        const char *stop = line_end(at, end);
        json_t *entry = json_array_get(nested, next);
        bool holds = entry && json_integer_value(json_array_get(entry, 0)) == line;
        size_t before = out->len;

        if (!outline_indent(out, at, (size_t)(stop - at), indent))
            return error_set(err, ERR_LIMIT, "the outline of the page has more than %u MiB",
                             OUTLINE_TEXT_MAX >> 20);
        at = stop + (stop < end);
        if (holds) {
            json_int_t frame = json_integer_value(json_array_get(entry, 1));
            json_int_t deeper = json_integer_value(json_array_get(entry, 2)) + 1;
            size_t own = out->len;

            next++;
            if (frame > 0 && deeper > 0 && deeper < 1000 && depth < OUTLINE_DEPTH_MAX &&
                !join_frame(j, (unsigned)frame, indent + (size_t)deeper, depth + 1, out, err))
                return false;
            /* Where only some lines are wanted, a frame without any is none. */
            if (out->len == own && (j->wish->changed || j->wish->match))
                out->len = before;
        }
    }
    return true;
}

static bool join_frame(const struct join *j, unsigned number, size_t indent, unsigned depth,
                       struct buf *out, struct error *err)
{
    const struct browser_frame *frame = outline_numbered(j->o, j->frames, number);
    struct error why = ERROR_INIT;
    json_t *reply;
    bool ok;

    if (!frame)
        return true;
    reply = ask_frame(j->o, j->tab, frame, frame_options(j, NULL, number), j->w, &why);
    if (!reply && (why.code == ERR_CANCELLED || why.code == ERR_LOST || why.code == ERR_BUSY)) {
        if (err)
            *err = why;
        return false;
    }
    if (!reply) /* it went away or does not answer: the rest of the page is still worth telling */
        return true;
    ok = join_lines(j, reply, indent, depth, out, err);
    json_decref(reply);
    return ok;
}

bool outline_text(struct outline *o, struct browser_tab *tab, const struct outline_wish *wish,
                  struct outline_text *ret, const struct wait *w, struct error *err)
{
    CLEANUP(outline_target_fini) struct outline_target t = OUTLINE_TARGET_INIT;
    CLEANUP(buf_fini) struct buf all = BUF_INIT;
    struct join j = { .o = o, .tab = tab, .wish = wish, .w = w };
    const char *begin;
    size_t len, ahead;
    json_t *reply;
    bool ok;

    if (!outline_target(o, tab, wish->root, &t, w, err))
        return false;
    j.frames = &t.frames;
    reply = ask_frame(o, tab, t.frame, frame_options(&j, t.local[0] ? t.local : NULL, t.number), w,
                      err);
    if (!reply)
        return false;
    all.max = OUTLINE_TEXT_MAX;
    ok = join_lines(&j, reply, 0, 0, &all, err);
    if (ok) {
        /* Without frames the script has skipped already. */
        ret->skipped = (size_t)json_integer_value(json_object_get(reply, "skipped"));
        ahead = (size_t)wish->skip > ret->skipped ? (size_t)wish->skip - ret->skipped : 0;
        outline_page(buf_str(&all), all.len, ahead, wish->most, &begin, &len, &ret->count);
        ret->total = json_array_size(json_object_get(reply, "nested")) > 0
                         ? outline_lines(buf_str(&all), all.len)
                         : (size_t)json_integer_value(json_object_get(reply, "total"));
        ret->skipped += ahead;
        ok = buf_append(&ret->text, begin, len) || error_set(err, ERR_NOMEM, "a snapshot");
    }
    json_decref(reply);
    return ok;
}
