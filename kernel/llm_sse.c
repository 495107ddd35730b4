#include "kernel/llm_sse.h"

#include <string.h>

void llm_sse_init(struct llm_sse *s, size_t max)
{
    *s = (struct llm_sse){ .max = max };
    buf_init(&s->line, 0);
    buf_init(&s->data, 0);
}

void llm_sse_fini(struct llm_sse *s)
{
    buf_fini(&s->line);
    buf_fini(&s->data);
}

static bool too_long(const struct llm_sse *s, struct error *err)
{
    return error_set(err, ERR_LIMIT, "one event of the stream is longer than %zu KiB",
                     s->max / 1024);
}

static bool add(struct llm_sse *s, struct buf *to, const char *data, size_t len, struct error *err)
{
    if (len > s->max || to->len > s->max - len)
        return too_long(s, err);
    return buf_append(to, data, len) || error_set(err, ERR_NOMEM, "an event of the stream");
}

/* An empty line: what was gathered is an event if it has data. */
static bool dispatch(struct llm_sse *s, llm_sse_fn *fn, void *arg, struct error *err)
{
    bool go_on = true;

    if (s->has_data) {
        s->events++;
        go_on = fn(arg, *s->event ? s->event : "message", buf_str(&s->data), s->data.len, err);
    }
    buf_clear(&s->data);
    s->has_data = false;
    *s->event = '\0';
    return go_on;
}

static bool field(struct llm_sse *s, const char *line, size_t len, struct error *err)
{
    const char *colon = memchr(line, ':', len);
    size_t name_len = colon ? (size_t)(colon - line) : len;
    const char *value = colon ? colon + 1 : line + len;
    size_t value_len = (size_t)(line + len - value);

    if (value_len > 0 && *value == ' ') {
        value++;
        value_len--;
    }
    if (name_len == 4 && memcmp(line, "data", 4) == 0) {
        if (s->has_data && !add(s, &s->data, "\n", 1, err))
            return false;
        s->has_data = true;
        return add(s, &s->data, value, value_len, err);
    }
    if (name_len == 5 && memcmp(line, "event", 5) == 0) {
        size_t keep = MIN(value_len, sizeof s->event - 1);

        memcpy(s->event, value, keep);
        s->event[keep] = '\0';
    }
    return true;
}

static bool end_line(struct llm_sse *s, llm_sse_fn *fn, void *arg, struct error *err)
{
    const char *line = buf_str(&s->line);
    size_t len = s->line.len;
    bool go_on;

    if (!s->begun && len >= 3 && memcmp(line, "\xef\xbb\xbf", 3) == 0) {
        line += 3;
        len -= 3;
    }
    s->begun = true;
    go_on = len == 0 ? dispatch(s, fn, arg, err) : field(s, line, len, err);
    buf_clear(&s->line);
    return go_on;
}

bool llm_sse_feed(struct llm_sse *s, const char *data, size_t len, llm_sse_fn *fn, void *arg,
                  struct error *err)
{
    size_t at = 0;

    while (at < len) {
        size_t end = at;
        char c;

        if (s->after_cr) {
            s->after_cr = false;
            if (data[at] == '\n') {
                at++;
                continue;
            }
        }
        while (end < len && data[end] != '\n' && data[end] != '\r')
            end++;
        if (!add(s, &s->line, data + at, end - at, err))
            return false;
        if (end == len)
            return true;
        c = data[end];
        at = end + 1;
        s->after_cr = c == '\r';
        if (!end_line(s, fn, arg, err))
            return false;
    }
    return true;
}
