#include "kernel/config_internal.h"

#include <string.h>

#include "kernel/agent.h"
#include "kernel/base/limits.h"

#define AT(section, member) \
    (offsetof(struct config, section.member) - offsetof(struct config, section))

#define NAME_MAX_CHARS 64
#define PATH_MAX_CHARS 4095
#define MAX_FOLDERS    64
#define MAX_ACCESS     256
#define MAX_ROLES      16
#define MAX_RULE_ARGS  16

/* Names have at most 64 characters, patterns for them a few more. */
#define PATTERN_MAX_CHARS 128

static const struct json_field agent_fields[] = {
    { .name = "name",
      .description =
          "Who asks when nothing else says so: the agent's name in rules and in the audit "
          "(letters, digits, '_', '.', '-').",
      .kind = JSON_KIND_STRING,
      .offset = AT(agent, name),
      .min = 1,
      .max = NAME_MAX_CHARS },
    { .name = "group",
      .description = "The group of that agent, for access rules; empty for none.",
      .kind = JSON_KIND_STRING,
      .offset = AT(agent, group),
      .max = NAME_MAX_CHARS },
    { .name = NULL },
};

static const struct json_field computer_fields[] = {
    { .name = "kind",
      .description = "What a new computer is made of when the agent does not say.",
      .kind = JSON_KIND_STRING,
      .offset = AT(computer, kind) },
    { .name = "image",
      .description =
          "The image of a new vm when the agent does not say, by name or hash (see `aios "
          "image`); empty for \"base\".  A sandbox has this machine's programs unless the agent "
          "says.",
      .kind = JSON_KIND_STRING,
      .offset = AT(computer, image),
      .max = NAME_MAX_CHARS },
    { .name = "allow",
      .description =
          "Where programs in a new computer may connect when the agent does not say: rules "
          "HOST:PORT, where HOST is a name, *.NAME, *, an address or a network, and PORT a "
          "number, a range or *; without :PORT it is 80 and 443.  None: no network.",
      .kind = JSON_KIND_STRINGS,
      .offset = AT(computer, allow),
      .max = LIMIT_EGRESS_RULES },
    { .name = "memory_mb",
      .description = "Memory of a new sandbox, in MiB.",
      .kind = JSON_KIND_INT,
      .offset = AT(computer, memory_mb),
      .min = 16,
      .max = 1 << 20,
      .fallback = 1024 },
    { .name = "disk_mb",
      .description = "What may be written in a new sandbox, in MiB.",
      .kind = JSON_KIND_INT,
      .offset = AT(computer, disk_mb),
      .min = 1,
      .max = 1 << 22,
      .fallback = 512 },
    { .name = "cpus_milli",
      .description = "CPU time of a new sandbox in thousandths of one CPU; 0 is all there are.",
      .kind = JSON_KIND_INT,
      .offset = AT(computer, cpus_milli),
      .min = 0,
      .max = 1024000 },
    { .name = "pids",
      .description = "Processes and threads that a new sandbox may have at once.",
      .kind = JSON_KIND_INT,
      .offset = AT(computer, pids),
      .min = 8,
      .max = 32768,
      .fallback = 512 },
    { .name = "idle_timeout_s",
      .description =
          "Seconds without a call or a running program after which a computer ends; 0 is "
          "never.",
      .kind = JSON_KIND_INT,
      .offset = AT(computer, idle_timeout_s),
      .min = 0,
      .max = 366 * 86400,
      .fallback = 3600 },
    { .name = "max_per_agent",
      .description = "Computers that one agent may have at once.",
      .kind = JSON_KIND_INT,
      .offset = AT(computer, max_per_agent),
      .min = 1,
      .max = LIMIT_COMPUTERS,
      .fallback = 32 },
    { .name = "allow_ceiling",
      .description =
          "The widest rules that an agent may ask for, written like allow: each of its own "
          "must be covered by one of these.  An empty list: no agent may ask for network.  "
          "None: no bound.",
      .kind = JSON_KIND_STRINGS,
      .offset = AT(computer, allow_ceiling),
      .max = LIMIT_EGRESS_RULES },
    { .name = NULL },
};

static const struct json_field sandbox_fields[] = {
    { .name = "cgroup",
      .description =
          "How the limits of sandboxes and virtual machines are held: by control groups of version "
          "1 or 2, without any (resource limits and watching), or the best that works here.",
      .kind = JSON_KIND_STRING,
      .offset = AT(sandbox, cgroup) },
    { .name = "host_uid",
      .description =
          "What a sandbox's user is on the host when the server runs as root: an id that "
          "nobody else has.",
      .kind = JSON_KIND_INT,
      .offset = AT(sandbox, host_uid),
      .min = 1,
      .max = 4294967294,
      .fallback = 1879048192 },
    { .name = "pool_size",
      .description = "Sandboxes that are kept ready; 0 makes each when it is asked for.",
      .kind = JSON_KIND_INT,
      .offset = AT(sandbox, pool_size),
      .min = 0,
      .max = 64,
      .fallback = 2 },
    { .name = NULL },
};

static const struct json_field vm_fields[] = {
    { .name = "program",
      .description = "QEMU, as an absolute path; empty for qemu-system-x86_64 of this machine.",
      .kind = JSON_KIND_STRING,
      .offset = AT(vm, program),
      .max = PATH_MAX_CHARS },
    { .name = "images_dir",
      .description = "Where their images are, as an absolute path; empty for where `aios image` "
                     "puts them.",
      .kind = JSON_KIND_STRING,
      .offset = AT(vm, images_dir),
      .max = PATH_MAX_CHARS },
    { .name = "memory_mb",
      .description =
          "Memory of each, in MiB, when the agent does not say; 0 is what its image says.",
      .kind = JSON_KIND_INT,
      .offset = AT(vm, memory_mb),
      .min = 0,
      .max = 1 << 20 },
    { .name = "pool_size",
      .description = "Virtual machines that are kept ready, halted, of each image that one was "
                     "asked for; each takes some 50 MiB of memory.  0 makes each when it is asked "
                     "for.",
      .kind = JSON_KIND_INT,
      .offset = AT(vm, pool_size),
      .min = 0,
      .max = 64,
      .fallback = 1 },
    { .name = "swap_after_s",
      .description = "Seconds without a call or a running program after which one is put on disk "
                     "and its memory freed, until the next call; sooner when memory is scarce.  0 "
                     "is never.",
      .kind = JSON_KIND_INT,
      .offset = AT(vm, swap_after_s),
      .min = 0,
      .max = 366 * 86400,
      .fallback = 600 },
    { .name = NULL },
};

static const struct json_field files_fields[] = {
    { .name = "upload_from",
      .description = "Folders of the host, as absolute paths, from which files may be sent into a "
                     "computer.",
      .kind = JSON_KIND_STRINGS,
      .offset = AT(files, upload_from),
      .max = MAX_FOLDERS },
    { .name = "download_to",
      .description =
          "Folders of the host, as absolute paths, into which files may be fetched from a "
          "computer.",
      .kind = JSON_KIND_STRINGS,
      .offset = AT(files, download_to),
      .max = MAX_FOLDERS },
    { .name = "client_roots",
      .description = "Whether the folders that the client names as its roots count as both.",
      .kind = JSON_KIND_BOOL,
      .offset = AT(files, client_roots),
      .fallback = 1 },
    { .name = NULL },
};

static const struct json_field tool_fields[] = {
    CONFIG_QUEUE_FIELDS(tool, 128),
    { .name = "call_timeout_ms",
      .description =
          "Milliseconds after which a call answers, with a handle when its program still "
          "runs.",
      .kind = JSON_KIND_INT,
      .offset = AT(tool, call_timeout_ms),
      .min = 100,
      .max = 3600000,
      .fallback = 45000 },
    { .name = NULL },
};

static const char *const decisions[] = { "allow", "deny", "ask", NULL };

#define AGENT_PATTERN(noun)                                                           \
    {                                                                                 \
        .name = #noun,                                                                \
        .description = "The " #noun " that it is about: a name, in which '*' stands " \
                       "for anything; any if left out.",                              \
        .kind = JSON_KIND_STRING, .min = 1, .max = PATTERN_MAX_CHARS                  \
    }

/* Checked only, as the next table is: access.c reads the arrays itself. */
static const struct json_field rule_fields[] = {
    AGENT_PATTERN(agent),
    AGENT_PATTERN(group),
    AGENT_PATTERN(role),
    { .name = "tool",
      .description = "Tools that it is about: a name, in which '*' stands for anything.",
      .kind = JSON_KIND_STRING,
      .required = true,
      .min = 1,
      .max = PATTERN_MAX_CHARS },
    { .name = "args",
      .description =
          "Arguments that it is about: a pattern for each, under the argument's name or, with a "
          "'/' in front, a JSON pointer.  '*' stands for anything, '\\*' for itself.  All must "
          "match; one that the call leaves out does not.  Of a list it is enough that one item "
          "matches, or all of them with spaces between.  Paths (path, cwd, …_path) are compared "
          "as absolute ones without '..', and \"/etc/*\" is also /etc.",
      .kind = JSON_KIND_MAP,
      .max = MAX_RULE_ARGS },
    { .name = "decision",
      .description = "What happens to a call that it is about.  ask: the person decides, through "
                     "the MCP host; without an answer it is denied.",
      .kind = JSON_KIND_ENUM,
      .required = true,
      .choices = decisions },
    { .name = NULL },
};

static const struct json_field quota_fields[] = {
    AGENT_PATTERN(agent),
    AGENT_PATTERN(group),
    AGENT_PATTERN(role),
    { .name = "max_in_flight",
      .description = "Calls that each of these agents may have unanswered at once; 0 is no bound.",
      .kind = JSON_KIND_INT,
      .min = 0,
      .max = LIMIT_QUEUE },
    { .name = "calls_per_minute",
      .description = "Calls that each of them may make in a minute, at once or spread; 0 is no "
                     "bound.",
      .kind = JSON_KIND_INT,
      .min = 0,
      .max = 60000000 },
    { .name = NULL },
};

static const struct json_field agent_entry_fields[] = {
    { .name = "name",
      .description = "The agent's name, or the beginning of one and '*'.",
      .kind = JSON_KIND_STRING,
      .required = true,
      .min = 1,
      .max = NAME_MAX_CHARS },
    { .name = "group",
      .description = "Its group.",
      .kind = JSON_KIND_STRING,
      .max = NAME_MAX_CHARS },
    { .name = "roles", .description = "Its roles.", .kind = JSON_KIND_STRINGS, .max = MAX_ROLES },
    { .name = "weight",
      .description = "Its part where a queue shares fairly: one with 2 gets twice what one with 1 "
                     "gets.",
      .kind = JSON_KIND_INT,
      .min = 1,
      .max = AGENT_WEIGHT_MAX },
    { .name = NULL },
};

static const struct json_field access_fields[] = {
    { .name = "groups",
      .description =
          "The families of tools that are offered: computer, terminal, code, file, browser, "
          "document, desktop, memory, storage, llm, agent, or all.  None: all, and the last four "
          "are left out of the list that a model is shown.",
      .kind = JSON_KIND_STRINGS,
      .offset = AT(access, groups),
      .max = MAX_FOLDERS },
    { .name = "rules",
      .description =
          "Who may call which tool: the first rule that matches decides; without one a call is "
          "allowed.",
      .kind = JSON_KIND_OBJECTS,
      .offset = AT(access, rules),
      .max = MAX_ACCESS,
      .fields = rule_fields },
    { .name = "quotas",
      .description =
          "How much an agent may call: the first quota that matches it holds; without one there "
          "is no bound.",
      .kind = JSON_KIND_OBJECTS,
      .offset = AT(access, quotas),
      .max = MAX_ACCESS,
      .fields = quota_fields },
    { .name = "agents",
      .description = "What agents are: the first entry that matches a name holds; without one an "
                     "agent is in agent.group and has no role.",
      .kind = JSON_KIND_OBJECTS,
      .offset = AT(access, agents),
      .max = MAX_ACCESS,
      .fields = agent_entry_fields },
    { .name = "ask_timeout_s",
      .description = "Seconds that a person has to answer when a rule says ask.",
      .kind = JSON_KIND_INT,
      .offset = AT(access, ask_timeout_s),
      .min = 1,
      .max = 3600,
      .fallback = 60 },
    { .name = NULL },
};

static const struct json_field audit_fields[] = {
    { .name = "enabled",
      .description = "Whether decisions, results and refusals are recorded.",
      .kind = JSON_KIND_BOOL,
      .offset = AT(audit, enabled),
      .fallback = 1 },
    { .name = "power_safe",
      .description =
          "Whether each record waits for the disk, to survive a power cut too; records always "
          "survive the end of the server by any signal.",
      .kind = JSON_KIND_BOOL,
      .offset = AT(audit, power_safe) },
    { .name = "dir",
      .description =
          "The folder of the audit, as an absolute path; empty for audit/ in the state folder.",
      .kind = JSON_KIND_STRING,
      .offset = AT(audit, dir),
      .max = PATH_MAX_CHARS },
    { .name = "max_mb",
      .description = "MiB after which a new file is begun; 0 is never.  The chain goes on over "
                     "the files.",
      .kind = JSON_KIND_INT,
      .offset = AT(audit, max_mb),
      .min = 0,
      .max = 1 << 20,
      .fallback = 256 },
    { .name = "keep",
      .description = "Files that are kept beside the one being written; older ones are removed. 0 "
                     "is all.",
      .kind = JSON_KIND_INT,
      .offset = AT(audit, keep),
      .min = 0,
      .max = 10000,
      .fallback = 16 },
    { .name = NULL },
};

static const struct json_field log_fields[] = {
    { .name = "level",
      .description = "The least important lines that are written to standard error.",
      .kind = JSON_KIND_STRING,
      .offset = AT(log, level) },
    { .name = NULL },
};

#define SECTION(section, text)                                                 \
    {                                                                          \
        .name = #section, .description = text, .kind = JSON_KIND_OBJECT,       \
        .offset = offsetof(struct config, section), .fields = section##_fields \
    }

#define SERVICE(section, text)                                                          \
    {                                                                                   \
        .name = #section, .description = text, .kind = JSON_KIND_OBJECT,                \
        .offset = offsetof(struct config, section), .fields = config_##section##_fields \
    }

const struct json_field config_fields[] = {
    SECTION(agent, "Who asks."),
    SECTION(computer, "What a new computer gets unless the agent asks for something else."),
    SECTION(sandbox, "Computers of the kind sandbox."),
    SECTION(vm, "Computers of the kind vm: virtual machines."),
    SECTION(files, "Files that go between the host and a computer."),
    SECTION(tool, "The queue of tool calls."),
    SERVICE(serve, "`aios serve`: one kernel for many hosts."),
    SERVICE(storage, "What agents keep: versioned values under keys."),
    SERVICE(postgres, "The server behind storage.backend postgres."),
    SERVICE(s3, "The bucket behind storage.backend s3."),
    SERVICE(memory, "Notes of agents, and their search."),
    SERVICE(llm, "Language models that agents may ask."),
    SECTION(access, "Who may do what."),
    SECTION(audit, "The record of who did what."),
    SECTION(log, "Messages for whoever operates the server."),
    { .name = NULL },
};

static const char *const kinds[] = { "sandbox", "vm", NULL };
static const char *const cgroups[] = { "auto", "v1", "v2", "none", NULL };
static const char *const policies[] = { "fifo", "priority", "sjf", "rr", "edf", NULL };
static const char *const backends[] = { "sqlite", "file", "postgres", "s3", NULL };
static const char *const levels[] = { "error", "warn", "info", "debug", NULL };

#define STRING(section, key, fallback, choices)                                 \
    {                                                                           \
#section, #key, offsetof(struct config, section.key), fallback, choices \
    }

#define QUEUE_STRINGS(section)                                                               \
    { #section, "policy", offsetof(struct config, section.calls.policy), "fifo", policies }, \
    {                                                                                        \
#section, "cpus", offsetof(struct config, section.calls.cpus), "", NULL              \
    }

const struct config_string config_strings[] = {
    STRING(agent, name, "default", NULL),
    STRING(agent, group, "", NULL),
    STRING(computer, kind, "sandbox", kinds),
    STRING(computer, image, "", NULL),
    STRING(vm, program, "", NULL),
    STRING(vm, images_dir, "", NULL),
    STRING(sandbox, cgroup, "auto", cgroups),
    QUEUE_STRINGS(tool),
    QUEUE_STRINGS(llm),
    QUEUE_STRINGS(memory),
    QUEUE_STRINGS(storage),
    STRING(audit, dir, "", NULL),
    STRING(serve, socket, "", NULL),
    STRING(storage, backend, "sqlite", backends),
    STRING(storage, dir, "", NULL),
    STRING(postgres, dsn_env, "AIOS_POSTGRES", NULL),
    STRING(s3, endpoint, "", NULL),
    STRING(s3, bucket, "", NULL),
    STRING(s3, region, "us-east-1", NULL),
    STRING(s3, prefix, "", NULL),
    STRING(s3, access_key_env, "AWS_ACCESS_KEY_ID", NULL),
    STRING(s3, secret_key_env, "AWS_SECRET_ACCESS_KEY", NULL),
    STRING(s3, ca_file, "", NULL),
    STRING(memory, dir, "", NULL),
    STRING(log, level, "warn", levels),
    { .section = NULL },
};

const struct config_string *config_string_find(const char *section, const char *key)
{
    for (const struct config_string *s = config_strings; s->section; s++) {
        if (!strcmp(s->section, section) && !strcmp(s->key, key))
            return s;
    }
    return NULL;
}
