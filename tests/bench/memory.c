/*
 * Notes beside what they stand on: a search beside plain FTS5, a comparison of vectors beside a
 * plain loop and beside reading memory.
 *
 *   bench_memory notes FOLDER [COUNT]     milliseconds to save one; then microseconds, ours and
 *                                         plain, for each kind of question
 *   bench_memory vectors FOLDER [COUNT]   milliseconds over all: ours, scalar, reading
 */
#include <inttypes.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "kernel/base/clock.h"
#include "kernel/config.h"
#include "kernel/memory.h"
#include "kernel/memory_dot.h"
#include "kernel/memory_vectors.h"

#define WORDS     20000u
#define QUESTIONS 60
#define ROUNDS    5
#define DIMS      384u

static uint64_t seed = 42;

static unsigned next_random(unsigned below)
{
    seed = seed * 6364136223846793005u + 1442695040888963407u;
    return (unsigned)(seed >> 33) % below;
}

/* A few words are common, most are rare, as in any language. */
static unsigned next_word(void)
{
    double u = ((double)next_random(1u << 30) + 1) / (double)(1u << 30);

    return (unsigned)((double)WORDS * u * u * u) % WORDS;
}

static void spell(unsigned word, char *buf, size_t size)
{
    static const char *const parts[] = { "ba", "ke", "lo", "mi", "nu", "ra", "se", "ti",
                                         "vo", "zu", "pa", "de", "fo", "gi", "hu", "ja" };
    size_t len = 0;

    do {
        len += (size_t)snprintf(buf + len, size - len, "%s", parts[word % 16]);
        word /= 16;
    } while (word > 0 && len + 3 < size);
}

static int64_t now_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * CLOCK_NS_PER_S + t.tv_nsec;
}

static int by_value(const void *a, const void *b)
{
    const int64_t *x = a, *y = b;

    return *x < *y ? -1 : *x > *y;
}

static double median_us(int64_t *list, size_t count)
{
    qsort(list, count, sizeof *list, by_value);
    return (double)list[count / 2] / 1e3;
}

static void die(const char *what, const char *why)
{
    fprintf(stderr, "bench_memory: %s: %s\n", what, why);
    exit(1);
}

/* ---- notes ---- */

static size_t make_text(char *buf, size_t size)
{
    unsigned words = 20 + next_random(60);
    size_t len = 0;

    for (unsigned i = 0; i < words && len + 20 < size; i++) {
        spell(next_word(), buf + len, size - len);
        len += strlen(buf + len);
        buf[len++] = ' ';
    }
    buf[--len] = '\0';
    return len;
}

static sqlite3 *open_plain(const char *folder)
{
    char path[512];
    sqlite3 *sql;

    (void)snprintf(path, sizeof path, "%s/plain.db", folder);
    if (sqlite3_open(path, &sql) != SQLITE_OK ||
        sqlite3_exec(sql,
                     "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL; PRAGMA cache_size=-8192;"
                     "CREATE VIRTUAL TABLE f USING fts5 (text,"
                     " tokenize='porter unicode61 remove_diacritics 2'); BEGIN",
                     NULL, NULL, NULL) != SQLITE_OK)
        die("plain", sqlite3_errmsg(sql));
    return sql;
}

static double fill(struct memory *m, sqlite3 *sql, unsigned count)
{
    static const struct memory_who who = { .agent = "bench", .group = "" };
    sqlite3_stmt *add = NULL;
    int64_t ours = 0;

    (void)sqlite3_prepare_v2(sql, "INSERT INTO f (text) VALUES (?1)", -1, &add, NULL);
    for (unsigned i = 0; i < count; i++) {
        struct wait w = { .deadline_ns = CLOCK_NEVER };
        struct error err = ERROR_INIT;
        char text[1024];
        size_t len = make_text(text, sizeof text);
        int64_t begin = now_ns();

        if (!memory_save(m, &who, NULL, text, len, NULL, MEMORY_PRIVATE, 0, &w, NULL, &err))
            die("save", err.text);
        ours += now_ns() - begin;
        (void)sqlite3_bind_text(add, 1, text, (int)len, SQLITE_STATIC);
        if (sqlite3_step(add) != SQLITE_DONE)
            die("plain", sqlite3_errmsg(sql));
        (void)sqlite3_reset(add);
    }
    (void)sqlite3_finalize(add);
    if (sqlite3_exec(sql, "COMMIT", NULL, NULL, NULL) != SQLITE_OK)
        die("plain", sqlite3_errmsg(sql));
    return (double)ours / count / 1e6;
}

static int64_t ask_ours(struct memory *m, const char *text, size_t *ret_bytes)
{
    static const struct memory_who who = { .agent = "bench", .group = "" };
    struct memory_query q = { .text = text, .limit = 10 };
    struct wait w = { .deadline_ns = clock_add_ns(clock_now_ns(), 60 * CLOCK_NS_PER_S) };
    struct memory_found found;
    struct error err = ERROR_INIT;
    int64_t begin = now_ns();

    if (!memory_search(m, &who, &q, &w, &found, &err))
        die("search", err.text);
    for (size_t i = 0; i < found.count; i++)
        *ret_bytes += strlen(found.notes[i].text);
    memory_found_fini(&found);
    return now_ns() - begin;
}

static int64_t ask_plain(sqlite3_stmt *stmt, const char *match, size_t *ret_bytes)
{
    int64_t begin = now_ns();

    (void)sqlite3_bind_text(stmt, 1, match, -1, SQLITE_STATIC);
    while (sqlite3_step(stmt) == SQLITE_ROW) {
        char *text = strdup((const char *)sqlite3_column_text(stmt, 1));

        *ret_bytes += text ? strlen(text) : 0;
        free(text);
    }
    (void)sqlite3_reset(stmt);
    return now_ns() - begin;
}

/* Questions of @words words, of which the rarest stand in a few notes and the commonest in most. */
static void compare(struct memory *m, sqlite3 *sql, unsigned words)
{
    static int64_t ours[QUESTIONS * ROUNDS], plain[QUESTIONS * ROUNDS];
    size_t count = 0, our_bytes = 0, plain_bytes = 0;
    sqlite3_stmt *stmt = NULL;

    if (sqlite3_prepare_v2(sql,
                           "SELECT rowid, text, rank FROM f WHERE f MATCH ?1 ORDER BY rank"
                           " LIMIT 10",
                           -1, &stmt, NULL) != SQLITE_OK)
        die("plain", sqlite3_errmsg(sql));
    for (int i = 0; i < QUESTIONS; i++) {
        char text[256] = "", match[256] = "";
        size_t len = 0, at = 0;

        for (unsigned k = 0; k < words; k++) {
            char word[32];

            spell(next_word(), word, sizeof word);
            len += (size_t)snprintf(text + len, sizeof text - len, "%s%s", k ? " " : "", word);
            at += (size_t)snprintf(match + at, sizeof match - at, "%s%s", k ? " OR " : "", word);
        }
        for (int round = -1; round < ROUNDS; round++) {
            size_t a = 0, b = 0;
            int64_t first = ask_ours(m, text, &a), second = ask_plain(stmt, match, &b);

            if (round < 0)
                continue; /* to warm up */
            ours[count] = first;
            plain[count++] = second;
            our_bytes += a;
            plain_bytes += b;
        }
    }
    (void)sqlite3_finalize(stmt);
    if (our_bytes == 0 || plain_bytes == 0)
        die("compare", "nothing was found");
    printf("%u %.1f %.1f\n", words, median_us(ours, count), median_us(plain, count));
}

static void bench_notes(const char *folder, unsigned count)
{
    struct config config = {
        .memory = { .dir = folder, .quota_mb = 4096, .max_notes = INT64_MAX, .lru_k = 2 }
    };
    struct error err = ERROR_INIT;
    struct memory *m = memory_open(&config, NULL, NULL, NULL, &err);
    sqlite3 *sql = open_plain(folder);

    if (!m)
        die("open", err.text);
    printf("%.4f\n", fill(m, sql, count));
    for (unsigned words = 1; words <= 4; words++)
        compare(m, sql, words);
    memory_close(m);
    (void)sqlite3_close(sql);
}

/* ---- vectors ---- */

static bool fill_nothing(struct memory_set *set, const struct memory_set_key *key, void *arg,
                         struct error *err)
{
    (void)set;
    (void)key;
    (void)arg;
    (void)err;
    return true;
}

/* Every byte, with as little work for each as there can be. */
__attribute__((target_clones("avx512f", "avx2", "default"))) static uint64_t read_all(
    const uint64_t *from, size_t count)
{
    uint64_t sum = 0;

    for (size_t i = 0; i < count; i++)
        sum ^= from[i];
    return sum;
}

static void bench_vectors(const char *folder, unsigned count)
{
    struct memory_set_key key = { .scope = 1, .model = 1, .dims = DIMS };
    struct error err = ERROR_INIT;
    struct memory_vectors *v = memory_vectors_new(folder, &err);
    struct memory_set *set = v ? memory_set_get(v, &key, true, fill_nothing, NULL, &err) : NULL;
    float *all = aligned_alloc(64, (size_t)count * DIMS * sizeof *all);
    float *scores = malloc((size_t)count * sizeof *scores), *query = NULL;
    int64_t ours[ROUNDS], scalar[ROUNDS], reading[ROUNDS];
    volatile uint64_t sink = 0;

    if (!set || !all || !scores)
        die("vectors", err.text);
    for (unsigned i = 0; i < count; i++) {
        float raw[DIMS], *unit;
        int64_t slot;

        for (unsigned k = 0; k < DIMS; k++)
            raw[k] = (float)next_random(2001) - 1000;
        if (!memory_unit_vector(raw, DIMS, &unit, &err) ||
            !memory_set_write(set, unit, &slot, &err) || !memory_set_place(set, slot, i + 1))
            die("vectors", err.text);
        memcpy(all + (size_t)i * DIMS, unit, DIMS * sizeof *unit);
        if (i == count / 2)
            query = STEAL(unit);
        free(unit);
    }
    for (int round = 0; round < ROUNDS; round++) {
        struct wait w = { .deadline_ns = clock_add_ns(clock_now_ns(), 60 * CLOCK_NS_PER_S) };
        struct memory_best best;
        int64_t begin;

        if (!memory_best_init(&best, 10, &err))
            die("vectors", err.text);
        begin = now_ns();
        if (!memory_set_scan(set, query, NULL, 0, &w, &best, &err))
            die("vectors", err.text);
        memory_best_sort(&best);
        ours[round] = now_ns() - begin;
        if (best.n[0] != count / 2 + 1)
            die("vectors", "the nearest is not the nearest");
        memory_best_fini(&best);
        begin = now_ns();
        memory_dot_scalar(query, all, DIMS, count, scores);
        scalar[round] = now_ns() - begin;
        begin = now_ns();
        sink += read_all((const uint64_t *)(const void *)all, (size_t)count * DIMS / 2);
        (void)sink;
        reading[round] = now_ns() - begin;
    }
    printf("%u %.2f %.2f %.2f\n", memory_dot_width(), median_us(ours, ROUNDS) / 1e3,
           median_us(scalar, ROUNDS) / 1e3, median_us(reading, ROUNDS) / 1e3);
    free(query);
    free(scores);
    free(all);
    memory_set_put(set);
    memory_vectors_free(v);
}

int main(int argc, char **argv)
{
    unsigned count = argc > 3 ? (unsigned)strtoul(argv[3], NULL, 10) : 0;

    if (argc < 3)
        die("usage", "notes|vectors FOLDER [COUNT]");
    if (strcmp(argv[1], "notes") == 0)
        bench_notes(argv[2], count ? count : 100000);
    else
        bench_vectors(argv[2], count ? count : 1000000);
    return 0;
}
