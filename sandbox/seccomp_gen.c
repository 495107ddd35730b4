/*
 * seccomp_gen - compiles policy.c: the BPF program, and the table of calls for the notifier.
 *
 *   seccomp_gen FILTER.inc CALLS.inc
 *
 * libseccomp supplies the numbers of the native architecture.  The program is made here, because
 * the policy needs what libseccomp's rules cannot say: "refuse these values and allow the rest" of
 * one argument, several conditions on one argument, an error for refused arguments that is
 * not the error for unknown calls.  The shape: architecture, x32, a binary search over ranges of
 * numbers that share a verdict, then one block of comparisons for each conditional call.  What one
 * comparison decides it jumps to; verdicts are shared, since the kernel takes the longer to compile
 * the program the longer that is.
 */
#include <errno.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <seccomp.h>

#include "kernel/base/attr.h"
#include "sandbox/policy.h"

#define CALLS_MAX    1024
#define NAME_MAX_LEN 40
#define PROGRAM_MAX  2048
#define NO_BLOCK     SIZE_MAX

#define X32_BIT 0x40000000u

struct call {
    int number;
    char name[NAME_MAX_LEN];
    size_t group;
};

/** Numbers from `first` up to the next leaf's. */
struct leaf {
    uint32_t first;
    uint32_t verdict; /* where block is NO_BLOCK */
    size_t block;     /* the group whose rules decide */
};

/** Where one ends: as in struct leaf. */
struct target {
    uint32_t verdict;
    size_t block;
};

/** One branch of a comparison, which cannot go far. */
struct branch {
    size_t at;
    bool when_true;
    struct target to;
};

/** A jump that waits for its block. */
struct fixup {
    size_t at;
    size_t block;
};

static struct call calls[CALLS_MAX];
static size_t call_count;
static struct leaf leaves[2 * CALLS_MAX];
static size_t leaf_count;
static struct sock_filter program[PROGRAM_MAX];
static size_t program_len;
static struct branch open_branches[PROGRAM_MAX];
static size_t open_count;
static struct fixup fixups[CALLS_MAX];
static size_t fixup_count;

static NORETURN PRINTF_LIKE(1, 2) void die(const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    fputs("seccomp_gen: ", stderr);
    vfprintf(stderr, fmt, ap);
    fputc('\n', stderr);
    va_end(ap);
    exit(1);
}

/* ---- the table, by number ---- */

static void add_call(const char *word, size_t len, size_t group)
{
    const char *equals = memchr(word, '=', len);
    size_t name_len = equals ? (size_t)(equals - word) : len;
    struct call *call = &calls[call_count];

    if (call_count == CALLS_MAX || name_len >= sizeof call->name)
        die("too many calls, or too long a name: %.*s", (int)len, word);
    memcpy(call->name, word, name_len);
    call->name[name_len] = '\0';
    call->group = group;
    if (equals) {
        call->number = (int)strtol(equals + 1, NULL, 10);
    } else {
        call->number = seccomp_syscall_resolve_name_arch(SCMP_ARCH_NATIVE, call->name);
        if (call->number == __NR_SCMP_ERROR)
            die("no system call is named %s", call->name);
        if (call->number < 0)
            return; /* this architecture does not have it */
    }
    call_count++;
}

static int by_number(const void *a, const void *b)
{
    return ((const struct call *)a)->number - ((const struct call *)b)->number;
}

static void collect_calls(void)
{
    for (size_t g = 0; g < policy_group_count; g++) {
        const char *at = policy_groups[g].calls;

        while (*at) {
            size_t len = strcspn(at, " ");

            if (len)
                add_call(at, len, g);
            at += len + (at[len] == ' ');
        }
    }
    qsort(calls, call_count, sizeof calls[0], by_number);
    for (size_t i = 1; i < call_count; i++)
        if (calls[i].number == calls[i - 1].number)
            die("%s and %s have one number", calls[i - 1].name, calls[i].name);
}

/* ---- the program ---- */

static uint32_t verdict_of(enum policy_action action, int error)
{
    switch (action) {
    case POLICY_ALLOW:
        return SECCOMP_RET_ALLOW;
    case POLICY_TELL:
        return SECCOMP_RET_USER_NOTIF;
    case POLICY_FAIL:
        break;
    }
    return SECCOMP_RET_ERRNO | ((uint32_t)error & SECCOMP_RET_DATA);
}

static void add_leaf(uint32_t first, uint32_t verdict, size_t block)
{
    struct leaf *last = leaf_count ? &leaves[leaf_count - 1] : NULL;

    if (last && last->block == NO_BLOCK && block == NO_BLOCK && last->verdict == verdict)
        return;
    leaves[leaf_count++] = (struct leaf){ first, verdict, block };
}

static void make_leaves(void)
{
    const uint32_t unknown = verdict_of(POLICY_FAIL, ENOSYS);
    uint32_t next = 0;

    for (size_t i = 0; i < call_count; i++) {
        const struct policy_group *group = &policy_groups[calls[i].group];
        uint32_t number = (uint32_t)calls[i].number;

        if (number > next)
            add_leaf(next, unknown, NO_BLOCK);
        add_leaf(number, verdict_of(group->action, group->error),
                 group->rule_count ? calls[i].group : NO_BLOCK);
        next = number + 1;
    }
    add_leaf(next, unknown, NO_BLOCK);
}

static size_t emit(uint16_t code, uint32_t k)
{
    if (program_len == PROGRAM_MAX)
        die("the program is too long");
    program[program_len] = (struct sock_filter){ .code = code, .k = k };
    return program_len++;
}

/** The conditional jump at @at goes to the program's end so far. */
static void land(size_t at, bool when_true)
{
    size_t distance = program_len - at - 1;

    if (distance > UINT8_MAX)
        die("a jump over %zu instructions is too far", distance);
    if (when_true)
        program[at].jt = (uint8_t)distance;
    else
        program[at].jf = (uint8_t)distance;
}

static void emit_return(uint32_t verdict)
{
    (void)emit(BPF_RET | BPF_K, verdict);
}

static void leave(size_t at, bool when_true, struct target to)
{
    open_branches[open_count++] = (struct branch){ at, when_true, to };
}

static bool same(struct target a, struct target b)
{
    return a.block == b.block && (a.block != NO_BLOCK || a.verdict == b.verdict);
}

/** Here nothing comes by itself: one instruction for each end that branches are open to. */
static void close_branches(void)
{
    while (open_count) {
        const struct target to = open_branches[0].to;
        size_t left = 0;

        for (size_t i = 0; i < open_count; i++) {
            if (same(open_branches[i].to, to))
                land(open_branches[i].at, open_branches[i].when_true);
            else
                open_branches[left++] = open_branches[i];
        }
        open_count = left;
        if (to.block == NO_BLOCK)
            emit_return(to.verdict);
        else
            fixups[fixup_count++] = (struct fixup){ emit(BPF_JMP | BPF_JA, 0), to.block };
    }
}

static void emit_search(size_t low, size_t high);

static void emit_half(size_t jump, bool when_true, size_t low, size_t high)
{
    if (high - low == 1) {
        leave(jump, when_true, (struct target){ leaves[low].verdict, leaves[low].block });
        return;
    }
    land(jump, when_true);
    emit_search(low, high);
}

static void emit_search(size_t low, size_t high)
{
    size_t mid = low + (high - low) / 2;
    size_t jump = emit(BPF_JMP | BPF_JGE | BPF_K, leaves[mid].first);

    emit_half(jump, false, low, mid);
    emit_half(jump, true, mid, high);
}

static uint32_t low_half_of(uint32_t arg)
{
    uint32_t offset = (uint32_t)offsetof(struct seccomp_data, args) + arg * 8;

    return __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__ ? offset + 4 : offset;
}

/** The jumps that are taken when the test does not hold go to ret_miss, and their number is
 *  returned; each misses on its true branch where ret_miss_when says so. */
static size_t emit_test(const struct policy_test *test, size_t *ret_miss, bool *ret_miss_when)
{
    (void)emit(BPF_LD | BPF_W | BPF_ABS, low_half_of(test->arg));
    switch (test->op) {
    case POLICY_ALWAYS:
        break;
    case POLICY_EQ:
    case POLICY_NE:
        if (test->a != UINT32_MAX)
            (void)emit(BPF_ALU | BPF_AND | BPF_K, test->a);
        ret_miss[0] = emit(BPF_JMP | BPF_JEQ | BPF_K, test->b);
        ret_miss_when[0] = test->op == POLICY_NE;
        return 1;
    case POLICY_ANY:
        ret_miss[0] = emit(BPF_JMP | BPF_JSET | BPF_K, test->a);
        ret_miss_when[0] = false;
        return 1;
    case POLICY_RANGE:
        ret_miss[0] = emit(BPF_JMP | BPF_JGE | BPF_K, test->a);
        ret_miss_when[0] = false;
        ret_miss[1] = emit(BPF_JMP | BPF_JGT | BPF_K, test->b);
        ret_miss_when[1] = true;
        return 2;
    }
    return 0;
}

static void emit_block(const struct policy_group *group)
{
    for (size_t r = 0; r < group->rule_count; r++) {
        const struct policy_rule *rule = &group->rules[r];
        size_t misses[2 * POLICY_TESTS_MAX], count = 0;
        bool when[2 * POLICY_TESTS_MAX];

        for (size_t t = 0; t < POLICY_TESTS_MAX; t++)
            if (rule->tests[t].op != POLICY_ALWAYS)
                count += emit_test(&rule->tests[t], misses + count, when + count);
        if (count == 0)
            die("a rule of %.40s has no test", group->calls);
        leave(misses[count - 1], !when[count - 1],
              (struct target){ verdict_of(rule->action, rule->error), NO_BLOCK });
        for (size_t m = 0; m < count; m++) {
            if (r + 1 < group->rule_count)
                land(misses[m], when[m]);
            else
                leave(misses[m], when[m],
                      (struct target){ verdict_of(group->action, group->error), NO_BLOCK });
        }
    }
    if (program_len - open_branches[0].at > UINT8_MAX / 2)
        close_branches();
}

static void make_program(void)
{
    const uint32_t arch = seccomp_arch_native();
    size_t jump;

    (void)emit(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, arch));
    jump = emit(BPF_JMP | BPF_JEQ | BPF_K, arch);
    program[jump].jt = 1;
    emit_return(SECCOMP_RET_KILL_PROCESS);
    (void)emit(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr));
    if (arch == SCMP_ARCH_X86_64) {
        /* x32 numbers carry a bit; -1, which a tracer or a bad program may leave, is not x32. */
        jump = emit(BPF_JMP | BPF_JGE | BPF_K, X32_BIT);
        program[jump].jf = 2;
        jump = emit(BPF_JMP | BPF_JEQ | BPF_K, UINT32_MAX);
        program[jump].jt = 1;
        emit_return(SECCOMP_RET_KILL_PROCESS);
    }
    if (leaf_count < 2)
        die("the table says the same of all calls");
    emit_search(0, leaf_count);
    close_branches();
    for (size_t g = 0; g < policy_group_count; g++) {
        size_t start = program_len;

        if (!policy_groups[g].rule_count)
            continue;
        emit_block(&policy_groups[g]);
        for (size_t f = 0; f < fixup_count; f++)
            if (fixups[f].block == g)
                program[fixups[f].at].k = (uint32_t)(start - fixups[f].at - 1);
    }
    close_branches();
}

/* ---- the files ---- */

static void write_filter(FILE *out)
{
    fputs("/* Written by seccomp_gen from policy.c. */\n", out);
    fputs("static const struct sock_filter filter[] = {\n", out);
    for (size_t i = 0; i < program_len; i++)
        fprintf(out, "    { 0x%02x, %u, %u, 0x%x },\n", program[i].code, program[i].jt,
                program[i].jf, program[i].k);
    fputs("};\n", out);
}

static void write_rules(FILE *out, size_t index)
{
    const struct policy_group *group = &policy_groups[index];

    fprintf(out, "static const struct policy_rule rules_%zu[] = {\n", index);
    for (size_t r = 0; r < group->rule_count; r++) {
        fputs("    { { ", out);
        for (size_t t = 0; t < POLICY_TESTS_MAX; t++) {
            const struct policy_test *test = &group->rules[r].tests[t];

            fprintf(out, "{ (enum policy_op)%d, %u, 0x%x, 0x%x }, ", test->op, test->arg, test->a,
                    test->b);
        }
        fprintf(out, "}, (enum policy_action)%d, %d },\n", group->rules[r].action,
                group->rules[r].error);
    }
    fputs("};\n", out);
}

static void write_calls(FILE *out)
{
    fputs("/* Written by seccomp_gen from policy.c. */\n", out);
    for (size_t g = 0; g < policy_group_count; g++)
        if (policy_groups[g].rule_count)
            write_rules(out, g);
    fputs("static const struct policy_call calls[] = {\n", out);
    for (size_t i = 0; i < call_count; i++) {
        const struct policy_group *group = &policy_groups[calls[i].group];

        fprintf(out, "    { \"%s\", ", calls[i].name);
        if (group->rule_count)
            fprintf(out, "rules_%zu", calls[i].group);
        else
            fputs("NULL", out);
        fprintf(out, ", %zu, %d, %d, %u, %u, %d, %d },\n", group->rule_count, group->action,
                group->text, group->arg, group->arg2, calls[i].number, group->error);
    }
    fputs("};\n", out);
}

static void write_file(const char *path, void (*write)(FILE *out))
{
    FILE *out = fopen(path, "w");
    bool failed;

    if (!out)
        die("%s: %s", path, strerror(errno));
    write(out);
    failed = ferror(out) != 0;
    if (fclose(out) != 0 || failed)
        die("%s: cannot be written", path);
}

int main(int argc, char **argv)
{
    if (argc != 3)
        die("usage: seccomp_gen FILTER.inc CALLS.inc");
    collect_calls();
    make_leaves();
    make_program();
    write_file(argv[1], write_filter);
    write_file(argv[2], write_calls);
    return 0;
}
