/* The S3 back end against a real server: the suite of all back ends, and what is S3's alone. */
#include "tests/unit/storage_suite.h"

#include "kernel/storage_s3_internal.h"
#include "tests/support/http_script.h"
#include "tests/support/s3_server.h"
#include "tests/unit/storage_killed.h"

#define ID_VARIABLE     "AIOS_TEST_S3_ID"
#define SECRET_VARIABLE "AIOS_TEST_S3_SECRET"
#define PREFIX          "some/where/"

static struct s3_server_test server;

/* ---- looking into the bucket ---- */

static struct config *config_of(const char *endpoint, const char *bucket, bool path_style)
{
    struct error err = ERROR_INIT;
    json_t *over =
        json_pack("{s:{s:s,s:s,s:b,s:s,s:s,s:i,s:s}}", "s3", "endpoint", endpoint, "bucket", bucket,
                  "path_style", (int)path_style, "access_key_env", ID_VARIABLE, "secret_key_env",
                  SECRET_VARIABLE, "part_mb", 5, "prefix", PREFIX);
    struct config *config = config_parse(NULL, 0, "", over, &err);

    json_decref(over);
    assert_ok(config, err);
    return config;
}

static struct s3_server direct;

static void look_inside(void)
{
    struct error err = ERROR_INIT;
    char endpoint[64];
    struct config *config;

    (void)snprintf(endpoint, sizeof endpoint, "http://127.0.0.1:%u", server.port);
    config = config_of(endpoint, "test", true);
    assert_ok(s3_server_init(&direct, config, &err), err);
    config_free(config);
}

static bool count_name(void *arg, const char *name, uint64_t size, struct error *err)
{
    (void)name, (void)size, (void)err;
    ++*(unsigned *)arg;
    return true;
}

static unsigned objects(const char *kind)
{
    struct wait w = suite_wait();
    struct error err = ERROR_INIT;
    char prefix[128];
    unsigned count = 0;

    (void)snprintf(prefix, sizeof prefix, "%s/%s", place.space, kind);
    assert_ok(s3_list(&direct, prefix, NULL, count_name, &count, &w, &err), err);
    return count;
}

static void put_object(const char *name, const void *data, size_t len)
{
    struct wait w = suite_wait();
    struct error err = ERROR_INIT;
    char full[256];

    (void)snprintf(full, sizeof full, "%s/%s", place.space, name);
    assert_ok(s3_put(&direct, full, data, len, NULL, false, &w, NULL, &err), err);
}

/* ---- the server ---- */

static void comes_back_with_the_server(void **state)
{
    struct wait w = suite_wait();
    struct error err = ERROR_INIT;

    (void)state;
    (void)put("k", "before");
    s3_server_stop(&server);
    assert_false(storage_put(place.s, place.space, "k", "x", 1, STORAGE_ANY, &w, NULL, &err));
    assert_code(err, ERR_LOST);
    assert_contains(err.text, "127.0.0.1:");
    assert_null(strstr(err.text, "not known")); /* it never got there */
    suite_open("{\"cache_mb\":0}");
    assert_int_equal(try_get("k", 0), ERR_LOST);
    assert_true(s3_server_begin(&server));
    assert_value("k", "before");
    assert_int_equal(put("k", "after").version, 2);
    assert_value("k", "after");
}

static void large_values_go_up_in_parts(void **state)
{
    const size_t len = (20u << 20) + 3;
    unsigned char *data = malloc(len);
    struct wait w = suite_wait();
    struct error err = ERROR_INIT;
    struct buf out = BUF_INIT;

    (void)state;
    assert_non_null(data);
    look_inside();
    for (size_t i = 0; i < len; i++)
        data[i] = (unsigned char)(i * 2654435761u >> 11);
    suite_open("{\"cache_mb\":0}");
    (void)put_bytes("large", data, len);
    assert_int_equal(objects("b/"), 1);
    assert_value_at("large", 0, data, len);
    assert_ok(storage_get(place.s, place.space, "large", 0, 10u << 20, 7, &out, &w, NULL, &err),
              err);
    assert_int_equal(out.len, 7);
    assert_memory_equal(out.data, data + (10u << 20), 7);
    buf_fini(&out);
    suite_open("{\"cache_mb\":0,\"versions\":1}");
    assert_value_at("large", 0, data, len);
    (void)put("large", "small"); /* its object goes with the version */
    assert_int_equal(objects("b/"), 0);
    assert_value("large", "small");
    s3_server_fini(&direct);
    free(data);
}

static void refusals_say_what_is_wrong(void **state)
{
    static const struct {
        const char *label, *id, *secret, *bucket;
        enum error_code want;
        const char *text;
    } rows[] = {
        { "wrong secret", "S3RVER", "hunter2", "test", ERR_DENIED, "SignatureDoesNotMatch" },
        { "wrong id", "hunter3", "S3RVER", "test", ERR_DENIED, "InvalidAccessKeyId" },
        { "wrong bucket", "S3RVER", "S3RVER", "other", ERR_INVALID, "NoSuchBucket" },
        { "no secret", "S3RVER", "", "test", ERR_INVALID, SECRET_VARIABLE },
        { "no id", "", "S3RVER", "test", ERR_INVALID, ID_VARIABLE },
        { "no bucket", "S3RVER", "S3RVER", "", ERR_INVALID, "s3.bucket" },
        { "a path as bucket", "S3RVER", "S3RVER", "../x", ERR_INVALID, "s3.bucket" },
    };
    char endpoint[64];

    (void)state;
    (void)snprintf(endpoint, sizeof endpoint, "http://127.0.0.1:%u", server.port);
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct config *config = config_of(endpoint, rows[i].bucket, true);
        struct storage_usage usage = { .bytes = 0 };
        struct error err = ERROR_INIT;
        struct wait w = suite_wait();
        struct storage_backend *b;
        bool ok = false;

        setenv(ID_VARIABLE, rows[i].id, 1);
        setenv(SECRET_VARIABLE, rows[i].secret, 1);
        b = storage_s3_new(config, place.dir, &err);
        if (b) {
            ok = b->usage(b, "refused", &w, &usage, &err);
            b->free(b);
        }
        setenv(ID_VARIABLE, "S3RVER", 1);
        setenv(SECRET_VARIABLE, "S3RVER", 1);
        config_free(config);
        if (ok || err.code != rows[i].want || !strstr(err.text, rows[i].text) ||
            strstr(err.text, "hunter"))
            fail_msg("%s: code %d (%s)", rows[i].label, err.code, err.text);
    }
}

static void another_kernel_is_named_and_kept_out(void **state)
{
    char endpoint[64], dir[] = "/tmp/test_storage.XXXXXX", pid[24];
    struct storage_usage usage = { .bytes = 0 };
    struct error err = ERROR_INIT;
    struct wait w = suite_wait();
    struct storage_backend *b;
    struct config *config;

    (void)state;
    (void)put("k", "mine");
    (void)snprintf(endpoint, sizeof endpoint, "http://127.0.0.1:%u", server.port);
    config = config_of(endpoint, "test", true);
    assert_non_null(mkdtemp(dir));
    b = storage_s3_new(config, dir, &err);
    assert_ok(b, err);
    assert_false(b->usage(b, place.space, &w, &usage, &err));
    assert_code(err, ERR_BUSY);
    (void)snprintf(pid, sizeof pid, "process %ld", (long)getpid());
    assert_contains(err.text, pid);
    error_clear(&err);
    storage_close(place.s);
    place.s = NULL;
    assert_ok(b->usage(b, place.space, &w, &usage, &err), err); /* handed over */
    assert_int_equal(usage.keys, 1);
    b->free(b);
    config_free(config);
    assert_true(fd_remove_tree(AT_FDCWD, dir, NULL));
    suite_open(NULL);
    assert_value("k", "mine");
}

/* ---- what is in the bucket ---- */

static void many_commits_become_an_index(void **state)
{
    char key[32];

    (void)state;
    look_inside();
    suite_open("{\"versions\":1}");
    for (int i = 0; i < 150; i++) {
        (void)snprintf(key, sizeof key, "k%d", i % 10);
        (void)put(key, key);
    }
    assert_int_equal(objects("s/"), 1);
    assert_true(objects("c/") < 100);
    suite_open(NULL);
    for (int i = 0; i < 10; i++) {
        (void)snprintf(key, sizeof key, "k%d", i);
        assert_value(key, key);
    }
    assert_int_equal(usage_now().versions, 10);
    s3_server_fini(&direct);
}

static void a_commit_that_comes_too_late_does_not_count(void **state)
{
    struct s3_change change = { .key = "k",
                                .v = { .version = 2,
                                       .deleted = true,
                                       .wall_ns = 1,
                                       .ref = { .seq = 3, .part = S3_IN_COMMIT } } };
    struct buf head = BUF_INIT;

    (void)state;
    look_inside();
    (void)put("k", "one");
    storage_close(place.s);
    place.s = NULL;
    assert_true(s3_commit_head(&change, 1, &head));
    put_object("c/0000000000000003-00000000", head.data, head.len);
    put_object("b/0000000000000003-00000001-0000", "orphan", 6);
    put_object("c/notes.txt", "somebody's", 10);
    buf_fini(&head);
    suite_open(NULL);
    assert_value("k", "one");
    assert_int_equal(put("k", "two").version, 2);
    (void)put("k", "three");
    suite_open(NULL);
    assert_value("k", "three");
    (void)put("k", "four");
    assert_int_equal(objects("b/"), 0);
    assert_int_equal(objects("c/0000000000000003-00000000"), 0);
    assert_int_equal(objects("c/notes.txt"), 1);
    s3_server_fini(&direct);
}

static void damage_is_told_not_passed_over(void **state)
{
    static const struct {
        const char *text;
        enum error_code want;
    } rows[] = {
        { "nonsense that is long enough to be something", ERR_IO },
        { "AIOS1 00000002 0000000000\nxx", ERR_IO },
        { "AIOS1 00000008 0000000000\n[[\"k\"]]\n", ERR_IO },
        { "AIOS1 ffffffff 0000000000\n[]", ERR_IO },
        { "AIOS1 00000003 0000000000 []", ERR_IO },
        /* What a put leaves behind that broke off was never answered. */
        { "", ERR_NONE },
        { "AIOS1 000", ERR_NONE },
        { "AIOS1 00000020 0000000000\n[", ERR_NONE },
        { "AIOS1 00000003 0000000007\n[]\nvalue", ERR_NONE },
    };
    struct error err = ERROR_INIT;
    struct wait w = suite_wait();

    (void)state;
    look_inside();
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct id id = id_make("space");

        storage_close(place.s);
        place.s = NULL;
        (void)snprintf(place.space, sizeof place.space, "%s", id.text);
        put_object("c/0000000000000001-00000001", rows[i].text, strlen(rows[i].text));
        suite_open(NULL);
        error_clear(&err);
        UNCHECKED(storage_put(place.s, place.space, "k", "x", 1, 0, &w, NULL, &err));
        if (err.code != rows[i].want)
            fail_msg("row %zu: code %d (%s)", i, err.code, err.text);
        if (err.code == ERR_NONE)
            assert_value("k", "x");
    }
    s3_server_fini(&direct);
}

static void an_index_says_the_same_when_it_is_read_again(void **state)
{
    struct s3_index x = { .count = 0 };
    struct buf first = BUF_INIT;
    struct error err = ERROR_INIT;

    (void)state;
    for (uint64_t seq = 1; seq < 40; seq++) {
        const struct s3_version v = { .version = seq,
                                      .bytes = seq % 5 ? seq : 0,
                                      .deleted = seq % 5 == 0,
                                      .wall_ns = (int64_t)seq,
                                      .ref = { seq, 1, seq % 7 ? S3_IN_COMMIT : 3 },
                                      .offset = 9 };

        assert_true(s3_index_commit(&x, seq, 1));
        assert_true(s3_index_add(&x, seq % 3 ? "a\"\xc3\xa4\\" : "b", &v, seq > 10 ? seq - 10 : 0));
    }
    assert_true(s3_index_sweep(&x, 30));
    assert_true(s3_index_write(&x, &first));
    FAULT_EACH(n)
    {
        struct s3_index y = { .count = 0 };
        struct buf second = BUF_INIT;
        bool ok = s3_index_read(&y, first.data, first.len, &err) && s3_index_write(&y, &second);

        FAULT_DONE(n);
        if (ok) {
            assert_string_equal(first.data, second.data);
            assert_int_equal(x.bytes, y.bytes);
            assert_int_equal(x.versions, y.versions);
            assert_int_equal(x.live_keys, y.live_keys);
        }
        error_clear(&err);
        s3_index_fini(&y);
        buf_fini(&second);
    }
    s3_index_fini(&x);
    buf_fini(&first);
}

static void survives_every_allocation_failure(void **state)
{
    (void)state;

    FAULT_EACH(n)
    {
        struct wait w = suite_wait();
        struct error err = ERROR_INIT;
        bool ok = storage_put(place.s, place.space, "k", "value", 5, STORAGE_ANY, &w, NULL, &err);

        FAULT_DONE(n);
        if (!ok && err.code != ERR_NOMEM)
            fail_msg("allocation %u: %s: %s", n, error_code_name(err.code), err.text);
    }
    assert_value("k", "value");
}

/* ---- requests, to a server that plays a part ---- */

struct part {
    _Atomic unsigned calls;
    char date[64];
};

static const char no_key[] = "<Error><Code>NoSuchKey</Code><Message>No.</Message></Error>";

static void busy_then_missing(struct http_script_conn *c, const struct http_script_request *r,
                              void *arg)
{
    struct part *part = arg;
    unsigned n = atomic_fetch_add(&part->calls, 1);

    (void)r;
    if (n == 0)
        (void)http_script_reply(c, 503, "", "<Error><Code>SlowDown</Code></Error>");
    else if (n == 1)
        http_script_reset(c);
    else
        (void)http_script_reply(c, 404, "", no_key);
}

static void skewed_then_missing(struct http_script_conn *c, const struct http_script_request *r,
                                void *arg)
{
    struct part *part = arg;

    (void)r;
    if (atomic_fetch_add(&part->calls, 1) == 0)
        (void)http_script_reply(c, 403, "Date: Fri, 24 May 2013 00:00:00 GMT\r\n",
                                "<Error><Code>RequestTimeTooSkewed</Code></Error>");
    else
        (void)http_script_reply(c, 404, "", no_key);
}

static void always_busy(struct http_script_conn *c, const struct http_script_request *r, void *arg)
{
    struct part *part = arg;

    (void)r;
    atomic_fetch_add(&part->calls, 1);
    (void)http_script_reply(c, 500, "x-amz-request-id: r7\r\n", "not XML");
}

static void completes_with_an_error(struct http_script_conn *c, const struct http_script_request *r,
                                    void *arg)
{
    (void)arg;
    if (strstr(r->target, "uploads="))
        (void)http_script_reply(c, 200, "", "<R><UploadId>a b/c</UploadId></R>");
    else if (!strcmp(r->method, "PUT"))
        (void)http_script_reply(c, 200, "ETag: \"e\"\r\n", "");
    else if (!strcmp(r->method, "POST"))
        (void)http_script_reply(c, 200, "", "<Error><Code>InternalError</Code></Error>");
    else
        (void)http_script_reply(c, 204, "", "");
}

static struct http_script *script;

static void play(http_script_fn *fn, struct part *part, const char *host, bool path_style)
{
    struct error err = ERROR_INIT;
    struct config *config;
    char endpoint[96];

    script = http_script_start(fn, part);
    assert_non_null(script);
    (void)snprintf(endpoint, sizeof endpoint, "http://%s:%u/", host, http_script_port(script));
    config = config_of(endpoint, "test", path_style);
    assert_ok(s3_server_init(&direct, config, &err), err);
    config_free(config);
}

static void end_play(void)
{
    s3_server_fini(&direct);
    http_script_stop(script);
}

static enum error_code get_missing(char text[512])
{
    struct wait w = suite_wait();
    struct error err = ERROR_INIT;
    struct buf out = BUF_INIT;

    assert_false(s3_get(&direct, "a b/c", 0, 100, &out, NULL, &w, &err));
    assert_int_equal(out.len, 0);
    buf_fini(&out);
    memcpy(text, err.text, sizeof err.text);
    return err.code;
}

static void asks_again_when_that_may_help(void **state)
{
    struct part part = { .calls = 0 };
    char text[512];

    (void)state;
    play(busy_then_missing, &part, "127.0.0.1", true);
    assert_int_equal(get_missing(text), ERR_NOT_FOUND);
    assert_int_equal(part.calls, 3);
    end_play();
    part.calls = 0;
    play(always_busy, &part, "127.0.0.1", true);
    assert_int_equal(get_missing(text), ERR_LOST);
    assert_contains(text, "answered 500");
    assert_contains(text, "r7");
    assert_int_equal(part.calls, 5);
    end_play();
}

static void takes_the_time_from_the_server(void **state)
{
    struct part part = { .calls = 0 };
    char text[512], date[64];

    (void)state;
    play(skewed_then_missing, &part, "127.0.0.1", true);
    assert_int_equal(get_missing(text), ERR_NOT_FOUND);
    assert_int_equal(part.calls, 2);
    assert_true(
        http_script_header(http_script_request(script, 1), "x-amz-date", date, sizeof date));
    assert_ptr_equal(strstr(date, "20130524T0000"), date);
    end_play();
}

/* The host is signed as it is sent, and the bucket stands in it alone. */
static void a_bucket_may_stand_before_the_host(void **state)
{
    static const struct s3_key key = { "S3RVER", "S3RVER", "us-east-1", "s3" };
    struct part part = { .calls = 5 };
    const struct http_script_request *seen;
    char text[512], host[96], want[96], date[64], hash[96], got[512];
    struct buf signature = BUF_INIT;

    (void)state;
    play(busy_then_missing, &part, "localhost", false);
    assert_int_equal(get_missing(text), ERR_NOT_FOUND);
    seen = http_script_request(script, 0);
    assert_string_equal(seen->target, "/" PREFIX "a%20b/c");
    assert_true(http_script_header(seen, "host", host, sizeof host));
    (void)snprintf(want, sizeof want, "test.localhost:%u", http_script_port(script));
    assert_string_equal(host, want);
    assert_true(http_script_header(seen, "x-amz-date", date, sizeof date));
    assert_true(http_script_header(seen, "x-amz-content-sha256", hash, sizeof hash));
    assert_true(http_script_header(seen, "authorization", got, sizeof got));
    {
        const struct s3_header headers[] = { { "host", want },
                                             { "x-amz-content-sha256", hash },
                                             { "x-amz-date", date } };
        const struct s3_signed request = { "GET", seen->target, "", headers, 3, hash, date };

        assert_true(s3_sign(&key, &request, &signature));
    }
    assert_string_equal(buf_str(&signature), got);
    buf_fini(&signature);
    end_play();
}

static void an_upload_that_fails_is_taken_back(void **state)
{
    const size_t len = 6u << 20;
    struct part part = { .calls = 0 };
    struct wait w = suite_wait();
    struct error err = ERROR_INIT;
    enum s3_doubt doubt;
    const struct http_script_request *last;
    char *data = calloc(1, len);

    (void)state;
    assert_non_null(data);
    play(completes_with_an_error, &part, "127.0.0.1", true);
    assert_false(s3_put(&direct, "x", data, len, NULL, false, &w, &doubt, &err));
    assert_contains(err.text, "InternalError");
    assert_int_equal(doubt, S3_UNKNOWN);
    last = http_script_request(script, http_script_count(script) - 1);
    assert_string_equal(last->method, "DELETE");
    assert_contains(last->target, "uploadId=a%20b%2Fc");
    end_play();
    free(data);
}

static int own_tests(void)
{
    const struct CMUnitTest tests[] = {
        SUITE_TEST(comes_back_with_the_server),
        SUITE_TEST(loses_nothing_when_it_is_killed),
        SUITE_TEST(large_values_go_up_in_parts),
        SUITE_TEST(refusals_say_what_is_wrong),
        SUITE_TEST(another_kernel_is_named_and_kept_out),
        SUITE_TEST(many_commits_become_an_index),
        SUITE_TEST(a_commit_that_comes_too_late_does_not_count),
        SUITE_TEST(damage_is_told_not_passed_over),
        SUITE_TEST(survives_every_allocation_failure),
        cmocka_unit_test(an_index_says_the_same_when_it_is_read_again),
        cmocka_unit_test(asks_again_when_that_may_help),
        cmocka_unit_test(takes_the_time_from_the_server),
        cmocka_unit_test(a_bucket_may_stand_before_the_host),
        cmocka_unit_test(an_upload_that_fails_is_taken_back),
    };

    return cmocka_run_group_tests_name("storage_s3_own", tests, NULL, NULL);
}

int main(void)
{
    static char config[512];
    const char *strict = getenv("AIOS_TEST_STRICT");
    int failed;

    if (!s3_server_is_there()) {
        print_message("skipped: no S3 server; tools/dev/setup --tests installs it\n");
        return strict && !strcmp(strict, "1") ? 1 : 77;
    }
    setenv(ID_VARIABLE, "S3RVER", 1);
    setenv(SECRET_VARIABLE, "S3RVER", 1);
    if (!s3_server_begin(&server)) {
        s3_server_remove(&server);
        return 1;
    }
    (void)snprintf(config, sizeof config,
                   "{\"s3\":{\"endpoint\":\"http://127.0.0.1:%u\",\"bucket\":\"test\","
                   "\"access_key_env\":\"" ID_VARIABLE "\",\"secret_key_env\":\"" SECRET_VARIABLE
                   "\",\"part_mb\":5,\"prefix\":\"" PREFIX "\"}}",
                   server.port);
    suite = (struct storage_suite){ .make = storage_s3_new, .config = config, .turns = 10 };
    failed = storage_suite_run("storage_s3");
    failed += own_tests();
    s3_server_remove(&server);
    return failed;
}
