/* What the screen shows: when it is still, what is different, and how it becomes an image. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "kernel/base/clock.h"
#include "kernel/picture.h"
#include "tools/desktop_state.h"

#define LOOK_NS  (80 * CLOCK_NS_PER_MS)
#define STAT_MAX 8192u

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

bool desktop_busy(struct desktop *d)
{
    CLEANUP(buf_fini) struct buf text = BUF_INIT;
    struct desktop_load now, last = d->load;

    if (!guest_read_file(computer_guest(d->computer), "/", "/proc/stat", 0, STAT_MAX, &text, NULL,
                         &d->call->wait, NULL) ||
        !desktop_load_read(buf_str(&text), &now))
        return false;
    d->load = now;
    return !last.processors || desktop_load_busy(&last, &now);
}

bool desktop_calm(struct desktop *d, struct error *err)
{
    int64_t until_ns = clock_add_ns(clock_now_ns(), DESKTOP_BUSY_NS);

    while (desktop_busy(d) && clock_now_ns() < until_ns) {
        if (!wait_pause(&d->call->wait, LOOK_NS, err))
            return false;
    }
    return true;
}

bool desktop_await_last(struct desktop *d, struct error *err)
{
    bool busy;

    pthread_mutex_lock(&d->state->lock);
    busy = d->state->busy;
    pthread_mutex_unlock(&d->state->lock);
    return !busy || (desktop_calm(d, err) && look(d, &d->before, err));
}

bool desktop_settle(struct desktop *d, int64_t react_ns, int64_t busy_ns, struct desktop_look *ret,
                    struct error *err)
{
    int64_t start_ns = clock_now_ns(), until_ns = clock_add_ns(start_ns, react_ns);
    struct display_frame last = { .width = 0 };
    bool ok = display_frame(d->computer, &ret->frame, &d->call->wait, err);

    busy_ns = clock_add_ns(start_ns, busy_ns);
    ret->busy = desktop_busy(d);
    /* An emulated machine needs a moment before anything happens at all. */
    while (ok && same(&ret->frame, &d->before) &&
           clock_now_ns() < (ret->busy ? MAX(until_ns, busy_ns) : until_ns)) {
        ok = look(d, &ret->frame, err);
        ret->busy = desktop_busy(d);
    }
    ret->changed = ok && !same(&ret->frame, &d->before);
    until_ns = clock_add_ns(clock_now_ns(), DESKTOP_SETTLE_NS);
    while (ok && ret->changed && clock_now_ns() < until_ns) {
        display_frame_fini(&last);
        last = ret->frame;
        ret->frame = (struct display_frame){ .width = 0 };
        ok = look(d, &ret->frame, err);
        ret->busy = desktop_busy(d);
        if (ok && !ret->busy && same(&last, &ret->frame))
            break;
    }
    display_frame_fini(&last);
    ret->changed = ok && !same(&ret->frame, &d->before);
    if (react_ns) {
        pthread_mutex_lock(&d->state->lock);
        d->state->busy = ret->busy;
        pthread_mutex_unlock(&d->state->lock);
    }
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
