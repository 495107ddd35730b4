#include "kernel/llm_account.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#define BUCKETS      1024u
#define OUTPUT_GUESS 4096u /* reserved for an answer of which nobody said how long it may be */

struct account {
    struct account *next;
    struct llm_usage usage;
    uint64_t reserved;
    char agent[];
};

struct llm_accounts {
    uint64_t budget; /* constant */

    pthread_mutex_t lock; /* guards what follows */
    size_t count;
    struct account *buckets[BUCKETS];
};

struct llm_accounts *llm_accounts_new(uint64_t budget_tokens, struct error *err)
{
    struct llm_accounts *a = calloc(1, sizeof *a);

    if (!a) {
        error_set(err, ERR_NOMEM, "the accounts of agents");
        return NULL;
    }
    a->budget = budget_tokens;
    pthread_mutex_init(&a->lock, NULL);
    return a;
}

void llm_accounts_free(struct llm_accounts *a)
{
    if (!a)
        return;
    for (size_t i = 0; i < BUCKETS; i++)
        for (struct account *each = a->buckets[i], *next; each; each = next) {
            next = each->next;
            free(each);
        }
    pthread_mutex_destroy(&a->lock);
    free(a);
}

static struct account **find_locked(struct llm_accounts *a, const char *agent)
{
    uint32_t hash = 2166136261u;
    struct account **at;

    for (const char *c = agent; *c; c++)
        hash = (hash ^ (unsigned char)*c) * 16777619u;
    at = &a->buckets[hash % BUCKETS];
    while (*at && strcmp((*at)->agent, agent) != 0)
        at = &(*at)->next;
    return at;
}

static struct account *make_locked(struct llm_accounts *a, const char *agent, struct error *err)
{
    struct account **at = find_locked(a, agent);
    struct account *account = *at;
    size_t len = strlen(agent) + 1;

    if (account)
        return account;
    if (a->count == LLM_AGENTS_MAX) {
        error_set(err, ERR_LIMIT, "%u agents have asked models already, and no more are counted",
                  LLM_AGENTS_MAX);
        return NULL;
    }
    account = calloc(1, sizeof *account + len);
    if (!account) {
        error_set(err, ERR_NOMEM, "an agent's account");
        return NULL;
    }
    memcpy(account->agent, agent, len);
    account->usage.budget_tokens = a->budget;
    a->count++;
    *at = account;
    return account;
}

static bool reserve_locked(struct llm_accounts *a, struct account *account, uint64_t input,
                           int64_t *output, uint64_t *ret_reserved, struct error *err)
{
    uint64_t used = account->usage.input_tokens + account->usage.output_tokens;
    uint64_t taken = used + account->reserved;
    uint64_t left = taken < a->budget ? a->budget - taken : 0;
    uint64_t wanted = *output > 0 ? (uint64_t)*output : OUTPUT_GUESS;

    if (left <= input)
        return error_set(err, ERR_LIMIT,
                         "agent %s has %" PRIu64 " of its %" PRIu64
                         " tokens left%s, and the question alone takes about %" PRIu64
                         " (llm.budget_tokens in the configuration)",
                         account->agent, left, a->budget,
                         account->reserved ? " beside its questions under way" : "", input);
    wanted = MIN(wanted, left - input);
    if (*output > 0 || wanted < OUTPUT_GUESS)
        *output = (int64_t)wanted;
    *ret_reserved = input + wanted;
    account->reserved += *ret_reserved;
    return true;
}

bool llm_account_reserve(struct llm_accounts *a, const char *agent, uint64_t input, int64_t *output,
                         uint64_t *ret_reserved, struct error *err)
{
    struct account *account;
    bool ok;

    pthread_mutex_lock(&a->lock);
    *ret_reserved = 0;
    account = make_locked(a, agent, err);
    ok =
        account && (a->budget == 0 || reserve_locked(a, account, input, output, ret_reserved, err));
    pthread_mutex_unlock(&a->lock);
    return ok;
}

bool llm_account_settle(struct llm_accounts *a, const char *agent, uint64_t reserved,
                        uint64_t input, uint64_t output, double cost, bool failed)
{
    struct account *account;
    uint64_t before, after = 0;

    pthread_mutex_lock(&a->lock);
    account = *find_locked(a, agent);
    before = account->usage.input_tokens + account->usage.output_tokens;
    account->reserved -= reserved;
    account->usage.calls++;
    account->usage.failures += failed;
    account->usage.input_tokens += input;
    account->usage.output_tokens += output;
    account->usage.cost += cost;
    after = before + input + output;
    pthread_mutex_unlock(&a->lock);
    return a->budget > 0 && before < a->budget && after >= a->budget;
}

void llm_account_usage(struct llm_accounts *a, const char *agent, struct llm_usage *ret)
{
    const struct account *account;

    pthread_mutex_lock(&a->lock);
    account = *find_locked(a, agent);
    *ret = account ? account->usage : (struct llm_usage){ .budget_tokens = a->budget };
    pthread_mutex_unlock(&a->lock);
}
