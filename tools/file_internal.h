/*
 * file_internal - the handlers of the file family, one file each.  Nobody else includes this.
 *
 * Threads: worker threads.
 */
#pragma once

#include "tools/toolkit.h"

/** Paths are absolute, or below /workspace. */
#define FILE_HOME     "/workspace"
#define FILE_PATH_MAX 4096

extern const struct json_field file_read_fields[];
extern const struct json_field file_write_fields[];
extern const struct json_field file_edit_fields[];
extern const struct json_field file_list_fields[];
extern const struct json_field file_search_fields[];
extern const struct json_field file_transfer_fields[];
tool_fn file_read;
tool_fn file_write;
tool_fn file_edit;
tool_fn file_list;
tool_fn file_search;
tool_fn file_transfer;

struct file_read_args {
    const char *path, *computer;
    int64_t from_line, to_line, offset, bytes;
    int encoding;
};

struct file_write_args {
    const char *path, *computer;
    struct json_text content;
    int encoding, mode;
    bool executable;
};

struct file_edit_args {
    const char *path, *computer;
    struct json_text old_text, new_text;
    bool replace_all, dry_run;
};

struct file_list_args {
    const char *path, *glob, *computer;
    int64_t depth, limit;
    bool hidden;
};

struct file_search_args {
    const char *pattern, *path, *glob, *computer;
    int64_t context, limit;
    bool literal, ignore_case;
};

struct file_transfer_args {
    int direction;
    const char *host_path, *path, *computer;
    bool overwrite;
};

/** "text" and "base64" in file_read and file_write. */
enum { FILE_TEXT, FILE_BASE64 };
extern const char *const file_encodings[];

/** The absolute path inside of what was given, into @buf of FILE_PATH_MAX.  ERR_INVALID. */
NODISCARD bool file_path(const char *given, char *buf, struct error *err);

/** Turn the guest's short answer into one that says what to do next. */
bool file_explain(struct error *err, const char *path);

/** "image/png" and so on by the first bytes, or NULL; the size in pixels where the header has it.
 */
const char *file_image_type(const struct buf *data, unsigned *ret_width, unsigned *ret_height);

/** Append a unified diff of one file in which the @count byte ranges @at[i] .. @at[i]+@old_len of
 *  @before were replaced by @with.  False: out of memory. */
bool file_diff(struct buf *out, const char *path, const struct buf *before, const size_t *at,
               size_t count, size_t old_len, const char *with, size_t with_len);
