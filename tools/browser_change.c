/* What is new since a moment, and waiting until what an action set off has come. */
#include "tools/browser_internal.h"

#define QUIET_NS (60 * CLOCK_NS_PER_MS)
#define GRACE_NS (300 * CLOCK_NS_PER_MS) /* from a navigation without a document to what it is */
#define TEXT_MAX 4000u

void browser_mark(struct browser_tab *tab, struct browser_mark *ret)
{
    pthread_mutex_lock(&tab->browser->lock);
    ret->seq = tab->browser->seq;
    ret->document = tab->document;
    pthread_mutex_unlock(&tab->browser->lock);
}

static bool concerns(const struct browser_happening *h, const struct browser_tab *tab,
                     const struct browser_mark *mark)
{
    return h->seq > mark->seq && (h->tab == tab->number || h->tab == 0) &&
           h->kind != BROWSER_NOTHING;
}

static struct browser_tab *tab_of_number(struct browser *b, unsigned number)
{
    LIST_FOR_EACH (node, &b->tabs)
        if (LIST_ENTRY(node, struct browser_tab, link)->number == number)
            return LIST_ENTRY(node, struct browser_tab, link);
    return NULL;
}

/* ---- settling ---- */

struct settling {
    const struct browser_mark *mark;
};

/* What an action leads to. */
static bool come(struct browser_tab *tab, void *arg)
{
    const struct settling *s = arg;
    struct browser *b = tab->browser;

    if (tab->dialog_open || tab->crashed || tab->document != s->mark->document)
        return true;
    for (unsigned i = 0; i < BROWSER_EVENTS_MAX; i++)
        if (concerns(&b->happened[i], tab, s->mark) &&
            (b->happened[i].kind == BROWSER_OPENED || b->happened[i].kind == BROWSER_DOWNLOAD))
            return true;
    return false;
}

static bool begun(struct browser_tab *tab, void *arg)
{
    return tab->starting || come(tab, arg);
}

static bool settled(struct browser_tab *tab, void *arg)
{
    const struct settling *s = arg;
    struct browser *b = tab->browser;

    if (tab->dialog_open || tab->crashed)
        return true;
    if (tab->starting || (tab->document != s->mark->document && !tab->content))
        return false;
    for (unsigned i = 0; i < BROWSER_EVENTS_MAX; i++) {
        const struct browser_happening *h = &b->happened[i];
        struct browser_tab *opened;

        if (!concerns(h, tab, s->mark))
            continue;
        if (h->kind == BROWSER_OPENED && (opened = tab_of_number(b, h->other)) &&
            (opened->starting || (opened->loading && !opened->content)))
            return false;
        if (h->kind == BROWSER_DOWNLOAD &&
            !b->downloads[(h->other - 1) % BROWSER_DOWNLOADS_MAX].over)
            return false;
    }
    return true;
}

bool browser_settle(struct browser_tab *tab, const struct browser_mark *mark, int64_t most_ns,
                    const struct wait *w, struct error *err)
{
    return browser_settle_after(tab, mark, browser_patience(tab, QUIET_NS), most_ns, w, err);
}

bool browser_settle_after(struct browser_tab *tab, const struct browser_mark *mark,
                          int64_t quiet_ns, int64_t most_ns, const struct wait *w,
                          struct error *err)
{
    struct settling s = { .mark = mark };
    int64_t now_ns = clock_now_ns();
    struct error failed = ERROR_INIT;
    bool late;

    if (!browser_await(tab, begun, &s, clock_add_ns(now_ns, MIN(quiet_ns, most_ns)), &late, w,
                       &failed) &&
        late)
        return true;
    if (failed.code == ERR_NONE)
        UNCHECKED(
            browser_await(tab, settled, &s, clock_add_ns(now_ns, most_ns), &late, w, &failed));
    /* A navigation that brought no document becomes a download or another tab in a moment. */
    if (failed.code == ERR_NONE &&
        browser_await(
            tab, come, &s,
            MIN(clock_add_ns(clock_now_ns(), MAX(browser_patience(tab, GRACE_NS), quiet_ns)),
                clock_add_ns(now_ns, most_ns)),
            &late, w, &failed))
        UNCHECKED(
            browser_await(tab, settled, &s, clock_add_ns(now_ns, most_ns), &late, w, &failed));
    if (failed.code == ERR_NONE)
        return browser_learn_titles(tab->browser, w, err);
    /* That the tab is closed is an outcome like others. */
    if (failed.code == ERR_LOST && cdp_alive(tab->browser->cdp))
        return true;
    if (err)
        *err = failed;
    return false;
}

/* ---- telling ---- */

static void tell(struct browser_tab *tab, const struct browser_happening *h, bool last_url,
                 struct buf *out)
{
    struct browser_tab *opened;

    switch (h->kind) {
    case BROWSER_NAVIGATED:
    case BROWSER_WITHIN:
        if (!last_url)
            return; /* a redirect by script, and the like: where it ended counts */
        (void)buf_printf(out, "navigated to %s", tab->url);
        if (tab->title[0])
            (void)buf_printf(out, " (%s)", tab->title);
        if (h->kind == BROWSER_NAVIGATED && !tab->content)
            (void)buf_append_str(out, ", which is still loading");
        break;
    case BROWSER_DIALOG:
        (void)buf_append_str(out, h->text);
        if (!strncmp(h->text, "dialog: ", 8))
            (void)buf_append_str(out, tab->dialog_open ? " is open: answer it with browser_act"
                                                       : " (answered)");
        break;
    case BROWSER_OPENED:
        opened = tab_of_number(tab->browser, h->other);
        (void)buf_printf(out, "new tab t%u", h->other);
        if (opened)
            (void)buf_printf(out, ": %.400s", opened->url);
        break;
    default:
        (void)buf_append_str(out, h->text);
        break;
    }
    (void)buf_append_char(out, '\n');
}

bool browser_changes(struct browser_tab *tab, const struct browser_mark *mark,
                     const char *quiet_text, struct buf *out)
{
    struct browser *b = tab->browser;
    size_t before = out->len;
    uint64_t first, navigated = 0;

    pthread_mutex_lock(&b->lock);
    first = b->seq > BROWSER_EVENTS_MAX ? b->seq - BROWSER_EVENTS_MAX : 0;
    first = MAX(first, mark->seq);
    for (uint64_t seq = first; seq < b->seq; seq++) {
        const struct browser_happening *h = &b->happened[seq % BROWSER_EVENTS_MAX];

        if (concerns(h, tab, mark) && (h->kind == BROWSER_NAVIGATED || h->kind == BROWSER_WITHIN))
            navigated = h->seq;
    }
    for (uint64_t seq = first; seq < b->seq && out->len - before < TEXT_MAX; seq++) {
        const struct browser_happening *h = &b->happened[seq % BROWSER_EVENTS_MAX];

        if (concerns(h, tab, mark))
            tell(tab, h, h->seq == navigated, out);
    }
    pthread_mutex_unlock(&b->lock);
    if (out->len == before)
        (void)buf_printf(out, "%s\n", quiet_text ? quiet_text : "nothing changed");
    return !out->failed;
}
