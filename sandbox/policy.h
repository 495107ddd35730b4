/*
 * policy - what the system call filter says to each call: the words of the table and of its
 * verdicts.
 *
 * policy.c is the table and is linked into seccomp_gen alone, which sorts it by number into the
 * generated policy_calls.inc and compiles it into the BPF program.  policy_calls.c carries the
 * sorted table in the product, where the notifier asks it for names and errors.
 *
 * Arguments are compared in their low 32 bits only: each argument that the table looks at is an
 * int or shorter to the kernel, which ignores the rest, so the filter must ignore it too.
 * Threads: any; constant data.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum policy_action {
    POLICY_ALLOW,
    POLICY_FAIL, /* the kernel answers with the error; nobody is told */
    POLICY_TELL, /* the notifier is told and answers with the error */
};

/** How a told call's arguments become text. */
enum policy_text {
    POLICY_TEXT_NONE,
    POLICY_TEXT_STRING,      /* the string that argument `arg` points to */
    POLICY_TEXT_STRING_MODE, /* the same, and the file mode in argument `arg2` */
    POLICY_TEXT_MODE,        /* the file mode in argument `arg` */
    POLICY_TEXT_NUMBER,
    POLICY_TEXT_SOCKET, /* family and type in arguments 0 and 1 */
    POLICY_TEXT_NAMESPACES,
    POLICY_TEXT_IOCTL,
    POLICY_TEXT_FCNTL,
};

enum policy_op {
    POLICY_ALWAYS, /* no test */
    POLICY_EQ,     /* (argument & a) == b */
    POLICY_NE,     /* (argument & a) != b */
    POLICY_ANY,    /* (argument & a) != 0 */
    POLICY_RANGE,  /* a <= argument <= b */
};

struct policy_test {
    enum policy_op op;
    uint32_t arg;
    uint32_t a, b;
};

#define POLICY_TESTS_MAX 3
#define POLICY_RULES_MAX 8

/** Applies when all its tests hold. */
struct policy_rule {
    struct policy_test tests[POLICY_TESTS_MAX];
    enum policy_action action;
    int error;
};

/** One line of the table: the first rule that applies decides, and else `action`. */
struct policy_group {
    const char *calls; /* names with blanks between; "name=N" gives the number of a new one */
    enum policy_action action;
    int error;
    enum policy_text text;
    uint8_t arg, arg2;
    struct policy_rule rules[POLICY_RULES_MAX];
    size_t rule_count;
};

extern const struct policy_group policy_groups[];
extern const size_t policy_group_count;

/** The same for one call, as the product keeps it. */
struct policy_call {
    const char *name;
    const struct policy_rule *rules;
    uint8_t rule_count;
    uint8_t action, text, arg, arg2; /* enum policy_action, enum policy_text */
    int16_t number;
    int16_t error;
};

struct policy_verdict {
    enum policy_action action;
    int error;
};

/** NULL for a number that the table does not know; the filter answers ENOSYS to those. */
const struct policy_call *policy_find(int number);

/** What the filter says to @call (NULL: an unknown one) with these six arguments. */
struct policy_verdict policy_decide(const struct policy_call *call, const uint64_t *args);

/** All calls in the order of their numbers. */
const struct policy_call *policy_calls(size_t *ret_count);
