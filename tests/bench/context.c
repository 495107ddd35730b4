/*
 * Saving a context of messages, without computers, beside what it comes down to: one transaction of
 * SQLite with the same pragmas, an upsert of the same bytes into one table.  Prints for each work
 * its name, our median and the peer's, in microseconds; taken in turns.
 *
 *   bench_context [folder]
 */
#include <fcntl.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "kernel/base/clock.h"
#include "kernel/base/fd.h"
#include "kernel/base/json.h"
#include "kernel/context.h"

#define MESSAGES 50
#define BYTES    400
#define WARM     50
#define ROUNDS   1000

static void die(const char *what)
{
    (void)fprintf(stderr, "bench_context: %s\n", what);
    exit(1);
}

static double now_us(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e6 + (double)t.tv_nsec / 1e3;
}

static int by_size(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

/* Words, with what has to be escaped now and then. */
static json_t *messages(void)
{
    static const char *const words[] = {
        "the ",  "agent ", "reads\n", "\"a file\" ", "and ",
        "says ", "what ",  "stands ", "in it, ",     "f\xc3\xbcr "
    };
    json_t *list = json_array();
    unsigned seed = 1;

    for (unsigned i = 0; i < MESSAGES; i++) {
        char text[BYTES + 16] = "";
        size_t len = 0;

        while (len < BYTES) {
            seed = seed * 1103515245 + 12345;
            len += (size_t)snprintf(text + len, sizeof text - len, "%s",
                                    words[(seed >> 16) % ARRAY_LEN(words)]);
        }
        if (json_array_append_new(list, json_pack("{s:s, s:s}", "role",
                                                  i % 2 ? "assistant" : "user", "content", text)) <
            0)
            die("no memory");
    }
    return list;
}

/* ---- ours ---- */

struct ours {
    struct config *config;
    struct loop *loop;
    struct kernel *k;
    struct agent *agent;
};

static struct ours ours_open(const char *base)
{
    struct error err = ERROR_INIT;
    struct ours o = { .config = NULL };
    char dir[300];
    json_t *over;

    (void)snprintf(dir, sizeof dir, "%s/ours", base);
    over = json_pack("{s:{s:s, s:s}, s:{s:b}}", "storage", "backend", "sqlite", "dir", dir, "audit",
                     "enabled", 0);
    o.config = config_parse(NULL, 0, "", over, &err);
    json_decref(over);
    o.loop = o.config ? loop_new(&err) : NULL;
    o.k = o.loop ? kernel_new(o.loop, o.config, &err) : NULL;
    o.agent = o.k ? kernel_agent(o.k, "bench", NULL, &err) : NULL;
    if (!o.agent)
        die(err.text);
    return o;
}

static double ours_save(struct ours *o, const char *name, json_t *list)
{
    struct wait w = { .deadline_ns = clock_add_ns(clock_now_ns(), 60 * CLOCK_NS_PER_S) };
    struct context_parts parts = { .messages = list };
    struct error err = ERROR_INIT;
    double start = now_us(), took;
    json_t *report = context_save(o->k, o->agent, name, &parts, &w, &err);

    took = now_us() - start;
    if (!report)
        die(err.text);
    json_decref(report);
    return took;
}

static void ours_close(struct ours *o)
{
    agent_unref(o->agent);
    kernel_free(o->k);
    loop_free(o->loop);
    config_free(o->config);
}

/* ---- the peer ---- */

struct plain {
    sqlite3 *db;
    sqlite3_stmt *put;
};

static struct plain plain_open(const char *base)
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
        sqlite3_prepare_v3(p.db,
                           "INSERT INTO kv VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = "
                           "excluded.value",
                           -1, SQLITE_PREPARE_PERSISTENT, &p.put, NULL))
        die(sqlite3_errmsg(p.db));
    return p;
}

static double plain_save(struct plain *p, const char *name, const struct buf *value)
{
    double start = now_us();

    sqlite3_bind_text(p->put, 1, name, -1, SQLITE_STATIC);
    sqlite3_bind_blob64(p->put, 2, value->data, value->len, SQLITE_STATIC);
    if (sqlite3_step(p->put) != SQLITE_DONE)
        die(sqlite3_errmsg(p->db));
    sqlite3_reset(p->put);
    return now_us() - start;
}

/* ---- measuring ---- */

/* Another first message each time: SQLite writes nothing for a value that is there already. */
static void change(json_t *list, unsigned i, struct buf *value)
{
    char text[32];

    (void)snprintf(text, sizeof text, "turn %u", i);
    buf_clear(value);
    if (json_object_set_new(json_array_get(list, 0), "content", json_string(text)) < 0 ||
        !json_write(list, value))
        die("no memory");
}

/* One by one in turns, so that what else this machine does meets both. */
static void compare(struct ours *o, struct plain *p, const char *what, bool fresh, json_t *list)
{
    CLEANUP(buf_fini) struct buf value = BUF_INIT;
    static double a[ROUNDS], b[ROUNDS];

    for (unsigned i = 0; i < WARM + ROUNDS; i++) {
        unsigned at = i < WARM ? 0 : i - WARM;
        char name[32];

        change(list, i, &value);
        (void)snprintf(name, sizeof name, "%s-%u", fresh ? "new" : "old", fresh ? i : 0);
        a[at] = ours_save(o, name, list);
        b[at] = plain_save(p, name, &value);
    }
    qsort(a, ROUNDS, sizeof *a, by_size);
    qsort(b, ROUNDS, sizeof *b, by_size);
    (void)fprintf(stdout, "%s;%.2f;%.2f\n", what, a[ROUNDS / 2], b[ROUNDS / 2]);
    (void)fflush(stdout);
}

int main(int argc, char **argv)
{
    json_t *list = messages();
    struct plain plain;
    struct ours ours;
    char base[256];

    (void)snprintf(base, sizeof base, "%s/aios-bench-XXXXXX", argc > 1 ? argv[1] : "/tmp");
    if (!mkdtemp(base))
        die("no folder");
    ours = ours_open(base);
    plain = plain_open(base);
    compare(&ours, &plain, "save 50 messages under one name", false, list);
    compare(&ours, &plain, "save 50 messages under new names", true, list);
    ours_close(&ours);
    sqlite3_finalize(plain.put);
    sqlite3_close(plain.db);
    json_decref(list);
    return fd_remove_tree(AT_FDCWD, base, NULL) ? 0 : 1;
}
