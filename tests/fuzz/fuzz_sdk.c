/* What comes from the socket: whatever it is, every question ends, with an answer or a reason.
 *
 * The first byte chooses the question, the rest is what the kernel says after its greeting (the
 * first question's id is 1). */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "kernel/sdk/sdk.h"

static const char greeting[] = "{\"aios\":{\"agent\":\"fuzz\"}}\n";

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static void must(bool holds, const char *what)
{
    if (holds)
        return;
    fprintf(stderr, "not so: %s\n", what);
    abort();
}

/* A reply's parts are there to be read. */
static bool look(struct aios_reply *r)
{
    const char *type;
    size_t len, sum;

    if (!r)
        return false;
    sum = strlen(aios_reply_text(r));
    if (aios_reply_json(r)) {
        json_t *json = json_loads(aios_reply_json(r), JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL);

        must(json != NULL, "the JSON of a reply is JSON");
        json_decref(json);
    }
    for (size_t i = 0; i < aios_reply_images(r); i++) {
        const unsigned char *image = aios_reply_image(r, i, &len, &type);

        for (size_t k = 0; k < len; k++)
            sum += image[k];
        sum += strlen(type);
    }
    if (aios_reply_value(r, &len))
        must(((const char *)aios_reply_value(r, &len))[len] == '\0', "a NUL follows a value");
    aios_reply_free(r);
    return sum < SIZE_MAX;
}

static bool keep(void *text)
{
    free(text);
    return text != NULL;
}

static bool plan(struct aios *a, struct aios_error *err)
{
    struct aios_plan *p =
        aios_plan_new(&(struct aios_plan_options){ .tools = "[{\"name\":\"t\"}]" }, err);
    char *said = p ? aios_pursue(a, p, "goal", 4, NULL, NULL, err) : NULL;

    aios_plan_free(p);
    return keep(said);
}

static bool storage(struct aios *a, unsigned op, struct aios_error *err)
{
    struct aios_storage_query query = {
        .op = (enum aios_storage_op)op, .key = "k", .data = "v", .len = 1
    };

    return look(aios_storage(a, &query, err));
}

static bool memory(struct aios *a, unsigned op, struct aios_error *err)
{
    struct aios_memory_query query = { .op = (enum aios_memory_op)op, .id = "n", .text = "t" };

    return look(aios_memory(a, &query, err));
}

static bool ask(struct aios *a, unsigned which, struct aios_error *err)
{
    size_t len;

    switch (which % 18) {
    case 0:
        return look(aios_tool(a, &(struct aios_tool_query){ .tool = "t" }, err));
    case 1:
        return look(aios_llm(a, &(struct aios_llm_query){ .prompt = "p" }, err));
    case 2:
        return keep(aios_tools(a, "a", err));
    case 3:
        return plan(a, err);
    case 4:
        return keep(aios_get(a, "k", &len, NULL, err));
    case 5:
        return keep(aios_note(a, "n", err));
    default:
        return which % 18 < 13 ? storage(a, which % 18 - 6, err) : memory(a, which % 18 - 13, err);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    struct aios_error err = { .code = AIOS_OK };
    struct aios *a;
    int pair[2];

    if (len < 1 || len > 60000) /* what fits the socket at once */
        return 0;
    must(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) == 0, "a socket pair");
    must(send(pair[1], greeting, sizeof greeting - 1, 0) > 0, "the greeting is sent");
    must(len == 1 || send(pair[1], data + 1, len - 1, 0) == (ssize_t)len - 1, "the rest is sent");
    shutdown(pair[1], SHUT_WR);
    a = sdk_attach(pair[0], NULL, &err);
    must(a != NULL, "it connects");
    if (!ask(a, data[0], &err))
        must(err.code != AIOS_OK && err.code != AIOS_TIMEOUT && err.text[0], "there is a reason");
    aios_close(a);
    close(pair[1]);
    return 0;
}
