/* What a driver says, cut at any place: reading ends, stays within the bytes, and does not depend
 * on where they were cut. */
#include <assert.h>
#include <stdint.h>

#include "tools/code_frame.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const char *bytes = (const char *)data;
    size_t at = 0;

    for (;;) {
        struct code_frame frame, again;
        size_t used = 0, used_again = 0;
        enum code_frame_read got = code_frame_read(bytes + at, size - at, &frame, &used);

        if (got != CODE_FRAME_OK)
            return 0;
        assert(used > 0 && used <= size - at && frame.len < used);
        assert(frame.data == bytes + at + used - frame.len);
        assert(code_frame_read(bytes + at, used - 1, &again, &used_again) == CODE_FRAME_MORE);
        assert(code_frame_read(bytes + at, used, &again, &used_again) == CODE_FRAME_OK);
        assert(used_again == used && again.kind == frame.kind);
        at += used;
    }
}
