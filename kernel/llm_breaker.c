#include "kernel/llm_breaker.h"

#include "kernel/base/clock.h"

void llm_breaker_init(struct llm_breaker *b, int64_t most, int64_t open_ns)
{
    *b = (struct llm_breaker){ .most = most, .open_ns = open_ns };
    pthread_mutex_init(&b->lock, NULL);
}

void llm_breaker_fini(struct llm_breaker *b)
{
    pthread_mutex_destroy(&b->lock);
}

bool llm_breaker_enter(struct llm_breaker *b, int64_t now_ns, bool *ret_probe, int64_t *ret_left_ns)
{
    bool may = false;

    pthread_mutex_lock(&b->lock);
    if (b->state == LLM_BREAKER_OPEN && now_ns >= b->until_ns)
        b->state = LLM_BREAKER_HALF_OPEN;
    switch (b->state) {
    case LLM_BREAKER_CLOSED:
        *ret_probe = false;
        may = true;
        break;
    case LLM_BREAKER_OPEN:
        *ret_left_ns = b->until_ns - now_ns;
        break;
    case LLM_BREAKER_HALF_OPEN:
        may = !b->probing;
        if (may)
            *ret_probe = b->probing = true;
        else
            *ret_left_ns = 0;
        break;
    }
    pthread_mutex_unlock(&b->lock);
    return may;
}

/* One that set out before the breaker opened says nothing about how the provider is now: only the
 * probe closes an open breaker or keeps it open. */
bool llm_breaker_succeeded(struct llm_breaker *b, bool probe)
{
    bool changed = false;

    pthread_mutex_lock(&b->lock);
    if (probe) {
        b->probing = false;
        changed = b->state != LLM_BREAKER_CLOSED;
        b->state = LLM_BREAKER_CLOSED;
    }
    if (b->state == LLM_BREAKER_CLOSED)
        b->failures = 0;
    pthread_mutex_unlock(&b->lock);
    return changed;
}

static void open_locked(struct llm_breaker *b, int64_t now_ns)
{
    b->state = LLM_BREAKER_OPEN;
    b->until_ns = clock_add_ns(now_ns, b->open_ns);
    b->opened++;
}

bool llm_breaker_failed(struct llm_breaker *b, bool probe, int64_t now_ns)
{
    bool changed = false;

    pthread_mutex_lock(&b->lock);
    b->failures++;
    if (probe)
        b->probing = false;
    if (probe || (b->state == LLM_BREAKER_CLOSED && b->failures >= b->most)) {
        changed = true;
        open_locked(b, now_ns);
    }
    pthread_mutex_unlock(&b->lock);
    return changed;
}

void llm_breaker_unknown(struct llm_breaker *b, bool probe)
{
    pthread_mutex_lock(&b->lock);
    if (probe)
        b->probing = false; /* the next one is the probe */
    pthread_mutex_unlock(&b->lock);
}

void llm_breaker_info(struct llm_breaker *b, int64_t now_ns, struct llm_breaker_info *ret)
{
    pthread_mutex_lock(&b->lock);
    *ret = (struct llm_breaker_info){ .state = b->state,
                                      .failures = b->failures,
                                      .opened = b->opened };
    if (b->state == LLM_BREAKER_OPEN)
        ret->left_ns = MAX(b->until_ns - now_ns, 0);
    if (b->state == LLM_BREAKER_OPEN && ret->left_ns == 0)
        ret->state = LLM_BREAKER_HALF_OPEN;
    pthread_mutex_unlock(&b->lock);
}

const char *llm_breaker_state_name(enum llm_breaker_state state)
{
    static const char *const names[] = { "closed", "open", "half-open" };

    return names[state];
}
