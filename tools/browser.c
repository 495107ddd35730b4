#include "tools/browser_internal.h"

#include <signal.h>
#include <stdlib.h>

#define START_NS   (120 * CLOCK_NS_PER_S)
#define ANSWER_NS  (30 * CLOCK_NS_PER_S)
#define SLOW_NS    (10 * CLOCK_NS_PER_S) /* starts a machine whose processor is emulated, or worse */
#define SLOW_TIMES 10u

/* The profile is a folder of the computer, so that checkpoints and copies have it; the locks of the
 * computer that it was copied from are not valid here.  Why without Chromium's own sandbox:
 * docs/decisions/browser-sandbox.md. */
static const char command[] =
    "for b in /usr/lib/chromium/chromium chromium chromium-browser google-chrome-stable "
    "google-chrome; do p=$(command -v $b) && break; done\n"
    "[ -n \"$p\" ] || exit 127\n"
    "d=${HOME:-/workspace}/.browser; mkdir -p \"$d\" /workspace/Downloads\n"
    "rm -f \"$d\"/Singleton*\n"
    "exec \"$p\" --headless=new --no-sandbox --test-type --remote-debugging-pipe "
    "--user-data-dir=\"$d\" --window-size=1280,800 --hide-scrollbars --mute-audio "
    "--disable-gpu --disable-software-rasterizer --force-color-profile=srgb "
    "--proxy-server=http://127.0.0.1:3128 --disable-quic --no-pings --log-level=3 "
    "--no-first-run --no-default-browser-check --disable-background-networking "
    "--disable-component-update --disable-sync --disable-default-apps --disable-extensions "
    "--disable-breakpad --disable-crash-reporter --disable-client-side-phishing-detection "
    "--disable-domain-reliability --disable-field-trial-config "
    "--disable-search-engine-choice-screen "
    "--metrics-recording-only --password-store=basic --disable-prompt-on-repost "
    "--enable-aggressive-domstorage-flushing "
    "--disable-hang-monitor --disable-popup-blocking --disable-background-timer-throttling "
    "--disable-backgrounding-occluded-windows --disable-renderer-backgrounding "
    "--disable-features=Translate,MediaRouter,DialMediaRouteProvider,OptimizationHints,"
    "BackForwardCache,AcceptCHFrame,HttpsUpgrades,PaintHolding,CertificateTransparencyComponent"
    "Updater,InterestFeedContentSuggestions,RenderDocument "
    "--js-flags=--max-old-space-size=384 about:blank\n";

/* ---- ownership ---- */

struct browser *browser_ref(struct browser *b)
{
    atomic_fetch_add(&b->refs, 1);
    return b;
}

struct browser_tab *browser_tab_ref(struct browser_tab *tab)
{
    atomic_fetch_add(&tab->refs, 1);
    return tab;
}

void browser_tab_unref(struct browser_tab *tab)
{
    if (!tab || atomic_fetch_sub(&tab->refs, 1) > 1)
        return;
    if (tab->has_refs)
        tab->refs_kept.free_arg(tab->refs_kept.arg);
    browser_records_fini(tab);
    free(tab);
}

void browser_unref(struct browser *b)
{
    if (!b || atomic_fetch_sub(&b->refs, 1) > 1)
        return;
    cdp_free(b->cdp);
    run_unref(b->run);
    for (struct list *link = b->tabs.next, *next; link != &b->tabs; link = next) {
        next = link->next;
        browser_tab_unref(LIST_ENTRY(link, struct browser_tab, link));
    }
    computer_unref(b->computer);
    pthread_cond_destroy(&b->changed);
    pthread_mutex_destroy(&b->lock);
    free(b);
}

static struct browser *new_browser(struct computer *c, struct error *err)
{
    struct browser *b = calloc(1, sizeof *b);

    if (!b) {
        error_set(err, ERR_NOMEM, "a browser");
        return NULL;
    }
    atomic_init(&b->refs, 1);
    b->computer = computer_ref(c);
    b->slow = 1;
    list_init(&b->tabs);
    pthread_mutex_init(&b->lock, NULL);
    cond_init(&b->changed);
    return b;
}

int64_t browser_patience(const struct browser_tab *tab, int64_t ns)
{
    return ns * tab->browser->slow;
}

/* Its computer goes, or another takes its place: whoever is inside gets ERR_LOST. */
static void drop(void *thing)
{
    struct browser *b = thing;
    struct cdp *cdp;

    pthread_mutex_lock(&b->lock);
    cdp = b->cdp;
    pthread_mutex_unlock(&b->lock);
    if (cdp)
        cdp_stop(cdp);
    browser_unref(b);
}

/* ---- starting ---- */

static void over_locked(struct browser *b, const char *why)
{
    if (b->state != BROWSER_OVER)
        (void)snprintf(b->why, sizeof b->why, "%s", why);
    b->state = BROWSER_OVER;
    pthread_cond_broadcast(&b->changed);
}

static bool missing(struct computer *c, struct error *err)
{
    return error_set(err, ERR_NOT_FOUND,
                     "computer %s has no Chromium. Use a computer made with "
                     "computer_create {\"image\":\"desktop\"}, or have the package chromium "
                     "installed where the computer's programs come from (apt-get install chromium)",
                     computer_id(c));
}

static bool have_page(struct browser_tab *none, void *arg)
{
    const struct browser *b = arg;

    (void)none;
    return !list_empty(&b->tabs);
}

static void wake(void *arg)
{
    struct browser *b = arg;

    pthread_mutex_lock(&b->lock);
    pthread_cond_broadcast(&b->changed);
    pthread_mutex_unlock(&b->lock);
}

static bool await_any(struct browser *b, browser_ready_fn *ready, struct browser_tab *tab,
                      void *arg, int64_t until_ns, bool *ret_late, const struct wait *w,
                      struct error *err)
{
    struct wait soon = { .deadline_ns = MIN(until_ns, w->deadline_ns), .cancel = w->cancel };
    struct cancel_hook hook;
    bool is, over, left = true;

    cancel_attach(w->cancel, &hook, wake, b);
    pthread_mutex_lock(&b->lock);
    for (;;) {
        over = b->state == BROWSER_OVER || (tab && tab->closed);
        is = ready(tab, arg);
        if (is || over || !left)
            break;
        left = wait_cond(&soon, &b->changed, &b->lock);
    }
    if (over && !is)
        error_set(err, ERR_LOST, "%s%s", b->state == BROWSER_OVER ? "the browser has ended: " : "",
                  b->state == BROWSER_OVER ? b->why : "the tab was closed");
    pthread_mutex_unlock(&b->lock);
    cancel_detach(w->cancel, &hook);
    *ret_late = false;
    if (is)
        return true;
    if (over || !wait_check(w, err))
        return false;
    *ret_late = true;
    return false;
}

bool browser_await(struct browser_tab *tab, browser_ready_fn *ready, void *arg, int64_t until_ns,
                   bool *ret_late, const struct wait *w, struct error *err)
{
    return await_any(tab->browser, ready, tab, arg, until_ns, ret_late, w, err);
}

static bool greet(struct browser *b, const struct wait *w, struct error *err)
{
    json_t *params = browser_params(err, "{s:s,s:s,s:b}", "behavior", "allow", "downloadPath",
                                    BROWSER_DOWNLOADS, "eventsEnabled", 1);
    json_t *answer;
    bool late;

    if (!params)
        return false;
    answer = cdp_call(b->cdp, "", "Browser.setDownloadBehavior", params, w, err);
    if (!answer)
        return false;
    json_decref(answer);
    if (!await_any(b, have_page, NULL, b, w->deadline_ns, &late, w, err))
        return late ? error_set(err, ERR_TIMEOUT, "the browser opened no page") : false;
    return browser_take_cookies(b, w, err);
}

static bool launch(struct browser *b, const struct wait *w, struct error *err)
{
    static const struct run_spec spec = {
        .command = command, .merge = true, .control = true, .lossless = true
    };
    CLEANUP(run_unrefp) struct run *run = run_start(b->computer, &spec, w, err);
    struct cdp *cdp;

    if (!run)
        return false;
    cdp = cdp_new(run, &browser_events, b, err);
    if (!cdp) {
        run_kill(run, SIGKILL, true);
        return false;
    }
    pthread_mutex_lock(&b->lock);
    b->cdp = cdp;
    b->run = run_ref(run);
    b->began_ns = clock_now_ns();
    pthread_mutex_unlock(&b->lock);
    cdp_post(cdp, "", "Target.setAutoAttach",
             json_pack("{s:b,s:b,s:b,s:[{s:s}]}", "autoAttach", 1, "waitForDebuggerOnStart", 1,
                       "flatten", 1, "filter", "type", "page"));
    return true;
}

static bool still_starting(struct error *err)
{
    return error_set(err, ERR_TIMEOUT,
                     "Chromium is still starting, which takes a minute or more in an emulated "
                     "machine; call again");
}

static bool is_machine(const struct browser *b)
{
    return !strcmp(computer_kind(b->computer), "vm");
}

/* Starts it, or goes on with that: a call whose time passes leaves it to the next one.
 * *ret_later: so it is. */
static bool start(struct browser *b, bool *ret_later, const struct wait *w, struct error *err)
{
    struct wait soon = *w;
    struct error failed = ERROR_INIT;
    struct run_info info;
    int64_t until_ns;

    *ret_later = false;
    if (!b->cdp && !launch(b, w, err))
        return false;
    until_ns = b->began_ns + (is_machine(b) ? SLOW_TIMES : 1) * START_NS;
    /* Perhaps it has started since, while nobody looked. */
    soon.deadline_ns = MIN(w->deadline_ns, MAX(until_ns, clock_add_ns(clock_now_ns(), ANSWER_NS)));
    if (greet(b, &soon, &failed))
        return true;
    run_info(b->run, &info);
    if (info.reason == RUN_LIVE && (failed.code == ERR_TIMEOUT || failed.code == ERR_CANCELLED) &&
        clock_now_ns() < until_ns) {
        *ret_later = true;
        if (failed.code == ERR_TIMEOUT)
            return still_starting(err);
    } else {
        run_kill(b->run, SIGKILL, true);
        cdp_stop(b->cdp);
        if (info.reason == RUN_EXIT && info.value == 127)
            return missing(b->computer, err);
    }
    if (err)
        *err = failed;
    return error_prefix(err, "starting Chromium");
}

/* ---- the one of a computer ---- */

struct found {
    struct browser *b;
};

static void take(void *arg, void *thing)
{
    ((struct found *)arg)->b = browser_ref(thing);
}

/* Starts @b, which others may be waiting for, and which nobody else does now. */
static bool bring_up(struct computers *cs, struct browser *b, const struct wait *w,
                     struct error *err)
{
    bool later;
    bool ok = start(b, &later, w, err);

    if (ok && is_machine(b) && clock_now_ns() - b->began_ns > SLOW_NS)
        b->slow = SLOW_TIMES;
    pthread_mutex_lock(&b->lock);
    b->left_alone = later;
    if (ok && b->state == BROWSER_STARTING)
        b->state = BROWSER_READY;
    else if (!ok && !later)
        over_locked(b, "it did not start");
    b->replaced = !ok && !later;
    pthread_cond_broadcast(&b->changed);
    pthread_mutex_unlock(&b->lock);
    if (!ok && !later)
        computers_detach(cs, b->computer, BROWSER_KEY);
    return ok;
}

static bool started(struct browser_tab *none, void *arg)
{
    const struct browser *b = arg;

    (void)none;
    return b->state != BROWSER_STARTING || b->left_alone;
}

static bool over(struct browser_tab *none, void *arg)
{
    (void)none;
    return ((struct browser *)arg)->state == BROWSER_OVER;
}

static struct browser *attach_new(struct computers *cs, struct computer *c,
                                  const struct browser *earlier, const struct wait *w,
                                  struct error *err)
{
    CLEANUP(browser_unrefp) struct browser *b = new_browser(c, err);

    if (!b)
        return NULL;
    if (earlier) {
        b->last_tab = earlier->last_tab;
        (void)snprintf(b->note, sizeof b->note,
                       "The browser had ended (%s) and was started anew: its earlier tabs are "
                       "gone, its cookies are kept.",
                       earlier->why);
    }
    (void)browser_ref(b); /* the computer's */
    if (!computers_attach(cs, c, BROWSER_KEY, b, drop, err)) {
        browser_unref(b);
        return NULL;
    }
    computers_on_save(cs, c, BROWSER_KEY, browser_saving);
    return bring_up(cs, b, w, err) ? STEAL(b) : NULL;
}

static struct browser *get(struct tool_call *call, struct computer *c, bool *ret_new,
                           struct error *err)
{
    struct computers *cs = kernel_computers(call->kernel);

    for (;;) {
        struct found found = { .b = NULL };
        CLEANUP(browser_unrefp) struct browser *b = NULL;
        struct error failed = ERROR_INIT;
        struct browser *next;
        bool late, mine, starting;

        *ret_new = false;
        if (!wait_check(&call->wait, err))
            return NULL;
        if (computers_attached(cs, c, BROWSER_KEY, take, &found)) {
            b = found.b;
            if (await_any(b, started, NULL, b, call->wait.deadline_ns, &late, &call->wait, NULL) &&
                b->cdp && !cdp_running(b->cdp))
                UNCHECKED(
                    await_any(b, over, NULL, b, call->wait.deadline_ns, &late, &call->wait, NULL));
            pthread_mutex_lock(&b->lock);
            if (b->state == BROWSER_READY) {
                pthread_mutex_unlock(&b->lock);
                return STEAL(b);
            }
            starting = b->state == BROWSER_STARTING;
            mine = starting ? b->left_alone : b->state == BROWSER_OVER && !b->replaced;
            b->left_alone = false;
            b->replaced |= mine && !starting;
            pthread_mutex_unlock(&b->lock);
            if (starting && mine) {
                *ret_new = true;
                return bring_up(cs, b, &call->wait, err) ? STEAL(b) : NULL;
            }
            if (starting && !wait_check(&call->wait, &failed)) {
                if (failed.code == ERR_TIMEOUT)
                    still_starting(err);
                else if (err)
                    *err = failed;
                return NULL;
            }
            if (!mine)
                continue; /* somebody else is about to replace it */
            computers_detach(cs, c, BROWSER_KEY);
        }
        *ret_new = true;
        next = attach_new(cs, c, b, &call->wait, &failed);
        if (next)
            return next;
        if (failed.code == ERR_EXISTS)
            continue;
        if (err)
            *err = failed;
        return NULL;
    }
}

/* ---- what a call works with ---- */

static void list_tabs_locked(const struct browser *b, struct buf *out)
{
    LIST_FOR_EACH (node, &b->tabs)
        (void)buf_printf(out, "%s%s", out->len ? ", " : "",
                         LIST_ENTRY(node, struct browser_tab, link)->id);
}

static bool pick(struct browser *b, const char *id, struct browser_tab **ret, struct error *err)
{
    CLEANUP(buf_fini) struct buf known = BUF_INIT;
    struct browser_tab *tab;

    pthread_mutex_lock(&b->lock);
    tab = id ? browser_tab_find_locked(b, id) : b->current;
    if (tab) {
        b->current = tab;
        *ret = browser_tab_ref(tab);
    } else {
        list_tabs_locked(b, &known);
    }
    pthread_mutex_unlock(&b->lock);
    if (tab || !id)
        return true;
    return error_set(err, ERR_NOT_FOUND,
                     "there is no tab \"%.20s\"; open are: %s. browser_tabs lists them", id,
                     known.len ? buf_str(&known) : "none");
}

static bool page_there(struct browser_tab *none, void *arg)
{
    (void)none;
    return ((struct browser *)arg)->current != NULL;
}

static bool open_page(struct browser *b, const struct wait *w, struct error *err)
{
    json_t *answer = cdp_call(b->cdp, "", "Target.createTarget",
                              json_pack("{s:s}", "url", "about:blank"), w, err);
    bool late;

    json_decref(answer);
    if (!answer)
        return false;
    if (await_any(b, page_there, NULL, b, w->deadline_ns, &late, w, err))
        return true;
    return late ? error_set(err, ERR_TIMEOUT, "no page was opened") : false;
}

bool browser_use(struct tool_call *call, const char *computer, const char *tab, bool dialog_too,
                 struct browser_use *ret, struct error *err)
{
    CLEANUP(computer_unrefp) struct computer *c = toolkit_computer(call, computer, err);
    struct browser_use use = { .note = "" };
    struct browser_dialog dialog;
    bool new_one;

    if (!c)
        return false;
    use.browser = get(call, c, &new_one, err);
    if (!use.browser)
        return false;
    if (new_one)
        use.note = use.browser->note;
    if (!pick(use.browser, tab, &use.tab, err)) {
        if (new_one && use.note[0])
            (void)error_prefix(err, "%.200s", use.note);
        browser_use_fini(&use);
        return false;
    }
    if (!use.tab &&
        (!open_page(use.browser, &call->wait, err) || !pick(use.browser, NULL, &use.tab, err))) {
        browser_use_fini(&use);
        return false;
    }
    if (!use.tab) {
        browser_use_fini(&use);
        return error_set(err, ERR_LOST, "the tab was closed; call again for a new one");
    }
    if (!dialog_too && browser_tab_dialog(use.tab, &dialog)) {
        error_set(err, ERR_BUSY,
                  "tab %s shows a dialog (%s \"%.200s\") and waits; answer it with browser_act "
                  "first",
                  use.tab->id, dialog.type, dialog.message);
        browser_use_fini(&use);
        return false;
    }
    *ret = use;
    return true;
}

void browser_use_fini(struct browser_use *use)
{
    browser_tab_unref(use->tab);
    browser_unref(use->browser);
    *use = (struct browser_use){ .note = "" };
}
