/* When and how a question is asked once more. */
#include <string.h>

#include "kernel/base/clock.h"
#include "kernel/base/json.h"
#include "kernel/base/utf8.h"
#include "kernel/llm_provider.h"

#define FIRST_NS (500 * CLOCK_NS_PER_MS)
#define MOST_NS  (20 * CLOCK_NS_PER_S)

enum llm_verdict llm_retry_status(int status)
{
    if (status >= 200 && status < 300)
        return LLM_OK;
    if (status == 408 || status == 409 || status == 429 || (status >= 500 && status < 600))
        return LLM_AGAIN;
    if (status == 400 || status == 413 || status == 414 || status == 415 || status == 422)
        return LLM_REFUSED;
    return LLM_NEXT; /* a wrong key, address or model, or a redirection */
}

int64_t llm_retry_delay(unsigned attempt, int64_t retry_after_ns, uint64_t random)
{
    int64_t bound = FIRST_NS;

    while (attempt-- > 1 && bound < MOST_NS)
        bound *= 2;
    bound = MIN(bound, MOST_NS);
    if (retry_after_ns > 0) /* all that were told the same should not come at the same time */
        return clock_add_ns(retry_after_ns, (int64_t)(random % (uint64_t)FIRST_NS));
    return (int64_t)(random % (uint64_t)(bound + 1));
}

/* A name of its own, for tests to step in at. */
bool llm_retry_pause(const struct wait *w, int64_t ns, struct error *err)
{
    return wait_pause(w, ns, err);
}

/* One line of valid text without control characters. */
static void tidy(const char *text, size_t len, char *ret, size_t size)
{
    CLEANUP(buf_fini) struct buf valid = BUF_INIT;
    size_t n;

    if (utf8_append_valid(&valid, text, MIN(len, size * 2)) < 0) {
        *ret = '\0';
        return;
    }
    n = utf8_cut(buf_str(&valid), valid.len, MIN(valid.len, size - 1));
    memcpy(ret, buf_str(&valid), n);
    ret[n] = '\0';
    for (size_t i = 0; i < n; i++)
        if ((unsigned char)ret[i] < 0x20 || ret[i] == 0x7f)
            ret[i] = ' ';
}

static const char *message_in(const json_t *body)
{
    const json_t *error = json_object_get(body, "error");
    static const char *const keys[] = { "message", "detail", "error_description" };

    if (json_is_string(error))
        return json_string_value(error);
    if (json_is_object(error))
        body = error;
    for (size_t i = 0; i < ARRAY_LEN(keys); i++)
        if (json_is_string(json_object_get(body, keys[i])))
            return json_string_value(json_object_get(body, keys[i]));
    return NULL;
}

void llm_retry_words(const char *body, size_t len, char *ret, size_t size)
{
    json_t *json = json_parse(body, len, NULL);
    const char *message = message_in(json);

    if (message)
        tidy(message, strlen(message), ret, size);
    else
        tidy(body, len, ret, size);
    json_decref(json);
}
