/* file_edit: one exact replacement, shown as a diff. */
#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "kernel/base/limits.h"
#include "tools/file_internal.h"

#define PLACES_MAX 10000
/* Steps of the search for old_text with other white space: more would cost more than the hint is
 * worth. */
#define LOOSE_STEPS_MAX (32u << 20)

const struct json_field file_edit_fields[] = {
    { .name = "path",
      .kind = JSON_KIND_STRING,
      .required = true,
      .offset = offsetof(struct file_edit_args, path),
      .min = 1,
      .max = 4096 },
    { .name = "old_text",
      .description = "Exactly as it stands in the file",
      .kind = JSON_KIND_TEXT,
      .required = true,
      .offset = offsetof(struct file_edit_args, old_text) },
    { .name = "new_text",
      .description = "\"\" removes it",
      .kind = JSON_KIND_TEXT,
      .required = true,
      .offset = offsetof(struct file_edit_args, new_text) },
    { .name = "replace_all",
      .kind = JSON_KIND_BOOL,
      .offset = offsetof(struct file_edit_args, replace_all) },
    { .name = "dry_run",
      .kind = JSON_KIND_BOOL,
      .offset = offsetof(struct file_edit_args, dry_run) },
    TOOLKIT_COMPUTER_FIELD(struct file_edit_args),
    { .name = NULL },
};

static size_t line_of(const struct buf *text, size_t at)
{
    size_t line = 1;

    for (size_t i = 0; i < at; i++)
        line += text->data[i] == '\n';
    return line;
}

/* The line where @old stands when differences in white space do not count; 0 for none. */
static size_t find_loosely(const struct buf *text, const struct json_text *old)
{
    size_t skip = 0;
    size_t steps = 0;

    while (skip < old->len && isspace((unsigned char)old->data[skip]))
        skip++;
    if (skip == old->len)
        return 0;
    for (size_t start = 0; start < text->len; start++) {
        size_t t = start;
        size_t o = skip;

        if (text->data[start] != old->data[skip])
            continue;
        while (o < old->len && steps++ < LOOSE_STEPS_MAX) {
            if (isspace((unsigned char)old->data[o])) {
                o++;
            } else if (t < text->len && isspace((unsigned char)text->data[t])) {
                t++;
            } else if (t < text->len && text->data[t] == old->data[o]) {
                t++;
                o++;
            } else {
                break;
            }
        }
        if (o == old->len)
            return line_of(text, start);
        if (steps >= LOOSE_STEPS_MAX)
            return 0;
    }
    return 0;
}

static bool not_found(const struct buf *text, const struct file_edit_args *a, const char *path,
                      struct error *err)
{
    size_t line = find_loosely(text, &a->old_text);

    if (line > 0)
        return error_set(err, ERR_INVALID,
                         "old_text is not in %s as given, but it stands at line %zu with other "
                         "white space; read that place with file_read "
                         "{\"path\":\"%s\",\"from_line\":%zu} and copy it exactly",
                         path, line, a->path, line);
    return error_set(
        err, ERR_INVALID,
        "old_text is not in %s; read the file with file_read and copy the text exactly", path);
}

/* Where @old begins, without overlap; the count, with at most PLACES_MAX kept. */
static size_t find_places(const struct buf *text, const struct json_text *old, size_t *places)
{
    const char *from = text->data;
    size_t left = text->len;
    size_t count = 0;
    const char *hit;

    while (left >= old->len && (hit = memmem(from, left, old->data, old->len))) {
        if (count < PLACES_MAX)
            places[count] = (size_t)(hit - text->data);
        count++;
        left -= (size_t)(hit - from) + old->len;
        from = hit + old->len;
    }
    return count;
}

static bool check_places(const struct buf *text, const struct file_edit_args *a, const char *path,
                         const size_t *places, size_t count, struct error *err)
{
    if (count == 0)
        return not_found(text, a, path, err);
    if (count > PLACES_MAX)
        return error_set(err, ERR_LIMIT,
                         "old_text occurs %zu times in %s; at most %d can be replaced", count, path,
                         PLACES_MAX);
    if (count > 1 && !a->replace_all)
        return error_set(err, ERR_INVALID,
                         "old_text occurs %zu times in %s (lines %zu, %zu%s); add lines around it "
                         "until it is the only one, or send replace_all",
                         count, path, line_of(text, places[0]), line_of(text, places[1]),
                         count > 2 ? ", …" : "");
    return true;
}

static bool replace(const struct buf *text, const struct file_edit_args *a, const size_t *places,
                    size_t count, struct buf *out)
{
    size_t from = 0;

    for (size_t i = 0; i < count; i++) {
        buf_append(out, text->data + from, places[i] - from);
        buf_append(out, a->new_text.data, a->new_text.len);
        from = places[i] + a->old_text.len;
    }
    return buf_append(out, text->data + from, text->len - from) && !out->failed;
}

static bool edit(struct tool_call *call, const struct file_edit_args *a, struct guest *g,
                 const char *path, size_t *places, struct error *err)
{
    CLEANUP(buf_fini) struct buf text = BUF_INIT;
    CLEANUP(buf_fini) struct buf changed = BUF_INIT;
    CLEANUP(buf_fini) struct buf diff = BUF_INIT;
    struct wire_stat st;
    size_t count;

    if (!guest_read_file(g, "/", path, 0, LIMIT_FILE_TRANSFER, &text, &st, &call->wait, err))
        return file_explain(err, path);
    if (st.size > LIMIT_FILE_TRANSFER)
        return error_set(err, ERR_LIMIT,
                         "%s is larger than %u bytes; edit it with sed in terminal_run", path,
                         LIMIT_FILE_TRANSFER);
    count = text.len > 0 ? find_places(&text, &a->old_text, places) : 0;
    if (!check_places(&text, a, path, places, count, err))
        return false;
    buf_init(&changed, (size_t)LIMIT_FILE_TRANSFER);
    if (!replace(&text, a, places, count, &changed))
        return error_set(err, ERR_LIMIT, "the edited file would be larger than %u bytes",
                         LIMIT_FILE_TRANSFER);
    if (!file_diff(&diff, path, &text, places, count, a->old_text.len, a->new_text.data,
                   a->new_text.len))
        return error_set(err, ERR_NOMEM, "the diff of %s", path);
    if (!a->dry_run &&
        !guest_write_file(g, "/", path, buf_str(&changed), changed.len, st.mode & 07777,
                          WIRE_WRITE_CREATE | WIRE_WRITE_ATOMIC, &call->wait, err))
        return error_prefix(err, "write %s", path);
    return result_text(call->result, diff.data, diff.len,
                       "the change is made whole; read the file to see it", err) &&
           result_printf(call->result, err,
                         a->dry_run ? "[dry run: %zu replacement%s, nothing written]"
                                    : "[%zu replacement%s written]",
                         count, count == 1 ? "" : "s");
}

bool file_edit(struct tool_call *call, const void *args, struct error *err)
{
    const struct file_edit_args *a = args;
    CLEANUP(computer_unrefp) struct computer *c = NULL;
    char path[FILE_PATH_MAX];
    size_t *places;
    bool ok;

    if (!file_path(a->path, path, err))
        return false;
    if (a->old_text.len == 0)
        return error_set(err, ERR_INVALID,
                         "old_text is empty; send the text to replace, or use file_write");
    c = toolkit_computer(call, a->computer, err);
    if (!c)
        return false;
    places = calloc(PLACES_MAX, sizeof *places);
    if (!places)
        return error_set(err, ERR_NOMEM, "an edit");
    ok = edit(call, a, computer_guest(c), path, places, err);
    free(places);
    return ok;
}
