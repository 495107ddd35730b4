/*
 * notebook - an agent that keeps what it is told and answers from it.
 *
 *   notebook remember "The user likes short answers" style
 *   notebook recall "How long should answers be?"
 *   notebook run "uname -a"
 *   notebook count
 *
 * It shows three modules of libaios without any model: memory, storage and action.
 * Build: cc notebook.c -o notebook $(pkg-config --cflags --libs aios)
 */
#include <aios.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int fail(const struct aios_error *err)
{
    fprintf(stderr, "notebook: %s\n", err->text);
    return 1;
}

static int print(char *text, const struct aios_error *err)
{
    if (!text)
        return fail(err);
    puts(text);
    free(text);
    return 0;
}

/* A number that survives us: two of us may count at once, so the version is the condition. */
static int count(struct aios *a)
{
    struct aios_error err;

    for (;;) {
        struct aios_storage_query get = { .op = AIOS_STORAGE_GET, .key = "count" };
        struct aios_reply *had = aios_storage(a, &get, &err);
        long n = had ? strtol(aios_reply_text(had), NULL, 10) : 0;
        struct aios_storage_query put = { .op = AIOS_STORAGE_PUT,
                                          .key = "count",
                                          .if_version = -1 };
        struct aios_reply *done;
        char text[32];

        aios_reply_free(had);
        if (!had && err.code != AIOS_REFUSED)
            return fail(&err);
        put.len = (size_t)snprintf(text, sizeof text, "%ld", n + 1);
        put.data = text;
        put.if_version = had ? -1 : 0;
        done = aios_storage(a, &put, &err);
        if (done) {
            aios_reply_free(done);
            printf("%ld\n", n + 1);
            return 0;
        }
        if (err.code != AIOS_REFUSED || had)
            return fail(&err);
    }
}

/* In a computer of its own, not here. */
static int run(struct aios *a, const char *command)
{
    struct aios_tool_query query = { .tool = "terminal_run" };
    struct aios_error err;
    struct aios_reply *reply;
    char arguments[4096];
    size_t at = 0;

    /* The one string in JSON that a command needs. */
    at += (size_t)snprintf(arguments, sizeof arguments, "{\"command\":\"");
    for (; *command && at < sizeof arguments - 8; command++) {
        if (*command == '"' || *command == '\\')
            arguments[at++] = '\\';
        if ((unsigned char)*command < ' ')
            return fprintf(stderr, "notebook: one line, please\n"), 1;
        arguments[at++] = *command;
    }
    (void)snprintf(arguments + at, sizeof arguments - at, "\"}");
    query.arguments = arguments;
    reply = aios_tool(a, &query, &err);
    if (!reply)
        return fail(&err);
    puts(aios_reply_text(reply));
    aios_reply_free(reply);
    return 0;
}

int main(int argc, char **argv)
{
    struct aios_error err;
    struct aios *a;
    int code = 2;

    a = aios_connect(&(struct aios_options){ .agent = "notebook" }, &err);
    if (!a)
        return fail(&err);
    if (argc >= 3 && strcmp(argv[1], "remember") == 0)
        code = print(aios_remember(a, argv[2], (const char *const *)argv + 3, &err), &err);
    else if (argc == 3 && strcmp(argv[1], "recall") == 0)
        code = print(aios_recall(a, argv[2], 5, &err), &err);
    else if (argc == 3 && strcmp(argv[1], "run") == 0)
        code = run(a, argv[2]);
    else if (argc == 2 && strcmp(argv[1], "count") == 0)
        code = count(a);
    else
        fprintf(stderr,
                "usage: notebook remember TEXT [TAG…] | recall TEXT | run COMMAND | count\n");
    aios_close(a);
    return code;
}
