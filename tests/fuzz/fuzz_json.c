/*
 * What json_write() prints parses back to an equal value and prints the same again; reading any
 * value through a field table ends, and what a table accepted can be written and read again.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "kernel/base/json.h"
#include "kernel/base/utf8.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct inner {
    int64_t count;
    json_t *allow;
};

struct outer {
    const char *name;
    struct json_text text;
    int64_t timeout_ms;
    double scale;
    bool pty;
    int mode;
    json_t *argv;
    json_t *env;
    struct inner network;
    json_t *rules;
    json_t *any;
};

static const char *const modes[] = { "one", "two", NULL };

static const struct json_field inner_fields[] = {
    { .name = "count",
      .kind = JSON_KIND_INT,
      .offset = offsetof(struct inner, count),
      .min = -9,
      .max = 9 },
    { .name = "allow",
      .kind = JSON_KIND_STRINGS,
      .offset = offsetof(struct inner, allow),
      .max = 3 },
    { .name = NULL },
};

static const struct json_field outer_fields[] = {
    { .name = "name",
      .kind = JSON_KIND_STRING,
      .offset = offsetof(struct outer, name),
      .min = 1,
      .max = 8 },
    { .name = "text", .kind = JSON_KIND_TEXT, .offset = offsetof(struct outer, text) },
    { .name = "timeout_ms",
      .kind = JSON_KIND_INT,
      .offset = offsetof(struct outer, timeout_ms),
      .min = 1,
      .max = 600000,
      .fallback = 5000 },
    { .name = "scale", .kind = JSON_KIND_NUMBER, .offset = offsetof(struct outer, scale) },
    { .name = "pty", .kind = JSON_KIND_BOOL, .offset = offsetof(struct outer, pty) },
    { .name = "mode",
      .kind = JSON_KIND_ENUM,
      .offset = offsetof(struct outer, mode),
      .choices = modes,
      .fallback = -1 },
    { .name = "argv", .kind = JSON_KIND_STRINGS, .offset = offsetof(struct outer, argv) },
    { .name = "env", .kind = JSON_KIND_MAP, .offset = offsetof(struct outer, env), .max = 4 },
    { .name = "network",
      .kind = JSON_KIND_OBJECT,
      .offset = offsetof(struct outer, network),
      .fields = inner_fields },
    { .name = "rules",
      .kind = JSON_KIND_OBJECTS,
      .offset = offsetof(struct outer, rules),
      .fields = inner_fields },
    { .name = "any", .kind = JSON_KIND_ANY, .offset = offsetof(struct outer, any) },
    { .name = NULL },
};

static void check(bool holds)
{
    if (!holds)
        abort();
}

static void check_round_trip(const json_t *value)
{
    struct buf printed = BUF_INIT, again = BUF_INIT;
    struct error err = ERROR_INIT;
    json_t *parsed;

    check(json_write(value, &printed));
    check(utf8_valid(buf_str(&printed), printed.len));
    check(!memchr(buf_str(&printed), '\n', printed.len));
    parsed = json_parse(buf_str(&printed), printed.len, &err);
    check(parsed && json_equal(value, parsed));
    check(json_write(parsed, &again));
    check(again.len == printed.len && !memcmp(again.data, printed.data, printed.len));
    json_decref(parsed);
    buf_fini(&printed);
    buf_fini(&again);
}

static void check_table(json_t *value)
{
    struct error err = ERROR_INIT;
    struct outer args, reread;
    json_t *written;

    if (!json_fields_read(outer_fields, value, &args, &err)) {
        check(err.code == ERR_INVALID && utf8_valid(err.text, strlen(err.text)));
        return;
    }
    written = json_fields_write(outer_fields, &args);
    check(written);
    check(json_fields_read(outer_fields, written, &reread, &err));
    check(args.timeout_ms == reread.timeout_ms && args.mode == reread.mode &&
          args.text.len == reread.text.len && args.pty == reread.pty &&
          args.network.count == reread.network.count && !args.name == !reread.name);
    json_decref(written);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct error err = ERROR_INIT;
    json_t *value = json_parse((const char *)data, size, &err);
    json_t *text = json_string_lossy((const char *)data, size);

    check(text);
    check_round_trip(text);
    json_decref(text);
    if (!value) {
        check(err.code == ERR_INVALID || err.code == ERR_LIMIT);
        check(utf8_valid(err.text, strlen(err.text)));
        return 0;
    }
    check_round_trip(value);
    check_table(value);
    json_decref(value);
    return 0;
}
