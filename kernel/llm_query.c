/* A question, through the chain of providers to one answer. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernel/base/clock.h"
#include "kernel/base/json.h"
#include "kernel/llm_service.h"
#include "kernel/tool.h"

/* What a server sends, as it comes. */
struct stream {
    struct llm_answer *answer;
    const struct llm_dialect *dialect;
    struct llm_sse sse;
    struct buf whole; /* the body of a server that does not stream */
    bool begun, json;
    struct error failed;
};

/* A question on its way. */
struct chat {
    struct llm *llm;
    const struct llm_request *request;
    struct llm_reply *reply;
    struct llm_provider *provider; /* that is asked now; NULL: sampling */
    struct wait wait;
    int64_t max_tokens; /* what the request or the budget allows; 0: not said */
};

/* ---- the answer as it comes ---- */

static bool on_data(void *arg, const char *data, size_t len)
{
    struct stream *s = arg;

    while (!s->begun && len > 0 && strchr(" \t\r\n", *data)) {
        data++;
        len--;
    }
    if (len == 0 || s->failed.code != ERR_NONE)
        return true;
    if (!s->begun)
        s->json = *data == '{';
    s->begun = true;
    if (!s->json) {
        if (!llm_sse_feed(&s->sse, data, len, s->dialect->event, s->answer, &s->failed)) {
            if (s->failed.code == ERR_LIMIT || s->failed.code == ERR_NOMEM)
                s->answer->verdict = s->failed.code == ERR_LIMIT ? LLM_NEXT : LLM_STOP;
            return s->answer->ended; /* its end was there already: nothing after it matters */
        }
        return !s->answer->preempted;
    }
    if (s->whole.len + len > LLM_BODY_BYTES)
        return llm_answer_fail(s->answer, LLM_NEXT, ERR_LIMIT, &s->failed,
                               "its answer is longer than %u MiB", LLM_BODY_BYTES >> 20);
    return buf_append(&s->whole, data, len) ||
           llm_answer_fail(s->answer, LLM_STOP, ERR_NOMEM, &s->failed, "an answer");
}

static bool take_whole(struct stream *s)
{
    struct error bad = ERROR_INIT;
    json_t *body = json_parse(buf_str(&s->whole), s->whole.len, &bad);
    bool ok;

    if (!body)
        return llm_answer_fail(s->answer, bad.code == ERR_NOMEM ? LLM_STOP : LLM_AGAIN,
                               bad.code == ERR_NOMEM ? ERR_NOMEM : ERR_PROTOCOL, &s->failed,
                               "its answer is not JSON: %.200s", bad.text);
    ok = s->dialect->whole(s->answer, body, &s->failed);
    json_decref(body);
    if (ok)
        s->answer->ended = true;
    return ok;
}

static bool finish(void *arg, const struct http_reply *reply, const struct error *broken,
                   enum llm_verdict *verdict, struct error *err)
{
    struct stream *s = arg;
    struct llm_answer *a = s->answer;

    if (s->failed.code == ERR_NONE && s->json && !broken)
        (void)take_whole(s); /* it tells through s->failed */
    if (s->failed.code != ERR_NONE && !a->ended) {
        *verdict = a->verdict;
        return error_set(err, s->failed.code, "%s", s->failed.text);
    }
    if (a->ended || a->preempted)
        return true;
    if (broken)
        return false; /* why it broke off says it all */
    *verdict = LLM_AGAIN;
    if (s->sse.events > 0 || !s->begun)
        return error_set(err, ERR_LOST, "its answer broke off");
    *verdict = LLM_NEXT;
    return error_set(err, ERR_PROTOCOL, "it answered with %.100s and not with a stream of events",
                     *reply->content_type ? reply->content_type : "something");
}

/* ---- one attempt ---- */

/* What an attempt has used, whether it came to an end or not. */
static void count(struct chat *c, const struct llm_answer *a)
{
    const struct llm_provider *p = c->provider;
    uint64_t input = a->input_tokens, output = a->output_tokens;

    if (!a->counted) {
        size_t bytes = a->text->len - a->text_before + a->call_bytes;

        if (input == 0)
            input = llm_request_tokens(c->request) + llm_tokens_of(a->text_before);
        output = MAX(output, llm_tokens_of(bytes));
        c->reply->estimated = true;
    }
    c->reply->input_tokens += input;
    c->reply->output_tokens += output;
    if (p)
        c->reply->cost += ((double)input * p->input_price + (double)output * p->output_price) / 1e6;
}

static bool take_answer(struct chat *c, const struct llm_prompt *prompt, struct llm_answer *a,
                        struct error *err)
{
    struct llm_reply *reply = c->reply;
    json_t *calls = NULL;

    if (!llm_answer_end(a, &calls, err))
        return false;
    json_decref(reply->tool_calls);
    reply->tool_calls = calls;
    reply->preempted = a->preempted;
    (void)snprintf(reply->finish, sizeof reply->finish, "%s",
                   a->preempted                 ? "preempted"
                   : calls && a->call_count > 0 ? "tool_calls"
                   : *a->finish                 ? a->finish
                                                : "stop");
    (void)snprintf(reply->provider, sizeof reply->provider, "%s",
                   c->provider ? c->provider->name : LLM_SAMPLING);
    (void)snprintf(reply->model, sizeof reply->model, "%s", *a->model ? a->model : prompt->model);
    return true;
}

static bool text_so_far(const struct chat *c, struct buf *out)
{
    const char *before = c->request->so_far;

    return (!before || buf_append_str(out, before)) &&
           buf_append(out, buf_str(&c->reply->text), c->reply->text.len);
}

static enum llm_join_mode join_mode(const struct llm_prompt *prompt,
                                    const struct llm_dialect *dialect)
{
    if (prompt->continuation == LLM_INSTRUCT)
        return LLM_JOIN_WORDS;
    return dialect->trims ? LLM_JOIN_SPACE : LLM_JOIN_PLAIN;
}

static enum llm_verdict send_prompt(struct chat *c, struct llm_prompt *prompt,
                                    int64_t *ret_retry_after_ns, unsigned *ret_quirk,
                                    struct error *err)
{
    const struct llm_dialect *dialect = c->provider->dialect;
    CLEANUP(buf_fini) struct buf body = BUF_INIT;
    struct llm_answer answer;
    struct stream stream = { .answer = &answer, .dialect = dialect };
    struct llm_exchange x = { .llm = c->llm,
                              .provider = c->provider,
                              .path = dialect->path,
                              .body = &body,
                              .wait = &c->wait,
                              .on_data = on_data,
                              .finish = finish,
                              .arg = &stream };
    json_t *json = dialect->body(prompt, err);
    enum llm_verdict verdict;
    bool written = json && json_write(json, &body);

    json_decref(json);
    if (!json)
        return LLM_STOP;
    if (!written) {
        error_set(err, ERR_NOMEM, "a question");
        return LLM_STOP;
    }
    llm_answer_init(&answer, c->request, &c->reply->text, join_mode(prompt, dialect),
                    prompt->so_far);
    llm_sse_init(&stream.sse, LLM_EVENT_BYTES);
    c->reply->attempts++;
    verdict = llm_exchange(&x, err);
    *ret_retry_after_ns = x.retry_after_ns;
    if (verdict == LLM_OK && !take_answer(c, prompt, &answer, err))
        verdict = answer.verdict;
    if (x.status >= 200 && x.status < 300)
        count(c, &answer);
    if (verdict != LLM_OK)
        llm_answer_drop(&answer);
    *ret_quirk = verdict == LLM_REFUSED ? dialect->quirk(prompt, x.words) : 0;
    llm_sse_fini(&stream.sse);
    buf_fini(&stream.whole);
    llm_answer_fini(&answer);
    return verdict;
}

/* @most tokens of the whole answer, less those of @bytes that are written; 0 stays: not said. */
static int64_t less(int64_t most, size_t bytes)
{
    return most > 0 ? MAX(most - (int64_t)llm_tokens_of(bytes), 1) : 0;
}

static size_t bytes_before(const struct llm_request *request)
{
    return request->so_far ? strlen(request->so_far) : 0;
}

static int64_t tokens_left(const struct chat *c)
{
    int64_t most = c->max_tokens;

    if (most == 0 && c->provider)
        most = less(c->provider->max_tokens, bytes_before(c->request));
    return less(most, c->reply->text.len);
}

/* llm_once_fn.  A server that does not know a word of the request is asked again without it, at
 * once, and from then on. */
static enum llm_verdict ask_once(void *arg, int64_t *ret_retry_after_ns, struct error *err)
{
    struct chat *c = arg;
    struct llm_provider *p = c->provider;
    CLEANUP(buf_fini) struct buf so_far = BUF_INIT;
    struct llm_prompt prompt = { .request = c->request,
                                 .model = c->request->model ? c->request->model : p->model };

    if (!text_so_far(c, &so_far)) {
        error_set(err, ERR_NOMEM, "a question");
        return LLM_STOP;
    }
    if (!*prompt.model && p->misconfigured.code == ERR_NONE) {
        error_set(err, ERR_INVALID, "it has no \"model\" in the configuration, and none was named");
        return LLM_UNFIT;
    }
    prompt.so_far = buf_str(&so_far);
    prompt.max_tokens = tokens_left(c);
    for (;;) {
        struct error why = ERROR_INIT;
        enum llm_verdict verdict;
        unsigned quirk = 0;

        prompt.quirks = p->quirks;
        prompt.continuation = prompt.quirks & LLM_QUIRK_NO_PREFILL ? LLM_INSTRUCT : p->continuation;
        verdict = send_prompt(c, &prompt, ret_retry_after_ns, &quirk, &why);
        if (quirk != 0 && !(prompt.quirks & quirk)) {
            atomic_fetch_or(&p->quirks, quirk);
            continue;
        }
        if (verdict != LLM_OK)
            error_set(err, why.code, "%s", why.text);
        return verdict;
    }
}

static enum llm_verdict ask_host(struct chat *c, struct error *err)
{
    CLEANUP(buf_fini) struct buf so_far = BUF_INIT;
    struct llm_prompt prompt = { .request = c->request, .model = "", .continuation = LLM_INSTRUCT };
    struct llm_answer answer;
    enum llm_verdict verdict;

    if (!text_so_far(c, &so_far)) {
        error_set(err, ERR_NOMEM, "a question");
        return LLM_STOP;
    }
    c->provider = NULL;
    prompt.so_far = buf_str(&so_far);
    prompt.max_tokens = tokens_left(c);
    llm_answer_init(&answer, c->request, &c->reply->text, LLM_JOIN_WORDS, prompt.so_far);
    c->reply->attempts++;
    verdict = llm_sample(&prompt, &c->wait, &answer, err);
    if (verdict == LLM_OK && !take_answer(c, &prompt, &answer, err))
        verdict = answer.verdict;
    if (verdict == LLM_OK)
        count(c, &answer);
    else
        llm_answer_drop(&answer);
    llm_answer_fini(&answer);
    return verdict;
}

/* ---- the chain ---- */

struct chain {
    struct llm_provider *list[LLM_PROVIDERS_MAX + 1]; /* NULL: sampling */
    size_t count;
};

static bool may_sample(const struct chat *c)
{
    return c->llm->sampling && c->request->peer && c->request->peer->sample;
}

static bool nobody(struct error *err)
{
    return error_set(err, ERR_UNSUPPORTED,
                     "no model can be asked: this MCP host does not offer its own (sampling), and "
                     "the configuration names no provider; add one to llm.providers, such as "
                     "{\"name\": \"main\", \"kind\": \"anthropic\", \"model\": \"…\", \"key_env\": "
                     "\"ANTHROPIC_API_KEY\"}");
}

static bool unknown_provider(const struct llm *l, const char *name, struct error *err)
{
    CLEANUP(buf_fini) struct buf names = BUF_INIT;

    for (size_t i = 0; i < l->provider_count; i++)
        buf_printf(&names, "%s%s", i > 0 ? ", " : "", l->providers[i].name);
    return error_set(err, ERR_NOT_FOUND, "no provider is called \"%.64s\"; there %s %s", name,
                     names.len > 0 ? "are" : "is", names.len > 0 ? buf_str(&names) : "none");
}

static bool make_chain(const struct chat *c, struct chain *ret, struct error *err)
{
    const struct llm *l = c->llm;
    const char *name = c->request->provider;

    ret->count = 0;
    if (name && strcmp(name, LLM_SAMPLING) == 0) {
        if (!may_sample(c))
            return error_set(
                err, ERR_UNSUPPORTED,
                "this MCP host does not offer its model (sampling), or llm.sampling is "
                "off; name another provider");
        ret->list[ret->count++] = NULL;
        return true;
    }
    for (size_t i = 0; i < l->provider_count; i++)
        if (!name || strcmp(name, l->providers[i].name) == 0)
            ret->list[ret->count++] = &l->providers[i];
    if (name)
        return ret->count > 0 || unknown_provider(l, name, err);
    if (may_sample(c))
        ret->list[ret->count++] = NULL;
    return ret->count > 0 || nobody(err);
}

static const char *name_of(const struct llm_provider *p)
{
    return p ? p->name : LLM_SAMPLING;
}

static bool ask_chain(struct chat *c, const struct chain *chain, struct error *err)
{
    CLEANUP(buf_fini) struct buf reasons = BUF_INIT;
    bool was_refused = false;

    for (size_t i = 0; i < chain->count; i++) {
        struct llm_provider *p = chain->list[i];
        struct error why = ERROR_INIT;
        enum llm_verdict verdict;

        c->provider = p;
        if (p)
            verdict = llm_persist(c->llm, p, c->request->agent, &c->wait, i + 1 == chain->count,
                                  ask_once, c, &why);
        else
            verdict = ask_host(c, &why);
        if (verdict == LLM_OK)
            return true;
        if (verdict == LLM_STOP)
            return error_set(err, why.code, "%s: %s", name_of(p), why.text);
        if (!p && why.code == ERR_UNSUPPORTED && chain->count == 1)
            return c->request->provider ? error_set(err, why.code, "%s: %s", LLM_SAMPLING, why.text)
                                        : nobody(err);
        was_refused |= verdict == LLM_REFUSED;
        buf_printf(&reasons, "%s%s: %.*s", i > 0 ? "; " : "", name_of(p),
                   chain->count > 2 ? 120 : 200, why.text);
        if (i + 1 < chain->count)
            event_publish(c->llm->bus, "llm.fallback", c->request->agent,
                          name_of(chain->list[i + 1]), "instead of %s: %.150s", name_of(p),
                          why.text);
    }
    return error_set(err, was_refused ? ERR_INVALID : ERR_LOST, "no model answered: %s",
                     buf_str(&reasons));
}

/* ---- the account ---- */

bool llm_query(struct llm *l, const struct llm_request *request, const struct wait *w,
               struct llm_reply *ret, struct error *err)
{
    struct chat c = { .llm = l, .request = request, .reply = ret, .wait = llm_wait(l, w) };
    struct chain chain;
    uint64_t reserved;
    bool ok;

    if (!llm_request_check(request, err) || !make_chain(&c, &chain, err))
        return false;
    c.max_tokens = less(request->max_tokens, bytes_before(request));
    if (!llm_account_reserve(l->accounts, request->agent, llm_request_tokens(request),
                             &c.max_tokens, &reserved, err)) {
        event_publish(l->bus, "llm.budget", request->agent, "refused", "llm.budget_tokens is used");
        return false;
    }
    ok = wait_check(&c.wait, err) && ask_chain(&c, &chain, err);
    if (llm_account_settle(l->accounts, request->agent, reserved, ret->input_tokens,
                           ret->output_tokens, ret->cost, !ok))
        event_publish(l->bus, "llm.budget", request->agent, "used up",
                      "llm.budget_tokens is used up");
    return ok;
}
