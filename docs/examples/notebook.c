/*
 * notebook - an agent that keeps what it is told and answers from it.
 *
 *   notebook remember "The user likes short answers" style
 *   notebook recall "How long should answers be?"
 *   notebook run "uname -a"
 *   notebook count
 *
 * It shows three modules of libaios without any model: memory, action and storage.
 * Build: cc notebook.c -o notebook $(pkg-config --cflags --libs aios)
 */
#include <aios.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int fail(const struct aios_error *err)
{
    fprintf(stderr, "notebook: %s\n", err->text);
    return 1;
}

/* Notes stay when this program has ended; a later one finds them by their words. */
static int remember(struct aios *a, const char *text, const char *const *tags)
{
    struct aios_error err;
    char *id = aios_remember(a, text, tags, &err);

    if (!id)
        return fail(&err);
    puts(id);
    free(id);
    return 0;
}

static int recall(struct aios *a, const char *text)
{
    struct aios_error err;
    char *notes = aios_recall(a, text, 5, &err);

    if (!notes)
        return fail(&err);
    fputs(notes, stdout);
    free(notes);
    return 0;
}

/* In a computer of the agent's own, not in ours. */
static int run(struct aios *a, const char *command)
{
    struct aios_tool_query query = { .tool = "terminal_run" };
    struct aios_error err;
    struct aios_reply *reply;
    char *quoted = aios_quote(command, &err);
    char arguments[4096];
    int len;

    if (!quoted)
        return fail(&err);
    len = snprintf(arguments, sizeof arguments, "{\"command\": %s}", quoted);
    free(quoted);
    if (len < 0 || (size_t)len >= sizeof arguments) {
        fprintf(stderr, "notebook: the command is too long\n");
        return 1;
    }
    query.arguments = arguments;
    reply = aios_tool(a, &query, &err);
    if (!reply)
        return fail(&err);
    puts(aios_reply_text(reply));
    aios_reply_free(reply);
    return 0;
}

/* The number that was kept last, and on which version it stands. */
static bool read_count(struct aios *a, unsigned long *ret, uint64_t *ret_version,
                       struct aios_error *err)
{
    char *text = aios_get(a, "count", NULL, ret_version, err);

    if (!text) {
        *ret = 0;
        *ret_version = 0;
        return err->code == AIOS_REFUSED; /* there is none yet */
    }
    *ret = strtoul(text, NULL, 10);
    free(text);
    return true;
}

/* A number that survives us.  Others may be counting too: ours is kept only on top of the version
 * that was read, and where somebody was faster we read again. */
static int count(struct aios *a)
{
    uint64_t version, tried = UINT64_MAX;
    struct aios_error err;
    unsigned long last;
    char next[32];

    while (read_count(a, &last, &version, &err)) {
        int len = snprintf(next, sizeof next, "%lu", last + 1);

        if (aios_put_if(a, "count", next, (size_t)len, version, NULL, &err)) {
            puts(next);
            return 0;
        }
        if (err.code != AIOS_REFUSED || version == tried)
            break; /* twice for the same version: nobody was faster, there is another reason */
        tried = version;
    }
    return fail(&err);
}

int main(int argc, char **argv)
{
    struct aios_error err;
    struct aios *a = aios_connect(&(struct aios_options){ .agent = "notebook" }, &err);
    int code = 2;

    if (!a)
        return fail(&err);
    if (argc >= 3 && strcmp(argv[1], "remember") == 0)
        code = remember(a, argv[2], (const char *const *)argv + 3);
    else if (argc == 3 && strcmp(argv[1], "recall") == 0)
        code = recall(a, argv[2]);
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
