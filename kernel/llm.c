#include "kernel/llm.h"

#include <stdlib.h>
#include <string.h>

#include "kernel/base/clock.h"
#include "kernel/base/json.h"
#include "kernel/config.h"
#include "kernel/llm_service.h"

void llm_reply_init(struct llm_reply *r)
{
    *r = (struct llm_reply){ .attempts = 0 };
    buf_init(&r->text, 0);
}

void llm_reply_fini(struct llm_reply *r)
{
    buf_fini(&r->text);
    json_decref(r->tool_calls);
    r->tool_calls = NULL;
}

static bool add_providers(struct llm *l, const struct config *config, struct error *err)
{
    size_t most = MIN(json_array_size(config->llm.providers), LLM_PROVIDERS_MAX);

    if (most == 0)
        return true;
    l->providers = calloc(most, sizeof *l->providers);
    if (!l->providers)
        return error_set(err, ERR_NOMEM, "providers of models");
    for (size_t i = 0; i < most; i++) {
        struct llm_provider *p = &l->providers[i];

        if (!llm_provider_read(p, json_array_get(config->llm.providers, i), err))
            return false;
        llm_breaker_init(&p->breaker, MAX(config->llm.breaker_failures, 1),
                         config->llm.breaker_open_ms * CLOCK_NS_PER_MS);
        l->provider_count++;
    }
    return true;
}

struct llm *llm_new(const struct config *config, struct event_bus *bus, struct error *err)
{
    CLEANUP(llm_freep) struct llm *l = calloc(1, sizeof *l);

    if (!l) {
        error_set(err, ERR_NOMEM, "the service of models");
        return NULL;
    }
    pthread_mutex_init(&l->lock, NULL);
    list_init(&l->parked);
    l->bus = bus;
    l->timeout_ns = config->llm.timeout_ms * CLOCK_NS_PER_MS;
    l->idle_ns = config->llm.idle_ms * CLOCK_NS_PER_MS;
    l->retries = (unsigned)MIN(MAX(config->llm.retries, 0), 100);
    l->sampling = config->llm.sampling;
    l->accounts = llm_accounts_new((uint64_t)MAX(config->llm.budget_tokens, 0), err);
    if (!l->accounts || !add_providers(l, config, err))
        return NULL;
    l->http = http_new(err);
    return l->http ? STEAL(l) : NULL;
}

void llm_free(struct llm *l)
{
    if (!l)
        return;
    llm_job_drop_all(l);
    pthread_mutex_destroy(&l->lock);
    for (size_t i = 0; i < l->provider_count; i++) {
        llm_breaker_fini(&l->providers[i].breaker);
        llm_provider_fini(&l->providers[i]);
    }
    free(l->providers);
    llm_accounts_free(l->accounts);
    http_free(l->http);
    free(l);
}

bool llm_has_providers(const struct llm *l)
{
    return l->provider_count > 0;
}

void llm_usage(struct llm *l, const char *agent, struct llm_usage *ret)
{
    llm_account_usage(l->accounts, agent, ret);
}

static json_t *status_of(struct llm_provider *p)
{
    struct llm_breaker_info info;
    char last[sizeof p->last_error];
    json_t *status;

    llm_breaker_info(&p->breaker, clock_now_ns(), &info);
    pthread_mutex_lock(&p->lock);
    memcpy(last, p->last_error, sizeof last);
    pthread_mutex_unlock(&p->lock);
    if (p->misconfigured.code != ERR_NONE)
        memcpy(last, p->misconfigured.text, sizeof last - 1);
    status = json_pack("{s:s, s:s, s:s, s:s, s:I, s:I, s:I, s:I}", "name", p->name, "kind",
                       p->dialect->kind, "model", p->model, "state",
                       p->misconfigured.code != ERR_NONE ? "misconfigured"
                                                         : llm_breaker_state_name(info.state),
                       "failures", (json_int_t)info.failures, "attempts", (json_int_t)p->calls,
                       "failed", (json_int_t)p->failures, "opened", (json_int_t)info.opened);
    if (status && info.left_ns > 0 &&
        !llm_put(status, "retry_in_ms", json_integer(info.left_ns / CLOCK_NS_PER_MS))) {
        json_decref(status);
        return NULL;
    }
    if (status && *last && !llm_put(status, "last_error", json_string_lossy(last, strlen(last)))) {
        json_decref(status);
        return NULL;
    }
    return status;
}

json_t *llm_status(struct llm *l)
{
    json_t *list = json_array();

    for (size_t i = 0; list && i < l->provider_count; i++)
        if (json_array_append_new(list, status_of(&l->providers[i])) != 0) {
            json_decref(list);
            return NULL;
        }
    return list;
}
