/* The core of storage over a small back end of the test's own: checks, cache, cursors, the lock,
 * what is told on the bus. */
#include "kernel/storage.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "kernel/base/clock.h"
#include "kernel/base/json.h"
#include "kernel/config.h"
#include "kernel/event.h"
#include "tests/support/folder.h"
#include "tests/unit/storage_fake.h"

/* ---- a storage ---- */

static struct config *config_for(const char *dir)
{
    struct error err = ERROR_INIT;
    json_t *over = json_pack("{s:{s:s,s:i}}", "storage", "dir", dir, "max_value_mb", 1);
    struct config *config = config_parse(NULL, 0, "", over, &err);

    json_decref(over);
    assert_ok(config, err);
    return config;
}

static struct config *config;

static struct storage *open_fake(struct event_bus *bus)
{
    struct error err = ERROR_INIT;
    struct storage *s;

    fake.fails = ERR_NONE;
    fake.version = 0;
    fake.value[0] = '\0';
    fake.writes = fake.reads = fake.stats = fake.lists = 0;
    config = config_for(folder_path("s"));
    s = storage_open_with(fake_new, config, bus, &err);
    assert_ok(s, err);
    return s;
}

static void close_fake(struct storage *s)
{
    storage_close(s);
    config_free(config);
}

static struct wait soon(void)
{
    return (struct wait){ .deadline_ns = clock_add_ns(clock_now_ns(), 100 * CLOCK_NS_PER_S) };
}

static enum error_code put(struct storage *s, const char *key, const char *value)
{
    struct wait w = soon();
    struct error err = ERROR_INIT;

    return storage_put(s, "alice", key, value, strlen(value), STORAGE_ANY, &w, NULL, &err)
               ? ERR_NONE
               : err.code;
}

static enum error_code get(struct storage *s, const char *key, char ret[64])
{
    CLEANUP(buf_fini) struct buf out = BUF_INIT;
    struct wait w = soon();
    struct error err = ERROR_INIT;
    bool ok = storage_get(s, "alice", key, 0, 0, SIZE_MAX, &out, &w, NULL, &err);

    (void)snprintf(ret, 64, "%s", buf_str(&out));
    return ok ? ERR_NONE : err.code;
}

/* ---- tests ---- */

static void nothing_bad_reaches_the_back_end(void **state)
{
    struct storage *s = open_fake(NULL);
    struct storage_op twice[] = { { .kind = STORAGE_PUT, .key = "b", .data = "", .len = 0 },
                                  { .kind = STORAGE_PUT, .key = "a", .data = "", .len = 0 },
                                  { .kind = STORAGE_DELETE, .key = "b" } };
    struct storage_op bad[] = { { .kind = STORAGE_PUT, .key = "b", .data = "", .len = 0 },
                                { .kind = STORAGE_PUT, .key = "../a", .data = "", .len = 0 } };
    struct wait w = soon();
    struct error err = ERROR_INIT;
    struct storage_page page;
    size_t failed = 99;
    char *large = calloc(1, (1u << 20) + 1);
    (void)state;

    assert_non_null(large);
    assert_false(storage_put(s, "alice", "k", large, (1u << 20) + 1, 0, &w, NULL, &err));
    assert_code(err, ERR_LIMIT);
    assert_contains(err.text, "1 MiB");
    error_clear(&err);
    assert_false(storage_put(s, "al/ice", "k", "", 0, 0, &w, NULL, &err));
    assert_code(err, ERR_INVALID);
    error_clear(&err);
    assert_false(storage_batch(s, "alice", twice, 3, &w, &failed, &err));
    assert_code(err, ERR_INVALID);
    assert_contains(err.text, "\"b\"");
    assert_int_equal(failed, 3);
    error_clear(&err);
    assert_false(storage_batch(s, "alice", bad, 2, &w, &failed, &err));
    assert_int_equal(failed, 1);
    error_clear(&err);
    assert_false(storage_batch(s, "alice", bad, 0, &w, &failed, &err));
    assert_code(err, ERR_INVALID);
    error_clear(&err);
    assert_false(storage_batch(s, "alice", bad, STORAGE_BATCH_MAX + 1, &w, &failed, &err));
    assert_code(err, ERR_INVALID);
    error_clear(&err);
    assert_false(storage_list(s, "alice", "", NULL, 0, &w, &page, &err));
    assert_code(err, ERR_INVALID);
    assert_false(storage_list(s, "alice", "", NULL, STORAGE_PAGE_MAX + 1, &w, &page, NULL));
    assert_false(storage_list(s, "alice", "a\n", NULL, 1, &w, &page, NULL));
    assert_false(storage_copy(s, "alice", "a", "b/", 0, &w, NULL, NULL));
    assert_false(storage_rollback(s, "alice", "a", 0, 0, &w, NULL, NULL));
    assert_int_equal(fake.writes + fake.reads + fake.stats + fake.lists, 0);
    assert_ok(storage_put(s, "alice", "k", large, 1u << 20, 0, &w, NULL, &err), err);
    assert_int_equal(fake.limits.versions, 16);
    assert_int_equal(fake.limits.quota_bytes, 1u << 30);
    assert_int_equal(fake.limits.total, STORAGE_VERSIONS);
    free(large);
    close_fake(s);
}

static void serves_from_the_cache_until_it_is_written(void **state)
{
    struct storage *s = open_fake(NULL);
    struct storage_stats stats;
    char value[64];
    (void)state;

    assert_int_equal(put(s, "k", "one"), ERR_NONE);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(get(s, "k", value), ERR_NONE);
        assert_string_equal(value, "one");
    }
    assert_int_equal(fake.reads, 1);
    assert_int_equal(put(s, "k", "two"), ERR_NONE);
    assert_int_equal(get(s, "k", value), ERR_NONE);
    assert_string_equal(value, "two");
    assert_int_equal(fake.reads, 2);
    fake.fails = ERR_LOST; /* it is not known what became of this one */
    assert_int_equal(put(s, "k", "three"), ERR_LOST);
    fake.fails = ERR_NONE;
    (void)snprintf(fake.value, sizeof fake.value, "three");
    assert_int_equal(get(s, "k", value), ERR_NONE);
    assert_string_equal(value, "three");
    storage_stats(s, &stats);
    assert_string_equal(stats.backend, "fake");
    assert_int_equal(stats.puts, 2);
    assert_int_equal(stats.gets, 5);
    assert_int_equal(stats.cache_hits, 2);
    assert_int_equal(stats.failures, 1);
    close_fake(s);
}

static void looks_at_the_version_where_others_write_too(void **state)
{
    struct storage *s = open_fake(NULL);
    char value[64];
    (void)state;

    fake.base.shared = true;
    assert_int_equal(put(s, "k", "one"), ERR_NONE);
    assert_int_equal(get(s, "k", value), ERR_NONE);
    assert_int_equal(get(s, "k", value), ERR_NONE);
    assert_int_equal(fake.reads, 1);
    assert_int_equal(fake.stats, 1);
    fake.version++;
    (void)snprintf(fake.value, sizeof fake.value, "other");
    assert_int_equal(get(s, "k", value), ERR_NONE);
    assert_string_equal(value, "other");
    assert_int_equal(fake.reads, 2);
    close_fake(s);
}

static void a_failed_read_leaves_nothing_behind(void **state)
{
    struct storage *s = open_fake(NULL);
    CLEANUP(buf_fini) struct buf out = BUF_INIT;
    struct wait w = soon();
    struct error err = ERROR_INIT;
    (void)state;

    assert_true(buf_append_str(&out, "before"));
    fake.fails = ERR_IO;
    assert_false(storage_get(s, "alice", "k", 0, 0, SIZE_MAX, &out, &w, NULL, &err));
    assert_code(err, ERR_IO);
    assert_string_equal(buf_str(&out), "before");
    assert_int_equal(out.len, 6);
    close_fake(s);
}

static void tells_once_when_it_is_down_and_up(void **state)
{
    struct error err = ERROR_INIT;
    struct event_bus *bus = event_bus_new(&err);
    struct event_sub *sub = event_subscribe(bus, "storage.*", NULL, NULL, &err);
    struct storage *s = open_fake(bus);
    struct event event;
    uint64_t dropped;
    char value[64];
    (void)state;

    assert_ok(sub, err);
    fake.fails = ERR_LOST;
    assert_int_equal(put(s, "k", "x"), ERR_LOST);
    assert_int_equal(get(s, "k", value), ERR_LOST);
    assert_true(event_next(sub, &event, &dropped));
    assert_string_equal(event.topic, "storage.down");
    assert_string_equal(event.subject, "fake");
    assert_string_equal(event.text, "the server is away");
    assert_false(event_next(sub, &event, &dropped));
    fake.fails = ERR_NOT_FOUND; /* an answer */
    assert_int_equal(get(s, "k", value), ERR_NOT_FOUND);
    assert_true(event_next(sub, &event, &dropped));
    assert_string_equal(event.topic, "storage.up");
    fake.fails = ERR_LIMIT;
    assert_int_equal(put(s, "k", "x"), ERR_LIMIT);
    assert_true(event_next(sub, &event, &dropped));
    assert_string_equal(event.topic, "storage.quota");
    assert_string_equal(event.agent, "alice");
    assert_false(event_next(sub, &event, &dropped));
    close_fake(s);
    event_unsubscribe(sub);
    event_bus_free(bus);
}

static void cursors_go_on_and_are_bound(void **state)
{
    struct storage *s = open_fake(NULL);
    struct wait w = soon();
    struct error err = ERROR_INIT;
    struct storage_page page, next;
    struct stat st;
    (void)state;

    assert_int_equal(put(s, "n/1", "x"), ERR_NONE);
    assert_int_not_equal(stat(folder_path("s/key"), &st), 0); /* made at its first use */
    assert_ok(storage_list(s, "alice", "n/1", NULL, 1, &w, &page, &err), err);
    assert_non_null(page.cursor);
    assert_int_equal(stat(folder_path("s/key"), &st), 0);
    assert_int_equal(st.st_mode & 07777, 0600);
    assert_ok(storage_list(s, "alice", "n/1", page.cursor, 1, &w, &next, &err), err);
    assert_string_equal(fake.after, "n/1");
    storage_page_fini(&next);
    assert_false(storage_list(s, "bob", "n/1", page.cursor, 1, &w, &next, &err));
    assert_code(err, ERR_INVALID);
    assert_false(storage_list(s, "alice", "n/", page.cursor, 1, &w, &next, NULL));
    assert_false(storage_versions(s, "alice", "n/1", page.cursor, 1, &w, &next, NULL));
    storage_page_fini(&page);
    assert_ok(storage_versions(s, "alice", "n/1", NULL, 1, &w, &page, &err), err);
    assert_ok(storage_versions(s, "alice", "n/1", page.cursor, 1, &w, &next, &err), err);
    assert_string_equal(fake.after, "1");
    storage_page_fini(&page);
    storage_page_fini(&next);
    close_fake(s);
}

static void tokens_read_one_key_until_they_expire(void **state)
{
    struct storage *s = open_fake(NULL);
    CLEANUP(buf_fini) struct buf out = BUF_INIT;
    struct wait w = soon();
    struct error err = ERROR_INIT;
    struct storage_stat stat;
    char token[STORAGE_TOKEN_BYTES];
    int64_t until;
    (void)state;

    assert_int_equal(put(s, "k", "shared"), ERR_NONE);
    assert_false(storage_share(s, "alice", "k", 0, clock_wall_ns(), token, &err));
    assert_code(err, ERR_INVALID);
    error_clear(&err);
    assert_ok(
        storage_share(s, "alice", "k", 0, clock_wall_ns() + 3600 * CLOCK_NS_PER_S, token, &err),
        err);
    assert_ok(storage_get_shared(s, token, 2, 3, &out, &w, &stat, &err), err);
    assert_string_equal(buf_str(&out), "are");
    assert_string_equal(stat.key, "k");
    until = clock_wall_ns() + 5 * CLOCK_NS_PER_MS;
    assert_ok(storage_share(s, "alice", "k", 0, until, token, &err), err);
    while (clock_wall_ns() < until)
        continue;
    assert_false(storage_get_shared(s, token, 0, 3, &out, &w, NULL, &err));
    assert_code(err, ERR_DENIED);
    assert_contains(err.text, "expired");
    close_fake(s);
}

static void a_token_outlives_the_process_but_not_its_secret(void **state)
{
    struct storage *s = open_fake(NULL);
    CLEANUP(buf_fini) struct buf out = BUF_INIT;
    struct wait w = soon();
    struct error err = ERROR_INIT;
    char token[STORAGE_TOKEN_BYTES];
    (void)state;

    assert_ok(storage_share(s, "alice", "k", 0, INT64_MAX, token, &err), err);
    close_fake(s);
    s = open_fake(NULL);
    assert_ok(storage_get_shared(s, token, 0, 3, &out, &w, NULL, &err), err);
    close_fake(s);
    assert_int_equal(unlink(folder_path("s/key")), 0);
    s = open_fake(NULL);
    assert_false(storage_get_shared(s, token, 0, 3, &out, &w, NULL, &err));
    assert_code(err, ERR_DENIED);
    close_fake(s);
}

static void purging_keeps_one_version(void **state)
{
    struct storage *s = open_fake(NULL);
    struct wait w = soon();
    struct error err = ERROR_INIT;
    struct storage_stat stat;
    (void)state;

    assert_int_equal(put(s, "k", "x"), ERR_NONE);
    assert_ok(storage_purge(s, "alice", "k", &w, &stat, &err), err);
    assert_true(stat.deleted);
    assert_int_equal(fake.limits.versions, 1);
    assert_int_equal(fake.limits.quota_bytes, 0);
    close_fake(s);
}

/* ---- the folder ---- */

static void a_second_kernel_is_refused_by_name(void **state)
{
    struct storage *s = open_fake(NULL);
    struct config *second = config_for(folder_path("s"));
    struct error err = ERROR_INIT;
    char pid[40];
    (void)state;

    assert_null(storage_open_with(fake_new, second, NULL, &err));
    assert_code(err, ERR_BUSY);
    (void)snprintf(pid, sizeof pid, "(process %ld)", (long)getpid());
    assert_contains(err.text, pid);
    close_fake(s);
    error_clear(&err);
    s = storage_open_with(fake_new, second, NULL, &err); /* as soon as the first is gone */
    assert_ok(s, err);
    storage_close(s);
    config_free(second);
}

static void the_lock_of_a_killed_kernel_is_free(void **state)
{
    int pipes[2], status;
    struct storage *s;
    char byte;
    pid_t child;
    (void)state;

    assert_int_equal(pipe2(pipes, O_CLOEXEC), 0);
    child = fork();
    if (child == 0) {
        s = open_fake(NULL);
        (void)!write(pipes[1], s ? "y" : "n", 1);
        for (;;)
            (void)pause();
    }
    assert_int_equal(read(pipes[0], &byte, 1), 1);
    assert_int_equal(byte, 'y');
    assert_int_equal(kill(child, SIGKILL), 0);
    assert_int_equal(waitpid(child, &status, 0), child);
    s = open_fake(NULL);
    close_fake(s);
    fd_close(pipes[0]);
    fd_close(pipes[1]);
}

static void opening_fails_clearly(void **state)
{
    struct error err = ERROR_INIT;
    struct config *c;
    (void)state;

    folder_put("file", "");
    c = config_for(folder_path("file"));
    assert_null(storage_open_with(fake_new, c, NULL, &err));
    assert_contains(err.text, "storage: ");
    config_free(c);
    error_clear(&err);
    fake.fails = ERR_UNSUPPORTED;
    c = config_for(folder_path("s"));
    assert_null(storage_open_with(fake_new, c, NULL, &err));
    assert_code(err, ERR_UNSUPPORTED);
    config_free(c);
}

static void opens_what_the_configuration_names(void **state)
{
    static const struct {
        const char *name, *opens; /* NULL: refused */
    } rows[] = { { "", "sqlite" }, { "sqlite", "sqlite" }, { "file", "file" }, { "tape", NULL } };
    struct config *c = config_for(folder_path("s"));
    (void)state;

    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct error err = ERROR_INIT;
        struct storage_stats stats;
        struct storage *s;

        c->storage.backend = rows[i].name;
        s = storage_open(c, NULL, &err);
        assert_code(err, rows[i].opens ? ERR_NONE : ERR_INVALID);
        if (!rows[i].opens) {
            assert_null(s);
            assert_contains(err.text, "sqlite, file, postgres and s3");
            continue;
        }
        storage_stats(s, &stats);
        assert_string_equal(stats.backend, rows[i].opens);
        storage_close(s);
    }
    config_free(c);
}

static void survives_every_allocation_failure(void **state)
{
    struct config *c = config_for(folder_path("s"));
    (void)state;

    FAULT_EACH(n)
    {
        struct error err = ERROR_INIT;
        struct storage *s;

        fake.fails = ERR_NONE;
        s = storage_open_with(fake_new, c, NULL, &err);
        FAULT_DONE(n);
        assert_int_equal(s != NULL, n_last);
        assert_code(err, s ? ERR_NONE : ERR_NOMEM);
        storage_close(s);
    }
    config_free(c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_FOLDER(nothing_bad_reaches_the_back_end),
        WITH_FOLDER(serves_from_the_cache_until_it_is_written),
        WITH_FOLDER(looks_at_the_version_where_others_write_too),
        WITH_FOLDER(a_failed_read_leaves_nothing_behind),
        WITH_FOLDER(tells_once_when_it_is_down_and_up),
        WITH_FOLDER(cursors_go_on_and_are_bound),
        WITH_FOLDER(tokens_read_one_key_until_they_expire),
        WITH_FOLDER(a_token_outlives_the_process_but_not_its_secret),
        WITH_FOLDER(purging_keeps_one_version),
        WITH_FOLDER(a_second_kernel_is_refused_by_name),
        WITH_FOLDER(the_lock_of_a_killed_kernel_is_free),
        WITH_FOLDER(opening_fails_clearly),
        WITH_FOLDER(opens_what_the_configuration_names),
        WITH_FOLDER(survives_every_allocation_failure),
    };

    return cmocka_run_group_tests_name("storage", tests, NULL, NULL);
}
