/* aios image: the disks of virtual machines, built from recipes. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernel/base/clock.h"
#include "kernel/base/fd.h"
#include "kernel/base/json.h"
#include "kernel/base/paths.h"
#include "tools/cli/cli.h"
#include "vmctl/image.h"
#include "vmctl/image_build.h"
#include "vmctl/image_recipe.h"

#define BUILD_NS  (60 * 60 * CLOCK_NS_PER_S)
#define REMOVE_NS (60 * CLOCK_NS_PER_S)

struct order {
    bool again, as_json;
    const char *what; /* a recipe, an image, or NULL */
    char *store;
};

static const struct cli_option options[] = {
    { "again", NULL, "build: although the image is there" },
    { "json", NULL, "list: one JSON array; show: the record as it is" },
    { NULL },
};

static const struct cli_command command = {
    .name = "image",
    .synopsis = "build RECIPE | list | show IMAGE | remove IMAGE | verify [IMAGE] [OPTIONS]",
    .about =
        "  build   make an image from a recipe (\"base\", or the path of a folder), unless it is\n"
        "          there; progress goes to standard error, the image's hash to standard output\n"
        "  list    the images that are there\n"
        "  show    what an image is made of\n"
        "  remove  remove an image\n"
        "  verify  compare each file with the sum it had, of one image or of all\n"
        "\n"
        "A recipe is a folder with a file \"packages\" (one Debian package a line), and if need "
        "be\n"
        "\"script\" (run as root inside) and \"recipe.json\" (description, kernel, disk_mib). "
        "Named\n"
        "recipes are looked for in the folder \"images\" of the configuration folder, then among\n"
        "those of aios. An image is meant by its hash, the beginning of it, or its recipe's name,\n"
        "which means the youngest. Packages come from where apt of this machine gets Debian's.\n"
        "\n"
        "Exit codes: 0 success; 1 failed, or an image is damaged; 2 wrong usage.",
    .options = options,
};

static bool on_option(void *arg, const char *name, const char *value, struct error *err)
{
    struct order *o = arg;

    (void)value;
    (void)err;
    if (strcmp(name, "again") == 0)
        o->again = true;
    else
        o->as_json = true;
    return true;
}

static void progress(void *arg, const char *text)
{
    (void)arg;
    fprintf(stderr, "aios image: %s\n", text);
}

static bool build(const struct order *o, struct error *err)
{
    char *own = paths_get(PATHS_CONFIG, "images", NULL);
    char *folder = image_recipe_folder(o->what, own, err);
    char hash[SHA256_HEX];
    bool ok =
        folder &&
        image_build(&(struct image_build){ .recipe = folder,
                                           .store = o->store,
                                           .deadline_ns = clock_add_ns(clock_now_ns(), BUILD_NS),
                                           .again = o->again,
                                           .say = progress },
                    hash, err);

    free(folder);
    free(own);
    if (ok)
        printf("%s\n", hash);
    return ok;
}

/* ---- looking ---- */

static const char *text_of(const json_t *record, const char *key)
{
    const char *text = json_string_value(json_object_get(record, key));

    return text ? text : "";
}

static uint64_t bytes_of(const json_t *record)
{
    uint64_t total = 0;
    json_t *file;
    size_t i;

    json_array_foreach (json_object_get(record, "files"), i, file) {
        total += (uint64_t)json_integer_value(json_object_get(file, "bytes"));
    }
    return total;
}

static void print_row(void *arg, const char *hash, const json_t *record)
{
    (void)arg;
    printf("%.12s  %-12s %-10s %-8s %s\n", hash, record ? text_of(record, "name") : "?",
           text_of(record, "suite"), text_of(record, "architecture"),
           record ? text_of(record, "description") : "its record is damaged");
}

static void add_row(void *arg, const char *hash, const json_t *record)
{
    json_t **rows = arg;
    json_t *row = json_pack("{s:s, s:b}", "hash", hash, "damaged", record == NULL);
    static const char *const keys[] = { "name",         "description", "suite",
                                        "architecture", "builder",     "kernel" };

    for (size_t i = 0; i < ARRAY_LEN(keys) && record; i++)
        (void)json_object_set(row, keys[i], json_object_get(record, keys[i]));
    if (*rows && json_array_append_new(*rows, row) != 0) {
        json_decref(*rows);
        *rows = NULL;
    }
}

static bool print_json(const json_t *value, struct error *err)
{
    CLEANUP(buf_fini) struct buf text = BUF_INIT;

    if (!value || !json_write(value, &text))
        return error_set(err, ERR_NOMEM, "the text of an image");
    printf("%s\n", buf_str(&text));
    return true;
}

static bool list(const struct order *o, struct error *err)
{
    json_t *rows = o->as_json ? json_array() : NULL;
    bool ok = o->as_json ? image_list(o->store, add_row, &rows, err) && print_json(rows, err)
                         : image_list(o->store, print_row, NULL, err);

    json_decref(rows);
    return ok;
}

static bool show(const struct order *o, struct error *err)
{
    char *hash = image_find(o->store, o->what, err);
    json_t *record = hash ? image_record(o->store, hash, err) : NULL;
    json_t *version, *file;
    const char *name;
    size_t i;
    bool ok = record != NULL;

    if (record && o->as_json) {
        ok = print_json(record, err);
    } else if (record) {
        printf("image         %s\nname          %s\ndescription   %s\nsuite         %s\n"
               "architecture  %s\nkernel        %s\nfolder        %s/%s\nbytes         %" PRIu64
               "\n\n",
               hash, text_of(record, "name"), text_of(record, "description"),
               text_of(record, "suite"), text_of(record, "architecture"), text_of(record, "kernel"),
               o->store, hash, bytes_of(record));
        json_array_foreach (json_object_get(record, "files"), i, file) {
            if (!strchr(text_of(file, "path"), '/'))
                printf("%s  %s\n", text_of(file, "sha256"), text_of(file, "path"));
        }
        printf("\n");
        json_object_foreach (json_object_get(record, "packages"), name, version) {
            printf("%-32s %s\n", name, json_string_value(version));
        }
    }
    json_decref(record);
    free(hash);
    return ok;
}

/* ---- checking and removing ---- */

struct check {
    const char *store;
    unsigned images, damaged;
};

static void print_damage(void *arg, const char *path, const char *what)
{
    printf("%.12s  %s: %s\n", (const char *)arg, path, what);
}

static void check_one(void *arg, const char *hash, const json_t *record)
{
    struct check *c = arg;
    struct error err = ERROR_INIT;
    unsigned damaged = 0;

    c->images++;
    if (!image_verify(c->store, hash, print_damage, unconst(hash), &damaged, &err))
        print_damage(unconst(hash), IMAGE_RECORD, err.text);
    else if (damaged == 0)
        printf("%.12s  %s: ok\n", hash, text_of(record, "name"));
    c->damaged += damaged > 0 || err.code != ERR_NONE;
}

static bool verify(const struct order *o, struct error *err)
{
    struct check c = { .store = o->store };

    if (o->what) {
        char *hash = image_find(o->store, o->what, err);
        json_t *record = hash ? image_record(o->store, hash, NULL) : NULL;

        if (!hash)
            return false;
        check_one(&c, hash, record);
        json_decref(record);
        free(hash);
    } else if (!image_list(o->store, check_one, &c, err)) {
        return false;
    }
    return c.damaged == 0 || error_set(err, ERR_PROTOCOL,
                                       "%u of %u images damaged; `aios image remove` and build "
                                       "them again",
                                       c.damaged, c.images);
}

static void tell_waiting(void *arg)
{
    progress(arg, "waiting for a build to end");
}

static bool remove_one(const struct order *o, struct error *err)
{
    char *hash = image_find(o->store, o->what, err);
    int lock = -1;
    bool ok;

    if (hash)
        lock =
            image_lock(o->store, clock_add_ns(clock_now_ns(), REMOVE_NS), tell_waiting, NULL, err);
    ok = lock >= 0 && image_remove(o->store, hash, err);
    fd_close(lock);
    free(hash);
    return ok;
}

/* ---- which ---- */

enum need { NEED_NONE, NEED_ONE, NEED_ANY };

static const struct {
    const char *name;
    bool (*fn)(const struct order *o, struct error *err);
    enum need need;
} actions[] = {
    { "build", build, NEED_ONE },       { "list", list, NEED_NONE },    { "show", show, NEED_ONE },
    { "remove", remove_one, NEED_ONE }, { "verify", verify, NEED_ANY },
};

/* `aios image build base --again`: options may stand before, between and after. */
static bool read_order(struct order *o, int argc, char **argv, const char **ret_action,
                       bool *ret_helped, struct error *err)
{
    int at = 0;

    *ret_action = NULL;
    while (at < argc) {
        int next;

        if (!cli_parse(&command, argc - at, argv + at, on_option, o, &next, ret_helped, err))
            return false;
        at += next;
        if (*ret_helped || at >= argc)
            return true;
        if (!*ret_action)
            *ret_action = argv[at];
        else if (!o->what)
            o->what = argv[at];
        else
            return error_set(err, ERR_INVALID, "\"%.100s\" is not expected", argv[at]);
    }
    return true;
}

int cli_image(int argc, char **argv)
{
    struct order o = { .again = false };
    struct error err = ERROR_INIT;
    const char *action;
    bool helped = false;
    size_t i;
    bool ok;

    if (!read_order(&o, argc, argv, &action, &helped, &err))
        return cli_fail("image", CLI_USAGE, &err);
    if (helped)
        return CLI_OK;
    for (i = 0; i < ARRAY_LEN(actions); i++)
        if (action && strcmp(actions[i].name, action) == 0)
            break;
    if (i == ARRAY_LEN(actions) || (actions[i].need == NEED_ONE && !o.what) ||
        (actions[i].need == NEED_NONE && o.what)) {
        error_set(&err, ERR_INVALID, "usage: aios image %s", command.synopsis);
        return cli_fail("image", CLI_USAGE, &err);
    }
    o.store = paths_get(PATHS_CACHE, "images", &err);
    ok = o.store && actions[i].fn(&o, &err);
    free(o.store);
    return ok ? CLI_OK : cli_fail("image", CLI_FAILED, &err);
}
