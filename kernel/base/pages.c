#include "kernel/base/pages.h"

#include <link.h>
#include <stdint.h>
#include <sys/mman.h>
#include <unistd.h>

/* The kernel refuses what is not made of a file's pages, such as its own. */
static int let_go(struct dl_phdr_info *object, size_t size, void *arg)
{
    const uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);

    (void)size;
    (void)arg;
    for (size_t i = 0; i < object->dlpi_phnum; i++) {
        const ElfW(Phdr) *part = &object->dlpi_phdr[i];
        uintptr_t begin = object->dlpi_addr + part->p_vaddr;
        uintptr_t from = begin & ~(page - 1);
        void *pages = (void *)from; // NOLINT(performance-no-int-to-ptr): the loader tells numbers

        if (part->p_type == PT_LOAD && !(part->p_flags & PF_W))
            (void)madvise(pages, begin + part->p_memsz - from, MADV_DONTNEED);
    }
    return 0;
}

void pages_let_go(void)
{
    (void)dl_iterate_phdr(let_go, NULL);
}
