/* What the driver of documents says: what is taken lies within the bytes, in order. */
#include <assert.h>
#include <stdint.h>

#include "tools/document_answer.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const char *bytes = (const char *)data;
    struct document_answer a;
    const char *at;

    if (!document_answer_read(bytes, size, &a, NULL))
        return 0;
    assert(a.ok == (a.code == ERR_NONE) && a.image_count <= LIMIT_IMAGES);
    assert(a.text > bytes && a.text + a.text_len <= bytes + size);
    at = a.text + a.text_len;
    for (size_t i = 0; i < a.image_count; i++) {
        assert(a.images[i].data == at && a.images[i].mime_type);
        at += a.images[i].len;
    }
    assert(at == bytes + size);
    return 0;
}
