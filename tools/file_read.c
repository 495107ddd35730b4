/* file_read and file_write. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernel/base/base64.h"
#include "kernel/base/limits.h"
#include "kernel/base/utf8.h"
#include "tools/file_internal.h"

#define PIECE_BYTES    (256u << 10)
#define IMAGE_EDGE_MAX 1568u
/* Counting the lines of a longer file for the footer would cost more than it tells. */
#define COUNT_LINES_MAX (16u << 20)

const struct json_field file_read_fields[] = {
    { .name = "path",
      .kind = JSON_KIND_STRING,
      .required = true,
      .offset = offsetof(struct file_read_args, path),
      .min = 1,
      .max = 4096 },
    { .name = "from_line",
      .kind = JSON_KIND_INT,
      .offset = offsetof(struct file_read_args, from_line),
      .min = 1,
      .max = INT64_MAX,
      .fallback = 1 },
    { .name = "to_line",
      .description = "Default: as many as fit",
      .kind = JSON_KIND_INT,
      .offset = offsetof(struct file_read_args, to_line),
      .min = 1,
      .max = INT64_MAX,
      .fallback = INT64_MAX },
    { .name = "offset",
      .description = "Read bytes from here instead of lines",
      .kind = JSON_KIND_INT,
      .offset = offsetof(struct file_read_args, offset),
      .min = 0,
      .max = INT64_MAX,
      .fallback = -1 },
    { .name = "bytes",
      .kind = JSON_KIND_INT,
      .offset = offsetof(struct file_read_args, bytes),
      .min = 1,
      .max = 24000, /* in base64 with the line below it still one answer */
      .fallback = 16384 },
    { .name = "encoding",
      .description = "base64: exact bytes, with offset",
      .kind = JSON_KIND_ENUM,
      .offset = offsetof(struct file_read_args, encoding),
      .choices = file_encodings },
    TOOLKIT_COMPUTER_FIELD(struct file_read_args),
    { .name = NULL },
};

/* A short note below the text. */
static bool note(struct tool_call *call, struct error *err, const struct buf *text)
{
    return result_text(call->result, buf_str(text), text->len, NULL, err);
}

static bool read_bytes(struct tool_call *call, const struct file_read_args *a, struct guest *g,
                       const char *path, struct error *err)
{
    CLEANUP(buf_fini) struct buf data = BUF_INIT;
    CLEANUP(buf_fini) struct buf out = BUF_INIT;
    CLEANUP(buf_fini) struct buf tail = BUF_INIT;
    uint64_t offset = a->offset < 0 ? 0 : (uint64_t)a->offset;
    struct wire_stat st;
    long repaired = 0;

    if (!guest_read_file(g, "/", path, offset, (uint64_t)a->bytes, &data, &st, &call->wait, err))
        return file_explain(err, path);
    if (a->encoding == FILE_BASE64) {
        if (!base64_encode(&out, buf_str(&data), data.len))
            return error_set(err, ERR_NOMEM, "the bytes of %s", path);
    } else {
        repaired = utf8_append_valid(&out, buf_str(&data), data.len);
        if (repaired < 0)
            return error_set(err, ERR_NOMEM, "the bytes of %s", path);
    }
    buf_printf(&tail, "[bytes %" PRIu64 " to %" PRIu64 " of %" PRIu64, offset, offset + data.len,
               st.size);
    if (repaired > 0)
        buf_printf(&tail,
                   "; %ld pieces were not valid UTF-8 and are shown as U+FFFD, encoding base64 "
                   "gives the exact bytes",
                   repaired);
    buf_append_char(&tail, ']');
    return (out.len == 0 || result_text(call->result, out.data, out.len, NULL, err)) &&
           note(call, err, &tail);
}

/* Scale an image down with what the computer has; false when it has nothing for it. */
static bool scale_inside(struct tool_call *call, struct computer *c, const char *path,
                         struct buf *out)
{
    static const char script[] =
        "import sys,io\nfrom PIL import "
        "Image\nim=Image.open(sys.argv[1])\nim.thumbnail((1568,1568))\nb=io.BytesIO()\nim.convert('"
        "RGBA').save(b,'PNG')\nsys.stdout.buffer.write(b.getvalue())\n";
    const char *const python[] = { "python3", "-c", script, path, NULL };
    const char *const magick[] = { "convert", path, "-resize", "1568x1568>", "png:-", NULL };
    const char *const *const ways[] = { python, magick };

    for (size_t i = 0; i < ARRAY_LEN(ways); i++) {
        struct run_spec spec = {
            .argv = ways[i], .lossless = true, .cwd = "/", .timeout_ns = 15ll * 1000000000ll
        };
        struct error ignored = ERROR_INIT;
        CLEANUP(run_unrefp) struct run *run = run_start(c, &spec, &call->wait, &ignored);
        struct run_info info = { .reason = RUN_LIVE };
        uint64_t offset = 0;

        buf_clear(out);
        while (run) {
            uint64_t beyond[WIRE_STREAM_COUNT] = { [WIRE_STREAM_OUT] = offset };
            bool ended;

            run_info(run, &info);
            ended = info.reason != RUN_LIVE;
            if (guest_run_read(run_guest(run), WIRE_STREAM_OUT, &offset, SIZE_MAX, out) < 0 ||
                out->len > LIMIT_IMAGE_BYTES || ended)
                break;
            error_clear(&ignored);
            if (!run_wait(run, info.guest.streams_ended ? 0 : 1u << WIRE_STREAM_OUT, beyond,
                          &call->wait, &ignored))
                break;
        }
        if (run && info.reason == RUN_LIVE)
            run_kill(run, 9, true);
        if (run && info.reason == RUN_EXIT && info.value == 0 && out->len > 0 &&
            out->len <= LIMIT_IMAGE_BYTES)
            return true;
    }
    return false;
}

static bool read_image(struct tool_call *call, struct computer *c, const char *path,
                       const struct buf *head, const char *mime, unsigned w, unsigned h,
                       uint64_t size, struct error *err)
{
    CLEANUP(buf_fini) struct buf data = BUF_INIT;

    (void)head;
    if (size <= LIMIT_IMAGE_BYTES && w <= IMAGE_EDGE_MAX && h <= IMAGE_EDGE_MAX) {
        if (!guest_read_file(computer_guest(c), "/", path, 0, LIMIT_IMAGE_BYTES, &data, NULL,
                             &call->wait, err))
            return file_explain(err, path);
        return result_image(call->result, data.data, data.len, mime, err) &&
               result_printf(call->result, err,
                             "[%s, %u x %u pixels, %" PRIu64 " bytes, not scaled]", mime, w, h,
                             size);
    }
    if (scale_inside(call, c, path, &data)) {
        unsigned sw;
        unsigned sh;

        if (file_image_type(&data, &sw, &sh))
            return result_image(call->result, data.data, data.len, "image/png", err) &&
                   result_printf(call->result, err,
                                 "[%s of %u x %u pixels, shown at %u x %u: scale %.3f]", mime, w, h,
                                 sw, sh, w > 0 ? (double)sw / w : 1.0);
    }
    return error_set(err, ERR_LIMIT,
                     "%s is an image of %u x %u pixels and %" PRIu64
                     " bytes; at most %u pixels on the long edge and %u bytes can be shown. Make a "
                     "smaller copy (PIL and ImageMagick are not in this computer), or read its "
                     "bytes with offset and encoding base64",
                     path, w, h, size, IMAGE_EDGE_MAX, LIMIT_IMAGE_BYTES);
}

/* What file_read knows while it goes through a file line by line. */
struct lines {
    struct buf text;
    uint64_t at;    /* bytes that lie before the piece being read */
    uint64_t begin; /* where the text that was taken begins */
    uint64_t line;  /* number of the line being read, from 1 */
    uint64_t last;  /* last line that was taken whole or in part */
    uint64_t invalid;
    bool full;
};

static bool take_piece(struct lines *l, const struct file_read_args *a, const struct buf *piece)
{
    const char *at = buf_str(piece);
    const char *end = at + piece->len;

    while (at < end) {
        const char *newline = memchr(at, '\n', (size_t)(end - at));
        size_t len = (size_t)((newline ? newline + 1 : end) - at);

        if (l->line >= (uint64_t)a->from_line && l->line <= (uint64_t)a->to_line && !l->full) {
            size_t room = LIMIT_RESULT_TEXT_BYTES - 1024 - l->text.len;
            size_t part = MIN(len, room);

            if (l->text.len == 0)
                l->begin = l->at + (size_t)(at - buf_str(piece));
            if (!buf_append(&l->text, at, part))
                return false;
            l->last = l->line;
            l->full = part < len;
        }
        if (newline)
            l->line++;
        at += len;
    }
    l->at += piece->len;
    return true;
}

static bool answer_lines(struct tool_call *call, const struct file_read_args *a, struct lines *l,
                         uint64_t size, bool counted, const char *path, struct error *err)
{
    CLEANUP(buf_fini) struct buf valid = BUF_INIT;
    CLEANUP(buf_fini) struct buf tail = BUF_INIT;
    size_t whole = l->text.len;
    bool part = false; /* not even one whole line fits */
    long repaired;

    /* A cut in the middle of a line: leave that line to the next call, unless it is the only one.
     */
    if (l->full) {
        while (whole > 0 && l->text.data[whole - 1] != '\n')
            whole--;
        part = whole == 0;
        if (part)
            whole = utf8_cut(l->text.data, l->text.len, l->text.len);
        else
            l->last--;
    }
    repaired = utf8_append_valid(&valid, buf_str(&l->text), whole);
    if (repaired < 0)
        return error_set(err, ERR_NOMEM, "the text of %s", path);
    if (l->text.len == 0)
        buf_printf(&tail, size == 0 ? "[the file is empty" : "[the file has no line %" PRId64,
                   a->from_line);
    else if (part)
        buf_printf(&tail, "[the beginning of line %" PRIu64, l->last);
    else
        buf_printf(&tail, "[lines %" PRId64 " to %" PRIu64, a->from_line, l->last);
    if (counted && size > 0)
        buf_printf(&tail, l->text.len > 0 ? " of %" PRIu64 : "; it has %" PRIu64, l->line - 1);
    buf_printf(&tail, ", %" PRIu64 " bytes in all", size);
    if (part)
        buf_printf(&tail, "; its rest: file_read {\"path\":\"%.200s\",\"offset\":%" PRIu64 "}",
                   path, l->begin + whole);
    if (l->full)
        buf_printf(&tail, "; go on with file_read {\"path\":\"%.200s\",\"from_line\":%" PRIu64 "}",
                   path, l->last + 1);
    if (repaired > 0)
        buf_printf(&tail, "; %ld pieces were not valid UTF-8 and are shown as U+FFFD", repaired);
    buf_append_char(&tail, ']');
    if (tail.failed)
        return error_set(err, ERR_NOMEM, "the text of %s", path);
    return (valid.len == 0 || result_text(call->result, valid.data, valid.len, NULL, err)) &&
           note(call, err, &tail);
}

static bool read_lines(struct tool_call *call, const struct file_read_args *a, struct computer *c,
                       const char *path, struct error *err)
{
    struct lines l = { .text = BUF_INIT, .line = 1 };
    CLEANUP(buf_fini) struct buf piece = BUF_INIT;
    struct wire_stat st = { .size = 0 };
    uint64_t offset = 0;
    bool more = true;
    bool ok = true;

    while (ok && more) {
        unsigned w;
        unsigned h;
        const char *mime;

        buf_clear(&piece);
        ok = guest_read_file(computer_guest(c), "/", path, offset, PIECE_BYTES, &piece, &st,
                             &call->wait, err);
        if (!ok) {
            file_explain(err, path);
            break;
        }
        mime = offset == 0 ? file_image_type(&piece, &w, &h) : NULL;
        if (mime) {
            buf_fini(&l.text);
            return read_image(call, c, path, &piece, mime, w, h, st.size, err);
        }
        if (!take_piece(&l, a, &piece))
            ok = error_set(err, ERR_NOMEM, "the text of %s", path);
        offset += piece.len;
        /* Go on to the end when that is near: the footer then knows the number of lines. */
        more = piece.len == PIECE_BYTES &&
               (offset < COUNT_LINES_MAX || (!l.full && l.line <= (uint64_t)a->to_line));
    }
    if (ok && offset > 0 && piece.len > 0 && piece.data[piece.len - 1] != '\n')
        l.line++; /* the last line has no newline */
    if (ok)
        ok = answer_lines(call, a, &l, MAX(st.size, offset), piece.len < PIECE_BYTES, path, err);
    buf_fini(&l.text);
    return ok;
}

bool file_read(struct tool_call *call, const void *args, struct error *err)
{
    const struct file_read_args *a = args;
    CLEANUP(computer_unrefp) struct computer *c = NULL;
    char path[FILE_PATH_MAX];

    if (!file_path(a->path, path, err))
        return false;
    if (a->to_line < a->from_line)
        return error_set(err, ERR_INVALID, "to_line must not be less than from_line");
    c = toolkit_computer(call, a->computer, err);
    if (!c)
        return false;
    if (a->offset >= 0 || a->encoding == FILE_BASE64)
        return read_bytes(call, a, computer_guest(c), path, err);
    return read_lines(call, a, c, path, err);
}

/* ---- file_write ---- */

enum { MODE_REPLACE, MODE_APPEND, MODE_CREATE };
static const char *const write_modes[] = { "replace", "append", "create", NULL };

const struct json_field file_write_fields[] = {
    { .name = "path",
      .kind = JSON_KIND_STRING,
      .required = true,
      .offset = offsetof(struct file_write_args, path),
      .min = 1,
      .max = 4096 },
    { .name = "content",
      .kind = JSON_KIND_TEXT,
      .required = true,
      .offset = offsetof(struct file_write_args, content) },
    { .name = "mode",
      .description = "create: only if it does not exist",
      .kind = JSON_KIND_ENUM,
      .offset = offsetof(struct file_write_args, mode),
      .choices = write_modes },
    { .name = "encoding",
      .description = "Of content",
      .kind = JSON_KIND_ENUM,
      .offset = offsetof(struct file_write_args, encoding),
      .choices = file_encodings },
    { .name = "executable",
      .description = "For a new file",
      .kind = JSON_KIND_BOOL,
      .offset = offsetof(struct file_write_args, executable) },
    TOOLKIT_COMPUTER_FIELD(struct file_write_args),
    { .name = NULL },
};

bool file_write(struct tool_call *call, const void *args, struct error *err)
{
    static const uint32_t flags[] = {
        [MODE_REPLACE] = WIRE_WRITE_CREATE | WIRE_WRITE_PARENTS | WIRE_WRITE_ATOMIC,
        [MODE_APPEND] = WIRE_WRITE_CREATE | WIRE_WRITE_PARENTS | WIRE_WRITE_APPEND,
        [MODE_CREATE] = WIRE_WRITE_CREATE | WIRE_WRITE_PARENTS | WIRE_WRITE_EXCLUSIVE,
    };
    const struct file_write_args *a = args;
    CLEANUP(computer_unrefp) struct computer *c = NULL;
    CLEANUP(buf_fini) struct buf bytes = BUF_INIT;
    const char *data = a->content.data;
    size_t len = a->content.len;
    char path[FILE_PATH_MAX];

    if (!file_path(a->path, path, err))
        return false;
    if (a->encoding == FILE_BASE64) {
        if (!base64_decode(&bytes, data, len, err))
            return error_prefix(err, "content");
        data = buf_str(&bytes);
        len = bytes.len;
    }
    if (len > LIMIT_FILE_TRANSFER)
        return error_set(err, ERR_LIMIT, "a file of %zu bytes; write at most %u at once and append",
                         len, LIMIT_FILE_TRANSFER);
    c = toolkit_computer(call, a->computer, err);
    if (!c)
        return false;
    if (!guest_write_file(computer_guest(c), "/", path, data, len, a->executable ? 0755 : 0644,
                          flags[a->mode], &call->wait, err))
        return error_prefix(err, "write %s", path);
    return result_printf(call->result, err, "%s %zu bytes to %s.",
                         a->mode == MODE_APPEND ? "Appended" : "Wrote", len, path);
}
