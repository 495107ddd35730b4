/* What a browser says, cut at any place: reading ends, stays within the bytes, and does not depend
 * on where they were cut. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "tools/cdp.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const char *bytes = (const char *)data;
    size_t at = 0;

    for (;;) {
        struct cdp_message m, again;
        size_t used = 0, used_again = 0;

        if (cdp_message_read(bytes + at, size - at, &m, &used) != CDP_OK)
            return 0;
        assert(used > 0 && used <= size - at && bytes[at + used - 1] == '\0');
        assert(strlen(m.session) <= CDP_WORD_MAX && strlen(m.method) <= CDP_WORD_MAX);
        assert(!m.params || json_is_object(m.params));
        assert(!m.result || json_is_object(m.result));
        assert(m.id == 0 || (m.result != NULL) != (m.error != NULL));
        assert(cdp_message_read(bytes + at, used - 1, &again, &used_again) == CDP_MORE);
        assert(cdp_message_read(bytes + at, used, &again, &used_again) == CDP_OK);
        assert(used_again == used && again.id == m.id && !strcmp(again.method, m.method));
        json_decref(again.whole);
        json_decref(m.whole);
        at += used;
    }
}
