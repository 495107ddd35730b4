/* The family desktop: one tool with the actions that models know from computer use. */
#include "tools/desktop.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernel/base/clock.h"
#include "kernel/picture.h"
#include "tools/desktop_state.h"

#define STATE_KEY  "desktop"
#define WAIT_MAX_S 30
#define SCROLL_MAX 100
#define TYPED_MAX  20000
#define INSIDE_NS  (40 * CLOCK_NS_PER_S)
#define INSIDE_MAX (256u << 10)
#define TREE_S     "25" /* in which the tree is walked; what is not reached by then is left out */
#define LOOK_NS    (250 * CLOCK_NS_PER_MS)

enum action {
    SCREENSHOT,
    ZOOM,
    MOUSE_MOVE,
    LEFT_CLICK,
    LEFT_CLICK_DRAG,
    RIGHT_CLICK,
    MIDDLE_CLICK,
    DOUBLE_CLICK,
    TRIPLE_CLICK,
    LEFT_MOUSE_DOWN,
    LEFT_MOUSE_UP,
    SCROLL,
    TYPE,
    KEY,
    HOLD_KEY,
    WAIT,
    CURSOR_POSITION,
    WINDOWS,
    TREE,
    RECORD_START,
    RECORD_STOP
};

static const char *const actions[] = { "screenshot",
                                       "zoom",
                                       "mouse_move",
                                       "left_click",
                                       "left_click_drag",
                                       "right_click",
                                       "middle_click",
                                       "double_click",
                                       "triple_click",
                                       "left_mouse_down",
                                       "left_mouse_up",
                                       "scroll",
                                       "type",
                                       "key",
                                       "hold_key",
                                       "wait",
                                       "cursor_position",
                                       "windows",
                                       "tree",
                                       "record_start",
                                       "record_stop",
                                       NULL };

/* tools/drivers/desktop_tree.py */
extern const char desktop_tree_text[];

static const char *const directions[] = { "up", "down", "left", "right", NULL };

struct desktop_args {
    int action;
    json_t *coordinate, *start_coordinate, *region;
    struct json_text text;
    int scroll_direction;
    int64_t scroll_amount;
    double duration;
    bool screenshot;
    const char *computer;
};

static const struct json_field desktop_fields[] = {
    { .name = "action",
      .kind = JSON_KIND_ENUM,
      .required = true,
      .offset = offsetof(struct desktop_args, action),
      .choices = actions },
    { .name = "coordinate",
      .description = "[x, y] in the screenshot",
      .kind = JSON_KIND_INTS,
      .offset = offsetof(struct desktop_args, coordinate),
      .min = 2,
      .max = 2 },
    { .name = "start_coordinate",
      .description = "Where a drag begins",
      .kind = JSON_KIND_INTS,
      .offset = offsetof(struct desktop_args, start_coordinate),
      .min = 2,
      .max = 2 },
    { .name = "region",
      .description = "For zoom: [x0, y0, x1, y1]",
      .kind = JSON_KIND_INTS,
      .offset = offsetof(struct desktop_args, region),
      .min = 4,
      .max = 4 },
    { .name = "text",
      .description = "What to type; or keys as in xdotool (\"ctrl+s\", \"Return\"), for clicks "
                     "and scroll those held meanwhile; for tree part of a window's title",
      .kind = JSON_KIND_TEXT,
      .offset = offsetof(struct desktop_args, text),
      .max = TYPED_MAX },
    { .name = "scroll_direction",
      .kind = JSON_KIND_ENUM,
      .offset = offsetof(struct desktop_args, scroll_direction),
      .fallback = -1,
      .choices = directions },
    { .name = "scroll_amount",
      .description = "Notches",
      .kind = JSON_KIND_INT,
      .offset = offsetof(struct desktop_args, scroll_amount),
      .min = 1,
      .max = SCROLL_MAX,
      .fallback = 3 },
    { .name = "duration",
      .description = "Seconds, for wait and hold_key",
      .kind = JSON_KIND_NUMBER,
      .offset = offsetof(struct desktop_args, duration),
      .min = 0,
      .max = WAIT_MAX_S,
      .fallback = 1 },
    { .name = "screenshot",
      .description = "Show the screen after the action",
      .kind = JSON_KIND_BOOL,
      .offset = offsetof(struct desktop_args, screenshot) },
    TOOLKIT_COMPUTER_FIELD(struct desktop_args),
    { .name = NULL },
};

/* ---- what is kept of a computer ---- */

static void state_unref(void *arg)
{
    struct desktop_state *s = arg;

    if (s && atomic_fetch_sub(&s->refs, 1) == 1) {
        pthread_mutex_destroy(&s->lock);
        free(s);
    }
}

static void take_ref(void *arg, void *thing)
{
    struct desktop_state **ret = arg, *s = thing;

    atomic_fetch_add(&s->refs, 1);
    *ret = s;
}

static struct desktop_state *state_get(struct tool_call *call, struct computer *c,
                                       struct error *err)
{
    struct computers *cs = kernel_computers(call->kernel);
    struct desktop_state *s = NULL;
    struct error late = ERROR_INIT;

    if (computers_attached(cs, c, STATE_KEY, take_ref, &s))
        return s;
    s = calloc(1, sizeof *s);
    if (!s) {
        error_set(err, ERR_NOMEM, "a desktop");
        return NULL;
    }
    atomic_init(&s->refs, 2);
    pthread_mutex_init(&s->lock, NULL);
    if (computers_attach(cs, c, STATE_KEY, s, state_unref, &late))
        return s;
    atomic_store(&s->refs, 1);
    state_unref(s);
    s = NULL;
    /* Another call was faster, or the computer is gone. */
    if (late.code == ERR_EXISTS && computers_attached(cs, c, STATE_KEY, take_ref, &s))
        return s;
    if (err)
        *err = late;
    return NULL;
}

bool desktop_open(struct desktop *d, struct tool_call *call, struct computer *c, struct error *err)
{
    struct error why = ERROR_INIT;

    *d = (struct desktop){ .call = call, .computer = c };
    if (!display_frame(c, &d->before, &call->wait, &why)) {
        if (why.code == ERR_UNSUPPORTED)
            return error_set(err, ERR_UNSUPPORTED,
                             "%s; make a computer that has one: computer_create {\"kind\": \"vm\", "
                             "\"image\": \"desktop\"}",
                             why.text);
        return error_set(err, why.code, "%s", why.text);
    }
    picture_fit(d->before.width, d->before.height, DESKTOP_EDGE, &d->image_width, &d->image_height);
    d->state = state_get(call, c, err);
    return d->state != NULL;
}

void desktop_close(struct desktop *d)
{
    display_frame_fini(&d->before);
    state_unref(d->state);
}

/* ---- coordinates ---- */

bool desktop_point(const struct desktop *d, const json_t *pair, const char *name,
                   struct desktop_point *ret, struct error *err)
{
    double x = json_number_value(json_array_get(pair, 0));
    double y = json_number_value(json_array_get(pair, 1));

    if (!pair)
        return error_set(err, ERR_INVALID, "this action needs %s: [x, y] in the screenshot", name);
    if (x < 0 || y < 0 || x >= d->image_width || y >= d->image_height)
        return error_set(err, ERR_INVALID,
                         "%s is [%.0f, %.0f]; the screenshot ends at [%" PRIu32 ", %" PRIu32 "]",
                         name, x, y, d->image_width - 1, d->image_height - 1);
    /* The middle of what one pixel of the image shows. */
    ret->x = (uint32_t)((x + 0.5) * d->before.width / d->image_width);
    ret->y = (uint32_t)((y + 0.5) * d->before.height / d->image_height);
    return true;
}

struct desktop_point desktop_in_image(const struct desktop *d, struct desktop_point p)
{
    return (struct desktop_point){
        .x = (uint32_t)((uint64_t)p.x * d->image_width / d->before.width),
        .y = (uint32_t)((uint64_t)p.y * d->image_height / d->before.height),
    };
}

/* "x:640 y:400 screen:0 window:…" */
static bool parse_pointer(const char *text, struct desktop_point *ret)
{
    const char *x = strstr(text, "x:"), *y = strstr(text, " y:");
    char *end;
    unsigned long at;

    if (!x || !y)
        return false;
    at = strtoul(x + 2, &end, 10);
    if (end != y || at > UINT32_MAX)
        return false;
    ret->x = (uint32_t)at;
    at = strtoul(y + 3, &end, 10);
    ret->y = (uint32_t)at;
    return end != y + 3 && at <= UINT32_MAX;
}

bool desktop_pointer(struct desktop *d, struct desktop_point *ret, struct error *err)
{
    static const char *const argv[] = { "xdotool", "getmouselocation", NULL };
    const struct toolkit_program program = { .argv = argv, .max = 4096, .timeout_ns = INSIDE_NS };
    CLEANUP(buf_fini) struct buf said = BUF_INIT;
    struct error why = ERROR_INIT;
    struct desktop_point p;
    int code;

    if (toolkit_program(d->call, d->computer, &program, &said, &code, &why)) {
        if (code != 0 || !parse_pointer(buf_str(&said), &p) || p.x >= d->before.width ||
            p.y >= d->before.height)
            return error_set(err, ERR_IO, "xdotool does not know where the pointer is: %s",
                             buf_str(&said));
        *ret = p;
        return true;
    }
    if (why.code != ERR_NOT_FOUND)
        return error_set(err, why.code, "%s", why.text);
    pthread_mutex_lock(&d->state->lock);
    *ret = d->state->pointer;
    pthread_mutex_unlock(&d->state->lock);
    return true;
}

void desktop_set_pointer(struct desktop *d, struct desktop_point p)
{
    pthread_mutex_lock(&d->state->lock);
    d->state->pointer = p;
    pthread_mutex_unlock(&d->state->lock);
}

/* ---- actions ---- */

static bool keys_of(const struct desktop_args *a, bool required, struct desktop_chord *ret,
                    const struct desktop_chord **ret_used, struct error *err)
{
    *ret_used = NULL;
    if (!a->text.data || (!a->text.len && !required))
        return !required ||
               error_set(err, ERR_INVALID, "this action needs text: the keys, e.g. \"ctrl+s\"");
    *ret_used = ret;
    return desktop_chord(a->text.data, ret, err);
}

static bool zoom(struct desktop *d, const struct desktop_args *a, struct error *err)
{
    json_t *corners[2] = { json_array(), json_array() };
    struct desktop_point p[2];
    bool ok = corners[0] && corners[1];

    for (size_t i = 0; ok && a->region && i < 4; i++)
        ok = json_array_append(corners[i / 2], json_array_get(a->region, i)) == 0;
    if (!ok)
        error_set(err, ERR_NOMEM, "a region");
    else if (!a->region)
        ok = error_set(err, ERR_INVALID, "zoom needs region: [x0, y0, x1, y1] in the screenshot");
    ok = ok && desktop_point(d, corners[0], "region's first corner", &p[0], err) &&
         desktop_point(d, corners[1], "region's second corner", &p[1], err);
    if (ok && (p[0].x >= p[1].x || p[0].y >= p[1].y))
        ok = error_set(err, ERR_INVALID,
                       "region is [x0, y0, x1, y1] with x0 < x1 and y0 < y1: two corners");
    json_decref(corners[0]);
    json_decref(corners[1]);
    return ok && desktop_zoom(d, p[0], p[1], err);
}

/* Where @a says, or where the pointer is. */
static bool go_there(struct desktop *d, const struct desktop_args *a, struct error *err)
{
    struct desktop_point p;

    return !a->coordinate ||
           (desktop_point(d, a->coordinate, "coordinate", &p, err) && desktop_move(d, p, err));
}

static bool click(struct desktop *d, const struct desktop_args *a, enum display_button button,
                  unsigned times, struct error *err)
{
    const struct desktop_chord *held;
    struct desktop_chord chord;

    return keys_of(a, false, &chord, &held, err) && go_there(d, a, err) &&
           desktop_click(d, button, times, held, err);
}

static bool drag(struct desktop *d, const struct desktop_args *a, struct error *err)
{
    const struct desktop_chord *held;
    struct desktop_point from, to;
    struct desktop_chord chord;

    return keys_of(a, false, &chord, &held, err) &&
           (a->start_coordinate
                ? desktop_point(d, a->start_coordinate, "start_coordinate", &from, err)
                : desktop_pointer(d, &from, err)) &&
           desktop_point(d, a->coordinate, "coordinate", &to, err) &&
           desktop_drag(d, from, to, held, err);
}

static bool scroll(struct desktop *d, const struct desktop_args *a, struct error *err)
{
    static const enum display_button wheels[] = { DISPLAY_WHEEL_UP, DISPLAY_WHEEL_DOWN,
                                                  DISPLAY_WHEEL_LEFT, DISPLAY_WHEEL_RIGHT };

    if (a->scroll_direction < 0)
        return error_set(err, ERR_INVALID,
                         "scroll needs scroll_direction: up, down, left or right");
    return click(d, a, wheels[a->scroll_direction], (unsigned)a->scroll_amount, err);
}

static bool type(struct desktop *d, const struct desktop_args *a, struct error *err)
{
    if (!a->text.len)
        return error_set(err, ERR_INVALID, "type needs text");
    return desktop_type(d, a->text.data, a->text.len, err);
}

static bool press(struct desktop *d, const struct desktop_args *a, bool hold, struct error *err)
{
    const struct desktop_chord *keys;
    struct desktop_chord chord;

    return keys_of(a, true, &chord, &keys, err) &&
           desktop_press(d, keys, hold ? (int64_t)(a->duration * (double)CLOCK_NS_PER_S) : 0, err);
}

static bool act(struct desktop *d, const struct desktop_args *a, struct error *err)
{
    switch ((enum action)a->action) {
    case MOUSE_MOVE: {
        struct desktop_point p;

        return desktop_point(d, a->coordinate, "coordinate", &p, err) && desktop_move(d, p, err);
    }
    case LEFT_CLICK:
        return click(d, a, DISPLAY_LEFT, 1, err);
    case RIGHT_CLICK:
        return click(d, a, DISPLAY_RIGHT, 1, err);
    case MIDDLE_CLICK:
        return click(d, a, DISPLAY_MIDDLE, 1, err);
    case DOUBLE_CLICK:
        return click(d, a, DISPLAY_LEFT, 2, err);
    case TRIPLE_CLICK:
        return click(d, a, DISPLAY_LEFT, 3, err);
    case LEFT_CLICK_DRAG:
        return drag(d, a, err);
    case LEFT_MOUSE_DOWN:
    case LEFT_MOUSE_UP:
        return go_there(d, a, err) && desktop_button(d, a->action == LEFT_MOUSE_DOWN, err);
    case SCROLL:
        return scroll(d, a, err);
    case TYPE:
        return type(d, a, err);
    case KEY:
    case HOLD_KEY:
        return press(d, a, a->action == HOLD_KEY, err);
    case WAIT:
        return wait_pause(&d->call->wait, (int64_t)(a->duration * (double)CLOCK_NS_PER_S), err);
    default:
        return true; /* SCREENSHOT */
    }
}

/* What came of it, as the screen shows. */
static bool tell(struct desktop *d, const struct desktop_args *a, struct error *err)
{
    bool waited = a->action == WAIT, looked = a->action == SCREENSHOT;
    struct desktop_look after = { .changed = false };
    bool ok = desktop_settle(d,
                             looked   ? 0
                             : waited ? LOOK_NS
                                      : DESKTOP_REACT_NS,
                             looked || waited ? 0 : DESKTOP_BUSY_NS, &after, err) &&
              desktop_record_frame(d, &after.frame, err);

    if (ok && !looked)
        ok = result_printf(d->call->result, err, "%s: %s%s", actions[a->action],
                           after.changed ? "the screen has changed"
                                         : "nothing on the screen has changed",
                           !after.busy      ? "."
                           : !after.changed ? " yet, but programs are at work."
                                            : "; programs are still at work.");
    if (ok && (a->screenshot || looked))
        ok = desktop_show(d, &after.frame, err);
    display_frame_fini(&after.frame);
    return ok;
}

/* What a program of the image says. */
static bool ask_inside(struct desktop *d, const char *const *argv, struct error *err)
{
    const struct toolkit_program program = { .argv = argv,
                                             .max = INSIDE_MAX,
                                             .timeout_ns = INSIDE_NS };
    CLEANUP(buf_fini) struct buf said = BUF_INIT;
    struct error why = ERROR_INIT;
    int code;

    if (!toolkit_program(d->call, d->computer, &program, &said, &code, &why))
        return error_set(err, why.code, "%s%s", why.text,
                         why.code == ERR_NOT_FOUND ? "; the image \"desktop\" has it" : "");
    if (code != 0)
        return error_set(err, ERR_IO, "%s: %s", argv[0], buf_str(&said));
    return result_text(d->call->result, buf_str(&said), said.len,
                       "zoom or a window of less content shows the rest", err);
}

static bool windows(struct desktop *d, struct error *err)
{
    static const char *const argv[] = { "aios-windows", NULL };

    return ask_inside(d, argv, err);
}

static bool tree(struct desktop *d, const struct desktop_args *a, struct error *err)
{
    /* Without what else Python would load at its start, which takes a second there. */
    const char *const argv[] = { "python3", "-IS",        "-c", desktop_tree_text,
                                 TREE_S,    a->text.data, NULL };

    return ask_inside(d, argv, err);
}

static bool cursor_position(struct desktop *d, struct error *err)
{
    struct desktop_point p;

    if (!desktop_pointer(d, &p, err))
        return false;
    p = desktop_in_image(d, p);
    return result_printf(d->call->result, err, "[%" PRIu32 ", %" PRIu32 "]", p.x, p.y);
}

static bool desktop_handler(struct tool_call *call, const void *args, struct error *err)
{
    const struct desktop_args *a = args;
    CLEANUP(computer_unrefp) struct computer *c = toolkit_computer(call, a->computer, err);
    struct desktop d;
    bool ok;

    if (!c)
        return false;
    ok = desktop_open(&d, call, c, err);
    if (ok && a->action == WAIT)
        (void)desktop_busy(&d); /* from now on */
    if (ok) {
        switch ((enum action)a->action) {
        case ZOOM:
            ok = zoom(&d, a, err);
            break;
        case CURSOR_POSITION:
            ok = cursor_position(&d, err);
            break;
        case WINDOWS:
            ok = windows(&d, err);
            break;
        case TREE:
            ok = tree(&d, a, err);
            break;
        case RECORD_START:
            ok = desktop_record_start(&d, err);
            break;
        case RECORD_STOP:
            ok = desktop_record_stop(&d, err);
            break;
        case SCREENSHOT:
        case WAIT:
            ok = act(&d, a, err) && tell(&d, a, err);
            break;
        default:
            ok = desktop_await_last(&d, err) && act(&d, a, err) && tell(&d, a, err);
        }
    }
    desktop_close(&d);
    return ok;
}

static const struct tool tools[] = {
    { .name = "desktop",
      .title = "Use the desktop",
      .description =
          "See and use the screen of a computer that has one (computer_create with kind "
          "vm and image desktop). Says whether the screen changed. windows lists the "
          "windows, tree what is in the active one; record_start keeps each step as a picture.",
      .fields = desktop_fields,
      .args_size = sizeof(struct desktop_args),
      .flags = TOOL_DESTROYS | TOOL_OPEN_WORLD,
      .handler = desktop_handler },
};

const struct toolset toolset_desktop = { "desktop", tools, ARRAY_LEN(tools) };
