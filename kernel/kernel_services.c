/* The kernel's services, each opened at its first use. */
#include "kernel/kernel_state.h"
#include "kernel/llm.h"
#include "kernel/memory.h"
#include "kernel/storage.h"

/* The service at @place, opened if it is not there yet; the lock keeps two from opening it, and
 * opening waits for nobody but the disk. */
struct storage *kernel_storage(struct kernel *k, struct error *err)
{
    struct storage *s;

    pthread_mutex_lock(&k->services_lock);
    if (!k->storage)
        k->storage = storage_open(k->config, k->bus, err);
    s = k->storage;
    pthread_mutex_unlock(&k->services_lock);
    return s;
}

struct llm *kernel_llm(struct kernel *k, struct error *err)
{
    struct llm *l;

    pthread_mutex_lock(&k->services_lock);
    if (!k->llm)
        k->llm = llm_new(k->config, k->bus, err);
    l = k->llm;
    pthread_mutex_unlock(&k->services_lock);
    return l;
}

struct memory *kernel_memory(struct kernel *k, struct error *err)
{
    struct storage *storage = kernel_storage(k, err);
    struct llm *llm = storage ? kernel_llm(k, err) : NULL;
    struct memory *m = NULL;

    if (!llm)
        return NULL;
    pthread_mutex_lock(&k->services_lock);
    if (!k->memory)
        k->memory = memory_open(k->config, storage, llm, k->bus, err);
    m = k->memory;
    pthread_mutex_unlock(&k->services_lock);
    return m;
}

void kernel_close_services(struct kernel *k)
{
    memory_close(k->memory);
    llm_free(k->llm);
    storage_close(k->storage);
    pthread_mutex_destroy(&k->services_lock);
}
