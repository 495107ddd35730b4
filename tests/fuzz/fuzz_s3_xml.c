/*
 * Answers of an S3 server: whatever they hold, reading ends, within bounds, and says the same when
 * it is done twice.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "kernel/base/utf8.h"
#include "kernel/storage_s3_xml.h"

struct seen {
    size_t leaves, records, bytes;
};

static bool see(void *arg, const char *path, const char *text)
{
    struct seen *s = arg;
    size_t depth = 1;

    if (!text || !utf8_valid(text, strlen(text)))
        abort();
    for (const char *at = path; *at; at++)
        depth += *at == '/';
    if (depth >= S3_XML_DEPTH + 1)
        abort();
    if (!strcmp(path, "/"))
        s->records++;
    else
        s->leaves++;
    s->bytes += strlen(text);
    return true;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct seen first = { .leaves = 0 }, second = { .leaves = 0 };
    struct error err = ERROR_INIT;
    char root[64];
    bool ok = s3_xml_read((const char *)data, size, see, &first, root, &err);

    if (ok != (err.code == ERR_NONE) || strlen(root) > 63)
        abort();
    if (first.bytes > size * 16) /* names of records come again, text does not grow */
        abort();
    if (ok != s3_xml_read((const char *)data, size, see, &second, root, NULL) ||
        memcmp(&first, &second, sizeof first) != 0)
        abort();
    return 0;
}
