/*
 * The same messages come out however the stream is cut, and their texts are whole UTF-8.  The first
 * byte says how the second reading is cut.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "kernel/base/json.h"
#include "kernel/base/utf8.h"
#include "vmctl/qmp_message.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(bool holds)
{
    if (!holds)
        abort();
}

static void tell(const struct qmp_message *m, struct buf *out)
{
    check(utf8_valid(m->text, strlen(m->text)) && utf8_valid(m->name, strlen(m->name)));
    check(buf_printf(out, "%d %d %d %llu %s %s ", (int)m->kind, m->has_id, m->oob,
                     (unsigned long long)m->id, m->name, m->text));
    if (m->data)
        check(json_write(m->data, out));
    check(buf_append_char(out, '\n'));
}

static void read_all(const uint8_t *data, size_t size, size_t first_piece, struct buf *out)
{
    struct qmp_reader r = { .start = 0 };
    struct qmp_message m;
    size_t piece = first_piece;
    const char *why;

    for (size_t at = 0; at < size; at += piece) {
        enum qmp_status status;
        char *space;

        piece = MIN(1 + (piece * 7 + 3) % (first_piece + 1), size - at);
        space = qmp_reader_space(&r, piece);
        check(space != NULL);
        memcpy(space, data + at, piece);
        qmp_reader_filled(&r, piece);
        while ((status = qmp_reader_next(&r, &m, &why)) == QMP_MESSAGE) {
            tell(&m, out);
            qmp_message_fini(&m);
        }
        if (status == QMP_BAD) {
            check(buf_append_str(out, why));
            break;
        }
    }
    qmp_reader_fini(&r);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct buf whole = BUF_INIT, cut = BUF_INIT;

    if (size == 0)
        return 0;
    read_all(data + 1, size - 1, size, &whole);
    read_all(data + 1, size - 1, data[0], &cut);
    check(whole.len == cut.len && memcmp(buf_str(&whole), buf_str(&cut), cut.len) == 0);
    buf_fini(&whole);
    buf_fini(&cut);
    return 0;
}
