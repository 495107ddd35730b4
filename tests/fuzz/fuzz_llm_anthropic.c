/* What a server of this kind streams; llm_stream.h says what must hold. */
#include <stdint.h>

#include "tests/fuzz/llm_stream.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    return fuzz_stream(&llm_anthropic, data, size);
}
