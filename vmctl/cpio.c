#include "vmctl/cpio.h"

#include <string.h>
#include <sys/stat.h>

#define ALIGN    4u
#define END_MARK "TRAILER!!!"

static void pad(struct cpio *c)
{
    static const char zeros[ALIGN] = "";

    (void)buf_append(&c->out, zeros, (ALIGN - c->out.len % ALIGN) % ALIGN);
}

static void entry(struct cpio *c, const char *name, uint32_t mode, const void *data, size_t len)
{
    size_t name_size = strlen(name) + 1;
    uint32_t number = mode ? ++c->count : 0;
    unsigned links = S_ISDIR(mode) ? 2 : 1;

    if (name_size > CPIO_NAME_MAX + 1 || len > UINT32_MAX) {
        c->out.failed = true;
        return;
    }
    (void)buf_printf(&c->out, "070701%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X", number,
                     mode, 0u, 0u, links, 0u, (unsigned)len, 0u, 0u, 0u, 0u, (unsigned)name_size,
                     0u);
    (void)buf_append(&c->out, name, name_size);
    pad(c);
    if (len)
        (void)buf_append(&c->out, data, len);
    pad(c);
}

void cpio_dir(struct cpio *c, const char *name, uint32_t permissions)
{
    entry(c, name, S_IFDIR | permissions, NULL, 0);
}

void cpio_file(struct cpio *c, const char *name, uint32_t permissions, const void *data, size_t len)
{
    entry(c, name, S_IFREG | permissions, data, len);
}

void cpio_link(struct cpio *c, const char *name, const char *target)
{
    entry(c, name, S_IFLNK | 0777u, target, strlen(target));
}

bool cpio_end(struct cpio *c)
{
    entry(c, END_MARK, 0, NULL, 0);
    return !c->out.failed;
}

void cpio_fini(struct cpio *c)
{
    buf_fini(&c->out);
}
