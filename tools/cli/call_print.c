#include "tools/cli/call_print.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "kernel/base/base64.h"
#include "kernel/base/fd.h"
#include "kernel/base/json.h"

#define NAMES_MAX  10000
#define NAME_WIDTH 22

static const char *text_of(const json_t *object, const char *key)
{
    const char *text = json_string_value(json_object_get(object, key));

    return text ? text : "";
}

/* ---- results ---- */

static void print_text(FILE *to, const json_t *text)
{
    size_t len = json_string_length(text);

    if (len == 0)
        return;
    (void)fwrite(json_string_value(text), 1, len, to);
    if (json_string_value(text)[len - 1] != '\n')
        (void)fputc('\n', to);
}

/* "image/svg+xml" ends in "svg", and nothing of it can leave the folder. */
static void extension(const char *mime, char *buf, size_t size)
{
    const char *slash = strchr(mime, '/');
    size_t len = slash ? strspn(slash + 1, "abcdefghijklmnopqrstuvwxyz0123456789") : 0;

    if (strcmp(mime, "image/jpeg") == 0)
        (void)snprintf(buf, size, "jpg");
    else
        (void)snprintf(buf, size, "%.*s", len > 0 ? (int)MIN(len, 8u) : 3,
                       len > 0 ? slash + 1 : "bin");
}

/* A new file, never one that is there. */
static int open_new(const char *folder, const char *tool, const char *mime, char **ret_path,
                    struct error *err)
{
    char ext[16];

    extension(mime, ext, sizeof ext);
    for (int n = 1; n <= NAMES_MAX; n++) {
        int fd;

        if (asprintf(ret_path, "%s/%s-%d.%s", folder, tool, n, ext) < 0) {
            error_set(err, ERR_NOMEM, "the name of a file");
            return -1;
        }
        fd = open(*ret_path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0666);
        if (fd >= 0)
            return fd;
        if (errno != EEXIST) {
            error_set_errno(err, errno, "make %s", *ret_path);
            free(*ret_path);
            return -1;
        }
        free(*ret_path);
    }
    error_set(err, ERR_EXISTS, "%s has too many files %s-N.%s", folder, tool, ext);
    return -1;
}

static bool save(const char *tool, const json_t *block, const char *folder, struct error *err)
{
    const json_t *data = json_object_get(block, "data");
    const char *mime = text_of(block, "mimeType");
    CLEANUP(buf_fini) struct buf bytes = BUF_INIT;
    char *path;
    bool ok;
    int fd;

    /* A tool's name has no slash where MCP is kept to; others are not for us to trust. */
    if (strchr(tool, '/') || tool[0] == '.')
        tool = "result";
    if (!json_is_string(data) ||
        !base64_decode(&bytes, json_string_value(data), json_string_length(data), err)) {
        return json_is_string(data) ? error_prefix(err, "%s from the server", mime)
                                    : error_set(err, ERR_PROTOCOL, "the server sent no data");
    }
    fd = open_new(folder, tool, mime, &path, err);
    if (fd < 0)
        return false;
    ok = fd_write_all(fd, bytes.data, bytes.len, err) || error_prefix(err, "%s", path);
    fd_close(fd);
    if (ok)
        printf("%s: %s, %zu bytes\n", path, *mime ? mime : "unknown kind", bytes.len);
    free(path);
    return ok;
}

static bool print_block(const char *tool, const json_t *block, const char *folder, FILE *to,
                        struct error *err)
{
    const char *type = text_of(block, "type");

    if (strcmp(type, "text") == 0)
        print_text(to, json_object_get(block, "text"));
    else if (strcmp(type, "image") == 0 || strcmp(type, "audio") == 0)
        return save(tool, block, folder, err);
    else if (strcmp(type, "resource") == 0)
        print_text(to, json_object_get(json_object_get(block, "resource"), "text"));
    else if (strcmp(type, "resource_link") == 0)
        fprintf(to, "%s\n", text_of(block, "uri"));
    return true;
}

static bool print_line(const json_t *value, struct error *err)
{
    CLEANUP(buf_fini) struct buf line = BUF_INIT;

    if (!json_write(value, &line) || !buf_append_char(&line, '\n'))
        return error_set(err, ERR_NOMEM, "a result");
    (void)fwrite(line.data, 1, line.len, stdout);
    return true;
}

bool call_print_result(const char *tool, const json_t *result, const char *folder, bool json,
                       struct error *err)
{
    const json_t *content = json_object_get(result, "content");
    FILE *to = json_is_true(json_object_get(result, "isError")) ? stderr : stdout;
    bool ok = true;

    if (json)
        ok = print_line(result, err);
    else if (json_array_size(content) == 0 && json_object_get(result, "structuredContent"))
        ok = print_line(json_object_get(result, "structuredContent"), err);
    else
        for (size_t i = 0; ok && i < json_array_size(content); i++)
            ok = print_block(tool, json_array_get(content, i), folder, to, err);
    if (fflush(stdout) != 0 && ok)
        ok = error_set_errno(err, errno, "write to standard output");
    return ok;
}

/* ---- tools ---- */

/* Up to the first full stop that ends a sentence, or the end of the line. */
static int first_sentence(const char *text)
{
    const char *at = text;

    while (*at && *at != '\n' && !(*at == '.' && (at[1] == ' ' || at[1] == '\n' || !at[1])))
        at++;
    return (int)(at - text) + (*at == '.');
}

void call_print_list(const json_t *tools)
{
    for (size_t i = 0; i < json_array_size(tools); i++) {
        const json_t *tool = json_array_get(tools, i);
        const char *about = text_of(tool, "description");

        printf("%-*s %.*s\n", NAME_WIDTH, text_of(tool, "name"), first_sentence(about), about);
    }
}

static bool is_required(const json_t *schema, const char *name)
{
    const json_t *required = json_object_get(schema, "required");

    for (size_t i = 0; i < json_array_size(required); i++)
        if (strcmp(json_string_value(json_array_get(required, i)), name) == 0)
            return true;
    return false;
}

static void print_property(const char *name, const json_t *property, bool required)
{
    const char *type = text_of(property, "type");
    const json_t *choices = json_object_get(property, "enum");

    printf("  %s  (%s%s", name, *type ? type : "any value", required ? ", required" : "");
    for (size_t i = 0; i < json_array_size(choices); i++) {
        const char *choice = json_string_value(json_array_get(choices, i));

        printf("%s%s", i ? ", " : ": ", choice ? choice : "?");
    }
    printf(")\n");
    if (*text_of(property, "description"))
        printf("      %s\n", text_of(property, "description"));
}

void call_print_tool(const json_t *tool)
{
    const json_t *schema = json_object_get(tool, "inputSchema");
    json_t *properties = json_object_get(schema, "properties");
    const char *name;
    json_t *property;

    printf("%s\n\n%s\n", text_of(tool, "name"), text_of(tool, "description"));
    if (json_object_size(properties) == 0) {
        printf("\nIt takes no arguments.\n");
        return;
    }
    printf("\nArguments:\n");
    json_object_foreach (properties, name, property) {
        print_property(name, property, is_required(schema, name));
    }
}
