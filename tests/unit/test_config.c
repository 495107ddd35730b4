#include "kernel/config.h"

#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include "kernel/base/fd.h"
#include "kernel/base/utf8.h"
#include "kernel/computers_ceiling.h"
#include "kernel/config_internal.h"
#include "tests/support/check.h"

static struct config *parse(const char *text, json_t *overrides, struct error *err)
{
    return config_parse(text, strlen(text), "test.json", overrides, err);
}

static json_t *json(const char *text)
{
    json_t *value = json_loads(text, JSON_DECODE_ANY, NULL);

    assert_non_null(value);
    return value;
}

static void every_key_has_its_default(void **state)
{
    struct error err = ERROR_INIT;
    CLEANUP(config_freep) struct config *c = parse("{}", NULL, &err);
    (void)state;

    assert_ok(c != NULL, err);
    assert_string_equal(c->agent.name, "default");
    assert_string_equal(c->agent.group, "");
    assert_string_equal(c->computer.kind, "sandbox");
    assert_null(c->computer.allow);
    assert_int_equal(c->computer.memory_mb, 1024);
    assert_int_equal(c->computer.disk_mb, 512);
    assert_int_equal(c->computer.cpus_milli, 0);
    assert_int_equal(c->computer.pids, 512);
    assert_int_equal(c->computer.idle_timeout_s, 3600);
    assert_int_equal(c->computer.max_per_agent, 32);
    assert_null(c->computer.allow_ceiling);
    assert_string_equal(c->sandbox.cgroup, "auto");
    assert_int_equal(c->sandbox.host_uid, 1879048192);
    assert_int_equal(c->sandbox.pool_size, 2);
    assert_int_equal(c->vm.pool_size, 1);
    assert_null(c->files.upload_from);
    assert_null(c->files.download_to);
    assert_true(c->files.client_roots);
    assert_string_equal(c->tool.calls.policy, "fifo");
    assert_int_equal(c->tool.calls.queue, 1024);
    assert_int_equal(c->tool.calls.workers, 128);
    assert_int_equal(c->tool.call_timeout_ms, 45000);
    assert_null(c->access.groups);
    assert_null(c->access.rules);
    assert_true(c->audit.enabled);
    assert_false(c->audit.power_safe);
    assert_string_equal(c->audit.dir, "");
    assert_string_equal(c->log.level, "warn");
    assert_string_equal(c->source, "test.json");
}

static void reads_every_key(void **state)
{
    static const char text[] =
        "{\"agent\":{\"name\":\"al.i-c_e\",\"group\":\"team\"},"
        "\"computer\":{\"kind\":\"sandbox\",\"allow\":[\"pypi.org:443\"],\"memory_mb\":64,"
        "\"disk_mb\":32,\"cpus_milli\":500,\"pids\":16,\"idle_timeout_s\":0,\"max_per_agent\":1,"
        "\"allow_ceiling\":[\"*\"]},"
        "\"sandbox\":{\"cgroup\":\"v1\",\"host_uid\":100000,\"pool_size\":0},"
        "\"files\":{\"upload_from\":[\"/a\"],\"download_to\":[\"/b\"],\"client_roots\":false},"
        "\"tool\":{\"policy\":\"fifo\",\"queue\":1,\"workers\":2,\"call_timeout_ms\":1000},"
        "\"access\":{\"groups\":[\"file\"],\"rules\":[{\"tool\":\"*\",\"decision\":\"deny\"}]},"
        "\"audit\":{\"enabled\":false,\"power_safe\":true,\"dir\":\"/var/audit\"},"
        "\"log\":{\"level\":\"debug\"}}";
    struct error err = ERROR_INIT;
    CLEANUP(config_freep) struct config *c = parse(text, NULL, &err);
    (void)state;

    assert_ok(c != NULL, err);
    assert_string_equal(c->agent.name, "al.i-c_e");
    assert_int_equal(json_array_size(c->computer.allow), 1);
    assert_int_equal(c->computer.idle_timeout_s, 0);
    assert_string_equal(c->sandbox.cgroup, "v1");
    assert_false(c->files.client_roots);
    assert_int_equal(json_array_size(c->access.rules), 1);
    assert_false(c->audit.enabled);
    assert_string_equal(c->audit.dir, "/var/audit");
    assert_string_equal(c->log.level, "debug");
}

static void refuses_what_is_wrong_by_name(void **state)
{
    static const struct {
        const char *text;
        const char *problem; /* after "test.json: " */
    } rows[] = {
        { "{\n  \"log\": {,\n", "line 2, column 11: " },
        { "", "line 1, column 0: " },
        { "[]", "the file must hold one JSON object" },
        { "{} {}", "line 1, column 4: " },
        { "{\"log\":{},\"log\":{}}", "duplicate" },
        { "{\"computers\":{}}", "unknown key \"computers\"; did you mean \"computer\"?" },
        { "{\"computer\":{\"memory\":1}}", "unknown key \"computer.memory\"" },
        { "{\"computer\":7}", "computer must be an object" },
        { "{\"computer\":{\"memory_mb\":1}}", "computer.memory_mb must be an integer from 16 to" },
        { "{\"computer\":{\"memory_mb\":\"1G\"}}", "computer.memory_mb must be an integer" },
        { "{\"computer\":{\"kind\":\"mainframe\"}}",
          "computer.kind must be one of \"sandbox\", \"vm\"" },
        { "{\"sandbox\":{\"cgroup\":\"v3\"}}",
          "sandbox.cgroup must be one of \"auto\", \"v1\", \"v2\", \"none\"" },
        { "{\"tool\":{\"policy\":\"lifo\"}}", "did you mean \"fifo\"?" },
        { "{\"llm\":{\"policy\":\"round\"}}", "llm.policy must be one of \"fifo\", \"priority\"" },
        { "{\"llm\":{\"quantum_ms\":0}}", "llm.quantum_ms must be an integer from 1" },
        { "{\"storage\":{\"workers\":2,\"workers_min\":3}}",
          "storage.workers_min must be at most storage.workers, 2, but is 3" },
        { "{\"memory\":{\"cpus\":\"all\"}}", "memory.cpus: processors are" },
        { "{\"tool\":{\"cpus\":\"3-1\"}}", "tool.cpus: processors are" },
        { "{\"tool\":{\"workers\":100000}}", "tool.workers must be an integer from 1 to" },
        { "{\"log\":{\"level\":\"loud\"}}", "log.level must be one of \"error\", \"warn\"" },
        { "{\"sandbox\":{\"host_uid\":0}}", "sandbox.host_uid must be an integer from 1" },
        { "{\"computer\":{\"allow\":\"*\"}}", "computer.allow must be an array of strings" },
        { "{\"computer\":{\"allow\":[\"*:443\",\"http://x\"]}}",
          "computer.allow: network rule \"http://x\": give HOST:PORT" },
        { "{\"computer\":{\"allow_ceiling\":[\"a:0\"]}}", "computer.allow_ceiling: network rule" },
        { "{\"computer\":{\"allow\":[\"b.org\"],\"allow_ceiling\":[\"a.org\"]}}",
          "computer.allow: network rule \"b.org\" goes beyond" },
        { "{\"files\":{\"upload_from\":[\"/a\",\"b\"]}}",
          "files.upload_from[1] must be an absolute path, but is \"b\"" },
        { "{\"files\":{\"download_to\":[\"\"]}}", "files.download_to[0] must be an absolute path" },
        { "{\"vm\":{\"swap_after_s\":-1}}", "vm.swap_after_s must be" },
        { "{\"vm\":{\"program\":\"qemu\"}}", "vm.program must be an absolute path" },
        { "{\"vm\":{\"images_dir\":\"images\"}}", "vm.images_dir must be an absolute path" },
        { "{\"audit\":{\"dir\":\"audit\"}}", "audit.dir must be an absolute path" },
        { "{\"agent\":{\"name\":\"a b\"}}", "agent.name must have only letters" },
        { "{\"agent\":{\"name\":\"\"}}", "agent.name must be a string of 1 to 64 characters" },
        { "{\"access\":{\"rules\":[{\"tool\":\"*\"}]}}",
          "\"access.rules[0].decision\" is required" },
        { "{\"access\":{\"rules\":[{\"tool\":\"*\",\"decision\":\"maybe\"}]}}",
          "access.rules[0].decision must be one of \"allow\", \"deny\", \"ask\"" },
        { "{\"access\":{\"rules\":[{\"tool\":\"*\",\"decision\":\"ask\",\"args\":{\"path\":7}}]}}",
          "access.rules[0].args.path" },
        { "{\"access\":{\"quotas\":[{},{\"max_in_flight\":-1}]}}",
          "access.quotas[1].max_in_flight" },
        { "{\"access\":{\"ask_timeout_s\":0}}", "access.ask_timeout_s must be" },
        { "{\"audit\":{\"max_mb\":-1}}", "audit.max_mb must be" },
        { "{\"access\":{\"rules\":[{\"tool\":\"*\",\"decision\":\"deny\",\"user\":\"x\"}]}}",
          "unknown key \"access.rules[0].user\"" },
        { "{\"agent\":{\"name\":\"\\u0000\"}}", "agent.name must not contain NUL" },
        { "{\"agent\":{\"group\":\"a b\"}}", "agent.group must have only letters" },
        { "{\"storage\":{\"dir\":\"here\"}}",
          "storage.dir must be an absolute path, but is \"here\"" },
        { "{\"memory\":{\"dir\":\"./here\"}}", "memory.dir must be an absolute path" },
        { "{\"serve\":{\"socket\":\"aios.sock\"}}", "serve.socket must be an absolute path" },
        { "{\"serve\":{\"users\":[\"1000\",\"bob\"]}}",
          "serve.users[1] must be a user id in digits (see `id -u NAME`), but is \"bob\"" },
        { "{\"serve\":{\"users\":[\"\"]}}", "serve.users[0] must be a user id in digits" },
        { "{\"serve\":{\"users\":[\"-1\"]}}", "serve.users[0] must be a user id in digits" },
        { "{\"storage\":{\"backend\":\"s3\"}}",
          "storage.backend s3 needs s3.endpoint and s3.bucket" },
        { "{\"storage\":{\"backend\":\"s3\"},\"s3\":{\"endpoint\":\"https://s3.test\"}}",
          "storage.backend s3 needs s3.endpoint and s3.bucket" },
        { "{\"storage\":{\"backend\":\"s3\"},\"s3\":{\"bucket\":\"b\"}}",
          "storage.backend s3 needs s3.endpoint and s3.bucket" },
        { "{\"llm\":{\"providers\":[{\"name\":\"sampling\",\"kind\":\"openai\"}]}}",
          "llm.providers[0].name: \"sampling\" is the MCP host's own model" },
        { "{\"llm\":{\"providers\":[{\"name\":\"a\",\"kind\":\"openai\"},"
          "{\"name\":\"b\",\"kind\":\"openai\"},{\"name\":\"a\",\"kind\":\"anthropic\"}]}}",
          "llm.providers[2].name \"a\" is used twice" },
        { "{\"llm\":{\"providers\":[{\"name\":\"a\",\"kind\":\"openai\","
          "\"base_url\":\"ftp://x\"}]}}",
          "llm.providers[0].base_url must begin with https:// or http://" },
    };
    (void)state;

    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct error err = ERROR_INIT;
        CLEANUP(config_freep) struct config *c = parse(rows[i].text, NULL, &err);

        if (c || err.code == ERR_NONE || strncmp(err.text, "test.json: ", 11) != 0 ||
            !strstr(err.text, rows[i].problem))
            fail_msg("%s: %s", rows[i].text, err.text);
    }
}

static void each_class_has_a_queue(void **state)
{
    struct error err = ERROR_INIT;
    CLEANUP(config_freep)
    struct config *c =
        parse("{\"tool\":{\"policy\":\"priority\",\"ageing_ms\":50,\"workers_min\":4},"
              "\"llm\":{\"policy\":\"rr\",\"quantum_ms\":250,\"fair\":true,\"cpus\":\"0-3,6\"},"
              "\"storage\":{\"policy\":\"edf\",\"workers\":1,\"queue\":9,\"cpus\":\"node0\"}}",
              NULL, &err);
    (void)state;

    assert_ok(c != NULL, err);
    assert_string_equal(c->tool.calls.policy, "priority");
    assert_int_equal(c->tool.calls.ageing_ms, 50);
    assert_int_equal(c->tool.calls.workers_min, 4);
    assert_int_equal(c->tool.calls.quantum_ms, 1000);
    assert_string_equal(c->tool.calls.cpus, "");
    assert_string_equal(c->llm.calls.policy, "rr");
    assert_int_equal(c->llm.calls.quantum_ms, 250);
    assert_int_equal(c->llm.calls.workers, 16);
    assert_true(c->llm.calls.fair);
    assert_string_equal(c->llm.calls.cpus, "0-3,6");
    assert_string_equal(c->memory.calls.policy, "fifo");
    assert_int_equal(c->memory.calls.workers, 4);
    assert_int_equal(c->memory.calls.ageing_ms, 500);
    assert_false(c->memory.calls.fair);
    assert_string_equal(c->storage.calls.policy, "edf");
    assert_int_equal(c->storage.calls.workers, 1);
    assert_int_equal(c->storage.calls.queue, 9);
    assert_string_equal(c->storage.calls.cpus, "node0");
}

static void what_is_overridden_goes_deep(void **state)
{
    json_t *overrides = json("{\"computer\":{\"pids\":99},\"log\":{\"level\":\"info\"},"
                             "\"tool\":{\"queue\":null}}");
    json_t *before = json_deep_copy(overrides);
    struct error err = ERROR_INIT;
    CLEANUP(config_freep)
    struct config *c = parse("{\"computer\":{\"memory_mb\":64,\"pids\":10},\"tool\":{\"queue\":5}}",
                             overrides, &err);
    (void)state;

    assert_ok(c != NULL, err);
    assert_int_equal(c->computer.memory_mb, 64);
    assert_int_equal(c->computer.pids, 99);
    assert_int_equal(c->tool.calls.queue, 1024);
    assert_string_equal(c->log.level, "info");
    assert_true(json_equal(overrides, before)); /* and is left as it was */
    json_decref(overrides);
    json_decref(before);
}

static void a_wrong_override_is_blamed_on_the_command_line(void **state)
{
    json_t *overrides = json("{\"computer\":{\"pid\":99}}");
    struct error err = ERROR_INIT;
    (void)state;

    assert_null(parse("{}", overrides, &err));
    assert_code(err, ERR_INVALID);
    assert_contains(err.text, "command line: unknown key \"computer.pid\"; did you mean");
    json_decref(overrides);
}

static void loads_the_users_file_or_the_defaults(void **state)
{
    static const char text[] = "{\"log\":{\"level\":\"info\"}}";
    char home[] = "/tmp/aios-config-XXXXXX", path[128];
    struct error err = ERROR_INIT;
    struct config *c;
    (void)state;

    assert_non_null(mkdtemp(home));
    assert_int_equal(setenv("AIOS_HOME", home, 1), 0);
    c = config_load(NULL, NULL, &err);
    assert_ok(c != NULL, err);
    assert_string_equal(c->source, "");
    assert_string_equal(c->log.level, "warn");
    config_free(c);

    (void)snprintf(path, sizeof path, "%s/config", home);
    assert_ok(fd_mkdirs(path, 0700, &err), err);
    (void)snprintf(path, sizeof path, "%s/config/config.json", home);
    assert_ok(fd_replace_file(path, text, sizeof text - 1, 0600, &err), err);
    c = config_load(NULL, NULL, &err);
    assert_ok(c != NULL, err);
    assert_string_equal(c->source, path);
    assert_string_equal(c->log.level, "info");
    config_free(c);

    (void)snprintf(path, sizeof path, "%s/none.json", home);
    assert_null(config_load(path, NULL, &err));
    assert_code(err, ERR_NOT_FOUND);
    assert_contains(err.text, "none.json");
    assert_int_equal(unsetenv("AIOS_HOME"), 0);
    assert_ok(fd_remove_tree(AT_FDCWD, home, NULL), err);
}

static void what_is_shown_has_every_key_and_loads_again(void **state)
{
    struct error err = ERROR_INIT;
    CLEANUP(config_freep)
    struct config *c = parse(
        "{\"computer\":{\"allow\":[\"a.org:1-2\"]},\"log\":{\"level\":\"info\"}}", NULL, &err);
    CLEANUP(config_freep) struct config *again = NULL;
    char *text, *text_again;
    json_t *shown;
    (void)state;

    assert_ok(c != NULL, err);
    text = config_show(c, &err);
    assert_ok(text != NULL, err);
    shown = json(text);
    for (const struct json_field *s = config_fields; s->name; s++) {
        for (const struct json_field *f = s->fields; f->name; f++) {
            if (!json_object_get(json_object_get(shown, s->name), f->name))
                fail_msg("%s.%s is not shown", s->name, f->name);
        }
    }
    assert_contains(text, "\n  \"log\": {\n    \"level\": \"info\"\n  }\n");
    assert_contains(text, "\"allow_ceiling\": null");
    again = parse(text, NULL, &err);
    assert_ok(again != NULL, err);
    text_again = config_show(again, &err);
    assert_string_equal(text, text_again);
    json_decref(shown);
    free(text);
    free(text_again);
}

static void describes_every_key(void **state)
{
    struct error err = ERROR_INIT;
    char *text = config_describe(&err);
    (void)state;

    assert_ok(text != NULL, err);
    for (const struct json_field *s = config_fields; s->name; s++) {
        for (const struct json_field *f = s->fields; f->name; f++) {
            char key[80];

            (void)snprintf(key, sizeof key, "\n%s.%s  (", s->name, f->name);
            assert_contains(text, key);
            if (!f->description || strlen(f->description) < 20)
                fail_msg("%s is not described", key);
            if (f->kind == JSON_KIND_STRING && !config_string_find(s->name, f->name))
                fail_msg("%s has no default", key);
        }
    }
    assert_contains(text, "computer.memory_mb  (integer, 16 to 1048576; default 1024)\n    Memory");
    assert_contains(
        text, "log.level  (one of \"error\", \"warn\", \"info\", \"debug\"; default \"warn\")");
    assert_contains(text, "agent.name  (string, 1 to 64 characters; default \"default\")");
    assert_contains(text, "    decision  (one of \"allow\", \"deny\", \"ask\"; required)");
    assert_contains(text, "    input_price  (number, 0 to 1000000)\n");
    assert_true(utf8_valid(text, strlen(text)));
    for (const char *line = text; *line; line += strcspn(line, "\n") + 1)
        assert_in_range(strcspn(line, "\n"), 0, 100);
    free(text);
}

static void the_ceiling_covers_only_what_it_surely_does(void **state)
{
    static const struct {
        const char *ceiling, *rule;
        bool covered;
    } rows[] = {
        { "a.org:443", "a.org:443", true },
        { "A.org.:443", "a.ORG:443", true },
        { "a.org:443", "a.org:80", false },
        { "a.org:443", "a.org", false },
        { "a.org", "a.org:443", true },
        { "a.org", "a.org:8080", false },
        { "a.org", "a.org", true },
        { "a.org:*", "a.org", true },
        { "a.org:*", "a.org:1-65535", true },
        { "a.org:1-65535", "a.org:*", true },
        { "a.org:2-65535", "a.org:*", false },
        { "a.org:8000-8010", "a.org:8000-8010", true },
        { "a.org:8000-8010", "a.org:8001-8011", false },
        { "a.org:443", "b.org:443", false },
        { "*.a.org:443", "x.a.org:443", true },
        { "*.a.org:443", "x.y.a.org:443", true },
        { "*.a.org:443", "a.org:443", false },
        { "*.a.org:443", "xa.org:443", false },
        { "*.a.org:443", "*.a.org:443", true },
        { "*.a.org:443", "*.x.a.org:443", true },
        { "*.x.a.org:443", "*.a.org:443", false },
        { "*.a.org:443", "*:443", false },
        { "x.a.org:443", "*.a.org:443", false },
        { "*:443", "a.org:443", true },
        { "*:443", "*.a.org:443", true },
        { "*:443", "*:443", true },
        { "*", "*:*", false },
        { "*:*", "10.0.0.7:80", false },
        { "*:*", "8.8.8.8:80", false },
        { "*:*", "[::1]:80", false },
        { "10.0.0.7:80", "10.0.0.7:80", true },
        { "10.0.0.0/8:80", "10.0.0.7:80", true },
        { "10.0.0.0/8:80", "10.1.0.0/16:80", true },
        { "10.1.0.0/16:80", "10.0.0.0/8:80", false },
        { "10.0.0.0/8:80", "11.0.0.1:80", false },
        { "0.0.0.0/0:80", "10.0.0.1:80", true },
        { "0.0.0.0/0:80", "[::1]:80", false },
        { "[::/0]:80", "10.0.0.1:80", false },
        { "[::/0]:80", "[::ffff:10.0.0.1]:80", false },
        { "0.0.0.0/0:80", "[::ffff:10.0.0.1]:80", true },
        { "[fc00::/7]:443", "[fd00::1]:443", true },
        { "[fc00::]/7:443", "[fd00::/8]:443", true },
        { "[fc00::/7]", "[fd00::1]", true },
        { "[fc00::/7]", "[2001:db8::1]", false },
        { "10.0.0.0/8:80", "a.org:80", false },
    };
    (void)state;

    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        json_t *ceiling = json_pack("[s, s]", "unrelated.example:1", rows[i].ceiling);
        struct error err = ERROR_INIT;
        bool covered = computers_ceiling_check(ceiling, &rows[i].rule, 1, &err);

        if (covered != rows[i].covered || (!covered && err.code != ERR_DENIED))
            fail_msg("%s within %s: %d %s", rows[i].rule, rows[i].ceiling, covered, err.text);
        json_decref(ceiling);
    }
}

static void a_ceiling_without_rules_allows_nothing(void **state)
{
    const char *rules[] = { "a.org:443" };
    json_t *ceiling = json_array();
    struct error err = ERROR_INIT;
    (void)state;

    assert_true(computers_ceiling_check(NULL, rules, 1, &err));
    assert_true(computers_ceiling_check(ceiling, rules, 0, &err));
    assert_false(computers_ceiling_check(ceiling, rules, 1, &err));
    assert_code(err, ERR_DENIED);
    assert_contains(err.text, "\"a.org:443\" goes beyond");
    assert_contains(err.text, "no network at all");
    json_decref(ceiling);
}

static void a_refusal_names_what_is_permitted(void **state)
{
    const char *rules[] = { "a.org:443", "b.org:443" };
    json_t *ceiling = json("[\"a.org\", \"*.example.org:443\"]");
    struct error err = ERROR_INIT;
    (void)state;

    assert_false(computers_ceiling_check(ceiling, rules, 2, &err));
    assert_contains(err.text, "\"b.org:443\" goes beyond");
    assert_contains(err.text, "you may ask: a.org *.example.org:443");
    json_decref(ceiling);
}

static void survives_every_allocation_failure(void **state)
{
    json_t *overrides = json("{\"log\":{\"level\":\"info\"}}");
    (void)state;

    FAULT_EACH(n)
    {
        struct error err = ERROR_INIT;
        struct config *c =
            parse("{\"computer\":{\"allow\":[\"a.org\",\"b.org\"]}}", overrides, &err);
        char *shown = c ? config_show(c, &err) : NULL;
        char *described = shown ? config_describe(&err) : NULL;

        FAULT_DONE(n);
        if (!n_last)
            assert_true(described || err.code == ERR_NOMEM);
        else
            assert_ok(described != NULL, err);
        config_free(c);
        free(shown);
        free(described);
    }
    json_decref(overrides);
}

static void names_a_choice_without_memory(void **state)
{
    (void)state;
    FAULT_EACH(n)
    {
        struct error err = ERROR_INIT;
        struct config *c = parse("{\"log\":{\"level\":\"loud\"}}", NULL, &err);

        FAULT_DONE(n);
        assert_null(c);
        assert_code(err, n_last ? ERR_INVALID : ERR_NOMEM);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_key_has_its_default),
        cmocka_unit_test(reads_every_key),
        cmocka_unit_test(refuses_what_is_wrong_by_name),
        cmocka_unit_test(each_class_has_a_queue),
        cmocka_unit_test(what_is_overridden_goes_deep),
        cmocka_unit_test(a_wrong_override_is_blamed_on_the_command_line),
        cmocka_unit_test(loads_the_users_file_or_the_defaults),
        cmocka_unit_test(what_is_shown_has_every_key_and_loads_again),
        cmocka_unit_test(describes_every_key),
        cmocka_unit_test(the_ceiling_covers_only_what_it_surely_does),
        cmocka_unit_test(a_ceiling_without_rules_allows_nothing),
        cmocka_unit_test(a_refusal_names_what_is_permitted),
        cmocka_unit_test(survives_every_allocation_failure),
        cmocka_unit_test(names_a_choice_without_memory),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
