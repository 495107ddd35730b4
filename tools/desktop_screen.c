/* What the screen shows: when it is still, what is different, and how it becomes an image. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "kernel/base/clock.h"
#include "kernel/picture.h"
#include "tools/desktop.h"

#define LOOK_NS (80 * CLOCK_NS_PER_MS)

static bool same(const struct display_frame *a, const struct display_frame *b)
{
    return a->width == b->width && a->height == b->height &&
           memcmp(a->rgb, b->rgb, (size_t)a->width * a->height * 3) == 0;
}

/* The next look at the screen, into @frame. */
static bool look(struct desktop *d, struct display_frame *frame, struct error *err)
{
    const struct wait *w = &d->call->wait;
    struct display_frame next;

    if (!wait_pause(w, LOOK_NS, err) || !display_frame(d->computer, &next, w, err))
        return false;
    display_frame_fini(frame);
    *frame = next;
    return true;
}

bool desktop_settle(struct desktop *d, int64_t react_ns, struct display_frame *ret,
                    bool *ret_changed, struct error *err)
{
    int64_t until_ns = clock_add_ns(clock_now_ns(), react_ns);
    struct display_frame last = { .width = 0 };
    bool ok = display_frame(d->computer, ret, &d->call->wait, err);

    /* An emulated machine needs a moment before anything happens at all. */
    while (ok && same(ret, &d->before) && clock_now_ns() < until_ns)
        ok = look(d, ret, err);
    *ret_changed = ok && !same(ret, &d->before);
    until_ns = clock_add_ns(clock_now_ns(), DESKTOP_SETTLE_NS);
    while (ok && *ret_changed && clock_now_ns() < until_ns) {
        display_frame_fini(&last);
        last = *ret;
        *ret = (struct display_frame){ .width = 0 };
        ok = look(d, ret, err);
        if (ok && same(&last, ret))
            break;
    }
    display_frame_fini(&last);
    *ret_changed = ok && !same(ret, &d->before);
    return ok;
}

static bool answer(struct desktop *d, const struct display_frame *frame, struct error *err)
{
    CLEANUP(buf_fini) struct buf png = BUF_INIT;

    return picture_png(frame->rgb, frame->width, frame->height, &png, err) &&
           result_image(d->call->result, png.data, png.len, "image/png", err);
}

bool desktop_show(struct desktop *d, const struct display_frame *frame, struct error *err)
{
    struct display_frame image = { .width = 0 };
    bool ok = picture_scale(frame->rgb, frame->width, frame->height, DESKTOP_EDGE, &image, err) &&
              answer(d, &image, err) &&
              result_printf(d->call->result, err,
                            "Screen of %" PRIu32 " x %" PRIu32 ", shown at %" PRIu32 " x %" PRIu32
                            ": scale %.3f. Coordinates are those of the image.",
                            frame->width, frame->height, image.width, image.height,
                            (double)image.width / frame->width);

    display_frame_fini(&image);
    return ok;
}

/* The part from @from on whose size @ret has, each of its pixels @times by @times. */
static void enlarge(const struct display_frame *screen, struct desktop_point from, uint32_t times,
                    struct display_frame *ret)
{
    uint8_t *to = ret->rgb;

    for (uint32_t y = 0; y < ret->height; y++) {
        const uint8_t *row =
            screen->rgb + ((size_t)(from.y + y / times) * screen->width + from.x) * 3;

        for (uint32_t x = 0; x < ret->width; x++, to += 3)
            memcpy(to, row + (size_t)(x / times) * 3, 3);
    }
}

bool desktop_zoom(struct desktop *d, struct desktop_point from, struct desktop_point to,
                  struct error *err)
{
    uint32_t w = to.x - from.x, h = to.y - from.y, times = MAX(1, DESKTOP_EDGE / MAX(w, h));
    struct display_frame part = { .width = w * times, .height = h * times }, image = { .width = 0 };
    bool ok;

    part.rgb = malloc((size_t)part.width * part.height * 3);
    if (!part.rgb)
        return error_set(err, ERR_NOMEM, "a part of the screen");
    enlarge(&d->before, from, times, &part);
    ok =
        picture_scale(part.rgb, part.width, part.height, DESKTOP_EDGE, &image, err) &&
        answer(d, &image, err) &&
        result_printf(d->call->result, err,
                      "%" PRIu32 " x %" PRIu32 " pixels of the screen, shown at scale %.2f. Clicks "
                      "still take the coordinates of a screenshot.",
                      w, h, (double)image.width / w);
    display_frame_fini(&part);
    display_frame_fini(&image);
    return ok;
}
