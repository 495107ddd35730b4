#include "kernel/storage_s3_xml.h"

#include <string.h>

#include "kernel/base/utf8.h"

#define NAME_BYTES 64u
#define PATH_BYTES (S3_XML_DEPTH * NAME_BYTES)
#define TEXT_BYTES (64u << 10)

struct reader {
    const char *at, *end, *start;
    s3_xml_fn *fn;
    void *arg;
    size_t depth;
    char names[S3_XML_DEPTH][NAME_BYTES];
    bool leaf; /* no child element since the last start tag */
    struct buf text;
};

static bool wrong(const struct reader *r, const char *what, struct error *err)
{
    return error_set(err, ERR_PROTOCOL, "the answer is not the XML it should be: %s at byte %zu",
                     what, (size_t)(r->at - r->start));
}

static bool is_space(char c)
{
    return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

static bool ahead(const struct reader *r, const char *text)
{
    size_t len = strlen(text);

    return (size_t)(r->end - r->at) >= len && memcmp(r->at, text, len) == 0;
}

/* Past the next @text. */
static bool skip_to(struct reader *r, const char *text)
{
    const char *found = memmem(r->at, (size_t)(r->end - r->at), text, strlen(text));

    if (!found)
        return false;
    r->at = found + strlen(text);
    return true;
}

static bool name(struct reader *r, char ret[NAME_BYTES])
{
    size_t len = 0;

    while (r->at < r->end && !is_space(*r->at) && *r->at != '>' && *r->at != '/' && *r->at != '<') {
        if (len == NAME_BYTES - 1 || (unsigned char)*r->at <= 0x20)
            return false;
        ret[len++] = *r->at++;
    }
    ret[len] = '\0';
    return len > 0;
}

static bool path_of(const struct reader *r, char path[PATH_BYTES])
{
    size_t len = 0;

    path[0] = '\0';
    for (size_t i = 1; i < r->depth; i++) {
        size_t n = strlen(r->names[i]);

        if (len + n + 2 > PATH_BYTES)
            return false;
        if (len)
            path[len++] = '/';
        memcpy(path + len, r->names[i], n + 1);
        len += n;
    }
    return true;
}

/* Attributes matter to nobody here; a '>' inside quotes does not end the tag. */
static bool skip_attributes(struct reader *r, bool *ret_empty)
{
    char quote = 0;

    *ret_empty = false;
    for (; r->at < r->end; r->at++) {
        if (quote) {
            quote = *r->at == quote ? 0 : quote;
        } else if (*r->at == '"' || *r->at == '\'') {
            quote = *r->at;
        } else if (*r->at == '<') {
            return false;
        } else if (*r->at == '>') {
            *ret_empty = r->at[-1] == '/';
            r->at++;
            return true;
        }
    }
    return false;
}

static bool end_element(struct reader *r, bool *ret_go_on, struct error *err)
{
    char path[PATH_BYTES];
    const char *text = buf_str(&r->text);

    *ret_go_on = true;
    if (r->leaf && r->depth > 1) {
        if (!path_of(r, path))
            return wrong(r, "too deep a path", err);
        *ret_go_on = r->fn(r->arg, path, text);
    }
    if (*ret_go_on && r->depth == 2)
        *ret_go_on = r->fn(r->arg, "/", r->names[1]);
    r->depth--;
    r->leaf = false;
    buf_clear(&r->text);
    return true;
}

static bool start_tag(struct reader *r, bool *ret_go_on, struct error *err)
{
    bool empty;

    *ret_go_on = true;
    if (r->depth == S3_XML_DEPTH)
        return wrong(r, "too deep nesting", err);
    if (!name(r, r->names[r->depth]) || !skip_attributes(r, &empty))
        return wrong(r, "a broken tag", err);
    r->depth++;
    r->leaf = true;
    buf_clear(&r->text);
    return !empty || end_element(r, ret_go_on, err);
}

static bool end_tag(struct reader *r, bool *ret_go_on, struct error *err)
{
    char closed[NAME_BYTES];

    if (!name(r, closed) || r->depth == 0 || strcmp(closed, r->names[r->depth - 1]) != 0 ||
        !skip_to(r, ">"))
        return wrong(r, "an end without its start", err);
    return end_element(r, ret_go_on, err);
}

static bool append_code(struct buf *text, uint32_t code)
{
    char bytes[4];
    size_t len;

    if (code == 0 || code > 0x10ffff || (code >= 0xd800 && code <= 0xdfff))
        return false;
    if (code < 0x80) {
        return buf_append_char(text, (char)code);
    } else if (code < 0x800) {
        bytes[0] = (char)(0xc0 | code >> 6);
        len = 2;
    } else if (code < 0x10000) {
        bytes[0] = (char)(0xe0 | code >> 12);
        bytes[1] = (char)(0x80 | (code >> 6 & 0x3f));
        len = 3;
    } else {
        bytes[0] = (char)(0xf0 | code >> 18);
        bytes[1] = (char)(0x80 | (code >> 12 & 0x3f));
        bytes[2] = (char)(0x80 | (code >> 6 & 0x3f));
        len = 4;
    }
    bytes[len - 1] = (char)(0x80 | (code & 0x3f));
    return buf_append(text, bytes, len);
}

static int digit(char c, int base)
{
    int value = c >= '0' && c <= '9'   ? c - '0'
                : c >= 'a' && c <= 'f' ? c - 'a' + 10
                : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                       : 99;

    return value < base ? value : -1;
}

static bool numeric(struct reader *r, const char *semicolon)
{
    int base = r->at[2] == 'x' ? 16 : 10;
    uint32_t code = 0;
    const char *c = r->at + (base == 16 ? 3 : 2);

    if (c >= semicolon)
        return false;
    for (; c < semicolon; c++) {
        int value = digit(*c, base);

        if (value < 0 || code > 0x10ffff)
            return false;
        code = code * (unsigned)base + (unsigned)value;
    }
    return append_code(&r->text, code);
}

static bool entity(struct reader *r)
{
    static const struct {
        const char *name;
        char is;
    } known[] = {
        { "&amp;", '&' }, { "&lt;", '<' }, { "&gt;", '>' }, { "&quot;", '"' }, { "&apos;", '\'' },
    };
    const char *semicolon = memchr(r->at, ';', MIN((size_t)(r->end - r->at), 12u));

    for (size_t i = 0; i < ARRAY_LEN(known); i++) {
        if (ahead(r, known[i].name)) {
            r->at += strlen(known[i].name);
            return buf_append_char(&r->text, known[i].is);
        }
    }
    if (!semicolon || !ahead(r, "&#") || !numeric(r, semicolon))
        return false;
    r->at = semicolon + 1;
    return true;
}

static bool characters(struct reader *r, struct error *err)
{
    const char *from = r->at;

    if (*r->at == '&')
        return entity(r) || wrong(r, "an unknown entity", err);
    while (r->at < r->end && *r->at != '<' && *r->at != '&')
        r->at++;
    if (r->depth == 0) {
        for (; from < r->at; from++) {
            if (!is_space(*from))
                return wrong(r, "text outside of the root", err);
        }
        return true;
    }
    return buf_append(&r->text, from, (size_t)(r->at - from)) || wrong(r, "too long a text", err);
}

static bool step(struct reader *r, bool *ret_go_on, struct error *err)
{
    *ret_go_on = true;
    if (*r->at != '<')
        return characters(r, err);
    if (ahead(r, "<?"))
        return skip_to(r, "?>") || wrong(r, "a broken instruction", err);
    if (ahead(r, "<!--"))
        return skip_to(r, "-->") || wrong(r, "a broken comment", err);
    if (ahead(r, "<!"))
        return wrong(r, "a document type", err);
    r->at++;
    if (r->at < r->end && *r->at == '/') {
        r->at++;
        return end_tag(r, ret_go_on, err);
    }
    return start_tag(r, ret_go_on, err);
}

bool s3_xml_read(const char *data, size_t len, s3_xml_fn *fn, void *arg, char ret_root[64],
                 struct error *err)
{
    struct reader r = { .at = data, .start = data, .end = data + len, .fn = fn, .arg = arg };
    bool ok = true, go_on = true, seen = false;

    ret_root[0] = '\0';
    if (!utf8_valid(data, len))
        return wrong(&r, "text that is not UTF-8", err);
    buf_init(&r.text, TEXT_BYTES);
    while (ok && go_on && r.at < r.end) {
        ok = step(&r, &go_on, err);
        if (ok && !seen && r.depth == 1) {
            memcpy(ret_root, r.names[0], NAME_BYTES);
            seen = true;
        } else if (ok && seen && r.depth == 0) {
            break; /* what follows the root is of no interest */
        }
    }
    buf_fini(&r.text);
    if (ok && go_on && r.depth > 0)
        return wrong(&r, "an end in the middle", err);
    if (ok && !seen)
        return wrong(&r, "no element", err);
    return ok;
}
