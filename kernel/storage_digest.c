/* The digest of a large value, on a thread of its own while the value is being written. */
#include <string.h>

#include "kernel/storage_internal.h"

static void *hash(void *arg)
{
    struct storage_hashing *h = arg;

    sha256_of(h->data, h->len, h->digest);
    return NULL;
}

bool storage_hashing_begin(struct storage_hashing *h, const void *data, size_t len)
{
    h->data = data;
    h->len = len;
    return pthread_create(&h->thread, NULL, hash, h) == 0;
}

void storage_hashing_end(struct storage_hashing *h, uint8_t ret[SHA256_BYTES])
{
    (void)pthread_join(h->thread, NULL);
    memcpy(ret, h->digest, SHA256_BYTES);
}
