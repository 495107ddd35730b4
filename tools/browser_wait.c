/* browser_wait: until a page is as it is wanted. */
#include "tools/browser_internal.h"

#define WAIT_MS 15000
#define IDLE_NS (500 * CLOCK_NS_PER_MS)
#define LOOK_NS (150 * CLOCK_NS_PER_MS)

static bool quiet(struct browser_tab *tab, void *arg)
{
    (void)arg;
    return tab->dialog_open || tab->crashed ||
           (tab->content && browser_pending_locked(tab) == 0 &&
            clock_now_ns() - tab->network_ns >= IDLE_NS);
}

bool browser_until_quiet(struct browser_tab *tab, int64_t until_ns, bool *ret_late,
                         const struct wait *w, struct error *err)
{
    for (;;) {
        int64_t now_ns = clock_now_ns();

        if (browser_await(tab, quiet, NULL, MIN(until_ns, clock_add_ns(now_ns, LOOK_NS)), ret_late,
                          w, err))
            return true;
        if (!*ret_late || clock_now_ns() >= until_ns)
            return false;
    }
}

const struct json_field browser_wait_fields[] = {
    { .name = "text",
      .description = "It is shown",
      .kind = JSON_KIND_STRING,
      .offset = offsetof(struct browser_wait_args, text) },
    { .name = "gone",
      .description = "It is shown no more",
      .kind = JSON_KIND_STRING,
      .offset = offsetof(struct browser_wait_args, gone) },
    { .name = "url",
      .description = "The URL has it",
      .kind = JSON_KIND_STRING,
      .offset = offsetof(struct browser_wait_args, url) },
    { .name = "idle",
      .description = "No requests for 0.5 s",
      .kind = JSON_KIND_BOOL,
      .offset = offsetof(struct browser_wait_args, idle) },
    { .name = "timeout_ms",
      .description = "At most",
      .kind = JSON_KIND_INT,
      .offset = offsetof(struct browser_wait_args, timeout_ms),
      .fallback = WAIT_MS },
    BROWSER_FIELDS(struct browser_wait_args),
    { .name = NULL },
};

/* Whether the frame shows the text, spaces aside; open shadow roots included. */
static const char shows[] =
    "function (text) {"
    "  const plain = (s) => s.replace(/\\s+/g, ' ');"
    "  const want = plain(text);"
    "  const look = (root) => {"
    "    const body = root.body || root;"
    "    const own = body.innerText === undefined"
    "      ? [...body.children].map((c) => c.innerText || '').join(' ') : body.innerText;"
    "    if (plain(own).includes(want)) return true;"
    "    for (const e of body.querySelectorAll('*'))"
    "      if (e.shadowRoot && look(e.shadowRoot)) return true;"
    "    return false;"
    "  };"
    "  return look(document);"
    "}";

/* 1: some frame shows it, 0: none, -1: failed. */
static int page_shows(struct browser_tab *tab, const char *text, const struct wait *w,
                      struct error *err)
{
    CLEANUP(browser_frames_fini) struct browser_frames frames = { .at = NULL };
    int found = 0;

    if (!browser_frames(tab, &frames, w, err))
        return -1;
    for (size_t i = 0; i < frames.count && !found; i++) {
        struct error failed = ERROR_INIT;
        json_t *value =
            browser_frame_eval(tab, &frames.at[i], shows, json_pack("[s]", text), w, &failed);

        found = json_is_true(value);
        json_decref(value);
        /* A frame that goes, or has no document, shows nothing. */
        if (!value && failed.code != ERR_NOT_FOUND && failed.code != ERR_INVALID) {
            if (err)
                *err = failed;
            return -1;
        }
    }
    return found;
}

static bool never(struct browser_tab *tab, void *arg)
{
    (void)arg;
    return tab->dialog_open || tab->crashed;
}

static bool fulfilled(struct browser_tab *tab, const struct browser_wait_args *a, bool *ret,
                      const struct wait *w, struct error *err)
{
    int shown;
    bool ok = true;

    if (a->url) {
        pthread_mutex_lock(&tab->browser->lock);
        ok = strstr(tab->url, a->url) != NULL;
        pthread_mutex_unlock(&tab->browser->lock);
    }
    if (ok && a->text) {
        shown = page_shows(tab, a->text, w, err);
        if (shown < 0)
            return false;
        ok = shown == 1;
    }
    if (ok && a->gone) {
        shown = page_shows(tab, a->gone, w, err);
        if (shown < 0)
            return false;
        ok = shown == 0;
    }
    *ret = ok;
    return true;
}

bool browser_wait_tool(struct tool_call *call, const void *args, struct error *err)
{
    const struct browser_wait_args *a = args;
    CLEANUP(browser_use_fini) struct browser_use use = { .note = "" };
    CLEANUP(buf_fini) struct buf text = BUF_INIT;
    int64_t begun_ns = clock_now_ns();
    int64_t until_ns = toolkit_answer_by(call, a->timeout_ms);
    struct browser_mark mark;
    bool ok = false, late;

    if (a->timeout_ms < 1 || a->timeout_ms > 86400000)
        return error_set(err, ERR_INVALID, "timeout_ms is from 1 to 86400000");
    if (!a->text && !a->gone && !a->url && !a->idle)
        return error_set(err, ERR_INVALID, "send what to wait for: text, gone, url or idle");
    if (!browser_use(call, a->computer, a->tab, false, &use, err))
        return false;
    browser_mark(use.tab, &mark);
    while (!ok && clock_now_ns() < until_ns) {
        if (!fulfilled(use.tab, a, &ok, &call->wait, err))
            return false;
        if (ok)
            break;
        late = false;
        if (browser_await(use.tab, never, NULL,
                          MIN(until_ns, clock_add_ns(clock_now_ns(), LOOK_NS)), &late, &call->wait,
                          err))
            break;
        if (!late)
            return false;
    }
    if (a->idle && ok) {
        struct error failed = ERROR_INIT;

        ok = browser_until_quiet(use.tab, until_ns, &late, &call->wait, &failed);
        if (!ok && !late) {
            if (err)
                *err = failed;
            return false;
        }
    }
    (void)buf_printf(&text, ok ? "it has come after %.1f s\n" : "it has not come within %.1f s\n",
                     (double)(clock_now_ns() - begun_ns) / 1e9);
    (void)browser_changes(use.tab, &mark, "", &text);
    return browser_finish(call, &use, &text, err);
}
