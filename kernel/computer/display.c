#include "kernel/computer/display.h"

#include <stdlib.h>

#include "kernel/computer/computer_internal.h"

void display_frame_fini(struct display_frame *frame)
{
    free(frame->rgb);
    *frame = (struct display_frame){ .width = 0 };
}

/* Inside, until computer_leave(). */
static const struct display_ops *enter(struct computer *c, const struct wait *w, struct error *err)
{
    if (!c->ops->display) {
        error_set(err, ERR_UNSUPPORTED, "a computer of the kind \"%s\" has no screen",
                  c->ops->kind);
        return NULL;
    }
    return computer_enter(c, w, err) ? c->ops->display : NULL;
}

bool display_frame(struct computer *c, struct display_frame *ret, const struct wait *w,
                   struct error *err)
{
    const struct display_ops *ops;
    bool ok;

    *ret = (struct display_frame){ .width = 0 };
    ops = enter(c, w, err);
    if (!ops)
        return false;
    ok = ops->frame(c, true, ret, w, err);
    computer_leave(c);
    return ok;
}

bool display_size(struct computer *c, uint32_t *ret_width, uint32_t *ret_height,
                  const struct wait *w, struct error *err)
{
    const struct display_ops *ops = enter(c, w, err);
    struct display_frame frame = { .width = 0 };
    bool ok;

    if (!ops)
        return false;
    ok = ops->frame(c, false, &frame, w, err);
    computer_leave(c);
    *ret_width = frame.width;
    *ret_height = frame.height;
    return ok;
}

bool display_input(struct computer *c, const struct display_event *events, size_t count,
                   const struct wait *w, struct error *err)
{
    const struct display_ops *ops = enter(c, w, err);
    bool ok;

    if (!ops)
        return false;
    ok = ops->input(c, events, count, w, err);
    computer_leave(c);
    return ok;
}

bool display_resize(struct computer *c, uint32_t width, uint32_t height, const struct wait *w,
                    struct error *err)
{
    const struct display_ops *ops = enter(c, w, err);
    bool ok;

    if (!ops)
        return false;
    ok = ops->resize(c, width, height, w, err);
    computer_leave(c);
    return ok;
}
