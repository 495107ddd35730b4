/*
 * llm_stream - reads a stream as an answer, for the fuzz targets of both kinds of provider: however
 * it is cut, the same comes out; text is valid UTF-8 without NUL, on_text was given all of it, and
 * tool calls have a name and an object of arguments.
 *
 * The first byte of the input: whether a schema is asked for (1), whether there is text before (2),
 * and how the second reading is cut (the rest).
 */
#pragma once

#include <stdlib.h>
#include <string.h>

#include "kernel/base/json.h"
#include "kernel/base/utf8.h"
#include "kernel/llm_provider.h"

static inline void check(bool holds)
{
    if (!holds)
        abort();
}

static inline void heard(void *arg, const char *text, size_t len)
{
    check(len > 0 && buf_append(arg, text, len));
}

static inline void check_calls(const json_t *calls)
{
    size_t i;
    json_t *call;

    check(!calls || json_array_size(calls) > 0);
    json_array_foreach (unconst(calls), i, call)
        check(json_string_length(json_object_get(call, "name")) > 0 &&
              json_is_string(json_object_get(call, "id")) &&
              json_is_object(json_object_get(call, "arguments")));
}

/* What came of it, as text. */
static inline void read_stream(const struct llm_dialect *dialect, const uint8_t *data, size_t size,
                               unsigned flags, size_t first_piece, struct buf *out)
{
    static const char before[] = "One two three";
    struct buf text = BUF_INIT, passed = BUF_INIT;
    struct llm_request request = { .on_text = heard, .arg = &passed };
    struct llm_answer a;
    struct llm_sse sse;
    struct error err = ERROR_INIT;
    json_t *calls = NULL;
    bool ok = true;
    size_t piece;

    request.schema = flags & 1 ? json_object() : NULL;
    llm_answer_init(&a, &request, &text, flags & 2 ? LLM_JOIN_WORDS : LLM_JOIN_PLAIN,
                    flags & 2 ? before : "");
    llm_sse_init(&sse, 1u << 16);
    for (size_t at = 0; ok && at < size; at += piece) {
        piece = MIN(1 + (at * 7 + 3) % (first_piece + 1), size - at);
        ok = llm_sse_feed(&sse, (const char *)data + at, piece, dialect->event, &a, &err);
    }
    ok = ok && llm_answer_end(&a, &calls, &err);
    check(ok == (err.code == ERR_NONE));
    check(err.code != ERR_NOMEM && err.code != ERR_INTERNAL);
    check(utf8_valid(buf_str(&text), text.len) && strlen(buf_str(&text)) == text.len);
    if (ok)
        check(passed.len == text.len && memcmp(buf_str(&passed), buf_str(&text), text.len) == 0);
    if (ok)
        check_calls(calls);
    else
        llm_answer_drop(&a);
    check(buf_printf(out, "%d %d %s|%s|%s|", ok, (int)err.code, a.finish, a.model, err.text));
    check(buf_append(out, buf_str(&text), text.len) && (!calls || json_write(calls, out)));
    json_decref(calls);
    json_decref(request.schema);
    llm_sse_fini(&sse);
    llm_answer_fini(&a);
    buf_fini(&text);
    buf_fini(&passed);
}

static inline int fuzz_stream(const struct llm_dialect *dialect, const uint8_t *data, size_t size)
{
    struct buf whole = BUF_INIT, cut = BUF_INIT;

    if (size == 0)
        return 0;
    read_stream(dialect, data + 1, size - 1, data[0] & 3u, size, &whole);
    read_stream(dialect, data + 1, size - 1, data[0] & 3u, data[0] >> 2, &cut);
    check(whole.len == cut.len && memcmp(buf_str(&whole), buf_str(&cut), cut.len) == 0);
    buf_fini(&whole);
    buf_fini(&cut);
    return 0;
}
