#include "vmctl/qmp_message.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "kernel/base/json.h"
#include "kernel/base/utf8.h"

void qmp_message_fini(struct qmp_message *m)
{
    json_decref(m->data);
    m->data = NULL;
}

void qmp_reader_fini(struct qmp_reader *r)
{
    buf_fini(&r->bytes);
}

char *qmp_reader_space(struct qmp_reader *r, size_t size)
{
    if (r->start) {
        buf_consume(&r->bytes, r->start);
        r->start = 0;
    }
    return buf_reserve(&r->bytes, size) ? r->bytes.data + r->bytes.len : NULL;
}

void qmp_reader_filled(struct qmp_reader *r, size_t n)
{
    r->bytes.len += n;
    r->bytes.data[r->bytes.len] = '\0';
}

/* ---- one line ---- */

static bool take_name(char *buf, size_t size, const json_t *value)
{
    const char *text = json_string_value(value);
    size_t len = json_string_length(value);

    if (!text || len == 0 || len >= size || memchr(text, '\0', len))
        return false;
    memcpy(buf, text, len + 1);
    return true;
}

/* What people are told: cut at a character, control characters made harmless. */
static void take_text(char *buf, size_t size, const json_t *value)
{
    const char *text = json_string_value(value);
    size_t len = json_string_length(value);

    if (!text)
        text = "", len = 0;
    if (len >= size) {
        len = size - 1;
        while (len && ((unsigned char)text[len] & 0xc0u) == 0x80u)
            len--;
    }
    for (size_t i = 0; i < len; i++)
        buf[i] = (unsigned char)text[i] < ' ' ? ' ' : text[i];
    buf[len] = '\0';
}

static bool take_id(struct qmp_message *m, const json_t *object)
{
    const json_t *id = json_object_get(object, "id");

    if (!id)
        return true;
    if (!json_is_integer(id) || json_integer_value(id) < 0)
        return false;
    m->id = (uint64_t)json_integer_value(id);
    m->has_id = true;
    return true;
}

static bool take_greeting(struct qmp_message *m, const json_t *greeting)
{
    const json_t *version = json_object_get(json_object_get(greeting, "version"), "qemu");
    const json_t *offers = json_object_get(greeting, "capabilities");
    const json_t *offer;
    size_t i;
    json_int_t part[3];
    static const char *const names[3] = { "major", "minor", "micro" };

    for (size_t n = 0; n < 3; n++) {
        const json_t *value = json_object_get(version, names[n]);

        part[n] = json_integer_value(value);
        if (!json_is_integer(value) || part[n] < 0 || part[n] > 9999)
            return false;
    }
    m->kind = QMP_GREETING;
    (void)snprintf(m->name, sizeof m->name, "%d.%d.%d", (int)part[0], (int)part[1], (int)part[2]);
    json_array_foreach (offers, i, offer) {
        const char *text = json_string_value(offer);

        m->oob = m->oob || (text && !strcmp(text, "oob"));
    }
    return true;
}

static bool take_line(struct qmp_message *m, const json_t *object)
{
    json_t *value;

    value = json_object_get(object, "event");
    if (value) {
        m->kind = QMP_EVENT;
        m->data = json_incref(json_object_get(object, "data"));
        return take_name(m->name, sizeof m->name, value) && (!m->data || json_is_object(m->data));
    }
    value = json_object_get(object, "error");
    if (value) {
        m->kind = QMP_ERROR;
        take_text(m->text, sizeof m->text, json_object_get(value, "desc"));
        return take_name(m->name, sizeof m->name, json_object_get(value, "class")) &&
               take_id(m, object);
    }
    value = json_object_get(object, "return");
    if (value) {
        m->kind = QMP_RETURN;
        m->data = json_incref(value);
        return take_id(m, object) && m->has_id;
    }
    value = json_object_get(object, "QMP");
    return value && take_greeting(m, value);
}

enum qmp_status qmp_reader_next(struct qmp_reader *r, struct qmp_message *ret, const char **why)
{
    for (;;) {
        const char *line = buf_str(&r->bytes) + r->start;
        size_t have = r->bytes.len - r->start;
        const char *end = memchr(line + r->seen, '\n', have - r->seen);
        size_t len = end ? (size_t)(end - line) : have;
        struct qmp_message m = { .kind = QMP_EVENT };
        json_t *object;
        bool ok;

        if (len > QMP_LINE_MAX) {
            *why = "a line without end";
            return QMP_BAD;
        }
        r->seen = have;
        if (!end)
            return QMP_MORE;
        r->start += len + 1;
        r->seen = 0;
        if (len && line[len - 1] == '\r')
            len--;
        if (!len)
            continue;
        object = json_parse(line, len, NULL);
        ok = json_is_object(object) && take_line(&m, object);
        json_decref(object);
        if (!ok) {
            qmp_message_fini(&m);
            *why = "a line that is no message";
            return QMP_BAD;
        }
        *ret = m;
        return QMP_MESSAGE;
    }
}
