#include "tests/support/check.h"

#include "kernel/computer/wire.h"

static void a_header_survives_the_trip(void **state)
{
    const struct wire_header h = {
        .length = 0xfedc, .channel = 0x12345678, .type = WIRE_DATA, .stream = WIRE_STREAM_ERR
    };
    static const uint8_t want[WIRE_HEADER_BYTES] = { 0xdc, 0xfe, 0,         0, 0x78, 0x56,
                                                     0x34, 0x12, WIRE_DATA, 2, 0,    0 };
    uint8_t bytes[WIRE_HEADER_BYTES];
    struct wire_header back;
    (void)state;

    wire_header_put(bytes, &h);
    assert_memory_equal(bytes, want, sizeof want);
    assert_true(wire_header_get(bytes, &back));
    assert_int_equal(back.length, h.length);
    assert_int_equal(back.channel, h.channel);
    assert_int_equal(back.type, h.type);
    assert_int_equal(back.stream, h.stream);
}

static void refuses_headers_out_of_range(void **state)
{
    static const struct {
        const char *label;
        size_t at;
        uint8_t value;
        bool want;
    } rows[] = {
        { "the longest payload", 2, 1, true },
        { "a payload one byte longer", 0, 1, false }, /* with byte 2 set below */
        { "far too long", 3, 0x80, false },
        { "type zero", 8, 0, false },
        { "the first type", 8, WIRE_HELLO, true },
        { "the last type", 8, WIRE_RESIZE, true },
        { "past the last type", 8, WIRE_TYPE_COUNT, false },
        { "the highest type", 8, 255, false },
        { "the last stream", 9, WIRE_STREAM_COUNT - 1, true },
        { "past the last stream", 9, WIRE_STREAM_COUNT, false },
        { "reserved bits", 10, 1, false },
        { "more reserved bits", 11, 0x80, false },
    };
    (void)state;

    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        uint8_t bytes[WIRE_HEADER_BYTES] = { [8] = WIRE_PING };
        struct wire_header h;

        if (rows[i].at == 0)
            bytes[2] = 1;
        bytes[rows[i].at] = rows[i].value;
        if (wire_header_get(bytes, &h) != rows[i].want)
            fail_msg("%s: wanted %d", rows[i].label, rows[i].want);
    }
}

static void values_survive_the_trip(void **state)
{
    const struct wire_stat st = { 0100644, 1000, 1001, 0x123456789abcull, UINT64_MAX };
    const struct wire_exit e = { true, 9, 1, 2, 3, true };
    uint8_t storage[256];
    struct wire_out o = { .data = storage, .cap = sizeof storage };
    struct wire_in in;
    struct wire_stat st2;
    struct wire_exit e2;
    char text[8];
    (void)state;

    wire_put_u8(&o, 0xab);
    wire_put_u16(&o, 0xabcd);
    wire_put_u32(&o, 0xabcdef01);
    wire_put_u64(&o, 0xabcdef0123456789ull);
    wire_put_str(&o, "seven!!");
    wire_put_str(&o, "");
    wire_put_stat(&o, &st);
    wire_put_exit(&o, &e);
    assert_false(o.failed);

    in = (struct wire_in){ .data = storage, .len = o.len };
    assert_int_equal(wire_get_u8(&in), 0xab);
    assert_int_equal(wire_get_u16(&in), 0xabcd);
    assert_int_equal(wire_get_u32(&in), 0xabcdef01);
    assert_true(wire_get_u64(&in) == 0xabcdef0123456789ull);
    assert_true(wire_get_str_into(&in, text, sizeof text));
    assert_string_equal(text, "seven!!");
    assert_true(wire_get_str_into(&in, text, sizeof text));
    assert_string_equal(text, "");
    wire_get_stat(&in, &st2);
    wire_get_exit(&in, &e2);
    assert_true(wire_in_done(&in));
    assert_true(st2.size == st.size && st2.mtime_ns == st.mtime_ns && st2.gid == st.gid);
    assert_true(e2.signalled && e2.value == 9 && e2.maxrss_bytes == 3 && e2.disk_full);
}

static void composing_past_the_end_fails_for_good(void **state)
{
    uint8_t storage[6];
    struct wire_out o = { .data = storage, .cap = sizeof storage };
    (void)state;

    wire_put_u32(&o, 1);
    wire_put_u32(&o, 2);
    assert_true(o.failed);
    assert_int_equal(o.len, 4);
    wire_put_u8(&o, 3); /* it would fit, but what came before is missing */
    assert_true(o.failed);
    assert_int_equal(o.len, 4);
}

static void a_short_payload_fails_for_good(void **state)
{
    static const uint8_t data[] = { 1, 2, 3, 4, 5 };
    struct wire_in in = { .data = data, .len = sizeof data };
    (void)state;

    assert_int_equal(wire_get_u32(&in), 0x04030201);
    assert_int_equal(wire_get_u16(&in), 0);
    assert_true(in.failed);
    assert_int_equal(wire_get_u8(&in), 0);
    assert_false(wire_in_done(&in));
}

static void strings_are_checked(void **state)
{
    static const struct {
        const char *label;
        const char *bytes;
        size_t len, max;
        bool want;
    } rows[] = {
        { "whole", "\3\0\0\0abc", 7, 3, true },
        { "longer than allowed", "\3\0\0\0abc", 7, 2, false },
        { "longer than there is", "\4\0\0\0abc", 7, 10, false },
        { "a length that would wrap", "\377\377\377\377abc", 7, SIZE_MAX, false },
        { "a NUL inside", "\3\0\0\0a\0c", 7, 3, false },
        { "empty", "\0\0\0\0", 4, 0, true },
        { "no room for its length", "\0\0\0", 3, 8, false },
    };
    (void)state;

    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct wire_in in = { .data = (const uint8_t *)rows[i].bytes, .len = rows[i].len };
        size_t len;
        const char *text = wire_get_str(&in, rows[i].max, &len);

        if (!text || in.failed == rows[i].want)
            fail_msg("%s: failed is %d", rows[i].label, in.failed);
    }
}

/* The frames that come out of @bytes fed in pieces of @step, as a checksum of what they are. */
static uint32_t digest(const uint8_t *bytes, size_t len, size_t step, size_t *ret_frames)
{
    static uint8_t storage[WIRE_HEADER_BYTES + WIRE_PAYLOAD_MAX];
    struct wire_reader r = { .data = storage, .cap = sizeof storage };
    uint32_t sum = 0;

    *ret_frames = 0;
    for (size_t at = 0; at < len;) {
        struct wire_header h;
        const uint8_t *payload;
        size_t room, n;
        uint8_t *space = wire_reader_space(&r, &room);

        assert_true(room > 0);
        n = MIN(MIN(step, room), len - at);
        memcpy(space, bytes + at, n);
        wire_reader_filled(&r, n);
        at += n;
        while (wire_reader_next(&r, &h, &payload) == WIRE_OK) {
            sum = sum * 31 + h.channel + h.length;
            for (size_t i = 0; i < h.length; i++)
                sum = sum * 31 + payload[i];
            ++*ret_frames;
        }
    }
    return sum;
}

static void frames_come_out_however_the_stream_is_cut(void **state)
{
    static const size_t steps[] = { 1, 2, 11, 12, 13, 4096, 65547, 65548, 1000000 };
    static const uint32_t lengths[] = { 0, 1, 12, WIRE_PAYLOAD_MAX, 0, 40000, 40000, 7 };
    static uint8_t bytes[300000];
    size_t len = 0, frames;
    uint32_t want;
    (void)state;

    for (size_t i = 0; i < ARRAY_LEN(lengths); i++) {
        const struct wire_header h = { .length = lengths[i], .channel = 1, .type = WIRE_DATA };

        wire_header_put(bytes + len, &h);
        len += WIRE_HEADER_BYTES;
        memset(bytes + len, (int)i + 1, lengths[i]);
        len += lengths[i];
    }
    want = digest(bytes, len, len, &frames);
    assert_int_equal(frames, ARRAY_LEN(lengths));
    for (size_t i = 0; i < ARRAY_LEN(steps); i++) {
        if (digest(bytes, len, steps[i], &frames) != want || frames != ARRAY_LEN(lengths))
            fail_msg("step %zu: %zu frames", steps[i], frames);
    }
}

static void a_bad_header_stays_bad(void **state)
{
    static uint8_t storage[WIRE_HEADER_BYTES + WIRE_PAYLOAD_MAX];
    struct wire_reader r = { .data = storage, .cap = sizeof storage };
    struct wire_header h;
    const uint8_t *payload;
    size_t room;
    (void)state;

    memset(wire_reader_space(&r, &room), 0xff, WIRE_HEADER_BYTES - 1);
    wire_reader_filled(&r, WIRE_HEADER_BYTES - 1);
    assert_int_equal(wire_reader_next(&r, &h, &payload), WIRE_MORE);
    *wire_reader_space(&r, &room) = 0xff;
    wire_reader_filled(&r, 1);
    assert_int_equal(wire_reader_next(&r, &h, &payload), WIRE_BAD);
    assert_int_equal(wire_reader_next(&r, &h, &payload), WIRE_BAD);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_header_survives_the_trip),
        cmocka_unit_test(refuses_headers_out_of_range),
        cmocka_unit_test(values_survive_the_trip),
        cmocka_unit_test(composing_past_the_end_fails_for_good),
        cmocka_unit_test(a_short_payload_fails_for_good),
        cmocka_unit_test(strings_are_checked),
        cmocka_unit_test(frames_come_out_however_the_stream_is_cut),
        cmocka_unit_test(a_bad_header_stays_bad),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
