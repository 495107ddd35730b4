#include "mcp/revision.h"

#include <string.h>

#include "kernel/base/json.h"

#define META_PREFIX "io.modelcontextprotocol/"
/* Under which the one question of an answer stands, and its answer. */
#define INPUT_KEY "question"

/* Newest first; revisions before 2024-11-05 are answered with the newest. */
static const char *const legacy_versions[] = {
    REVISION_LEGACY_LATEST,
    "2025-06-18",
    "2025-03-26",
    "2024-11-05",
};

static const struct {
    const char *name;
    enum revision_method method;
    bool legacy, modern;
} methods[] = {
    { "initialize", REVISION_INITIALIZE, true, false },
    { "ping", REVISION_PING, true, false },
    { "logging/setLevel", REVISION_SET_LEVEL, true, false },
    { "server/discover", REVISION_DISCOVER, false, true },
    { "tools/list", REVISION_TOOLS_LIST, true, true },
    { "tools/call", REVISION_TOOLS_CALL, true, true },
};

static const char *const level_names[] = { "debug", "info",     "notice", "warning",
                                           "error", "critical", "alert",  "emergency" };

enum revision_level revision_level_parse(const char *name)
{
    for (size_t i = 0; name && i < ARRAY_LEN(level_names); i++)
        if (strcmp(name, level_names[i]) == 0)
            return (enum revision_level)i;
    return REVISION_LEVEL_NONE;
}

const char *revision_level_name(enum revision_level level)
{
    return level >= 0 && (size_t)level < ARRAY_LEN(level_names) ? level_names[level] : "info";
}

/* The progress token, when it is of a kind that may be one. */
static const json_t *meta_token(const json_t *meta)
{
    const json_t *token = json_object_get(meta, "progressToken");

    return json_is_string(token) || json_is_integer(token) ? token : NULL;
}

/* Elicitation without any mode named is by form, as it was before there were others. */
static struct revision_offers read_offers(const json_t *capabilities)
{
    const json_t *sampling = json_object_get(capabilities, "sampling");
    const json_t *elicitation = json_object_get(capabilities, "elicitation");

    return (struct revision_offers){
        .roots = json_is_object(json_object_get(capabilities, "roots")),
        .sampling = json_is_object(sampling),
        .sampling_tools = json_is_object(json_object_get(sampling, "tools")),
        .elicitation = json_is_object(elicitation) && (json_object_get(elicitation, "form") ||
                                                       !json_object_get(elicitation, "url")),
    };
}

static bool refuse(const struct jsonrpc *m, int code, const char *text, const json_t *data,
                   struct buf *out)
{
    jsonrpc_put_error(out, m->id, code, text, data);
    return false;
}

static bool refuse_version(const struct jsonrpc *m, const json_t *version, struct buf *out)
{
    json_t *data =
        json_pack("{s:[s],s:O}", "supported", REVISION_MODERN_VERSION, "requested", version);
    bool answered = refuse(m, JSONRPC_UNSUPPORTED_VERSION,
                           "this protocol version is not supported; use one of data.supported, or "
                           "`initialize` for an older revision",
                           data, out);

    json_decref(data);
    return answered;
}

static bool judge_modern(const struct jsonrpc *m, const json_t *meta, struct revision *ret,
                         struct buf *out)
{
    const json_t *version = json_object_get(meta, META_PREFIX "protocolVersion");
    const json_t *level = json_object_get(meta, META_PREFIX "logLevel");

    if (!json_is_string(version))
        return refuse(m, JSONRPC_INVALID_PARAMS,
                      "params._meta[\"" META_PREFIX "protocolVersion\"] must be a string such as "
                      "\"" REVISION_MODERN_VERSION "\"",
                      NULL, out);
    if (strcmp(json_string_value(version), REVISION_MODERN_VERSION) != 0)
        return refuse_version(m, version, out);
    if (!json_is_object(json_object_get(meta, META_PREFIX "clientCapabilities")))
        return refuse(m, JSONRPC_INVALID_PARAMS,
                      "params._meta[\"" META_PREFIX "clientCapabilities\"] must be an object; {} "
                      "says that there are none",
                      NULL, out);
    ret->level = REVISION_LEVEL_NONE;
    if (level) {
        ret->level = revision_level_parse(json_string_value(level));
        if (ret->level == REVISION_LEVEL_NONE)
            return refuse(m, JSONRPC_INVALID_PARAMS,
                          "params._meta[\"" META_PREFIX "logLevel\"] must be one of debug, info, "
                          "notice, warning, error, critical, alert, emergency",
                          NULL, out);
    }
    ret->offers = read_offers(json_object_get(meta, META_PREFIX "clientCapabilities"));
    ret->era = REVISION_MODERN;
    ret->version = REVISION_MODERN_VERSION;
    return true;
}

bool revision_judge(const struct revision_legacy *legacy, const struct jsonrpc *m,
                    struct revision *ret, enum revision_method *ret_method, struct buf *out)
{
    const json_t *meta = json_object_get(m->params, "_meta");
    bool modern = json_object_get(meta, META_PREFIX "protocolVersion") ||
                  json_object_get(meta, META_PREFIX "clientCapabilities");

    *ret_method = REVISION_UNKNOWN;
    if (meta && !json_is_object(meta))
        return refuse(m, JSONRPC_INVALID_PARAMS, "params._meta must be an object", NULL, out);
    ret->era = REVISION_LEGACY;
    ret->version = legacy->version;
    ret->level = legacy->level;
    ret->offers = legacy->offers;
    ret->token = meta_token(meta);
    /* A modern method asks for the modern form, also when that is what is missing. */
    if (modern || strcmp(m->method, "server/discover") == 0) {
        if (!judge_modern(m, meta, ret, out))
            return false;
    }
    for (size_t i = 0; i < ARRAY_LEN(methods); i++) {
        if (strcmp(methods[i].name, m->method) != 0)
            continue;
        if (ret->era == REVISION_MODERN ? methods[i].modern : methods[i].legacy)
            *ret_method = methods[i].method;
        break;
    }
    return true;
}

/* What this server can do.  Only what is there is announced. */
static bool put_capabilities(struct buf *out)
{
    return buf_append_str(out, "\"capabilities\":{\"logging\":{},\"tools\":{}}");
}

static bool put_server_info(struct buf *out)
{
    return buf_append_str(out, "{\"name\":\"aios\",\"title\":\"AIOS\",\"version\":\"" AIOS_VERSION
                               "\"}");
}

static bool put_instructions(const char *instructions, struct buf *out)
{
    if (!instructions)
        return true;
    return buf_append_str(out, ",\"instructions\":") &&
           jsonrpc_put_string(out, instructions, strlen(instructions));
}

bool revision_initialize(struct revision_legacy *legacy, const json_t *params,
                         const char *instructions, struct buf *out, const char **ret_text)
{
    const json_t *asked = json_object_get(params, "protocolVersion");
    const json_t *capabilities = json_object_get(params, "capabilities");

    if (!json_is_string(asked)) {
        *ret_text =
            "params.protocolVersion must be a string such as \"" REVISION_LEGACY_LATEST "\"";
        return false;
    }
    if (capabilities && !json_is_object(capabilities)) {
        *ret_text = "params.capabilities must be an object";
        return false;
    }
    legacy->version = REVISION_LEGACY_LATEST;
    for (size_t i = 0; i < ARRAY_LEN(legacy_versions); i++)
        if (strcmp(json_string_value(asked), legacy_versions[i]) == 0)
            legacy->version = legacy_versions[i];
    legacy->initialized = true;
    legacy->offers = read_offers(capabilities);
    buf_printf(out, "{\"protocolVersion\":\"%s\",", legacy->version);
    put_capabilities(out);
    buf_append_str(out, ",\"serverInfo\":");
    put_server_info(out);
    put_instructions(instructions, out);
    buf_append_char(out, '}');
    return true;
}

bool revision_discover(const char *instructions, struct buf *out)
{
    static const struct revision modern = { .era = REVISION_MODERN,
                                            .version = REVISION_MODERN_VERSION };

    revision_open_result(&modern, out);
    buf_append_str(out, "\"supportedVersions\":[\"" REVISION_MODERN_VERSION "\"],");
    put_capabilities(out);
    put_instructions(instructions, out);
    buf_append_char(out, ',');
    return revision_close_result(&modern, true, out);
}

bool revision_open_result(const struct revision *r, struct buf *out)
{
    if (r->era == REVISION_LEGACY)
        return buf_append_char(out, '{');
    return buf_append_str(out, "{\"resultType\":\"complete\",");
}

bool revision_close_result(const struct revision *r, bool cache, struct buf *out)
{
    if (r->era == REVISION_LEGACY) {
        /* The caller left a comma after its last field, if it wrote any. */
        if (out->len > 0 && out->data[out->len - 1] == ',')
            out->data[--out->len] = '\0';
        return buf_append_char(out, '}');
    }
    /* The list of tools is the same for everybody and changes only with the program. */
    if (cache)
        buf_append_str(out, "\"ttlMs\":300000,\"cacheScope\":\"public\",");
    buf_append_str(out, "\"_meta\":{\"" META_PREFIX "serverInfo\":");
    put_server_info(out);
    return buf_append_str(out, "}}");
}

bool revision_close_error(const struct revision *r, const char *class, struct buf *out)
{
    buf_printf(out, "\"isError\":true,\"_meta\":{\"" REVISION_ERROR_CLASS "\":\"%s\"", class);
    if (r->era == REVISION_MODERN) {
        buf_append_str(out, ",\"" META_PREFIX "serverInfo\":");
        put_server_info(out);
    }
    return buf_append_str(out, "}}");
}

bool revision_put_input(const char *method, const char *params, const char *state, struct buf *out)
{
    buf_printf(out,
               "{\"resultType\":\"input_required\",\"inputRequests\":{\"" INPUT_KEY
               "\":{\"method\":\"%s\"",
               method);
    if (params) {
        buf_append_str(out, ",\"params\":");
        buf_append_str(out, params);
    }
    buf_printf(out, "}},\"requestState\":\"%s\",\"_meta\":{\"" META_PREFIX "serverInfo\":", state);
    put_server_info(out);
    return buf_append_str(out, "}}") && !out->failed;
}

bool revision_get_input(const json_t *params, const char **ret_state, const json_t **ret_answer,
                        const char **ret_text)
{
    const json_t *state = json_object_get(params, "requestState");
    const json_t *responses = json_object_get(params, "inputResponses");
    const json_t *answer = json_object_get(responses, INPUT_KEY);

    *ret_state = NULL;
    *ret_answer = NULL;
    if (!state || json_is_null(state))
        return true;
    if (!json_is_string(state) || strlen(json_string_value(state)) != json_string_length(state)) {
        *ret_text = "params.requestState must be the string that came with input_required";
        return false;
    }
    if ((responses && !json_is_object(responses)) || (answer && !json_is_object(answer))) {
        *ret_text = "params.inputResponses must be an object of answers, each an object";
        return false;
    }
    *ret_state = json_string_value(state);
    *ret_answer = answer;
    return true;
}

bool revision_has_annotations(const struct revision *r)
{
    return strcmp(r->version, "2025-03-26") >= 0;
}

bool revision_has_title(const struct revision *r)
{
    return strcmp(r->version, "2025-06-18") >= 0;
}

bool revision_has_structured(const struct revision *r)
{
    return strcmp(r->version, "2025-06-18") >= 0;
}
