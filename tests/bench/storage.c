/*
 * Storage beside the plainest thing that does the same: one table of SQLite with the same pragmas;
 * a file that is written, synced and renamed in a folder that is synced.  Prints, for each work,
 * its name, our median and the peer's, in microseconds for one operation; taken in turns.
 *
 *   bench_storage [folder]
 */
#include <fcntl.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "kernel/base/clock.h"
#include "kernel/base/fd.h"
#include "kernel/base/json.h"
#include "kernel/config.h"
#include "kernel/storage_backend.h"

#define ROUNDS 9

static char data[1 << 20];
static char base[256];

static void die(const char *what)
{
    (void)fprintf(stderr, "bench_storage: %s\n", what);
    exit(1);
}

static double now_us(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e6 + (double)t.tv_nsec / 1e3;
}

/* ---- ours ---- */

static struct storage *ours_open(storage_backend_fn *make, const char *name, int cache_mb)
{
    struct error err = ERROR_INIT;
    char dir[300];
    json_t *over;
    struct config *config;
    struct storage *s;

    (void)snprintf(dir, sizeof dir, "%s/%s", base, name);
    over = json_pack("{s:{s:s,s:i,s:i}}", "storage", "dir", dir, "cache_mb", cache_mb, "quota_mb",
                     1 << 20);
    config = config_parse(NULL, 0, "", over, &err);
    s = config ? storage_open_with(make, config, NULL, &err) : NULL;
    json_decref(over);
    if (!s)
        die(err.text);
    return s;
}

static void ours_put(void *peer, const char *key, size_t len)
{
    struct wait w = { .deadline_ns = clock_add_ns(clock_now_ns(), 60 * CLOCK_NS_PER_S) };
    struct error err = ERROR_INIT;

    if (!storage_put(peer, "bench", key, data, len, STORAGE_ANY, &w, NULL, &err))
        die(err.text);
}

static void ours_get(void *peer, const char *key, size_t len)
{
    struct wait w = { .deadline_ns = clock_add_ns(clock_now_ns(), 60 * CLOCK_NS_PER_S) };
    struct error err = ERROR_INIT;
    struct buf out = BUF_INIT;

    if (!storage_get(peer, "bench", key, 0, 0, SIZE_MAX, &out, &w, NULL, &err) || out.len != len)
        die(err.text);
    buf_fini(&out);
}

/* ---- plain SQLite ---- */

struct plain {
    sqlite3 *db;
    sqlite3_stmt *put, *get;
};

static struct plain plain_open(void)
{
    struct plain p;
    char path[300];

    (void)snprintf(path, sizeof path, "%s/plain.db", base);
    if (sqlite3_open(path, &p.db) ||
        sqlite3_exec(p.db,
                     "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL;"
                     "PRAGMA journal_size_limit=16777216;"
                     "CREATE TABLE kv (key TEXT PRIMARY KEY, value BLOB NOT NULL)",
                     NULL, NULL, NULL) ||
        sqlite3_prepare_v3(p.db, "INSERT OR REPLACE INTO kv VALUES (?, ?)", -1,
                           SQLITE_PREPARE_PERSISTENT, &p.put, NULL) ||
        sqlite3_prepare_v3(p.db, "SELECT value FROM kv WHERE key = ?", -1,
                           SQLITE_PREPARE_PERSISTENT, &p.get, NULL))
        die(sqlite3_errmsg(p.db));
    return p;
}

static void plain_put(void *peer, const char *key, size_t len)
{
    struct plain *p = peer;

    sqlite3_bind_text(p->put, 1, key, -1, SQLITE_STATIC);
    sqlite3_bind_blob64(p->put, 2, data, len, SQLITE_STATIC);
    if (sqlite3_step(p->put) != SQLITE_DONE)
        die(sqlite3_errmsg(p->db));
    sqlite3_reset(p->put);
}

static void plain_get(void *peer, const char *key, size_t len)
{
    struct plain *p = peer;
    char *copy;

    sqlite3_bind_text(p->get, 1, key, -1, SQLITE_STATIC);
    if (sqlite3_step(p->get) != SQLITE_ROW || (size_t)sqlite3_column_bytes(p->get, 0) != len)
        die(sqlite3_errmsg(p->db));
    copy = malloc(len + 1);
    memcpy(copy, sqlite3_column_blob(p->get, 0), len);
    sqlite3_reset(p->get);
    free(copy);
}

/* ---- plain files ---- */

static void slashes(char name[64], const char *key)
{
    (void)snprintf(name, 64, "%s", key);
    for (char *c = name; *c; c++)
        if (*c == '/')
            *c = '_';
}

static void file_put(void *peer, const char *key, size_t len)
{
    int dir = *(int *)peer, fd = openat(dir, "temp", O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    char name[64];

    slashes(name, key);
    if (fd < 0 || write(fd, data, len) != (ssize_t)len || fsync(fd) != 0 || close(fd) != 0 ||
        renameat(dir, "temp", dir, name) != 0 || fsync(dir) != 0)
        die("a plain file");
}

static void file_get(void *peer, const char *key, size_t len)
{
    char name[64], *copy;
    struct stat st;
    int fd;

    slashes(name, key);
    fd = openat(*(int *)peer, name, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &st) != 0 || (size_t)st.st_size != len)
        die("a plain file");
    copy = malloc(len + 1);
    if (read(fd, copy, len) != (ssize_t)len)
        die("a plain file");
    close(fd);
    free(copy);
}

/* ---- measuring ---- */

typedef void work_fn(void *peer, const char *key, size_t len);

static int by_size(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

static double run(work_fn *work, void *peer, const char *prefix, unsigned from, unsigned keys,
                  unsigned count, size_t len, double *all)
{
    for (unsigned i = 0; i < count; i++) {
        char key[64];
        double start;

        (void)snprintf(key, sizeof key, "%s/%u", prefix, (from + i) % keys);
        start = now_us();
        work(peer, key, len);
        all[i] = now_us() - start;
    }
    return 0;
}

/* One by one in turns, so that what else this machine does meets both. */
static void compare(const char *name, work_fn *mine, void *me, work_fn *theirs, void *them,
                    const char *prefix, unsigned keys, unsigned count, size_t len)
{
    double *a = calloc((size_t)ROUNDS * count, sizeof *a),
           *b = calloc((size_t)ROUNDS * count, sizeof *b);
    double sum_a = 0, sum_b = 0;
    unsigned n = ROUNDS * count;

    for (unsigned r = 0; r < n; r++) {
        run(mine, me, prefix, r, keys, 1, len, a + r);
        run(theirs, them, prefix, r, keys, 1, len, b + r);
    }
    for (unsigned r = 0; r < n; r++) {
        sum_a += a[r];
        sum_b += b[r];
    }
    qsort(a, n, sizeof *a, by_size);
    qsort(b, n, sizeof *b, by_size);
    (void)fprintf(stdout, "%s;%.2f;%.2f;%.2f;%.2f\n", name, a[n / 2], b[n / 2], sum_a / n,
                  sum_b / n);
    (void)fflush(stdout);
    free(a);
    free(b);
}

int main(int argc, char **argv)
{
    static const struct {
        const char *size, *prefix;
        size_t len;
        unsigned puts, gets;
    } sizes[] = { { "1 KiB", "small", 1024, 60, 2000 }, { "1 MiB", "large", 1 << 20, 8, 60 } };
    static const struct {
        const char *name;
        storage_backend_fn *make;
        bool sqlite;
    } kinds[] = { { "SQLite", storage_sqlite_new, true }, { "file", storage_file_new, false } };
    unsigned seed = 1;

    (void)snprintf(base, sizeof base, "%s/aios-bench-XXXXXX", argc > 1 ? argv[1] : "/tmp");
    if (!mkdtemp(base))
        die("no folder");
    for (size_t i = 0; i < sizeof data; i++)
        data[i] = (char)((seed = seed * 1103515245 + 12345) >> 16);
    for (size_t k = 0; k < ARRAY_LEN(kinds); k++) {
        bool sqlite = kinds[k].sqlite;
        struct plain plain = { .db = NULL };
        struct storage *s = ours_open(kinds[k].make, kinds[k].name, 0);
        int dir = -1;
        void *peer = &plain;
        char name[64];

        if (sqlite) {
            plain = plain_open();
        } else {
            (void)snprintf(name, sizeof name, "plain");
            if (chdir(base) != 0 || mkdir(name, 0700) != 0 ||
                (dir = open(name, O_RDONLY | O_DIRECTORY | O_CLOEXEC)) < 0)
                die("a plain folder");
            peer = &dir;
        }
        for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
            unsigned keys = ROUNDS * sizes[i].puts;

            (void)snprintf(name, sizeof name, "%s put %s, new keys", kinds[k].name, sizes[i].size);
            compare(name, ours_put, s, sqlite ? plain_put : file_put, peer, sizes[i].prefix, keys,
                    sizes[i].puts, sizes[i].len);
            (void)snprintf(name, sizeof name, "%s put %s, over old ones", kinds[k].name,
                           sizes[i].size);
            compare(name, ours_put, s, sqlite ? plain_put : file_put, peer, sizes[i].prefix, 4,
                    sizes[i].puts, sizes[i].len);
            (void)snprintf(name, sizeof name, "%s get %s, no cache", kinds[k].name, sizes[i].size);
            compare(name, ours_get, s, sqlite ? plain_get : file_get, peer, sizes[i].prefix, keys,
                    sizes[i].gets, sizes[i].len);
        }
        storage_close(s);
        s = ours_open(kinds[k].make, kinds[k].name, 32);
        for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
            (void)snprintf(name, sizeof name, "%s get %s, cached", kinds[k].name, sizes[i].size);
            compare(name, ours_get, s, sqlite ? plain_get : file_get, peer, sizes[i].prefix, 16,
                    sizes[i].gets, sizes[i].len);
        }
        storage_close(s);
        sqlite3_finalize(plain.put);
        sqlite3_finalize(plain.get);
        sqlite3_close(plain.db);
        fd_close(dir);
    }
    return fd_remove_tree(AT_FDCWD, base, NULL) ? 0 : 1;
}
