#include "tests/unit/fake_guest.h"

#include "kernel/base/limits.h"

struct file_call {
    struct rig *rig;
    uint64_t offset, max;
    struct buf out;
    struct wire_stat st;
    const void *data;
    size_t len;
    uint32_t most;
    bool truncated;
    char names[4096]; /* "path target size\n" of each entry */
};

static bool do_read(void *arg, struct error *err)
{
    struct file_call *fc = arg;
    const struct wait w = patience(NULL);

    return guest_read_file(fc->rig->g, "/", "/f", fc->offset, fc->max, &fc->out, &fc->st, &w, err);
}

static bool do_write(void *arg, struct error *err)
{
    struct file_call *fc = arg;
    const struct wait w = patience(NULL);

    return guest_write_file(fc->rig->g, "/", "/f", fc->data, fc->len, 0644, WIRE_WRITE_CREATE, &w,
                            err);
}

static void on_entry(void *arg, const struct guest_entry *entry)
{
    struct file_call *fc = arg;
    size_t at = strlen(fc->names);

    (void)snprintf(fc->names + at, sizeof fc->names - at, "%s %s %u\n", entry->path, entry->target,
                   (unsigned)entry->stat.size);
}

static bool do_list(void *arg, struct error *err)
{
    struct file_call *fc = arg;
    const struct wait w = patience(NULL);

    return guest_list(fc->rig->g, "/", "/d", 2, fc->most, true, on_entry, fc, &fc->truncated, &w,
                      err);
}

static void reply_stat(struct fake *f, uint32_t channel, uint64_t size)
{
    const struct wire_stat st = { .mode = 0100644, .size = size };
    uint8_t payload[64];
    struct wire_out o = { .data = payload, .cap = sizeof payload };

    wire_put_u32(&o, 0);
    wire_put_stat(&o, &st);
    (void)fake_send(f, channel, WIRE_REPLY, 0, payload, o.len);
}

static void reply_written(struct fake *f, uint32_t channel, uint64_t written)
{
    uint8_t payload[64];
    struct wire_out o = { .data = payload, .cap = sizeof payload };

    wire_put_u32(&o, 0);
    wire_put_u64(&o, written);
    (void)fake_send(f, channel, WIRE_REPLY, 0, payload, o.len);
}

static void end_channel(struct fake *f, uint32_t channel)
{
    assert_int_equal(fake_expect(f, WIRE_CLOSE), channel);
    (void)fake_send(f, channel, WIRE_CLOSE, 0, NULL, 0);
}

/* ---- reading ---- */

static void reads_a_small_file(void **state)
{
    struct rig rig;
    struct file_call fc = { .rig = &rig, .offset = 2, .max = 100 };
    uint32_t channel;
    (void)state;

    rig_start(&rig);
    async_start(&rig.call, do_read, &fc);
    channel = fake_expect(&rig.f, WIRE_READ);
    assert_int_equal(rig.f.h.length, 27);
    assert_memory_equal(rig.f.payload, "\1\0\0\0/\2\0\0\0/f\2\0\0\0\0\0\0\0\144\0\0\0\0\0\0\0", 27);
    reply_stat(&rig.f, channel, 7);
    (void)fake_send(&rig.f, channel, WIRE_DATA, 0, "he", 2);
    (void)fake_send(&rig.f, channel, WIRE_DATA, 0, "llo", 3);
    (void)fake_send(&rig.f, channel, WIRE_EOF, 0, NULL, 0);
    end_channel(&rig.f, channel);
    assert_ok(async_join(&rig.call), rig.call.err);
    assert_string_equal(buf_str(&fc.out), "hello");
    assert_int_equal(fc.st.size, 7);
    buf_fini(&fc.out);
    rig_stop(&rig);
}

static void reads_a_file_larger_than_the_window(void **state)
{
    enum { SIZE = 1000000 };
    static uint8_t content[SIZE];
    struct rig rig;
    struct file_call fc = { .rig = &rig, .max = SIZE };
    uint32_t channel, credit = WIRE_WINDOW;
    size_t sent = 0;
    (void)state;

    for (size_t i = 0; i < SIZE; i++)
        content[i] = (uint8_t)(i * 7 + (i >> 8));
    rig_start(&rig);
    async_start(&rig.call, do_read, &fc);
    channel = fake_expect(&rig.f, WIRE_READ);
    reply_stat(&rig.f, channel, SIZE);
    while (sent < SIZE) {
        size_t n = MIN(MIN(SIZE - sent, credit), 50000);

        if (n == 0) {
            struct wire_in in;

            assert_int_equal(fake_expect(&rig.f, WIRE_CREDIT), channel);
            in = (struct wire_in){ .data = rig.f.payload, .len = rig.f.h.length };
            credit += wire_get_u32(&in);
            continue;
        }
        (void)fake_send(&rig.f, channel, WIRE_DATA, 0, content + sent, n);
        sent += n;
        credit -= (uint32_t)n;
    }
    (void)fake_send(&rig.f, channel, WIRE_EOF, 0, NULL, 0);
    assert_ok(async_join(&rig.call), rig.call.err);
    assert_int_equal(fc.out.len, SIZE);
    assert_memory_equal(fc.out.data, content, SIZE);
    buf_fini(&fc.out);
    rig_stop(&rig);
}

static void a_failed_read_leaves_the_buffer_as_it_was(void **state)
{
    enum { ERRNO, CUT, GONE, TOO_MUCH, NO_ROOM, MALFORMED };
    static const struct {
        const char *label;
        int what;
        enum error_code code;
    } rows[] = {
        { "an errno", ERRNO, ERR_DENIED },
        { "cut before its end", CUT, ERR_IO },
        { "the computer is lost", GONE, ERR_LOST },
        { "more than was asked for", TOO_MUCH, ERR_LOST },
        { "no room in the buffer", NO_ROOM, ERR_LIMIT },
        { "a malformed reply", MALFORMED, ERR_LOST },
    };
    (void)state;

    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct rig rig;
        struct file_call fc = { .rig = &rig, .max = 10 };
        uint32_t channel;

        rig_start(&rig);
        buf_init(&fc.out, 8);
        assert_true(buf_append_str(&fc.out, "before"));
        async_start(&rig.call, do_read, &fc);
        channel = fake_expect(&rig.f, WIRE_READ);
        if (rows[i].what == ERRNO) {
            (void)fake_send_u32(&rig.f, channel, WIRE_REPLY, 0, EACCES);
        } else if (rows[i].what == MALFORMED) {
            (void)fake_send_u32(&rig.f, channel, WIRE_REPLY, 0, 0);
        } else {
            reply_stat(&rig.f, channel, 7);
            (void)fake_send(&rig.f, channel, WIRE_DATA, 0, "hello", 5);
        }
        if (rows[i].what == CUT)
            (void)fake_send(&rig.f, channel, WIRE_CLOSE, 0, NULL, 0);
        if (rows[i].what == GONE)
            shutdown(rig.f.fd, SHUT_RDWR);
        if (rows[i].what == TOO_MUCH)
            (void)fake_send(&rig.f, channel, WIRE_DATA, 0, "world!", 6);
        if (rows[i].what == NO_ROOM)
            (void)fake_send(&rig.f, channel, WIRE_EOF, 0, NULL, 0);
        if (async_join(&rig.call) || rig.call.err.code != rows[i].code)
            fail_msg("%s: %s", rows[i].label, rig.call.err.text);
        assert_string_equal(buf_str(&fc.out), "before");
        buf_fini(&fc.out);
        rig_stop(&rig);
    }
}

static void a_file_too_large_to_be_read_whole_is_refused(void **state)
{
    struct rig rig;
    struct file_call fc = { .rig = &rig, .max = UINT64_MAX };
    uint32_t channel;
    (void)state;

    rig_start(&rig);
    async_start(&rig.call, do_read, &fc);
    channel = fake_expect(&rig.f, WIRE_READ);
    reply_stat(&rig.f, channel, LIMIT_FILE_TRANSFER + 1);
    (void)fake_send(&rig.f, channel, WIRE_EOF, 0, NULL, 0);
    assert_false(async_join(&rig.call));
    assert_code(rig.call.err, ERR_LIMIT);
    rig_stop(&rig);
}

/* ---- writing ---- */

static void writes_a_small_file_in_one_go(void **state)
{
    struct rig rig;
    struct file_call fc = { .rig = &rig, .data = "hello", .len = 5 };
    uint32_t channel;
    (void)state;

    rig_start(&rig);
    for (int empty = 0; empty < 2; empty++) {
        if (empty)
            fc = (struct file_call){ .rig = &rig };
        async_start(&rig.call, do_write, &fc);
        channel = fake_expect(&rig.f, WIRE_WRITE);
        assert_int_equal(rig.f.h.length, 19);
        assert_memory_equal(rig.f.payload, "\1\0\0\0/\2\0\0\0/f\244\1\0\0\1\0\0\0", 19);
        if (!empty) {
            assert_int_equal(fake_expect(&rig.f, WIRE_DATA), channel);
            assert_memory_equal(rig.f.payload, "hello", 5);
        }
        assert_int_equal(fake_expect(&rig.f, WIRE_EOF), channel);
        reply_written(&rig.f, channel, fc.len);
        end_channel(&rig.f, channel);
        assert_ok(async_join(&rig.call), rig.call.err);
    }
    rig_stop(&rig);
}

static void writes_a_file_larger_than_the_window(void **state)
{
    enum { SIZE = 3 * WIRE_WINDOW + 5 };
    static uint8_t content[SIZE], came[SIZE];
    struct rig rig;
    struct file_call fc = { .rig = &rig, .data = content, .len = SIZE };
    uint32_t channel;
    size_t at = 0;
    (void)state;

    for (size_t i = 0; i < SIZE; i++)
        content[i] = (uint8_t)(i * 3 + (i >> 9));
    rig_start(&rig);
    async_start(&rig.call, do_write, &fc);
    channel = fake_expect(&rig.f, WIRE_WRITE);
    while (fake_recv(&rig.f) && rig.f.h.type == WIRE_DATA) {
        assert_true(at + rig.f.h.length <= SIZE);
        memcpy(came + at, rig.f.payload, rig.f.h.length);
        at += rig.f.h.length;
        (void)fake_send_u32(&rig.f, channel, WIRE_CREDIT, 0, rig.f.h.length);
    }
    assert_int_equal(rig.f.h.type, WIRE_EOF);
    assert_int_equal(at, SIZE);
    assert_memory_equal(came, content, SIZE);
    reply_written(&rig.f, channel, SIZE);
    end_channel(&rig.f, channel);
    assert_ok(async_join(&rig.call), rig.call.err);
    rig_stop(&rig);
}

static void a_write_that_is_refused_early_stops(void **state)
{
    static uint8_t content[4 * WIRE_WINDOW];
    struct rig rig;
    struct file_call fc = { .rig = &rig, .data = content, .len = sizeof content };
    uint32_t channel;
    (void)state;

    rig_start(&rig);
    async_start(&rig.call, do_write, &fc);
    channel = fake_expect(&rig.f, WIRE_WRITE);
    (void)fake_send_u32(&rig.f, channel, WIRE_REPLY, 0, ENOSPC);
    assert_false(async_join(&rig.call));
    assert_code(rig.call.err, ERR_IO);
    assert_int_equal(rig.call.err.os_errno, ENOSPC);
    assert_contains(rig.call.err.text, "/f");
    while (fake_recv(&rig.f) && rig.f.h.type == WIRE_DATA)
        continue;
    assert_int_equal(rig.f.h.type, WIRE_CLOSE);
    rig_stop(&rig);
}

static void a_write_that_is_short_or_too_long_fails(void **state)
{
    struct rig rig;
    struct file_call fc = { .rig = &rig, .data = "hello", .len = 5 };
    struct error err = ERROR_INIT;
    uint32_t channel;
    (void)state;

    rig_start(&rig);
    async_start(&rig.call, do_write, &fc);
    channel = fake_expect(&rig.f, WIRE_WRITE);
    reply_written(&rig.f, channel, 4);
    assert_false(async_join(&rig.call));
    assert_code(rig.call.err, ERR_IO);
    fc.len = (size_t)LIMIT_FILE_TRANSFER + 1;
    assert_false(do_write(&fc, &err));
    assert_code(err, ERR_LIMIT);
    rig_stop(&rig);
}

/* ---- listing ---- */

static void put_entry(struct wire_out *o, const char *path, const char *target, uint64_t size)
{
    const struct wire_stat st = { .size = size };

    wire_put_str(o, path);
    wire_put_str(o, target);
    wire_put_stat(o, &st);
}

static void lists_entries_however_they_are_cut(void **state)
{
    static const size_t steps[] = { 1, 7, 1000 };
    uint8_t payload[512];
    struct wire_out o = { .data = payload, .cap = sizeof payload };
    struct rig rig;
    (void)state;

    put_entry(&o, "a", "", 1);
    put_entry(&o, "a/b", "../c", 2);
    put_entry(&o, "bad\xff", "", 3);
    rig_start(&rig);
    for (size_t i = 0; i < ARRAY_LEN(steps); i++) {
        struct file_call fc = { .rig = &rig, .most = 3 };
        uint32_t channel;

        async_start(&rig.call, do_list, &fc);
        channel = fake_expect(&rig.f, WIRE_LIST);
        assert_int_equal(rig.f.h.length, 20);
        assert_memory_equal(rig.f.payload, "\1\0\0\0/\2\0\0\0/d\2\0\0\0\4\0\0\0\1", 20);
        (void)fake_send_u32(&rig.f, channel, WIRE_REPLY, 0, 0);
        for (size_t at = 0; at < o.len; at += steps[i])
            (void)fake_send(&rig.f, channel, WIRE_DATA, 0, payload + at, MIN(steps[i], o.len - at));
        (void)fake_send(&rig.f, channel, WIRE_EOF, 0, NULL, 0);
        end_channel(&rig.f, channel);
        assert_ok(async_join(&rig.call), rig.call.err);
        assert_string_equal(fc.names, "a  1\na/b ../c 2\nbad\xef\xbf\xbd  3\n");
        assert_false(fc.truncated);
    }
    rig_stop(&rig);
}

static void a_listing_says_that_there_is_more(void **state)
{
    uint8_t payload[512];
    struct wire_out o = { .data = payload, .cap = sizeof payload };
    struct rig rig;
    struct file_call fc = { .rig = &rig, .most = 2 };
    uint32_t channel;
    (void)state;

    for (int i = 0; i < 4; i++) /* even more than it was told to send at most */
        put_entry(&o, "x", "", (uint64_t)i);
    rig_start(&rig);
    async_start(&rig.call, do_list, &fc);
    channel = fake_expect(&rig.f, WIRE_LIST);
    (void)fake_send_u32(&rig.f, channel, WIRE_REPLY, 0, 0);
    (void)fake_send(&rig.f, channel, WIRE_DATA, 0, payload, o.len);
    (void)fake_send(&rig.f, channel, WIRE_EOF, 0, NULL, 0);
    assert_ok(async_join(&rig.call), rig.call.err);
    assert_string_equal(fc.names, "x  0\nx  1\n");
    assert_true(fc.truncated);
    rig_stop(&rig);
}

static void malformed_listings_are_refused(void **state)
{
    static const struct {
        const char *label;
        const char *bytes;
        size_t len;
    } rows[] = {
        { "half an entry", "\1\0\0\0a", 5 },
        { "a NUL in a path", "\1\0\0\0\0\0\0\0\0............................", 37 },
        { "no path", "\0\0\0\0\0\0\0\0............................", 36 },
        { "a path without end", "\377\377\377\377a", 5 },
    };
    struct rig rig;
    (void)state;

    rig_start(&rig);
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct file_call fc = { .rig = &rig, .most = 10 };
        uint32_t channel;

        async_start(&rig.call, do_list, &fc);
        channel = fake_expect(&rig.f, WIRE_LIST);
        (void)fake_send_u32(&rig.f, channel, WIRE_REPLY, 0, 0);
        (void)fake_send(&rig.f, channel, WIRE_DATA, 0, rows[i].bytes, rows[i].len);
        (void)fake_send(&rig.f, channel, WIRE_EOF, 0, NULL, 0);
        if (async_join(&rig.call) || rig.call.err.code != ERR_PROTOCOL)
            fail_msg("%s: %s", rows[i].label, rig.call.err.text);
        end_channel(&rig.f, channel);
    }
    rig_stop(&rig);
}

/* ---- watching ---- */

struct watch_call {
    struct rig *rig;
    struct guest_watch *watch;
    struct mark seen;
    char last[64];
};

static void on_event(void *arg, uint32_t events, const char *path)
{
    struct watch_call *wc = arg;

    (void)snprintf(wc->last, sizeof wc->last, "%u %s", events, path);
    mark_hit(&wc->seen);
}

static bool do_watch(void *arg, struct error *err)
{
    struct watch_call *wc = arg;
    const struct wait w = patience(NULL);

    wc->watch = guest_watch(wc->rig->g, "/", "/d", true, on_event, wc, &w, err);
    return wc->watch != NULL;
}

static void a_watch_tells_until_it_is_freed(void **state)
{
    struct rig rig;
    struct watch_call wc = { .rig = &rig, .seen = MARK_INIT };
    uint32_t channel;
    (void)state;

    rig_start(&rig);
    async_start(&rig.call, do_watch, &wc);
    channel = fake_expect(&rig.f, WIRE_WATCH);
    (void)fake_send_u32(&rig.f, channel, WIRE_REPLY, 0, 0);
    assert_ok(async_join(&rig.call), rig.call.err);
    (void)fake_send(&rig.f, channel, WIRE_EVENT, 0, "\2\0\0\0\2\0\0\0a\xff", 10);
    mark_wait(&wc.seen, 1);
    assert_string_equal(wc.last, "2 a\xef\xbf\xbd");
    guest_watch_free(wc.watch);
    assert_int_equal(fake_expect(&rig.f, WIRE_CLOSE), channel);
    (void)fake_send(&rig.f, channel, WIRE_EVENT, 0, "\2\0\0\0\1\0\0\0b", 9);
    (void)fake_send(&rig.f, channel, WIRE_CLOSE, 0, NULL, 0);

    async_start(&rig.call, do_watch, &wc);
    channel = fake_expect(&rig.f, WIRE_WATCH);
    (void)fake_send_u32(&rig.f, channel, WIRE_REPLY, 0, ENOENT);
    assert_false(async_join(&rig.call));
    assert_code(rig.call.err, ERR_NOT_FOUND);
    assert_int_equal(wc.seen.count, 1);
    end_channel(&rig.f, channel);
    rig_stop(&rig);
}

/* ---- without memory ---- */

enum { READ, LIST, WRITE, WATCH, KINDS };

static void answer(struct rig *rig, int kind)
{
    uint8_t payload[128];
    struct wire_out o = { .data = payload, .cap = sizeof payload };
    uint32_t channel;

    put_entry(&o, "a", "b", 1);
    if (!fake_recv(&rig->f))
        return; /* the request could not be made */
    channel = rig->f.h.channel;
    if (kind == READ)
        reply_stat(&rig->f, channel, 5);
    else if (kind == WRITE)
        reply_written(&rig->f, channel, 5);
    else
        (void)fake_send_u32(&rig->f, channel, WIRE_REPLY, 0, 0);
    if (kind == READ || kind == LIST) {
        (void)fake_send(&rig->f, channel, WIRE_DATA, 0, payload, kind == READ ? 5 : o.len);
        (void)fake_send(&rig->f, channel, WIRE_EOF, 0, NULL, 0);
    }
}

/* The call, and then a close, so that answer() sees the end of a request that was never made. */
struct closing_call {
    bool (*fn)(void *arg, struct error *err);
    void *arg;
    struct rig *rig;
};

static bool do_closing(void *arg, struct error *err)
{
    struct closing_call *cc = arg;
    bool ok = cc->fn(cc->arg, err);

    guest_close(cc->rig->g, "over");
    return ok;
}

static void survives_every_allocation_failure(void **state)
{
    static bool (*const calls[])(void *arg, struct error *err) = { do_read, do_list, do_write,
                                                                   do_watch };
    (void)state;

    for (int kind = 0; kind < KINDS; kind++) {
        FAULT_EACH(n)
        {
            struct rig rig;
            struct file_call fc = { .rig = &rig, .max = 10, .most = 1, .data = "hello", .len = 5 };
            struct watch_call wc = { .rig = &rig, .seen = MARK_INIT };
            struct closing_call cc = { calls[kind], kind == WATCH ? (void *)&wc : &fc, &rig };
            bool ok;

            fault_disarm();
            rig_start(&rig);
            fault_arm(n);
            async_start(&rig.call, do_closing, &cc);
            answer(&rig, kind);
            ok = async_join(&rig.call);
            FAULT_DONE(n);
            if (!ok && rig.call.err.code != ERR_NOMEM)
                fail_msg("kind %d, allocation %u: %s", kind, n, rig.call.err.text);
            guest_watch_free(wc.watch);
            buf_fini(&fc.out);
            rig_stop(&rig);
        }
    }
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_a_small_file),
        cmocka_unit_test(reads_a_file_larger_than_the_window),
        cmocka_unit_test(a_failed_read_leaves_the_buffer_as_it_was),
        cmocka_unit_test(a_file_too_large_to_be_read_whole_is_refused),
        cmocka_unit_test(writes_a_small_file_in_one_go),
        cmocka_unit_test(writes_a_file_larger_than_the_window),
        cmocka_unit_test(a_write_that_is_refused_early_stops),
        cmocka_unit_test(a_write_that_is_short_or_too_long_fails),
        cmocka_unit_test(lists_entries_however_they_are_cut),
        cmocka_unit_test(a_listing_says_that_there_is_more),
        cmocka_unit_test(malformed_listings_are_refused),
        cmocka_unit_test(a_watch_tells_until_it_is_freed),
        cmocka_unit_test(survives_every_allocation_failure),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
