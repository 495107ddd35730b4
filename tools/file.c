/* The family file: what all of it shares, and its list of tools. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "tools/file_internal.h"

bool file_path(const char *given, char *buf, struct error *err)
{
    int n;

    if (given[0] == '/')
        n = snprintf(buf, FILE_PATH_MAX, "%s", given);
    else if (given[0] == '~' && (given[1] == '/' || given[1] == '\0'))
        n = snprintf(buf, FILE_PATH_MAX, "/home/agent%s", given + 1);
    else
        n = snprintf(buf, FILE_PATH_MAX, FILE_HOME "/%s", given);
    if (n < 0 || n >= FILE_PATH_MAX)
        return error_set(err, ERR_INVALID, "the path is longer than %d bytes", FILE_PATH_MAX - 1);
    return true;
}

bool file_explain(struct error *err, const char *path)
{
    if (!err)
        return false;
    if (err->code == ERR_NOT_FOUND) {
        error_clear(err);
        return error_set(err, ERR_NOT_FOUND,
                         "there is no %s in the computer; file_list shows what there is", path);
    }
    if (err->os_errno == EISDIR || err->os_errno == ENOTDIR) {
        bool folder = err->os_errno == EISDIR;

        error_clear(err);
        return error_set(err, ERR_INVALID,
                         folder
                             ? "%s is a folder; file_list shows what is in it"
                             : "%s is not a folder, or a part of it is none; file_read reads files",
                         path);
    }
    return false;
}

static unsigned be16(const char *p)
{
    return (unsigned)(unsigned char)p[0] << 8 | (unsigned char)p[1];
}

/* The size in the first frame header of a JPEG. */
static void jpeg_size(const struct buf *d, unsigned *w, unsigned *h)
{
    size_t i = 2;

    while (i + 9 < d->len && (unsigned char)d->data[i] == 0xff) {
        unsigned marker = (unsigned char)d->data[i + 1];

        if (marker >= 0xc0 && marker <= 0xcf && marker != 0xc4 && marker != 0xc8 &&
            marker != 0xcc) {
            *h = be16(d->data + i + 5);
            *w = be16(d->data + i + 7);
            return;
        }
        i += 2 + be16(d->data + i + 2);
    }
}

const char *file_image_type(const struct buf *d, unsigned *ret_width, unsigned *ret_height)
{
    *ret_width = *ret_height = 0;
    if (d->len > 24 && memcmp(d->data, "\x89PNG\r\n\x1a\n", 8) == 0) {
        *ret_width = be16(d->data + 16) << 16 | be16(d->data + 18);
        *ret_height = be16(d->data + 20) << 16 | be16(d->data + 22);
        return "image/png";
    }
    if (d->len > 4 && memcmp(d->data, "\xff\xd8\xff", 3) == 0) {
        jpeg_size(d, ret_width, ret_height);
        return "image/jpeg";
    }
    if (d->len > 16 && memcmp(d->data, "RIFF", 4) == 0 && memcmp(d->data + 8, "WEBP", 4) == 0)
        return "image/webp";
    return NULL;
}

const char *const file_encodings[] = { "text", "base64", NULL };

static const struct tool tools[] = {
    { .name = "file_read",
      .title = "Read a file",
      .description = "Read a file in your computer: text (whole, or lines from_line to to_line, or "
                     "bytes from offset), images as images. A relative path is below /workspace. "
                     "Long text is cut with a note how to go on.",
      .fields = file_read_fields,
      .args_size = sizeof(struct file_read_args),
      .flags = TOOL_READS | TOOL_IDEMPOTENT,
      .handler = file_read },
    { .name = "file_write",
      .title = "Write a file",
      .description = "Write a file in your computer, whole or not at all; missing folders are "
                     "made. For a change in an existing file, file_edit is shorter.",
      .fields = file_write_fields,
      .args_size = sizeof(struct file_write_args),
      .flags = TOOL_DESTROYS | TOOL_IDEMPOTENT,
      .handler = file_write },
    { .name = "file_edit",
      .title = "Edit a file",
      .description = "Replace an exact piece of text in a file and get the change as a unified "
                     "diff. old_text must occur exactly once (or use replace_all), white space "
                     "included. dry_run shows the diff without writing.",
      .fields = file_edit_fields,
      .args_size = sizeof(struct file_edit_args),
      .flags = TOOL_DESTROYS,
      .handler = file_edit },
    { .name = "file_list",
      .title = "List files",
      .description = "List a folder of your computer, with sizes; depth for folders below, glob to "
                     "choose names (\"*.py\").",
      .fields = file_list_fields,
      .args_size = sizeof(struct file_list_args),
      .flags = TOOL_READS | TOOL_IDEMPOTENT,
      .handler = file_list },
    { .name = "file_search",
      .title = "Search in files",
      .description = "Search the text of files below a folder for an extended regular expression "
                     "(or literal text) and get file:line:text, with lines of context if wanted. "
                     "Binary files and .git are skipped.",
      .fields = file_search_fields,
      .args_size = sizeof(struct file_search_args),
      .flags = TOOL_READS | TOOL_IDEMPOTENT,
      .handler = file_search },
    { .name = "file_transfer",
      .title = "Exchange files with the user's machine",
      .description = "Copy one file from the user's machine into your computer (upload) or from it "
                     "to the user's machine (download). Works only in folders that the user's "
                     "configuration or the MCP client allows; the error names them.",
      .fields = file_transfer_fields,
      .args_size = sizeof(struct file_transfer_args),
      .flags = TOOL_DESTROYS | TOOL_HOST,
      .handler = file_transfer },
};

const struct toolset toolset_file = { .name = "file", .tools = tools, .count = ARRAY_LEN(tools) };
