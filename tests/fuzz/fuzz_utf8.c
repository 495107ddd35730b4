/* Whatever the bytes: what was repaired is valid, valid text is left alone, cuts never split. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "kernel/base/error.h"
#include "kernel/base/log.h"
#include "kernel/base/utf8.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(bool holds)
{
    if (!holds)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const char *text = (const char *)data;
    struct buf out = BUF_INIT, again = BUF_INIT;
    struct error err = ERROR_INIT;
    char escaped[64];
    long replaced = utf8_append_valid(&out, text, size);
    bool valid = utf8_valid(text, size);

    check(replaced >= 0 && valid == (replaced == 0));
    check(utf8_valid(buf_str(&out), out.len));
    check(!valid || (out.len == size && !memcmp(buf_str(&out), data, size)));
    check(utf8_append_valid(&again, buf_str(&out), out.len) == 0);
    check(utf8_length(buf_str(&out), out.len) <= out.len);
    for (size_t max = 0; max <= out.len && max < 200; max++) {
        size_t cut = utf8_cut(buf_str(&out), out.len, max);

        check(cut <= max && max - cut < 4 && utf8_valid(buf_str(&out), cut));
    }
    check(utf8_cut(text, size, size) <= size);
    error_set(&err, ERR_IO, "%.*s", (int)(size < 4096 ? size : 4096), text);
    check(utf8_valid(err.text, strlen(err.text)));
    (void)log_escape(escaped, sizeof escaped, err.text);
    check(strlen(escaped) < sizeof escaped && utf8_valid(escaped, strlen(escaped)));
    buf_fini(&out);
    buf_fini(&again);
    return 0;
}
