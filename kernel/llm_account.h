/*
 * llm_account - what each agent has used, and its budget.
 *
 * A query reserves what it may use before it starts, so that several at once cannot pass the budget
 * together, and settles with what it really used.  At most LLM_AGENTS_MAX agents are known.
 * Threads: any.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "kernel/base/error.h"
#include "kernel/llm.h"

#define LLM_AGENTS_MAX 16384u

struct llm_accounts;

/** @budget_tokens: of each agent; 0 for none. */
NODISCARD struct llm_accounts *llm_accounts_new(uint64_t budget_tokens, struct error *err);
void llm_accounts_free(struct llm_accounts *a);

/** @input: tokens of the question; *output (in: wanted, 0 for whatever; out: allowed, unchanged
 *  without a budget).  *ret_reserved goes to llm_account_settle(), which must follow.  ERR_LIMIT:
 *  how much is left and which key says so; ERR_NOMEM. */
NODISCARD bool llm_account_reserve(struct llm_accounts *a, const char *agent, uint64_t input,
                                   int64_t *output, uint64_t *ret_reserved, struct error *err);

/** @failed: the query as a whole.  True when the agent's budget has just been used up. */
bool llm_account_settle(struct llm_accounts *a, const char *agent, uint64_t reserved,
                        uint64_t input, uint64_t output, double cost, bool failed);

void llm_account_usage(struct llm_accounts *a, const char *agent, struct llm_usage *ret);
