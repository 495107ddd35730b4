#include "kernel/picture.h"

#include <png.h>
#include <stdlib.h>
#include <string.h>

#include "tests/support/check.h"
#include "tests/support/fault.h"

/* What a reader of PNG makes of it, for free(). */
static uint8_t *decoded(const struct buf *png, uint32_t width, uint32_t height)
{
    png_image image = { .version = PNG_IMAGE_VERSION };
    uint8_t *rgb = malloc((size_t)width * height * 3);

    assert_non_null(rgb);
    assert_int_equal(png_image_begin_read_from_memory(&image, png->data, png->len), 1);
    assert_int_equal(image.width, width);
    assert_int_equal(image.height, height);
    image.format = PNG_FORMAT_RGB;
    assert_int_equal(png_image_finish_read(&image, NULL, rgb, (png_int_32)(width * 3), NULL), 1);
    return rgb;
}

static void a_png_says_every_pixel(void **state)
{
    static const struct {
        uint32_t width, height;
    } rows[] = { { 1, 1 }, { 3, 2 }, { 7, 11 }, { 640, 480 }, { 1, PICTURE_EDGE_MAX } };
    (void)state;

    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        size_t len = (size_t)rows[i].width * rows[i].height * 3;
        CLEANUP(buf_fini) struct buf out = BUF_INIT;
        struct error err = ERROR_INIT;
        uint8_t *rgb = malloc(len), *back;

        assert_non_null(rgb);
        for (size_t at = 0; at < len; at++)
            rgb[at] = (uint8_t)(at * 2654435761u >> 11);
        assert_ok(picture_png(rgb, rows[i].width, rows[i].height, &out, &err), err);
        back = decoded(&out, rows[i].width, rows[i].height);
        assert_memory_equal(rgb, back, len);
        free(back);
        free(rgb);
    }
}

static void a_plain_screen_is_small(void **state)
{
    size_t len = (size_t)1280 * 800 * 3;
    CLEANUP(buf_fini) struct buf out = BUF_INIT;
    struct error err = ERROR_INIT;
    uint8_t *rgb = calloc(1, len);

    (void)state;
    assert_non_null(rgb);
    assert_ok(picture_png(rgb, 1280, 800, &out, &err), err);
    assert_true(out.len < 32 * 1024);
    free(rgb);
}

static void what_is_no_picture_is_refused(void **state)
{
    static const uint8_t pixel[3] = { 1, 2, 3 };
    struct display_frame frame = { .width = 0 };
    CLEANUP(buf_fini) struct buf out = BUF_INIT;
    static const struct {
        uint32_t width, height, edge;
    } rows[] = { { 0, 1, 1 },          { 1, 0, 1 }, { PICTURE_EDGE_MAX + 1, 1, 1 },
                 { 1, UINT32_MAX, 1 }, { 1, 1, 0 }, { 1, 1, UINT32_MAX } };
    (void)state;

    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct error err = ERROR_INIT;

        if (rows[i].width != 1 || rows[i].height != 1) {
            assert_false(picture_png(pixel, rows[i].width, rows[i].height, &out, &err));
            assert_int_equal(err.code, ERR_INVALID);
        }
        err = (struct error)ERROR_INIT;
        assert_false(
            picture_scale(pixel, rows[i].width, rows[i].height, rows[i].edge, &frame, &err));
        assert_int_equal(err.code, ERR_INVALID);
    }
    assert_int_equal(out.len, 0);
}

static void one_too_large_for_the_buffer_is_refused(void **state)
{
    static const uint8_t pixel[3] = { 1, 2, 3 };
    struct error err = ERROR_INIT;
    struct buf out;

    (void)state;
    buf_init(&out, 16);
    assert_false(picture_png(pixel, 1, 1, &out, &err));
    assert_int_equal(err.code, ERR_LIMIT);
    buf_fini(&out);
}

static void a_smaller_one_has_the_shape_and_the_mean_of_the_larger(void **state)
{
    static const struct {
        uint32_t width, height, edge, want_width, want_height;
    } rows[] = { { 4, 4, 2, 2, 2 }, { 4, 2, 2, 2, 1 }, { 5, 3, 4, 4, 2 },       { 3, 5, 2, 1, 2 },
                 { 1, 7, 3, 1, 3 }, { 9, 1, 1, 1, 1 }, { 1920, 108, 80, 80, 5 } };
    (void)state;

    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        uint32_t width = rows[i].width, height = rows[i].height;
        size_t len = (size_t)width * height * 3;
        struct display_frame frame = { .width = 0 };
        struct error err = ERROR_INIT;
        uint8_t *rgb = malloc(len);
        double before = 0, after = 0;

        assert_non_null(rgb);
        for (size_t at = 0; at < len; at++)
            before += rgb[at] = (uint8_t)(at * 2654435761u >> 13);
        assert_ok(picture_scale(rgb, width, height, rows[i].edge, &frame, &err), err);
        assert_int_equal(frame.width, rows[i].want_width);
        assert_int_equal(frame.height, rows[i].want_height);
        for (size_t at = 0; at < (size_t)frame.width * frame.height * 3; at++)
            after += frame.rgb[at];
        /* Every pixel of the larger one counts, and as much as it covers. */
        before /= (double)len;
        after /= (double)frame.width * frame.height * 3;
        assert_true(before - after < 0.6 && after - before < 0.6);
        display_frame_fini(&frame);
        free(rgb);
    }
}

static void areas_are_weighed_by_what_they_cover(void **state)
{
    /* Three pixels become two: each has one and a half. */
    static const uint8_t rgb[9] = { 0, 30, 255, 90, 60, 0, 240, 0, 255 };
    static const uint8_t want[6] = { 30, 40, 170, 190, 20, 170 };
    struct display_frame frame;
    struct error err = ERROR_INIT;

    (void)state;
    assert_ok(picture_scale(rgb, 3, 1, 2, &frame, &err), err);
    assert_memory_equal(frame.rgb, want, sizeof want);
    display_frame_fini(&frame);
}

static void a_small_one_is_copied(void **state)
{
    static const uint8_t rgb[12] = { 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12 };
    struct display_frame frame;
    struct error err = ERROR_INIT;

    (void)state;
    assert_ok(picture_scale(rgb, 2, 2, 1568, &frame, &err), err);
    assert_int_equal(frame.width, 2);
    assert_memory_equal(frame.rgb, rgb, sizeof rgb);
    display_frame_fini(&frame);
}

static void missing_memory_is_an_error(void **state)
{
    static const uint8_t rgb[12] = { 0 };
    CLEANUP(buf_fini) struct buf out = BUF_INIT;
    struct display_frame frame;
    struct error err = ERROR_INIT;
    bool ok;

    (void)state;
    fault_arm(0);
    ok = picture_scale(rgb, 2, 2, 1, &frame, &err);
    (void)fault_disarm();
    assert_false(ok);
    assert_int_equal(err.code, ERR_NOMEM);
    err = (struct error)ERROR_INIT;
    fault_arm(0);
    ok = picture_png(rgb, 2, 2, &out, &err);
    (void)fault_disarm();
    assert_false(ok);
    assert_int_equal(err.code, ERR_NOMEM);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_png_says_every_pixel),
        cmocka_unit_test(a_plain_screen_is_small),
        cmocka_unit_test(what_is_no_picture_is_refused),
        cmocka_unit_test(one_too_large_for_the_buffer_is_refused),
        cmocka_unit_test(a_smaller_one_has_the_shape_and_the_mean_of_the_larger),
        cmocka_unit_test(areas_are_weighed_by_what_they_cover),
        cmocka_unit_test(a_small_one_is_copied),
        cmocka_unit_test(missing_memory_is_an_error),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
