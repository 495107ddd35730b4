/*
 * worker - an agent that reaches a goal: a model plans, the kernel's tools act.
 *
 *   worker "Write the first 20 primes into /workspace/primes.txt"
 *
 * The kernel needs a provider of models (configuration key llm.providers).  What the agent learns
 * it keeps: the next goal begins with what was remembered. Build: cc worker.c -o worker
 * $(pkg-config --cflags --libs aios)
 */
#include <aios.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char system_text[] = "You work in a Linux computer of your own. Use the tools to "
                                  "reach the goal, check the result, then "
                                  "say in one sentence what you did.";

/* Every call passes here: a person could be asked, a rule applied. */
static bool allow(void *arg, const char *tool, const char *arguments)
{
    (void)arg;
    fprintf(stderr, "worker: %s %s\n", tool, arguments);
    return strcmp(tool, "computer_destroy") != 0;
}

static char *work(struct aios *a, const char *goal, struct aios_error *err)
{
    char *tools = aios_tools(a, "terminal_", err);
    struct aios_plan_options options = { .system = system_text, .tools = tools };
    struct aios_plan *plan = tools ? aios_plan_new(&options, err) : NULL;
    char *known = plan ? aios_recall(a, goal, 3, err) : NULL;
    char *said = NULL;

    if (known && *known && !aios_plan_say(plan, "user", known, err)) {
        free(known);
        known = NULL;
    }
    if (known)
        said = aios_pursue(a, plan, goal, 20, allow, NULL, err);
    free(known);
    aios_plan_free(plan);
    free(tools);
    return said;
}

int main(int argc, char **argv)
{
    static const char *const tags[] = { "done", NULL };
    struct aios_error err;
    struct aios *a;
    char *said, *id;

    if (argc != 2) {
        fprintf(stderr, "usage: worker GOAL\n");
        return 2;
    }
    a = aios_connect(&(struct aios_options){ .agent = "worker" }, &err);
    said = a ? work(a, argv[1], &err) : NULL;
    if (!said) {
        fprintf(stderr, "worker: %s\n", err.text);
        aios_close(a);
        return 1;
    }
    puts(said);
    id = aios_remember(a, said, tags, &err);
    free(id);
    free(said);
    aios_close(a);
    return 0;
}
