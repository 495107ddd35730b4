/* The desktop image, really built: its screen is looked at, clicked on and typed to.  What happened
 * is told by the guest's own list of windows. */
#include "tests/integration/machine/machine.h"

#include <jansson.h>
#include <linux/input-event-codes.h>

#include "kernel/base/sha256.h"
#include "vmctl/display.h"
#include "vmctl/image.h"
#include "vmctl/image_build.h"
#include "vmctl/image_recipe.h"
#include "vmctl/template.h"

#define BUILD_S 2400
#define BOOT_S  1200 /* a browser opens before it is over */
#define LOOK_MS 300

static struct machine_world world;
static const char *missing;
static char why[600]; /* no image could be built here */
static struct template *template;
static struct vm *vm; /* a clone */
static struct guest *guest;

static struct wait within_s(int s)
{
    return (struct wait){ .deadline_ns = clock_now_ns() + s * CLOCK_NS_PER_S };
}

static double since_ms(int64_t start_ns)
{
    return (double)(clock_now_ns() - start_ns) / CLOCK_NS_PER_MS;
}

/* ---- the image ---- */

/* Kept beside the builds, for all of them. */
static bool build(char path[600], struct error *err)
{
    char *recipe = image_recipe_folder("desktop", NULL, err);
    char hash[SHA256_HEX];
    bool ok = recipe && fd_mkdirs(AIOS_TEST_IMAGES, 0755, err) &&
              image_build(
                  &(struct image_build){ .recipe = recipe,
                                         .store = AIOS_TEST_IMAGES,
                                         .deadline_ns = clock_now_ns() + BUILD_S * CLOCK_NS_PER_S },
                  hash, err);

    free(recipe);
    if (ok)
        (void)snprintf(path, 600, "%s/%s", AIOS_TEST_IMAGES, hash);
    return ok;
}

static int open_file(const char *image, const char *name)
{
    char path[700];
    int fd;

    (void)snprintf(path, sizeof path, "%s/%s", image, name);
    fd = open(path, O_RDONLY | O_CLOEXEC);
    assert_true(fd >= 0);
    return fd;
}

static int make_initramfs(const char *image)
{
    static const char *const modules[] = { "virtio_pci", "virtio_console",
                                           "virtio_blk", "crc32c_generic",
                                           "ext4",       VM_DISPLAY_MODULES,
                                           NULL };
    struct error err = ERROR_INIT;
    json_t *record = image_record(AIOS_TEST_IMAGES, strrchr(image, '/') + 1, &err);
    char modules_dir[900];
    int fd;

    assert_ok(record, err);
    (void)snprintf(modules_dir, sizeof modules_dir, "%s/" IMAGE_MODULES "/%s", image,
                   json_string_value(json_object_get(record, "kernel")));
    json_decref(record);
    fd = initramfs_make(&(struct initramfs_plan){ .early = early_image,
                                                  .early_len = early_image_len,
                                                  .guest = guest_image,
                                                  .guest_len = guest_image_len,
                                                  .modules_dir = modules_dir,
                                                  .modules = modules },
                        &err);
    assert_ok(fd >= 0, err);
    return fd;
}

static void make_template(const char *image)
{
    struct vm_spec spec = machine_spec(&world);
    int64_t start_ns = clock_now_ns();
    struct wait w = within_s(BOOT_S);
    struct error err = ERROR_INIT;
    struct template_size size;

    spec.argv.screen = true;
    spec.argv.memory_mib = 1280;
    spec.argv.append = "aios.root=" ARGV_DISK;
    spec.argv.kernel_fd = open_file(image, IMAGE_KERNEL);
    spec.argv.disk_base_fd = open_file(image, IMAGE_DISK);
    spec.argv.initrd_fd = make_initramfs(image);
    template = template_make(&spec, NULL, &w, &err);
    fd_close(spec.argv.kernel_fd);
    fd_close(spec.argv.disk_base_fd);
    fd_close(spec.argv.initrd_fd);
    assert_ok(template, err);
    template_size(template, &size);
    print_message("template: %.0f ms, memory %ju MiB, state %ju KiB\n", since_ms(start_ns),
                  (uintmax_t)size.memory_bytes >> 20, (uintmax_t)size.state_bytes >> 10);
}

static int open_world(void **state)
{
    struct error err = ERROR_INIT;
    char image[600];
    (void)state;

    /* The first loop of a process opens what libuv keeps for all of them. */
    loop_free(loop_new(NULL));
    missing = machine_open(&world);
    if (missing)
        return 0;
    if (!build(image, &err)) {
        if (err.code != ERR_UNSUPPORTED)
            fail_msg("%s", err.text);
        (void)snprintf(why, sizeof why, "%s", err.text);
        missing = why;
        return 0;
    }
    make_template(image);
    return 0;
}

static int close_world(void **state)
{
    (void)state;
    guest_free(guest);
    vm_free(vm);
    template_unref(template);
    machine_close(&world);
    return 0;
}

/* ---- looking ---- */

static void take_picture(struct display_frame *ret)
{
    struct wait w = patience();
    struct error err = ERROR_INIT;

    assert_ok(vm_display_frame(vm, true, ret, &w, &err), err);
}

static char *hear(const char *const *argv)
{
    static const char *const env[] = { "PATH=/usr/local/bin:/usr/bin:/bin",
                                       "HOME=/home/user",
                                       "LANG=C.UTF-8",
                                       "DISPLAY=:0",
                                       "DBUS_SESSION_BUS_ADDRESS=unix:path=/run/user/1000/bus",
                                       NULL };
    struct guest_run_spec spec = { .argv = argv, .env = env, .cwd = "/" };
    struct wait w = patience();
    struct error err = ERROR_INIT;
    CLEANUP(guest_run_unrefp) struct guest_run *run = guest_spawn(guest, &spec, &w, &err);
    CLEANUP(buf_fini) struct buf out = BUF_INIT;
    struct guest_run_info info;
    uint64_t offset = 0;

    assert_ok(run, err);
    assert_ok(guest_run_wait(run, 0, NULL, &w, &err), err);
    guest_run_info(run, &info);
    assert_true(guest_run_read(run, WIRE_STREAM_OUT, &offset, 1u << 20, &out) >= 0);
    if (info.end != GUEST_RUN_EXIT || info.value != 0)
        fail_msg("%s: end %d, %d: %s", argv[0], info.end, info.value, buf_str(&out));
    return out.data ? buf_take(&out, NULL) : strdup("");
}

/* The window whose title or class has @part in it, for json_decref(); NULL when there is none. */
static json_t *find_window(const char *part)
{
    static const char *const argv[] = { "aios-windows", NULL };
    char *text = hear(argv);
    json_t *windows = json_loads(text, 0, NULL), *window, *found = NULL;
    size_t i;

    assert_true(json_is_array(windows));
    free(text);
    json_array_foreach (windows, i, window) {
        if (strstr(json_string_value(json_object_get(window, "title")), part) ||
            strstr(json_string_value(json_object_get(window, "class")), part))
            found = window;
    }
    json_incref(found);
    json_decref(windows);
    return found;
}

/* That it is there, and in front: else what is typed goes elsewhere. */
static void await_window(const char *part)
{
    static const char *const argv[] = { "aios-windows", NULL };
    struct wait w = patience();

    for (;;) {
        json_t *window = find_window(part);
        bool in_front = json_is_true(json_object_get(window, "focused"));

        json_decref(window);
        if (in_front)
            return;
        if (!wait_pause(&w, LOOK_MS * CLOCK_NS_PER_MS, NULL))
            fail_msg("no window \"%s\" came to the front, but %s", part, hear(argv));
    }
}

/* ---- doing ---- */

static void click(uint32_t x, uint32_t y)
{
    const struct display_event events[] = {
        { .kind = DISPLAY_MOVE, .x = x, .y = y },
        { .kind = DISPLAY_BUTTON, .button = DISPLAY_LEFT, .down = true },
        { .kind = DISPLAY_BUTTON, .button = DISPLAY_LEFT },
    };
    struct wait w = patience();
    struct error err = ERROR_INIT;

    assert_ok(vm_display_input(vm, events, ARRAY_LEN(events), &w, &err), err);
}

/* A field that had the focus before it was clicked keeps what is in it. */
static void select_all(void)
{
    const struct display_event events[] = {
        { .kind = DISPLAY_KEY, .key = KEY_LEFTCTRL, .down = true },
        { .kind = DISPLAY_KEY, .key = KEY_A, .down = true },
        { .kind = DISPLAY_KEY, .key = KEY_A },
        { .kind = DISPLAY_KEY, .key = KEY_LEFTCTRL },
    };
    struct wait w = patience();
    struct error err = ERROR_INIT;

    assert_ok(vm_display_input(vm, events, ARRAY_LEN(events), &w, &err), err);
}

static uint16_t key_of(char c, bool *ret_shift)
{
    static const char letters[] = "abcdefghijklmnopqrstuvwxyz";
    static const uint16_t keys[] = { KEY_A, KEY_B, KEY_C, KEY_D, KEY_E, KEY_F, KEY_G, KEY_H, KEY_I,
                                     KEY_J, KEY_K, KEY_L, KEY_M, KEY_N, KEY_O, KEY_P, KEY_Q, KEY_R,
                                     KEY_S, KEY_T, KEY_U, KEY_V, KEY_W, KEY_X, KEY_Y, KEY_Z };
    const char *letter = strchr(letters, c);

    *ret_shift = c == ':';
    switch (c) {
    case ' ':
        return KEY_SPACE;
    case '-':
        return KEY_MINUS;
    case '.':
        return KEY_DOT;
    case '/':
        return KEY_SLASH;
    case ':':
        return KEY_SEMICOLON;
    case '\n':
        return KEY_ENTER;
    default:
        assert_non_null(letter);
        return keys[letter - letters];
    }
}

/* Key by key, as the tool does: the keyboard's queue is short, and a busy machine slow to take. */
static void type(const char *text)
{
    struct wait w = patience();
    struct error err = ERROR_INIT;

    for (; *text; text++) {
        struct display_event events[4];
        size_t n = 0;
        bool shift;
        uint16_t key = key_of(*text, &shift);

        if (shift)
            events[n++] = (struct display_event){ DISPLAY_KEY, .key = KEY_LEFTSHIFT, .down = true };
        events[n++] = (struct display_event){ DISPLAY_KEY, .key = key, .down = true };
        events[n++] = (struct display_event){ DISPLAY_KEY, .key = key };
        if (shift)
            events[n++] = (struct display_event){ DISPLAY_KEY, .key = KEY_LEFTSHIFT };
        assert_ok(vm_display_input(vm, events, n, &w, &err), err);
        assert_ok(guest_ping(guest, &w, &err), err);
    }
}

/* ---- the tests, which build on each other ---- */

static void need_clone(void)
{
    if (missing)
        skip_because("no %s", missing);
    if (!guest)
        fail_msg("the clone did not come up");
}

static void a_clone_shows_the_open_browser(void **state)
{
    struct wait w = patience();
    struct error err = ERROR_INIT;
    int64_t start_ns = clock_now_ns();
    struct display_frame frame;
    size_t changes = 0;
    json_t *window;
    (void)state;

    if (missing)
        skip_because("no %s", missing);
    vm = template_clone(template, NULL, NULL, &w, &err);
    assert_ok(vm, err);
    take_picture(&frame);
    print_message("clone to its first picture: %.0f ms\n", since_ms(start_ns));
    assert_int_equal(frame.width, 1280);
    assert_int_equal(frame.height, 800);
    for (size_t i = 3; i < (size_t)frame.width * frame.height * 3; i += 3)
        changes += memcmp(frame.rgb + i, frame.rgb + i - 3, 3) != 0;
    display_frame_fini(&frame);
    assert_true(changes > 500); /* letters, buttons */
    guest = machine_meet(&world, vm);
    assert_ok(template_wake(guest, "computer", &w, &err), err);
    print_message("clone to ready for programs: %.0f ms\n", since_ms(start_ns));
    window = find_window("about:blank - Chromium");
    assert_non_null(window);
    json_decref(window);
}

static void a_click_on_the_panel_opens_a_terminal(void **state)
{
    (void)state;
    need_clone();
    click(19, 784);
    await_window("user@"); /* the title that its shell gives it, with the first prompt */
}

static void what_is_typed_arrives(void **state)
{
    struct display_frame before, after;
    int64_t start_ns;
    (void)state;

    need_clone();
    take_picture(&before);
    start_ns = clock_now_ns();
    type("x");
    for (bool same = true; same;) {
        take_picture(&after);
        same = !memcmp(before.rgb, after.rgb, (size_t)before.width * before.height * 3);
        display_frame_fini(&after);
    }
    print_message("a key to what it changes: %.0f ms\n", since_ms(start_ns));
    display_frame_fini(&before);
    type(
        "term -title typed-by-the-keyboard-and-by-nobody-else -e cat\n"); /* a shell sets another */
    await_window("typed-by-the-keyboard-and-by-nobody-else");
}

static void the_browser_opens_a_page(void **state)
{
    static const char page[] = "<title>Read by the window list</title><h1>A page</h1>"
                               "<button>Press this</button>";
    static const char *const tree[] = { "aios-tree", "Chromium", NULL };
    static const char bar[] = "entry \"Address and search bar\" ";
    struct wait w = patience();
    struct error err = ERROR_INIT;
    unsigned x = 0, y = 0, width = 0, height = 0;
    char *text, *at;
    (void)state;

    need_clone();
    assert_ok(guest_write_file(guest, "/", "/tmp/page.html", page, strlen(page), 0644,
                               WIRE_WRITE_CREATE, &w, &err),
              err);
    click(285, 784); /* its place on the panel brings it to the front */
    await_window("about:blank - Chromium");
    text = hear(tree);
    at = strstr(text, bar);
    if (!at || sscanf(at + strlen(bar), "%u,%u %ux%u", &x, &y, &width, &height) != 4)
        fail_msg("no place for an address in %s", text);
    free(text);
    click(x + width / 2, y + height / 2);
    select_all();
    type("file:///tmp/page.html\n");
    await_window("Read by the window list - Chromium");
    text = hear(tree);
    assert_contains(text, "\"Press this\"");
    free(text);
}

static void the_screen_takes_another_size(void **state)
{
    struct wait w = patience();
    struct error err = ERROR_INIT;
    struct display_frame frame;
    (void)state;

    need_clone();
    assert_ok(vm_display_resize(vm, guest, 1000, 700, &w, &err), err);
    take_picture(&frame);
    assert_int_equal(frame.width, 1000);
    assert_int_equal(frame.height, 700);
    display_frame_fini(&frame);
    assert_false(vm_display_resize(vm, guest, 0, 700, &w, &err));
    assert_code(err, ERR_INVALID);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_clone_shows_the_open_browser),
        cmocka_unit_test(a_click_on_the_panel_opens_a_terminal),
        cmocka_unit_test(what_is_typed_arrives),
        cmocka_unit_test(the_browser_opens_a_page),
        cmocka_unit_test(the_screen_takes_another_size),
    };

    return cmocka_run_group_tests(tests, open_world, close_world);
}
