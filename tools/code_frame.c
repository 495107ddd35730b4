#include "tools/code_frame.h"

#include <stdbool.h>
#include <string.h>

static const char *const names[] = {
    [CODE_FRAME_VALUE] = "value",   [CODE_FRAME_ERROR] = "error",   [CODE_FRAME_NOTE] = "note",
    [CODE_FRAME_STATUS] = "status", [CODE_FRAME_IMAGES] = "images", [CODE_FRAME_IMAGE] = "image",
    [CODE_FRAME_DONE] = "done",
};

/* A word up to @end, which is moved past it and one space. */
static bool take_name(const char **at, const char *end, enum code_frame_kind *ret)
{
    const char *space = memchr(*at, ' ', (size_t)(end - *at));

    for (size_t i = 0; space && i < ARRAY_LEN(names); i++) {
        if (strlen(names[i]) == (size_t)(space - *at) &&
            memcmp(names[i], *at, strlen(names[i])) == 0) {
            *ret = (enum code_frame_kind)i;
            *at = space + 1;
            return true;
        }
    }
    return false;
}

/* A decimal number that ends at @stop. */
static bool take_number(const char **at, const char *end, char stop, uint64_t *ret)
{
    const char *p = *at;
    uint64_t number = 0;

    while (p < end && *p >= '0' && *p <= '9') {
        uint64_t digit = (uint64_t)(*p++ - '0');

        if (number > (UINT64_MAX - digit) / 10)
            return false;
        number = number * 10 + digit;
    }
    if (p == *at || p == end || *p != stop)
        return false;
    *at = p + 1;
    *ret = number;
    return true;
}

enum code_frame_read code_frame_read(const char *bytes, size_t len, struct code_frame *ret,
                                     size_t *ret_used)
{
    const char *end = bytes + len;
    const char *at = bytes;
    struct code_frame frame = { .len = 0 };
    uint64_t data_len;

    if (!len)
        return CODE_FRAME_MORE;
    if (!memchr(bytes, '\n', MIN(len, CODE_FRAME_HEAD_MAX)))
        return len < CODE_FRAME_HEAD_MAX ? CODE_FRAME_MORE : CODE_FRAME_BROKEN;
    if (!take_name(&at, end, &frame.kind) || !take_number(&at, end, ' ', &frame.cell) ||
        !take_number(&at, end, ' ', &frame.number) || !take_number(&at, end, '\n', &data_len) ||
        data_len > CODE_FRAME_DATA_MAX)
        return CODE_FRAME_BROKEN;
    if (data_len > (uint64_t)(end - at))
        return CODE_FRAME_MORE;
    frame.data = at;
    frame.len = (size_t)data_len;
    *ret = frame;
    *ret_used = (size_t)(at - bytes) + frame.len;
    return CODE_FRAME_OK;
}
