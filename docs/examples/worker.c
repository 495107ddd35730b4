/*
 * worker - an agent that reaches a goal: a model plans, the kernel's tools act.
 *
 *   worker "Write the first 20 primes into /workspace/primes.txt"
 *
 * The kernel needs a provider of models (configuration key llm.providers).  What the agent has done
 * it notes, and every goal begins with the notes that fit it.
 * Build: cc worker.c -o worker $(pkg-config --cflags --libs aios)
 */
#define _GNU_SOURCE /* asprintf() */
#include <aios.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define STEPS_MAX 20

static const char system_text[] =
    "You work in a Linux computer of your own. Use the tools to reach the goal, check the result, "
    "then say in one sentence what you did.";

/* Every call passes here before it is made: a person could be asked, a rule applied. */
static bool allow(void *arg, const char *tool, const char *arguments)
{
    (void)arg;
    fprintf(stderr, "worker: %s %s\n", tool, arguments);
    return true;
}

/* The goal, and what is known about such goals; for free(). */
static char *task(struct aios *a, const char *goal, struct aios_error *err)
{
    char *notes = aios_recall(a, goal, 3, err), *text = NULL;
    int len = -1;

    if (notes && *notes)
        len = asprintf(&text, "%s\n\nYour notes of earlier work:\n%s", goal, notes);
    else if (notes)
        len = asprintf(&text, "%s", goal);
    free(notes);
    return len >= 0 ? text : NULL;
}

/* What the model says when it has finished; for free(). */
static char *pursue(struct aios *a, const char *goal, struct aios_error *err)
{
    char *tools = aios_tools(a, "terminal_", err);
    struct aios_plan_options options = { .system = system_text, .tools = tools };
    struct aios_plan *plan = tools ? aios_plan_new(&options, err) : NULL;
    char *text = plan ? task(a, goal, err) : NULL;
    char *said = text ? aios_pursue(a, plan, text, STEPS_MAX, allow, NULL, err) : NULL;

    free(text);
    aios_plan_free(plan);
    free(tools);
    return said;
}

/* For the next time.  The work is done, whether or not this succeeds. */
static void note(struct aios *a, const char *said)
{
    static const char *const tags[] = { "done", NULL };
    struct aios_error err;
    char *id = aios_remember(a, said, tags, &err);

    if (!id)
        fprintf(stderr, "worker: not noted: %s\n", err.text);
    free(id);
}

int main(int argc, char **argv)
{
    struct aios_error err = { .text = "out of memory" };
    struct aios *a;
    char *said;
    int code = 1;

    if (argc != 2) {
        fprintf(stderr, "usage: worker GOAL\n");
        return 2;
    }
    a = aios_connect(&(struct aios_options){ .agent = "worker" }, &err);
    said = a ? pursue(a, argv[1], &err) : NULL;
    if (said) {
        puts(said);
        note(a, said);
        code = 0;
    } else {
        fprintf(stderr, "worker: %s\n", err.text);
    }
    free(said);
    aios_close(a);
    return code;
}
