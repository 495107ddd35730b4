/* The family document: office files, PDF, mail and the like, read, made and changed inside a
 * computer.  What happens there is in tools/drivers/document*.py. */
#include "tools/document_internal.h"

struct read_args {
    const char *path, *pages, *sheet, *query, *image, *computer;
    int what, format;
    int64_t offset;
};

struct convert_args {
    const char *path, *to, *computer;
};

struct render_args {
    const char *path, *pages, *computer;
    int64_t dpi;
};

struct write_args {
    const char *path, *computer;
    struct json_text markdown;
};

struct edit_args {
    const char *path, *to, *computer;
    json_t *edits;
};

struct edit {
    int op;
    const char *at;
    struct json_text text;
    bool all;
};

static const char *const whats[] = { "content", "outline", "metadata", "tables", "images", NULL };
static const char *const formats[] = { "markdown", "text", NULL };
static const char *const ops[] = { "replace",        "set_cell",  "insert_section",
                                   "delete_section", "set_field", NULL };

#define PATH_FIELD(type, text)                                                           \
    {                                                                                    \
        .name = "path", .description = text, .kind = JSON_KIND_STRING, .required = true, \
        .offset = offsetof(type, path)                                                   \
    }

/* What document_read says of it goes for all. */
#define COMPUTER_FIELD(type)                                                             \
    {                                                                                    \
        .name = "computer", .kind = JSON_KIND_STRING, .offset = offsetof(type, computer) \
    }

static const struct json_field read_fields[] = {
    PATH_FIELD(struct read_args, "File or URL"),
    { .name = "what",
      .kind = JSON_KIND_ENUM,
      .offset = offsetof(struct read_args, what),
      .choices = whats },
    { .name = "pages",
      .description = "\"3\", \"10-12,20-\"; slides too",
      .kind = JSON_KIND_STRING,
      .offset = offsetof(struct read_args, pages) },
    { .name = "sheet",
      .description = "\"Sales!B2:D20\", \"Sales!500:\"",
      .kind = JSON_KIND_STRING,
      .offset = offsetof(struct read_args, sheet) },
    { .name = "query",
      .description = "Find this text",
      .kind = JSON_KIND_STRING,
      .offset = offsetof(struct read_args, query) },
    { .name = "image",
      .description = "Show one of what=images",
      .kind = JSON_KIND_STRING,
      .offset = offsetof(struct read_args, image) },
    { .name = "format",
      .kind = JSON_KIND_ENUM,
      .offset = offsetof(struct read_args, format),
      .choices = formats },
    { .name = "offset",
      .kind = JSON_KIND_INT,
      .offset = offsetof(struct read_args, offset),
      .min = 0 },
    TOOLKIT_COMPUTER_FIELD(struct read_args),
    { .name = NULL },
};

static const struct json_field convert_fields[] = {
    PATH_FIELD(struct convert_args, NULL),
    { .name = "to",
      .description = "\"pdf\", or a path",
      .kind = JSON_KIND_STRING,
      .required = true,
      .offset = offsetof(struct convert_args, to) },
    COMPUTER_FIELD(struct convert_args),
    { .name = NULL },
};

static const struct json_field render_fields[] = {
    PATH_FIELD(struct render_args, NULL),
    { .name = "pages",
      .description = "\"2-5\"; at most 4",
      .kind = JSON_KIND_STRING,
      .offset = offsetof(struct render_args, pages) },
    { .name = "dpi",
      .kind = JSON_KIND_INT,
      .offset = offsetof(struct render_args, dpi),
      .min = 10,
      .max = 600,
      .fallback = 100 },
    COMPUTER_FIELD(struct render_args),
    { .name = NULL },
};

static const struct json_field write_fields[] = {
    PATH_FIELD(struct write_args, "Ending says the format: .docx .odt .pdf .pptx .html"),
    { .name = "markdown",
      .kind = JSON_KIND_TEXT,
      .required = true,
      .offset = offsetof(struct write_args, markdown) },
    COMPUTER_FIELD(struct write_args),
    { .name = NULL },
};

static const struct json_field one_edit_fields[] = {
    { .name = "op",
      .kind = JSON_KIND_ENUM,
      .required = true,
      .offset = offsetof(struct edit, op),
      .choices = ops },
    { .name = "at",
      .description = "Old text, cell (Sheet1!B2), heading or form field",
      .kind = JSON_KIND_STRING,
      .offset = offsetof(struct edit, at) },
    { .name = "text",
      .description = "New text, value, =formula or markdown",
      .kind = JSON_KIND_TEXT,
      .offset = offsetof(struct edit, text) },
    { .name = "all",
      .description = "Every occurrence",
      .kind = JSON_KIND_BOOL,
      .offset = offsetof(struct edit, all) },
    { .name = NULL },
};

static const struct json_field edit_fields[] = {
    PATH_FIELD(struct edit_args, NULL),
    { .name = "edits",
      .description = "All or none",
      .kind = JSON_KIND_OBJECTS,
      .required = true,
      .offset = offsetof(struct edit_args, edits),
      .fields = one_edit_fields },
    { .name = "to",
      .description = "Write here instead",
      .kind = JSON_KIND_STRING,
      .offset = offsetof(struct edit_args, to) },
    COMPUTER_FIELD(struct edit_args),
    { .name = NULL },
};

/* What is absent is null to the driver. */
static bool document_read(struct tool_call *call, const void *args, struct error *err)
{
    const struct read_args *a = args;

    tool_call_note(call, "reading %s", a->path);
    return document_ask(call, a->computer,
                        json_pack("{s:s, s:s, s:s, s:s, s:s?, s:s?, s:s?, s:s?, s:I}", "tool",
                                  "read", "path", a->path, "what", whats[a->what], "format",
                                  formats[a->format], "pages", a->pages, "sheet", a->sheet, "query",
                                  a->query, "image", a->image, "offset", (json_int_t)a->offset),
                        err);
}

static bool document_convert(struct tool_call *call, const void *args, struct error *err)
{
    const struct convert_args *a = args;

    tool_call_note(call, "converting %s", a->path);
    return document_ask(
        call, a->computer,
        json_pack("{s:s, s:s, s:s}", "tool", "convert", "path", a->path, "to", a->to), err);
}

static bool document_render(struct tool_call *call, const void *args, struct error *err)
{
    const struct render_args *a = args;

    tool_call_note(call, "rendering %s", a->path);
    return document_ask(call, a->computer,
                        json_pack("{s:s, s:s, s:s?, s:I}", "tool", "render", "path", a->path,
                                  "pages", a->pages, "dpi", (json_int_t)a->dpi),
                        err);
}

static bool document_write(struct tool_call *call, const void *args, struct error *err)
{
    const struct write_args *a = args;

    tool_call_note(call, "writing %s", a->path);
    return document_ask(call, a->computer,
                        json_pack("{s:s, s:s, s:s%}", "tool", "write", "path", a->path, "markdown",
                                  a->markdown.data, a->markdown.len),
                        err);
}

static bool document_edit(struct tool_call *call, const void *args, struct error *err)
{
    const struct edit_args *a = args;

    tool_call_note(call, "editing %s", a->path);
    return document_ask(call, a->computer,
                        json_pack("{s:s, s:s, s:s?, s:O}", "tool", "edit", "path", a->path, "to",
                                  a->to, "edits", a->edits),
                        err);
}

static const struct tool tools[] = {
    { .name = "document_read",
      .title = "Read a document",
      .description =
          "Read PDF, office files, EPUB, HTML, LaTeX, mail, notebooks, CSV or text: whole, by "
          "pages, slides or cells, its outline, tables or images, or searched.",
      .fields = read_fields,
      .args_size = sizeof(struct read_args),
      .flags = TOOL_READS | TOOL_IDEMPOTENT | TOOL_OPEN_WORLD,
      .handler = document_read },
    { .name = "document_convert",
      .title = "Convert a document",
      .description = "Convert between office formats, markdown, HTML, EPUB and LaTeX, or to PDF.",
      .fields = convert_fields,
      .args_size = sizeof(struct convert_args),
      .flags = TOOL_DESTROYS | TOOL_IDEMPOTENT | TOOL_OPEN_WORLD,
      .handler = document_convert },
    { .name = "document_render",
      .title = "Show pages",
      .description = "See pages as images.",
      .fields = render_fields,
      .args_size = sizeof(struct render_args),
      .flags = TOOL_READS | TOOL_IDEMPOTENT | TOOL_OPEN_WORLD,
      .handler = document_render },
    { .name = "document_write",
      .title = "Write a document",
      .description =
          "Make a document of markdown, with tables, footnotes and images of the computer.",
      .fields = write_fields,
      .args_size = sizeof(struct write_args),
      .flags = TOOL_DESTROYS | TOOL_IDEMPOTENT,
      .handler = document_write },
    { .name = "document_edit",
      .title = "Edit a document",
      .description =
          "Edit DOCX, ODT, XLSX, ODS, PPTX, ODP, CSV or text, or fill a PDF form; the rest of the "
          "file stays as it is. insert_section: after section at (none: the end).",
      .fields = edit_fields,
      .args_size = sizeof(struct edit_args),
      .flags = TOOL_DESTROYS,
      .handler = document_edit },
};

const struct toolset toolset_document = { .name = "document",
                                          .tools = tools,
                                          .count = ARRAY_LEN(tools) };
