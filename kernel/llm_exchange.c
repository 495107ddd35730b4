/* One exchange with a provider, and asking again. */
#include <stdio.h>
#include <string.h>

#include "kernel/base/clock.h"
#include "kernel/base/id.h"
#include "kernel/llm_service.h"

#define CONNECT_NS  (10 * CLOCK_NS_PER_S)
#define PATIENCE_NS (5 * CLOCK_NS_PER_S) /* longer is not waited for while another can be asked */
#define LONG_NS     (5 * CLOCK_NS_PER_S) /* silence of this length is the provider's fault */

struct wait llm_wait(const struct llm *l, const struct wait *w)
{
    return (struct wait){ .deadline_ns =
                              MIN(w->deadline_ns, clock_add_ns(clock_now_ns(), l->timeout_ns)),
                          .cancel = w->cancel };
}

/* No answer came, or only the beginning of one. */
static enum llm_verdict no_answer(struct llm_exchange *x, const struct error *why,
                                  struct error *err)
{
    struct error late = ERROR_INIT;

    switch (why->code) {
    case ERR_CANCELLED:
    case ERR_NOMEM:
    case ERR_UNSUPPORTED:
        error_set(err, why->code, "%s", why->text);
        return LLM_STOP;
    case ERR_TIMEOUT:
        if (!wait_check(x->wait, &late)) {
            error_set(err, late.code, "there was no time left for its answer (%s)", why->text);
            return LLM_STOP;
        }
        break;
    case ERR_LIMIT:
    case ERR_INVALID:
        error_set(err, why->code, "%s", why->text);
        return LLM_NEXT;
    default:
        break;
    }
    error_set(err, why->code, "%s", why->text);
    return LLM_AGAIN;
}

/* Where to mend a key that is not taken. */
static const char *whose_key(const struct llm_provider *p, char *text, size_t size)
{
    if (!p->key_file && !p->key_env)
        return "it got no key: set key_env or key_file";
    (void)snprintf(text, size, "its key is from %s %.100s", p->key_file ? "key_file" : "key_env",
                   p->key_file ? p->key_file : p->key_env);
    return text;
}

/* An answer that says no.  An account without money says it like one with too many questions. */
static enum llm_verdict refused(struct llm_exchange *x, const struct http_reply *reply,
                                const char *key, struct error *err)
{
    enum llm_verdict verdict = llm_retry_status(reply->status);
    char key_place[200];

    llm_retry_words(buf_str(&reply->body), reply->body.len, x->words, sizeof x->words);
    if (verdict == LLM_AGAIN && reply->body.data && strstr(reply->body.data, "insufficient_quota"))
        verdict = LLM_NEXT;
    llm_key_redact(x->words, key);
    error_set(err, verdict == LLM_REFUSED ? ERR_INVALID : ERR_LOST, "it answered %d%s%s%s%s",
              reply->status, *x->words ? ": " : "", x->words, reply->status == 401 ? "; " : "",
              reply->status == 401 ? whose_key(x->provider, key_place, sizeof key_place) : "");
    return verdict;
}

static enum llm_verdict send_it(struct llm_exchange *x, const struct http_request *request,
                                const char *key, struct error *err)
{
    struct http_reply reply = { .status = 0, .retry_after_ns = -1 };
    struct error broken = ERROR_INIT;
    enum llm_verdict verdict = LLM_AGAIN;
    bool whole = http_send(x->llm->http, request, x->wait, &reply, &broken);

    x->status = reply.status;
    x->retry_after_ns = reply.status >= 300 ? reply.retry_after_ns : -1;
    if (reply.status >= 200 && reply.status < 300) {
        if (x->finish(x->arg, &reply, whole ? NULL : &broken, &verdict, err)) {
            verdict = LLM_OK;
        } else if (err->code == ERR_NONE) { /* it had nothing of its own to say */
            verdict = no_answer(x, &broken, err);
        }
    } else if (whole) {
        verdict = refused(x, &reply, key, err);
    } else {
        verdict = no_answer(x, &broken, err);
    }
    http_reply_fini(&reply);
    return verdict;
}

enum llm_verdict llm_exchange(struct llm_exchange *x, struct error *err)
{
    struct llm_provider *p = x->provider;
    struct llm_headers headers = { .count = 0 };
    CLEANUP(buf_fini) struct buf url = BUF_INIT;
    struct error why = ERROR_INIT;
    char key[LLM_KEY_BYTES];
    enum llm_verdict verdict;

    *x->words = '\0';
    x->status = 0;
    x->retry_after_ns = -1;
    if (p->misconfigured.code != ERR_NONE) {
        error_set(err, ERR_INVALID, "%s", p->misconfigured.text);
        return LLM_UNFIT;
    }
    if (!llm_key_read(p, key, &why)) {
        error_set(err, why.code, "%s", why.text);
        return why.code == ERR_NOMEM ? LLM_STOP : LLM_UNFIT;
    }
    headers.list[headers.count++] = "Content-Type: application/json";
    headers.list[headers.count++] =
        x->on_data ? "Accept: text/event-stream" : "Accept: application/json";
    p->dialect->headers(&headers, *key ? key : NULL);
    buf_printf(&url, "%s%s", p->base_url, x->path);
    if (url.failed) {
        error_set(&why, ERR_NOMEM, "a question");
        verdict = LLM_STOP;
    } else {
        struct http_request request = { .method = "POST",
                                        .url = buf_str(&url),
                                        .headers = headers.list,
                                        .body = x->body->data,
                                        .body_len = x->body->len,
                                        .ca_file = p->ca_file,
                                        .connect_ns = MIN(CONNECT_NS, x->llm->idle_ns),
                                        .idle_ns = x->llm->idle_ns,
                                        .max_bytes = x->on_data ? UINT64_MAX : LLM_BODY_BYTES,
                                        .on_data = x->on_data,
                                        .arg = x->arg };

        verdict = send_it(x, &request, key, &why);
    }
    if (verdict != LLM_OK) {
        llm_key_redact(why.text, key);
        error_set(err, why.code, "%s", why.text);
    }
    llm_key_clear(&headers, sizeof headers);
    llm_key_clear(key, sizeof key);
    return verdict;
}

/* ---- asking again ---- */

static void note_failure(struct llm_provider *p, const struct error *why)
{
    p->failures++;
    pthread_mutex_lock(&p->lock);
    (void)snprintf(p->last_error, sizeof p->last_error, "%.250s", why->text);
    pthread_mutex_unlock(&p->lock);
}

static void publish_breaker(struct llm *l, struct llm_provider *p, const char *agent)
{
    struct llm_breaker_info info;

    llm_breaker_info(&p->breaker, clock_now_ns(), &info);
    event_publish(l->bus, "llm.breaker", agent, p->name, "%s after %lld failures in a row",
                  llm_breaker_state_name(info.state), (long long)info.failures);
}

/* What the outcome of an attempt says about the provider. */
static void tell_breaker(struct llm *l, struct llm_provider *p, const char *agent, bool probe,
                         enum llm_verdict verdict, const struct error *why, int64_t took_ns)
{
    bool silent = verdict == LLM_STOP && why->code == ERR_TIMEOUT && took_ns >= LONG_NS;
    bool changed = false;

    if (verdict == LLM_OK || verdict == LLM_REFUSED)
        changed = llm_breaker_succeeded(&p->breaker, probe);
    else if (verdict == LLM_AGAIN || verdict == LLM_NEXT || silent)
        changed = llm_breaker_failed(&p->breaker, probe, clock_now_ns());
    else
        llm_breaker_unknown(&p->breaker, probe);
    if (changed)
        publish_breaker(l, p, agent);
    if (verdict != LLM_OK)
        note_failure(p, why);
}

static enum llm_verdict left_alone(struct llm_provider *p, int64_t left_ns, struct error *err)
{
    char last[256];

    pthread_mutex_lock(&p->lock);
    (void)snprintf(last, sizeof last, "%s", p->last_error);
    pthread_mutex_unlock(&p->lock);
    if (left_ns > 0)
        error_set(err, ERR_LOST, "it failed too often and is left alone for %.1f s (%s)",
                  (double)left_ns / (double)CLOCK_NS_PER_S, last);
    else
        error_set(err, ERR_LOST, "it failed too often and is just being tried again (%s)", last);
    return LLM_NEXT;
}

/* Whether to ask once more, having waited for *ret_pause_ns. */
static bool worth_it(const struct llm *l, const struct wait *w, unsigned retry, bool last,
                     int64_t retry_after_ns, const struct error *why, int64_t *ret_pause_ns)
{
    uint64_t random;

    if (retry > l->retries || (!last && why->code == ERR_TIMEOUT))
        return false;
    id_random(&random, sizeof random);
    *ret_pause_ns = llm_retry_delay(retry, retry_after_ns, random);
    if (*ret_pause_ns > PATIENCE_NS && !last)
        return false;
    return clock_add_ns(clock_now_ns(), *ret_pause_ns) < w->deadline_ns;
}

enum llm_verdict llm_persist(struct llm *l, struct llm_provider *p, const char *agent,
                             const struct wait *w, bool last, llm_once_fn *once, void *arg,
                             struct error *err)
{
    for (unsigned retry = 1;; retry++) {
        struct error why = ERROR_INIT;
        int64_t retry_after_ns = -1, left_ns = 0, pause_ns, began_ns = clock_now_ns();
        enum llm_verdict verdict;
        bool probe = false;

        if (!llm_breaker_enter(&p->breaker, began_ns, &probe, &left_ns))
            return left_alone(p, left_ns, err);
        p->calls++;
        verdict = once(arg, &retry_after_ns, &why);
        tell_breaker(l, p, agent, probe, verdict, &why, clock_now_ns() - began_ns);
        if (verdict == LLM_OK)
            return LLM_OK;
        if (verdict != LLM_AGAIN || !worth_it(l, w, retry, last, retry_after_ns, &why, &pause_ns)) {
            error_set(err, why.code, "%s", why.text);
            return verdict;
        }
        if (!llm_retry_pause(w, pause_ns, err))
            return LLM_STOP;
    }
}
