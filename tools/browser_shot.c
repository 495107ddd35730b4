/* browser_screenshot: a picture of a page, or the page as a PDF. */
#include "tools/browser_internal.h"

#include <math.h>

#include "kernel/base/base64.h"
#include "kernel/base/limits.h"

#define JPEG_QUALITY 80

const struct json_field browser_screenshot_fields[] = {
    { .name = "part",
      .description = "A ref, \"full\" or x,y,width,height; default: viewport",
      .kind = JSON_KIND_STRING,
      .offset = offsetof(struct browser_screenshot_args, part) },
    { .name = "path",
      .description = "File to write instead: .png .jpg .pdf",
      .kind = JSON_KIND_STRING,
      .offset = offsetof(struct browser_screenshot_args, path) },
    BROWSER_FIELDS(struct browser_screenshot_args),
    { .name = NULL },
};

/* ---- which part ---- */

static double number(const json_t *object, const char *key)
{
    double value = json_number_value(json_object_get(object, key));

    return isfinite(value) ? value : 0;
}

static bool parse_region(const char *text, struct browser_box *ret)
{
    double *const numbers[] = { &ret->x, &ret->y, &ret->width, &ret->height };

    for (size_t i = 0; i < ARRAY_LEN(numbers); i++) {
        char *end;

        *numbers[i] = strtod(text, &end);
        if (end == text || *end != (i + 1 < ARRAY_LEN(numbers) ? ',' : '\0'))
            return false;
        text = end + 1;
    }
    return true;
}

/* In coordinates of the page. */
static bool part(struct tool_call *call, const struct browser_screenshot_args *a,
                 struct browser_tab *tab, struct browser_box *ret, struct error *err)
{
    const struct browser_refs *refs = browser_tab_refs(tab);
    bool full = a->part && !strcmp(a->part, "full");
    bool region = a->part && strchr(a->part, ',');
    bool ref = a->part && !full && !region;
    struct browser_box box = { .x = 0 };
    json_t *metrics;
    const json_t *view, *content;

    if (region && !parse_region(a->part, &box))
        return error_set(err, ERR_INVALID,
                         "a region is \"x,y,width,height\", four numbers of CSS pixels");
    if (ref && !refs)
        return error_set(err, ERR_NOT_FOUND,
                         "no element has a ref yet: call browser_snapshot first, or send \"full\" "
                         "or \"x,y,width,height\"");
    if (ref && !refs->box(refs->arg, tab, a->part, &box, &call->wait, err))
        return false;
    metrics = browser_call(tab, "Page.getLayoutMetrics", NULL, &call->wait, err);
    if (!metrics)
        return false;
    view = json_object_get(metrics, "cssVisualViewport");
    content = json_object_get(metrics, "cssContentSize");
    *ret = (struct browser_box){ .x = number(view, "pageX"),
                                 .y = number(view, "pageY"),
                                 .width = number(view, "clientWidth"),
                                 .height = number(view, "clientHeight") };
    if (full)
        *ret = (struct browser_box){ .width = number(content, "width"),
                                     .height = number(content, "height") };
    else if (region)
        *ret = box;
    else if (ref)
        *ret = (struct browser_box){ ret->x + box.x, ret->y + box.y, box.width, box.height };
    json_decref(metrics);
    if (!(ret->width >= 1 && ret->height >= 1 && ret->width <= 1e6 && ret->height <= 1e6 &&
          fabs(ret->x) <= 1e7 && fabs(ret->y) <= 1e7))
        return error_set(err, ERR_INVALID, "there is nothing to see there: %.0fx%.0f CSS pixels",
                         ret->width, ret->height);
    return true;
}

static bool ends(const char *path, const char *with)
{
    size_t len = path ? strlen(path) : 0, n = strlen(with);

    return len >= n && strcasecmp(path + len - n, with) == 0;
}

/* ---- taking it ---- */

static bool fetch(struct tool_call *call, struct browser_tab *tab, const char *method,
                  json_t *params, struct buf *out, struct error *err)
{
    json_t *answer = params ? browser_call(tab, method, params, &call->wait, err) : NULL;
    const json_t *data = json_object_get(answer, "data");
    struct error broken = ERROR_INIT;
    bool ok;

    if (!answer)
        return false;
    buf_clear(out);
    ok = json_is_string(data) &&
         base64_decode(out, json_string_value(data), json_string_length(data), &broken);
    json_decref(answer);
    if (!ok || out->len == 0)
        return error_set(err, ERR_PROTOCOL, "the browser sent no picture");
    return true;
}

static bool picture(struct tool_call *call, struct browser_tab *tab, const struct browser_box *box,
                    double scale, bool jpeg, bool whole, struct buf *out, struct error *err)
{
    json_t *params = browser_params(err, "{s:s,s:b,s:b,s:{s:f,s:f,s:f,s:f,s:f}}", "format",
                                    jpeg ? "jpeg" : "png", "captureBeyondViewport", whole,
                                    "optimizeForSpeed", !jpeg, "clip", "x", box->x, "y", box->y,
                                    "width", box->width, "height", box->height, "scale", scale);

    if (params && jpeg)
        (void)json_object_set_new(params, "quality", json_integer(JPEG_QUALITY));
    return fetch(call, tab, "Page.captureScreenshot", params, out, err);
}

static bool save(struct tool_call *call, struct browser *b, const char *path,
                 const struct buf *data, struct error *err)
{
    char whole[4200];

    (void)snprintf(whole, sizeof whole, "%s%s", path[0] == '/' ? "" : "/workspace/", path);
    return guest_write_file(computer_guest(b->computer), "/", whole, data->data, data->len, 0644,
                            WIRE_WRITE_CREATE | WIRE_WRITE_PARENTS, &call->wait, err) ||
           error_prefix(err, "writing %.200s", whole);
}

static bool as_pdf(struct tool_call *call, const struct browser_screenshot_args *a,
                   struct browser_use *use, struct error *err)
{
    CLEANUP(buf_fini) struct buf pdf = BUF_INIT, text = BUF_INIT;

    if (!fetch(call, use->tab, "Page.printToPDF",
               browser_params(err, "{s:b}", "printBackground", 1), &pdf, err) ||
        !save(call, use->browser, a->path, &pdf, err))
        return false;
    (void)buf_printf(&text, "%s: the page as PDF, %zu bytes\n", a->path, pdf.len);
    return browser_finish(call, use, &text, err);
}

static void remember(struct browser_tab *tab, const struct browser_box *box, double scale,
                     uint64_t document)
{
    pthread_mutex_lock(&tab->browser->lock);
    tab->shot = (struct browser_shot){ .valid = true,
                                       .document = document,
                                       .x = box->x,
                                       .y = box->y,
                                       .scale = scale,
                                       .width = box->width * scale,
                                       .height = box->height * scale };
    pthread_mutex_unlock(&tab->browser->lock);
}

bool browser_screenshot(struct tool_call *call, const void *args, struct error *err)
{
    const struct browser_screenshot_args *a = args;
    CLEANUP(browser_use_fini) struct browser_use use = { .note = "" };
    CLEANUP(buf_fini) struct buf data = BUF_INIT, text = BUF_INIT;
    bool jpeg = ends(a->path, ".jpg") || ends(a->path, ".jpeg"), whole;
    struct browser_box box;
    uint64_t document;
    double scale;

    if (a->path && !jpeg && !ends(a->path, ".png") && !ends(a->path, ".pdf"))
        return error_set(err, ERR_INVALID, "path ends in .png, .jpg or .pdf, which is its kind");
    if (!browser_use(call, a->computer, a->tab, false, &use, err))
        return false;
    if (ends(a->path, ".pdf"))
        return as_pdf(call, a, &use, err);
    document = browser_tab_document(use.tab);
    if (!part(call, a, use.tab, &box, err))
        return false;
    whole = a->part != NULL;
    scale = MIN(1.0, BROWSER_IMAGE / MAX(box.width, box.height));
    if (!picture(call, use.tab, &box, scale, jpeg, whole, &data, err))
        return false;
    /* A photograph as PNG. */
    if (data.len > LIMIT_IMAGE_BYTES && !jpeg && !a->path) {
        jpeg = true;
        if (!picture(call, use.tab, &box, scale, jpeg, whole, &data, err))
            return false;
    }
    remember(use.tab, &box, scale, document);
    if (a->path && !save(call, use.browser, a->path, &data, err))
        return false;
    (void)buf_printf(&text, "%.0fx%.0f pixels%s", box.width * scale, box.height * scale,
                     jpeg && !a->path ? ", as JPEG for its size" : "");
    if (scale < 1)
        (void)buf_printf(&text, ", scale %.3f of the page's %.0fx%.0f", scale, box.width,
                         box.height);
    if (a->path)
        (void)buf_printf(&text, "; written to %s", a->path);
    return (a->path || result_image(call->result, data.data, data.len,
                                    jpeg ? "image/jpeg" : "image/png", err)) &&
           browser_finish(call, &use, &text, err);
}
