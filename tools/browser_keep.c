/*
 * What only a running browser knows and its computer's copies must have: Chromium writes cookies to
 * its profile half a minute after they are set, and those of a session never.  So they are put into
 * a file beside the profile before the files are copied, and the copy's browser takes them from
 * there.  What pages store themselves is written a second after they did, which is waited for.
 */
#include "tools/browser_internal.h"

#include <string.h>

#include "kernel/base/json.h"
#include "kernel/base/log.h"

#define KEEP_NS   (20 * CLOCK_NS_PER_S) /* a copy does not wait longer for it */
#define KEEP_MAX  (16u << 20)
#define STORE_NS  (2 * CLOCK_NS_PER_S) /* see --enable-aggressive-domstorage-flushing */
#define STORE_MAX (KEEP_NS / 2)        /* where that takes longer */
#define KEEP_FILE "f=${HOME:-/workspace}/.browser/cookies.json; "

static bool shell(struct computer *c, const char *script, const char *input, size_t len,
                  struct buf *out, const struct wait *w, struct error *err)
{
    const char *const argv[] = { "/bin/sh", "-c", script, NULL };
    const struct toolkit_program program = {
        .argv = argv, .input = input, .input_len = len, .max = KEEP_MAX, .timeout_ns = KEEP_NS
    };
    int code;

    if (!toolkit_program_in(c, &program, out, &code, w, err))
        return false;
    return code == 0 || error_set(err, ERR_IO, "the cookies' file: %.200s", buf_str(out));
}

/* ---- before a copy ---- */

static void take(void *arg, void *thing)
{
    *(struct browser **)arg = browser_ref(thing);
}

static bool put_cookies(struct browser *b, const struct wait *w, struct error *err)
{
    CLEANUP(buf_fini) struct buf text = BUF_INIT;
    CLEANUP(buf_fini) struct buf said = BUF_INIT;
    json_t *answer = cdp_call(b->cdp, "", "Storage.getCookies", NULL, w, err);
    json_t *kept;
    bool ok;

    if (!answer)
        return false;
    kept = json_pack("{s:s, s:O}", "computer", computer_id(b->computer), "cookies",
                     json_object_get(answer, "cookies"));
    ok = kept && json_write(kept, &text) && text.len <= KEEP_MAX;
    json_decref(kept);
    json_decref(answer);
    if (!ok)
        return error_set(err, ERR_LIMIT, "the cookies are too many");
    return shell(b->computer, "umask 077; " KEEP_FILE "cat >\"$f.new\" && mv \"$f.new\" \"$f\"",
                 text.data, text.len, &said, w, err);
}

/* Only sites have a storage. */
static bool shows_a_site(struct browser *b)
{
    bool found = false;

    pthread_mutex_lock(&b->lock);
    LIST_FOR_EACH (node, &b->tabs)
        found |= !strncmp(LIST_ENTRY(node, struct browser_tab, link)->url, "http", 4);
    pthread_mutex_unlock(&b->lock);
    return found;
}

static bool keep(struct browser *b, const struct wait *w, struct error *err)
{
    return put_cookies(b, w, err) &&
           (!shows_a_site(b) || wait_pause(w, MIN(STORE_NS * b->slow, STORE_MAX), err));
}

void browser_saving(struct computers *cs, struct computer *c, const struct wait *w)
{
    struct wait soon = { .deadline_ns = MIN(w->deadline_ns, clock_add_ns(clock_now_ns(), KEEP_NS)),
                         .cancel = w->cancel };
    CLEANUP(browser_unrefp) struct browser *b = NULL;
    CLEANUP(buf_fini) struct buf said = BUF_INIT;
    struct error err = ERROR_INIT;
    enum browser_state state;
    bool ok = true;

    if (!computers_attached(cs, c, BROWSER_KEY, take, &b))
        return;
    pthread_mutex_lock(&b->lock);
    state = b->state;
    pthread_mutex_unlock(&b->lock);
    if (state == BROWSER_READY)
        ok = keep(b, &soon, &err);
    else if (state == BROWSER_OVER) /* what an earlier copy was given is older than the profile */
        ok = shell(c, KEEP_FILE "rm -f \"$f\"", NULL, 0, &said, &soon, &err);
    if (!ok)
        log_line(LOG_WARN, "browser_not_kept", "computer=%s why=%s", computer_id(c),
                 LOG_ESC(err.text));
}

/* ---- in the copy ---- */

/* They were read from the computer's own disk: the browser judges them. */
static bool set_cookies(struct browser *b, const json_t *cookies, const struct wait *w,
                        struct error *err)
{
    json_t *cleared = cdp_call(b->cdp, "", "Storage.clearCookies", NULL, w, err);
    struct error refused = ERROR_INIT;
    json_t *answer;

    json_decref(cleared);
    if (!cleared)
        return false;
    answer = cdp_call(b->cdp, "", "Storage.setCookies",
                      browser_params(&refused, "{s:O}", "cookies", cookies), w, &refused);
    json_decref(answer);
    if (answer)
        return true;
    if (refused.code != ERR_INVALID) {
        if (err)
            *err = refused;
        return false;
    }
    /* All or none, it says: all but those that it does not take, then. */
    for (size_t i = 0; i < json_array_size(cookies); i++)
        cdp_post(b->cdp, "", "Storage.setCookies",
                 json_pack("{s:[O]}", "cookies", json_array_get(cookies, i)));
    return true;
}

bool browser_take_cookies(struct browser *b, const struct wait *w, struct error *err)
{
    CLEANUP(buf_fini) struct buf text = BUF_INIT;
    CLEANUP(buf_fini) struct buf said = BUF_INIT;
    struct error why = ERROR_INIT;
    const json_t *cookies;
    const char *from;
    json_t *kept;
    bool ok = true;

    if (!shell(b->computer, KEEP_FILE "[ ! -f \"$f\" ] || cat \"$f\"", NULL, 0, &text, w, err))
        return false;
    if (!text.len)
        return true;
    kept = json_parse(text.data, text.len, &why);
    from = json_string_value(json_object_get(kept, "computer"));
    cookies = json_object_get(kept, "cookies");
    if (from && strcmp(from, computer_id(b->computer)) != 0 && json_is_array(cookies))
        ok = set_cookies(b, cookies, w, err);
    json_decref(kept);
    return ok && shell(b->computer, KEEP_FILE "rm -f \"$f\"", NULL, 0, &said, w, err);
}
