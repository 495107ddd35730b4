/* browser_navigate and browser_tabs: where a tab is. */
#include "tools/browser_internal.h"

#include <stdlib.h>

#define LOAD_NS   (15 * CLOCK_NS_PER_S)
#define SETTLE_NS (2 * CLOCK_NS_PER_S)

/* ---- what the family's answers have in common ---- */

bool browser_finish(struct tool_call *call, struct browser_use *use, struct buf *text,
                    struct error *err)
{
    if (use->note[0])
        (void)buf_printf(text, "%s%s\n", text->len && text->data[text->len - 1] != '\n' ? "\n" : "",
                         use->note);
    while (text->len > 0 && text->data[text->len - 1] == '\n')
        text->data[--text->len] = '\0';
    if (text->failed)
        return error_set(err, ERR_NOMEM, "an answer about the page");
    return result_text(call->result, buf_str(text), text->len, NULL, err);
}

void browser_refusals(struct browser *b, uint64_t seq, struct buf *out)
{
    struct computer_refusal refusals[8];
    uint64_t missed;
    size_t n = computer_refusals(b->computer, seq, refusals, ARRAY_LEN(refusals), &missed);

    for (size_t i = 0; i < n; i++)
        if (!strcmp(refusals[i].name, COMPUTER_REFUSAL_CONNECT) &&
            (!out->len || !strstr(buf_str(out), refusals[i].text)))
            (void)buf_printf(out, "refused: %s\n", refusals[i].text);
}

/* ---- which addresses ---- */

static bool starts(const char *text, const char *with)
{
    return strncasecmp(text, with, strlen(with)) == 0;
}

/* *ret_url, to be freed. */
static bool address(const char *given, char **ret_url, struct error *err)
{
    const char *scheme_end = strstr(given, "://");
    size_t size = strlen(given) + 8;
    bool whole = starts(given, "http://") || starts(given, "https://") ||
                 !strcasecmp(given, "about:blank") || starts(given, "data:");

    if (starts(given, "file://")) {
        if (!starts(given, "file:///workspace/") || strstr(given, "..") || strchr(given, '%'))
            return error_set(err, ERR_DENIED,
                             "of files the browser opens those below file:///workspace/ only "
                             "(without \"..\" and \"%%\")");
        whole = true;
    } else if (!whole && (scheme_end || starts(given, "about:") || starts(given, "javascript:") ||
                          starts(given, "view-source:") || starts(given, "blob:"))) {
        return error_set(err, ERR_DENIED,
                         "the browser opens http:, https:, data:, about:blank and "
                         "file:///workspace/ addresses, not \"%.60s\"",
                         given);
    }
    *ret_url = malloc(size);
    if (!*ret_url)
        return error_set(err, ERR_NOMEM, "an address");
    (void)snprintf(*ret_url, size, "%s%s", whole ? "" : "http://", given);
    return true;
}

/* ---- going there ---- */

struct arrival {
    const struct browser_mark *mark;
    int wait_for;
    bool within; /* no new document is expected */
    /* Of the document that is expected; "": any new one.  One that was under way before may still
     * come first, such as what a browser shows when a page could not be opened. */
    char loader[BROWSER_ID_MAX + 1];
};

static bool is_expected(const struct browser_tab *tab, const struct arrival *a)
{
    uint64_t newer = tab->document - a->mark->document;

    return newer && (!a->loader[0] || !strcmp(tab->loader, a->loader) || newer > 1);
}

static bool arrived(struct browser_tab *tab, void *arg)
{
    const struct arrival *a = arg;

    if (tab->dialog_open || tab->crashed)
        return true;
    if (a->within)
        return tab->browser->seq > a->mark->seq;
    if (!is_expected(tab, a))
        return false;
    return a->wait_for == BROWSER_WAIT_NONE ||
           (a->wait_for == BROWSER_WAIT_CONTENT && tab->content) || tab->loaded;
}

/* Also of a page that crashed. */
static json_t *send_away(struct browser_tab *tab, const char *method, json_t *params,
                         const struct wait *w, struct error *err)
{
    struct error failed = ERROR_INIT;
    struct browser_dialog dialog;
    json_t *answer;
    unsigned interrupts = atomic_load(&tab->interrupts);

    answer = cdp_ask(tab->browser->cdp, tab->session, method, params, &tab->interrupts, w, &failed);
    if (answer) {
        pthread_mutex_lock(&tab->browser->lock);
        if (atomic_load(&tab->interrupts) == interrupts)
            tab->crashed = false; /* another process has it now */
        pthread_mutex_unlock(&tab->browser->lock);
        return answer;
    }
    if (failed.code == ERR_BUSY && browser_tab_dialog(tab, &dialog)) {
        /* "Leave this page?" was answered by the wish to leave it; others belong to the new page.
         */
        if (!strcmp(dialog.type, "beforeunload") && !browser_tab_answer(tab, true, NULL, w, err))
            return NULL;
        return json_object();
    }
    if (err)
        *err = failed;
    return NULL;
}

static int status_of(struct browser_tab *tab)
{
    int status = 0;

    pthread_mutex_lock(&tab->browser->lock);
    for (unsigned i = 0; i < BROWSER_NETWORK_MAX; i++)
        if (tab->network[i].seq && !strcmp(tab->network[i].id, tab->loader))
            status = tab->network[i].status;
    pthread_mutex_unlock(&tab->browser->lock);
    return status;
}

/* Waits for what was sent away, and tells about it. */
static bool arrive(struct browser_tab *tab, const struct arrival *a, int64_t until_ns,
                   uint64_t refusals, const struct wait *w, struct buf *out, struct error *err)
{
    struct arrival copy = *a;
    struct error failed = ERROR_INIT;
    bool late = false;
    int status;

    if (browser_await(tab, arrived, &copy, until_ns, &late, w, &failed) &&
        a->wait_for == BROWSER_WAIT_IDLE)
        UNCHECKED(browser_until_quiet(tab, until_ns, &late, w, &failed));
    if (failed.code != ERR_NONE) {
        if (err)
            *err = failed;
        return false;
    }
    if (!browser_learn_titles(tab->browser, w, err))
        return false;
    status = status_of(tab);
    (void)browser_changes(tab, a->mark, "it stayed where it was", out);
    if (status >= 400)
        (void)buf_printf(out, "HTTP status %d\n", status);
    if (late)
        (void)buf_printf(out, "not all of it has loaded yet; browser_wait waits on\n");
    if (status >= 400)
        browser_refusals(tab->browser, refusals, out);
    return true;
}

/* The page could not be opened: why, as the browser says it. */
static bool not_there(struct browser_tab *tab, const char *url, const char *why, uint64_t refusals,
                      struct error *err)
{
    CLEANUP(buf_fini) struct buf refused = BUF_INIT;

    browser_refusals(tab->browser, refusals, &refused);
    if (refused.len > 0)
        return error_set(err, ERR_DENIED,
                         "%.200s: %s; %sA computer made with computer_create {\"allow\":[HOST]} "
                         "reaches it",
                         url, why, buf_str(&refused));
    return error_set(err, ERR_IO, "%.250s: %s", url, why);
}

bool browser_go(struct tool_call *call, struct browser_tab *tab, const char *url, int wait_for,
                int64_t most_ns, struct buf *out, struct error *err)
{
    int64_t until_ns = clock_add_ns(clock_now_ns(), most_ns);
    struct wait w = { .deadline_ns = MIN(until_ns, call->wait.deadline_ns),
                      .cancel = call->wait.cancel };
    uint64_t refusals = computer_refusal_seq(tab->browser->computer);
    struct browser_mark mark;
    struct arrival a = { .mark = &mark, .wait_for = wait_for };
    struct error failed = ERROR_INIT;
    char *target = NULL, why[120];
    json_t *answer, *params;

    if (!address(url, &target, err))
        return false;
    params = json_pack("{s:s}", "url", target);
    free(target);
    browser_mark(tab, &mark);
    answer = send_away(tab, "Page.navigate", params, &w, &failed);
    if (!answer) {
        if (failed.code == ERR_TIMEOUT && wait_check(&call->wait, NULL)) {
            cdp_post(tab->browser->cdp, tab->session, "Page.stopLoading", NULL);
            return error_set(err, ERR_TIMEOUT, "%.250s did not answer within %.0f s", url,
                             (double)most_ns / 1e9);
        }
        if (err)
            *err = failed;
        return false;
    }
    browser_copy(why, sizeof why, json_object_get(answer, "errorText"));
    browser_copy(a.loader, sizeof a.loader, json_object_get(answer, "loaderId"));
    a.within = json_object_get(answer, "frameId") && !json_object_get(answer, "loaderId");
    json_decref(answer);
    if (!strcmp(why, "net::ERR_ABORTED")) {
        /* A download, or an answer without a document. */
        if (!browser_settle_after(tab, &mark, browser_patience(tab, SETTLE_NS),
                                  browser_patience(tab, 5 * SETTLE_NS), &call->wait, err))
            return false;
        return browser_changes(tab, &mark, "no page: the server sent none", out);
    }
    if (why[0])
        return not_there(tab, url, why, refusals, err);
    return arrive(tab, &a, until_ns, refusals, &call->wait, out, err);
}

/* ---- browser_navigate ---- */

static const char *const wait_names[] = { "load", "content", "idle", "none", NULL };

const struct json_field browser_navigate_fields[] = {
    { .name = "url",
      .description = "Or back, forward, reload",
      .kind = JSON_KIND_STRING,
      .required = true,
      .offset = offsetof(struct browser_navigate_args, url) },
    { .name = "wait",
      .description = "idle: no requests for 0.5 s",
      .kind = JSON_KIND_ENUM,
      .offset = offsetof(struct browser_navigate_args, wait),
      .choices = wait_names },
    BROWSER_FIELDS(struct browser_navigate_args),
    { .name = NULL },
};

/* The entry of the history that is @by away from the current one. */
static json_t *history_params(struct browser_tab *tab, int by, const struct wait *w,
                              struct error *err)
{
    json_t *answer = browser_call(tab, "Page.getNavigationHistory", NULL, w, err);
    json_t *params = NULL;
    const json_t *entry;
    json_int_t at;

    if (!answer)
        return NULL;
    at = json_integer_value(json_object_get(answer, "currentIndex")) + by;
    entry = at >= 0 ? json_array_get(json_object_get(answer, "entries"), (size_t)at) : NULL;
    if (entry)
        params = browser_params(err, "{s:I}", "entryId",
                                json_integer_value(json_object_get(entry, "id")));
    else
        error_set(err, ERR_INVALID, "there is no page to go %s to in this tab",
                  by < 0 ? "back" : "forward");
    json_decref(answer);
    return params;
}

/* @by 0: the same page once more. */
static bool go_history(struct tool_call *call, struct browser_tab *tab, int by, int wait_for,
                       struct buf *out, struct error *err)
{
    uint64_t refusals = computer_refusal_seq(tab->browser->computer);
    struct browser_mark mark;
    struct arrival to = { .mark = &mark, .wait_for = wait_for, .within = by != 0 };
    struct error failed = ERROR_INIT;
    json_t *params = NULL, *answer;
    bool late = false;

    if (by != 0 && !(params = history_params(tab, by, &call->wait, err)))
        return false;
    browser_mark(tab, &mark);
    answer = send_away(tab, by ? "Page.navigateToHistoryEntry" : "Page.reload", params, &call->wait,
                       err);
    if (!answer)
        return false;
    json_decref(answer);
    /* Another entry may be within the same document. */
    if (by != 0 &&
        !browser_await(tab, arrived, &to,
                       clock_add_ns(clock_now_ns(), browser_patience(tab, LOAD_NS)), &late,
                       &call->wait, &failed) &&
        !late) {
        if (err)
            *err = failed;
        return false;
    }
    to.within = by != 0 && browser_tab_document(tab) == mark.document;
    return arrive(tab, &to, clock_add_ns(clock_now_ns(), browser_patience(tab, LOAD_NS)), refusals,
                  &call->wait, out, err);
}

bool browser_navigate(struct tool_call *call, const void *args, struct error *err)
{
    const struct browser_navigate_args *a = args;
    bool back = !strcmp(a->url, "back"), forward = !strcmp(a->url, "forward");
    CLEANUP(browser_use_fini) struct browser_use use = { .note = "" };
    CLEANUP(buf_fini) struct buf text = BUF_INIT;
    struct browser_dialog dialog;
    bool ok;

    if (!a->url[0])
        return error_set(err, ERR_INVALID, "send an address, or \"back\", \"forward\", \"reload\"");
    if (!browser_use(call, a->computer, a->tab, true, &use, err))
        return false;
    /* Whoever leaves a page does not answer its questions. */
    if (browser_tab_dialog(use.tab, &dialog) &&
        !browser_tab_answer(use.tab, !strcmp(dialog.type, "beforeunload"), NULL, &call->wait, err))
        return false;
    if (back || forward || !strcmp(a->url, "reload"))
        ok = go_history(call, use.tab, forward - back, a->wait, &text, err);
    else
        ok = browser_go(call, use.tab, a->url, a->wait, browser_patience(use.tab, LOAD_NS), &text,
                        err);
    return ok && browser_finish(call, &use, &text, err);
}

/* ---- browser_tabs ---- */

enum { TABS_LIST, TABS_NEW, TABS_CLOSE, TABS_SELECT };
static const char *const tabs_actions[] = { "list", "new", "close", "select", NULL };

const struct json_field browser_tabs_fields[] = {
    { .name = "action",
      .description = "Do",
      .kind = JSON_KIND_ENUM,
      .offset = offsetof(struct browser_tabs_args, action),
      .choices = tabs_actions },
    { .name = "url",
      .description = "For new",
      .kind = JSON_KIND_STRING,
      .offset = offsetof(struct browser_tabs_args, url) },
    BROWSER_FIELDS(struct browser_tabs_args),
    { .name = NULL },
};

static void list_tabs(struct browser *b, struct buf *out)
{
    pthread_mutex_lock(&b->lock);
    LIST_FOR_EACH (node, &b->tabs) {
        const struct browser_tab *tab = LIST_ENTRY(node, struct browser_tab, link);

        (void)buf_printf(out, "%s%s %.300s", tab->id, tab == b->current ? " (current)" : "",
                         tab->url);
        if (tab->title[0])
            (void)buf_printf(out, " (%s)", tab->title);
        if (tab->crashed)
            (void)buf_append_str(out, " [crashed]");
        if (tab->dialog_open)
            (void)buf_printf(out, " [%s open: %s]", tab->dialog.type, tab->dialog.message);
        (void)buf_append_char(out, '\n');
    }
    pthread_mutex_unlock(&b->lock);
}

struct expected {
    struct browser *b;
    const char *target;
};

static bool tab_there(struct browser_tab *tab, void *arg)
{
    const struct expected *e = arg;

    (void)tab;
    return browser_tab_find_locked(e->b, e->target) != NULL;
}

static bool new_tab(struct tool_call *call, struct browser_use *use, const char *url,
                    struct buf *out, struct error *err)
{
    struct browser *b = use->browser;
    char target[BROWSER_ID_MAX + 1];
    struct expected e = { .b = b, .target = target };
    json_t *params = browser_params(err, "{s:s}", "url", "about:blank");
    json_t *answer =
        params ? cdp_call(b->cdp, "", "Target.createTarget", params, &call->wait, err) : NULL;
    struct browser_tab *tab;
    bool late;

    if (!answer)
        return false;
    browser_copy(target, sizeof target, json_object_get(answer, "targetId"));
    json_decref(answer);
    if (!browser_await(use->tab, tab_there, &e,
                       clock_add_ns(clock_now_ns(), browser_patience(use->tab, SETTLE_NS * 5)),
                       &late, &call->wait, err))
        return late ? error_set(err, ERR_LIMIT,
                                "no tab was opened: there may be %u at most; close one",
                                BROWSER_TABS_MAX)
                    : false;
    pthread_mutex_lock(&b->lock);
    tab = browser_tab_find_locked(b, target);
    if (tab) {
        b->current = tab;
        browser_tab_unref(use->tab);
        use->tab = browser_tab_ref(tab);
        tab->opener = 0;
    }
    pthread_mutex_unlock(&b->lock);
    if (!tab)
        return error_set(err, ERR_LOST, "the new tab was closed at once");
    (void)buf_printf(out, "tab %s\n", use->tab->id);
    return !url || browser_go(call, use->tab, url, BROWSER_WAIT_LOAD,
                              browser_patience(use->tab, LOAD_NS), out, err);
}

static bool is_closed(struct browser_tab *tab, void *arg)
{
    (void)arg;
    return tab->closed;
}

static bool close_tab(struct tool_call *call, struct browser_tab *tab, struct error *err)
{
    json_t *params = browser_params(err, "{s:s}", "targetId", tab->target);
    json_t *answer =
        params ? cdp_call(tab->browser->cdp, "", "Target.closeTarget", params, &call->wait, err)
               : NULL;
    struct browser_dialog dialog;
    bool late;

    if (!answer)
        return false;
    json_decref(answer);
    for (int i = 0; i < 10; i++) {
        if (browser_await(tab, is_closed, NULL,
                          clock_add_ns(clock_now_ns(), browser_patience(tab, SETTLE_NS / 2)), &late,
                          &call->wait, err))
            return true;
        if (!late)
            return false;
        /* "Leave this page?" */
        if (browser_tab_dialog(tab, &dialog) &&
            !browser_tab_answer(tab, true, NULL, &call->wait, err))
            return false;
    }
    return error_set(err, ERR_TIMEOUT, "tab %s does not close", tab->id);
}

bool browser_tabs(struct tool_call *call, const void *args, struct error *err)
{
    const struct browser_tabs_args *a = args;
    CLEANUP(browser_use_fini) struct browser_use use = { .note = "" };
    CLEANUP(buf_fini) struct buf text = BUF_INIT;

    if ((a->action == TABS_CLOSE || a->action == TABS_SELECT) && !a->tab)
        return error_set(err, ERR_INVALID, "send \"tab\": which one");
    if (!browser_use(call, a->computer, a->action == TABS_NEW ? NULL : a->tab, true, &use, err))
        return false;
    if (a->action == TABS_NEW && !new_tab(call, &use, a->url, &text, err))
        return false;
    if (a->action == TABS_CLOSE && !close_tab(call, use.tab, err))
        return false;
    if (a->action == TABS_SELECT)
        cdp_post(use.browser->cdp, use.tab->session, "Page.bringToFront", NULL);
    if (!browser_learn_titles(use.browser, &call->wait, err))
        return false;
    list_tabs(use.browser, &text);
    return browser_finish(call, &use, &text, err);
}
