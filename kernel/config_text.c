#include "kernel/config.h"

#include <inttypes.h>
#include <string.h>

#include "kernel/base/buf.h"
#include "kernel/base/json.h"
#include "kernel/base/json_bounds.h"
#include "kernel/config_internal.h"

/* ---- show ---- */

/* The section with every key of its table, those without a value as null. */
static json_t *show_section(const struct json_field *section, const struct config *c)
{
    json_t *some = json_fields_write(section->fields, (const char *)c + section->offset);
    json_t *all = json_object();
    bool ok = some && all;

    for (const struct json_field *f = section->fields; ok && f->name; f++) {
        json_t *value = json_object_get(some, f->name);

        ok = json_object_set_new(all, f->name, value ? json_incref(value) : json_null()) == 0;
    }
    json_decref(some);
    if (ok)
        return all;
    json_decref(all);
    return NULL;
}

char *config_show(const struct config *c, struct error *err)
{
    json_t *all = json_object();
    bool ok = all != NULL;
    char *text;

    for (const struct json_field *s = config_fields; ok && s->name; s++)
        ok = json_object_set_new(all, s->name, show_section(s, c)) == 0;
    text = ok ? json_dumps(all, JSON_INDENT(2)) : NULL;
    json_decref(all);
    if (!text)
        error_set(err, ERR_NOMEM, "configuration");
    return text;
}

/* ---- describe ---- */

static const char *kind_text(const struct json_field *f)
{
    switch (f->kind) {
    case JSON_KIND_STRING:
    case JSON_KIND_TEXT:
        return "string";
    case JSON_KIND_INT:
        return "integer";
    case JSON_KIND_NUMBER:
        return "number";
    case JSON_KIND_BOOL:
        return "true or false";
    case JSON_KIND_ENUM:
        return "one of";
    case JSON_KIND_STRINGS:
        return "list of strings";
    case JSON_KIND_INTS:
        return "list of whole numbers";
    case JSON_KIND_MAP:
        return "object of strings";
    case JSON_KIND_OBJECT:
    case JSON_KIND_FREE_OBJECT:
        return "object";
    case JSON_KIND_OBJECTS:
        return "list of objects";
    case JSON_KIND_ANY:
        break;
    }
    return "any value";
}

static void put_choices(struct buf *out, const char *const *choices)
{
    for (size_t i = 0; choices[i]; i++)
        (void)buf_printf(out, "%s\"%s\"", i ? ", " : "", choices[i]);
}

static void put_range(struct buf *out, const struct json_field *f)
{
    bool amount = f->kind == JSON_KIND_INT || f->kind == JSON_KIND_NUMBER;
    const char *unit = amount ? "" : f->kind == JSON_KIND_STRING ? " characters" : " entries";

    if (!json_has_max(f))
        return;
    if (*unit && f->min <= 0)
        (void)buf_printf(out, ", at most %" PRId64 "%s", f->max, unit);
    else
        (void)buf_printf(out, ", %" PRId64 " to %" PRId64 "%s", f->min, f->max, unit);
}

static void put_default(struct buf *out, const struct json_field *f,
                        const struct config_string *string)
{
    if (string)
        (void)buf_printf(out, "; default \"%s\"", string->fallback);
    else if (f->required)
        (void)buf_append_str(out, "; required");
    else if (f->kind == JSON_KIND_INT)
        (void)buf_printf(out, "; default %" PRId64, f->fallback);
    else if (f->kind == JSON_KIND_BOOL)
        (void)buf_printf(out, "; default %s", f->fallback ? "true" : "false");
    else if (f->kind == JSON_KIND_STRINGS || f->kind == JSON_KIND_OBJECTS)
        (void)buf_append_str(out, "; default none");
}

/* The description in lines of at most 90 characters, each indented. */
static void put_wrapped(struct buf *out, const char *text, const char *indent)
{
    size_t column = 0;

    while (*text) {
        size_t word = strcspn(text, " ");

        if (column && column + 1 + word > 90 - strlen(indent)) {
            (void)buf_append_char(out, '\n');
            column = 0;
        }
        (void)buf_append_str(out, column ? " " : indent);
        (void)buf_append(out, text, word);
        column += word + (column > 0);
        text += word;
        text += strspn(text, " ");
    }
    (void)buf_append_char(out, '\n');
}

static void put_field(struct buf *out, const char *section, const struct json_field *f,
                      const char *indent)
{
    const struct config_string *string = config_string_find(section, f->name);
    const char *const *choices = string && string->choices ? string->choices : f->choices;
    char deeper[16];

    (void)buf_printf(out, "%s%s%s%s  (", indent, section, *section ? "." : "", f->name);
    if (choices) {
        (void)buf_append_str(out, "one of ");
        put_choices(out, choices);
    } else {
        (void)buf_append_str(out, kind_text(f));
        put_range(out, f);
    }
    put_default(out, f, string);
    (void)buf_append_str(out, ")\n");
    (void)memset(deeper, ' ', sizeof deeper);
    deeper[strlen(indent) + 4] = '\0';
    put_wrapped(out, f->description, deeper);
    if (f->kind != JSON_KIND_OBJECTS || !f->fields)
        return;
    put_wrapped(out, "Each has:", deeper);
    for (const struct json_field *inner = f->fields; inner->name; inner++)
        put_field(out, "", inner, deeper);
}

char *config_describe(struct error *err)
{
    CLEANUP(buf_fini) struct buf out = BUF_INIT;
    char *text;

    (void)buf_append_str(
        &out, "The configuration is one JSON object of sections, for example\n"
              "{ \"computer\": { \"memory_mb\": 2048 } }.  Every key may be left out.\n");
    for (const struct json_field *s = config_fields; s->name; s++) {
        (void)buf_printf(&out, "\n%s: %s\n", s->name, s->description);
        for (const struct json_field *f = s->fields; f->name; f++)
            put_field(&out, s->name, f, "");
    }
    text = buf_take(&out, NULL);
    if (!text)
        error_set(err, ERR_NOMEM, "configuration");
    return text;
}
