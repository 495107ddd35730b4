/*
 * memory_place - memory for its tests: in a folder of its own, over a storage of plain files and a
 * provider of vectors that knows a few words, both of which can be made to fail.
 *
 * Threads: the fakes may be called from any.
 */
#pragma once

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "kernel/base/clock.h"
#include "kernel/base/fd.h"
#include "kernel/config.h"
#include "kernel/event.h"
#include "kernel/llm.h"
#include "kernel/memory.h"
#include "kernel/storage.h"
#include "tests/support/check.h"
#include "tests/support/folder.h"

#define SECOND CLOCK_NS_PER_S

/* ---- storage: one file for each key, written beside and renamed ---- */

struct storage {
    char dir[128];
    atomic_bool down;
    atomic_int puts, gets, deletes;
    /* Called in the middle of a batch; may be NULL. */
    void (*during)(void *arg);
    void *arg;
};

static inline void storage_file(const struct storage *s, const char *space, const char *key,
                                char path[512])
{
    (void)snprintf(path, 512, "%s/%s/%s", s->dir, space, key);
}

static inline bool storage_is_down(struct storage *s, struct error *err)
{
    return atomic_load(&s->down) && !error_set(err, ERR_LOST, "storage does not answer");
}

bool storage_batch(struct storage *s, const char *space, struct storage_op *ops, size_t count,
                   const struct wait *w, size_t *ret_failed, struct error *err)
{
    char path[512];

    (void)w;
    (void)ret_failed;
    if (storage_is_down(s, err))
        return false;
    (void)snprintf(path, sizeof path, "%s/%s", s->dir, space);
    if (!fd_mkdirs(path, 0700, err))
        return false;
    for (size_t i = 0; i < count; i++) {
        storage_file(s, space, ops[i].key, path);
        if (!fd_replace_file(path, ops[i].data, ops[i].len, 0600, err))
            return false;
        atomic_fetch_add(&s->puts, 1);
    }
    if (s->during)
        s->during(s->arg);
    return true;
}

bool storage_get(struct storage *s, const char *space, const char *key, uint64_t version,
                 uint64_t offset, size_t max, struct buf *out, const struct wait *w,
                 struct storage_stat *ret, struct error *err)
{
    struct error why = ERROR_INIT;
    char path[512], *text;
    size_t len = 0;
    bool ok;

    (void)w;
    (void)ret;
    assert_true(version == 0 && offset == 0);
    if (storage_is_down(s, err))
        return false;
    atomic_fetch_add(&s->gets, 1);
    storage_file(s, space, key, path);
    text = fd_read_file(AT_FDCWD, path, max, &len, &why);
    if (!text)
        return error_set(err, why.code, "%.400s", why.text);
    ok = buf_append(out, text, len) || error_set(err, ERR_NOMEM, "storage");
    free(text);
    return ok;
}

bool storage_delete(struct storage *s, const char *space, const char *key, uint64_t if_version,
                    const struct wait *w, struct storage_stat *ret, struct error *err)
{
    char path[512];

    (void)w;
    (void)ret;
    assert_true(if_version == STORAGE_ANY);
    if (storage_is_down(s, err))
        return false;
    atomic_fetch_add(&s->deletes, 1);
    storage_file(s, space, key, path);
    return unlink(path) == 0 || error_set_errno(err, errno, "%s", key);
}

static inline bool storage_has(struct storage *s, const char *agent, const char *key)
{
    char space[128], path[512];

    (void)snprintf(space, sizeof space, "~memory.%s", agent);
    storage_file(s, space, key, path);
    return access(path, F_OK) == 0;
}

/* ---- vectors: a direction for each of a few meanings ---- */

struct llm {
    atomic_bool configured, down;
    atomic_size_t dims;
    char model[64];
    atomic_int calls, texts;
    const char *poison; /* a text with it is refused */
};

bool llm_can_embed(struct llm *l, char ret_provider[65], char ret_model[129])
{
    if (!atomic_load(&l->configured))
        return false;
    (void)snprintf(ret_provider, 65, "fake");
    (void)snprintf(ret_model, 129, "%s", l->model);
    return true;
}

static inline void embed_word(float *v, size_t dims, const char *word)
{
    static const char *const meanings[][3] = {
        { "car", "automobile", "vehicle" },
        { "cat", "kitten", "feline" },
        { "paris", "france", "seine" },
        { "bread", "loaf", "bakery" },
    };
    unsigned hash = 5381;

    for (size_t i = 0; i < ARRAY_LEN(meanings); i++)
        for (size_t k = 0; k < 3; k++)
            if (!strcmp(meanings[i][k], word))
                v[i] += 1;
    for (const char *p = word; *p; p++)
        hash = hash * 33 + (unsigned char)*p;
    v[4 + hash % (dims - 4)] += 0.1f;
}

bool llm_embed(struct llm *l, const char *agent, const char *const *texts, size_t count,
               const struct wait *w, float **ret, size_t *ret_dims, struct error *err)
{
    size_t dims = atomic_load(&l->dims);
    float *block;

    (void)agent;
    (void)w;
    atomic_fetch_add(&l->calls, 1);
    if (atomic_load(&l->down))
        return error_set(err, ERR_LOST, "no provider answered");
    for (size_t i = 0; l->poison && i < count; i++)
        if (strstr(texts[i], l->poison))
            return error_set(err, ERR_INVALID, "the provider refused the request");
    block = calloc(count * dims, sizeof *block);
    if (!block)
        return error_set(err, ERR_NOMEM, "vectors");
    for (size_t i = 0; i < count; i++) {
        char word[64];
        size_t n = 0;

        for (const char *p = texts[i];; p++) {
            if (isalpha((unsigned char)*p) && n < sizeof word - 1) {
                word[n++] = (char)tolower((unsigned char)*p);
                continue;
            }
            word[n] = '\0';
            if (n)
                embed_word(block + i * dims, dims, word);
            n = 0;
            if (!*p)
                break;
        }
        atomic_fetch_add(&l->texts, 1);
    }
    *ret = block;
    *ret_dims = dims;
    return true;
}

/** One request: what a call of it is refused for is not told of the others. */
void llm_embed_many(struct llm *l, struct llm_embed_call *calls, size_t count)
{
    int before = atomic_load(&l->calls);

    for (size_t i = 0; i < count; i++)
        calls[i].ok = llm_embed(l, calls[i].agent, calls[i].texts, calls[i].count, calls[i].wait,
                                &calls[i].rows, &calls[i].dims, &calls[i].err);
    atomic_store(&l->calls, before + 1);
}

/* ---- a place ---- */

struct place {
    struct config config;
    struct storage storage;
    struct llm llm;
    struct event_bus *bus;
    struct event_sub *sub;
    struct memory *m;
    char dir[128];
};

static const struct memory_who alice = { .agent = "alice", .group = "team" };
static const struct memory_who bob __attribute__((unused)) = { .agent = "bob", .group = "team" };
static const struct memory_who eve __attribute__((unused)) = { .agent = "eve", .group = "" };

static inline struct wait soon(void)
{
    return (struct wait){ .deadline_ns = clock_add_ns(clock_now_ns(), 60 * SECOND) };
}

static inline void place_open(struct place *p)
{
    struct error err = ERROR_INIT;

    p->m = memory_open(&p->config, &p->storage, &p->llm, p->bus, &err);
    assert_ok(p->m, err);
}

static inline void place_new(struct place *p)
{
    struct error err = ERROR_INIT;

    *p = (struct place){
        .config = { .memory = { .quota_mb = 1, .max_notes = 100000, .lru_k = 2, .embed = true } },
        .llm = { .dims = 24, .model = "tiny" },
    };
    (void)snprintf(p->dir, sizeof p->dir, "%s/memory", folder_base);
    (void)snprintf(p->storage.dir, sizeof p->storage.dir, "%s/storage", folder_base);
    p->config.memory.dir = p->dir;
    p->bus = event_bus_new(&err);
    assert_ok(p->bus, err);
    p->sub = event_subscribe(p->bus, "memory.*", NULL, NULL, &err);
    assert_ok(p->sub, err);
    place_open(p);
}

static inline void place_close(struct place *p)
{
    memory_close(p->m);
    p->m = NULL;
}

static inline void place_free(struct place *p)
{
    place_close(p);
    event_unsubscribe(p->sub);
    event_bus_free(p->bus);
}

static inline int events(struct place *p, const char *topic)
{
    struct event event;
    uint64_t dropped;
    int count = 0;

    while (event_next(p->sub, &event, &dropped))
        count += strcmp(event.topic, topic) == 0;
    return count;
}

/* ---- short forms ---- */

struct id_of {
    char text[40];
};

static inline struct id_of save_as(struct place *p, const struct memory_who *who, const char *text,
                                   const char *tags, enum memory_sharing sharing)
{
    struct error err = ERROR_INIT;
    struct wait w = soon();
    struct memory_note note;
    struct id_of id;
    json_t *list = tags ? json_loads(tags, 0, NULL) : NULL;

    assert_ok(memory_save(p->m, who, NULL, text, strlen(text), list, sharing, 0, &w, &note, &err),
              err);
    memcpy(id.text, note.id, sizeof id.text);
    memory_note_fini(&note);
    json_decref(list);
    return id;
}

static inline struct id_of save(struct place *p, const char *text)
{
    return save_as(p, &alice, text, NULL, MEMORY_PRIVATE);
}

/** The text of the note, for free(), or NULL with the code in @ret. */
static inline char *text_of(struct place *p, const struct memory_who *who, const char *id,
                            enum error_code *ret)
{
    struct error err = ERROR_INIT;
    struct wait w = soon();
    struct memory_note note;
    char *text;

    if (!memory_get(p->m, who, id, &w, &note, &err)) {
        if (ret)
            *ret = err.code;
        return NULL;
    }
    text = STEAL(note.text);
    memory_note_fini(&note);
    return text;
}

static inline void assert_text(struct place *p, const char *id, const char *want)
{
    char *text = text_of(p, &alice, id, NULL);

    assert_non_null(text);
    assert_string_equal(text, want);
    free(text);
}

static inline struct memory_found find_as(struct place *p, const struct memory_who *who,
                                          struct memory_query q)
{
    struct memory_found found = { .notes = NULL };
    struct error err = ERROR_INIT;
    struct wait w = soon();

    q.limit = q.limit ? q.limit : 10;
    assert_ok(memory_search(p->m, who, &q, &w, &found, &err), err);
    return found;
}

/** The texts that are found, with commas between. */
static inline const char *found_as(struct place *p, const struct memory_who *who,
                                   struct memory_query q)
{
    static char all[4096];
    struct memory_found found = find_as(p, who, q);
    size_t len = 0;

    all[0] = '\0';
    for (size_t i = 0; i < found.count && len < sizeof all; i++)
        len += (size_t)snprintf(all + len, sizeof all - len, "%s%s", i ? "," : "",
                                found.notes[i].text);
    memory_found_fini(&found);
    return all;
}

#define FOUND(p, who, ...) found_as(p, who, (struct memory_query){ __VA_ARGS__ })
