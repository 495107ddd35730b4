/*
 * Commits and indexes as a bucket may hold them: whatever they say is refused or taken, and an
 * index that was taken is the same after it was written and read again.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "kernel/storage_s3_internal.h"

static void check_again(const struct s3_index *x)
{
    struct s3_index again = { .count = 0 };
    struct buf first = BUF_INIT, second = BUF_INIT;

    if (!s3_index_write(x, &first) || !s3_index_read(&again, buf_str(&first), first.len, NULL) ||
        !s3_index_write(&again, &second) || strcmp(buf_str(&first), buf_str(&second)) != 0 ||
        again.bytes != x->bytes || again.versions != x->versions || again.live_keys != x->live_keys)
        abort();
    buf_fini(&first);
    buf_fini(&second);
    s3_index_fini(&again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct s3_index x = { .count = 0 };
    struct error err = ERROR_INIT;
    bool ok;

    if (size > 0 && data[0] == 'A')
        ok = s3_commit_replay(&x, 5, 1, (const char *)data, size, &err);
    else
        ok = s3_index_read(&x, (const char *)data, size, &err);
    if (ok != (err.code == ERR_NONE))
        abort();
    if (ok)
        check_again(&x);
    s3_index_fini(&x);
    return 0;
}
