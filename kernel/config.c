#include "kernel/config.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "kernel/base/fd.h"
#include "kernel/base/json.h"
#include "kernel/base/json_refuse.h"
#include "kernel/base/paths.h"
#include "kernel/computer/egress.h"
#include "kernel/computers_ceiling.h"
#include "kernel/config_internal.h"
#include "kernel/cpus.h"

#define FILE_MAX_BYTES (1u << 20)
#define COMMAND_LINE   "command line"

/* ---- what a field table cannot check ---- */

static bool is_choice(const char *const *choices, const char *value)
{
    for (; *choices; choices++) {
        if (!strcmp(*choices, value))
            return true;
    }
    return false;
}

static bool refuse_choice(const struct config_string *s, const char *value, struct error *err)
{
    struct json_field field = { .kind = JSON_KIND_ENUM, .choices = s->choices };
    struct json_place section = { .key = s->section };
    struct json_place at = { .up = &section, .key = s->key };
    json_t *given = json_string(value);

    if (given)
        (void)json_refuse_choice(&field, &at, given, err);
    else
        (void)error_set(err, ERR_NOMEM, "configuration");
    json_decref(given);
    return false;
}

/* Puts the defaults in where a string was left out, and checks the closed sets. */
static bool settle_strings(struct config *c, struct error *err)
{
    for (const struct config_string *s = config_strings; s->section; s++) {
        const char **value = (const char **)(void *)((char *)c + s->offset);

        if (!*value)
            *value = s->fallback;
        if (s->choices && !is_choice(s->choices, *value))
            return refuse_choice(s, *value, err);
    }
    return true;
}

static bool check_name(const char *key, const char *name, struct error *err)
{
    size_t good = strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-");

    if (!name[good])
        return true;
    return error_set(err, ERR_INVALID,
                     "%s must have only letters, digits, '_', '.' and '-', but is \"%s\"", key,
                     name);
}

static bool check_folders(const char *key, const json_t *folders, struct error *err)
{
    for (size_t i = 0; i < json_array_size(folders); i++) {
        const char *path = json_string_value(json_array_get(folders, i));

        if (path[0] != '/')
            return error_set(err, ERR_INVALID,
                             "%s[%zu] must be an absolute path, but is \"%.200s\"", key, i, path);
    }
    return true;
}

/* The strings of @array, borrowed, for free(). */
static const char **texts_of(const json_t *array, struct error *err)
{
    const char **texts = calloc(json_array_size(array) + 1, sizeof *texts);

    if (!texts) {
        error_set(err, ERR_NOMEM, "configuration");
        return NULL;
    }
    for (size_t i = 0; i < json_array_size(array); i++)
        texts[i] = json_string_value(json_array_get(array, i));
    return texts;
}

static bool check_rules(const char *key, const json_t *rules, const json_t *ceiling,
                        struct error *err)
{
    size_t count = json_array_size(rules);
    const char **texts = texts_of(rules, err);
    struct egress_rules *parsed;
    bool ok;

    if (!texts)
        return false;
    parsed = egress_rules_new(texts, count, err);
    ok = parsed && computers_ceiling_check(ceiling, texts, count, err);
    egress_rules_free(parsed);
    free(texts);
    return ok || error_prefix(err, "%s", key);
}

static bool check_queue(const char *section, const struct config_queue *q, struct error *err)
{
    if (q->workers_min > q->workers)
        return error_set(err, ERR_INVALID,
                         "%s.workers_min must be at most %s.workers, %lld, but is %lld", section,
                         section, (long long)q->workers, (long long)q->workers_min);
    return cpus_check(q->cpus, err) || error_prefix(err, "%s.cpus", section);
}

static bool check_queues(const struct config *c, struct error *err)
{
    return check_queue("tool", &c->tool.calls, err) && check_queue("llm", &c->llm.calls, err) &&
           check_queue("memory", &c->memory.calls, err) &&
           check_queue("storage", &c->storage.calls, err);
}

static bool check_path(const char *key, const char *path, struct error *err)
{
    return !*path || *path == '/' ||
           error_set(err, ERR_INVALID, "%s must be an absolute path, but is \"%.200s\"", key, path);
}

static bool check_users(const json_t *users, struct error *err)
{
    for (size_t i = 0; i < json_array_size(users); i++) {
        const char *id = json_string_value(json_array_get(users, i));

        if (!*id || id[strspn(id, "0123456789")])
            return error_set(err, ERR_INVALID,
                             "serve.users[%zu] must be a user id in digits (see `id -u NAME`), but "
                             "is \"%.64s\"",
                             i, id);
    }
    return true;
}

static bool check_bucket(const struct config *c, struct error *err)
{
    if (strcmp(c->storage.backend, "s3") != 0 || (*c->s3.endpoint && *c->s3.bucket))
        return true;
    return error_set(err, ERR_INVALID, "storage.backend s3 needs s3.endpoint and s3.bucket");
}

/* A name stands for one provider, and "sampling" for the host's own model. */
static bool check_providers(const json_t *providers, struct error *err)
{
    for (size_t i = 0; i < json_array_size(providers); i++) {
        const json_t *one = json_array_get(providers, i);
        const char *name = json_string_value(json_object_get(one, "name"));
        const char *url = json_string_value(json_object_get(one, "base_url"));

        if (!strcmp(name, "sampling"))
            return error_set(err, ERR_INVALID,
                             "llm.providers[%zu].name: \"sampling\" is the MCP host's own model; "
                             "choose another",
                             i);
        for (size_t k = 0; k < i; k++) {
            if (!strcmp(name,
                        json_string_value(json_object_get(json_array_get(providers, k), "name"))))
                return error_set(err, ERR_INVALID,
                                 "llm.providers[%zu].name \"%.64s\" is used twice", i, name);
        }
        if (url && strncmp(url, "http://", 7) != 0 && strncmp(url, "https://", 8) != 0)
            return error_set(err, ERR_INVALID,
                             "llm.providers[%zu].base_url must begin with https:// or http://", i);
    }
    return true;
}

static bool check_all(const struct config *c, struct error *err)
{
    if (*c->audit.dir && *c->audit.dir != '/')
        return error_set(err, ERR_INVALID, "audit.dir must be an absolute path, but is \"%.200s\"",
                         c->audit.dir);
    return check_queues(c, err) && check_path("storage.dir", c->storage.dir, err) &&
           check_path("memory.dir", c->memory.dir, err) &&
           check_path("vm.program", c->vm.program, err) &&
           check_path("vm.images_dir", c->vm.images_dir, err) &&
           check_path("serve.socket", c->serve.socket, err) && check_users(c->serve.users, err) &&
           check_bucket(c, err) && check_providers(c->llm.providers, err) &&
           check_name("agent.name", c->agent.name, err) &&
           check_name("agent.group", c->agent.group, err) &&
           check_folders("files.upload_from", c->files.upload_from, err) &&
           check_folders("files.download_to", c->files.download_to, err) &&
           check_rules("computer.allow_ceiling", c->computer.allow_ceiling, NULL, err) &&
           check_rules("computer.allow", c->computer.allow, c->computer.allow_ceiling, err);
}

/* ---- loading ---- */

static json_t *parse_file(const char *text, size_t len, struct error *err)
{
    json_t *root = json_parse(text, len, err);

    if (!root || json_is_object(root))
        return root;
    json_decref(root);
    error_set(err, ERR_INVALID, "the file must hold one JSON object");
    return NULL;
}

/* Lays a copy of @overrides over @root. */
static bool merge(json_t *root, json_t *overrides, struct error *err)
{
    struct config scratch;
    json_t *copy;
    bool ok;

    /* By itself first, so that a mistake is blamed on the right one. */
    if (!json_fields_read(config_fields, overrides, &scratch, err))
        return error_prefix(err, COMMAND_LINE);
    copy = json_deep_copy(overrides);
    ok = copy && json_object_update_recursive(root, copy) == 0;
    json_decref(copy);
    return ok || error_set(err, ERR_NOMEM, "configuration");
}

static bool fill(struct config *c, const char *name, json_t *overrides, struct error *err)
{
    if (!json_fields_read(config_fields, c->json, c, err))
        return error_prefix(err, "%s", name);
    if (overrides) {
        if (!merge(c->json, overrides, err))
            return false;
        if (!json_fields_read(config_fields, c->json, c, err))
            return error_prefix(err, "%s", name);
    }
    if (!settle_strings(c, err) || !check_all(c, err))
        return error_prefix(err, "%s%s", name, overrides ? " and " COMMAND_LINE : "");
    return true;
}

struct config *config_parse(const char *text, size_t len, const char *source, json_t *overrides,
                            struct error *err)
{
    const char *name = *source ? source : "configuration";
    size_t source_bytes = strlen(source) + 1;
    struct config *c = calloc(1, sizeof *c + source_bytes);

    if (!c) {
        error_set(err, ERR_NOMEM, "configuration");
        return NULL;
    }
    memcpy(c + 1, source, source_bytes);
    c->source = (const char *)(c + 1);
    c->json = text ? parse_file(text, len, err) : json_object();
    if (c->json && fill(c, name, overrides, err))
        return c;
    if (!c->json && text)
        error_prefix(err, "%s", name);
    else if (!c->json)
        error_set(err, ERR_NOMEM, "configuration");
    config_free(c);
    return NULL;
}

struct config *config_load(const char *path, json_t *overrides, struct error *err)
{
    struct config *config = NULL;
    char *usual = NULL, *text;
    size_t len;

    if (!path) {
        usual = paths_get(PATHS_CONFIG, "config.json", NULL);
        if (!usual || access(usual, F_OK) < 0) {
            free(usual);
            return config_parse(NULL, 0, "", overrides, err);
        }
        path = usual;
    }
    text = fd_read_file(AT_FDCWD, path, FILE_MAX_BYTES, &len, err);
    if (text)
        config = config_parse(text, len, path, overrides, err);
    else
        error_prefix(err, "configuration");
    free(text);
    free(usual);
    return config;
}

void config_free(struct config *c)
{
    if (!c)
        return;
    json_decref(c->json);
    free(c);
}
