/*
 * llm_vectors - one request for vectors: what is sent, and what of the answer is believed.
 *
 * Threads: one at a time for one request.
 */
#pragma once

#include "kernel/llm_service.h"

#define LLM_VECTORS_TEXTS 128u
#define LLM_VECTORS_BYTES (256u << 10)

struct llm_vectors {
    struct llm *llm;
    struct llm_provider *provider;
    const struct wait *wait;
    const char *texts[LLM_VECTORS_TEXTS]; /* borrowed */
    size_t count;

    /* the answer */
    float *rows; /* one for each text, for free() */
    size_t dims;
    uint64_t tokens; /* as the provider counted, if it did */
    bool counted;
    int status; /* of the latest attempt; 0: no answer came */
    unsigned attempts;
};

/** llm_once_fn: @arg is a struct llm_vectors without rows. */
NODISCARD enum llm_verdict llm_vectors_once(void *arg, int64_t *ret_retry_after_ns,
                                            struct error *err);
