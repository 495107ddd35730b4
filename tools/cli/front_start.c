/*
 * The first instructions of the small program `aios`: unless it is for `aios run`, the whole
 * program is executed before this one's C library is set up, which would take twice as long as the
 * rest.
 *
 * Compiled without what needs the C library (CMakeLists.txt), as the stack protector does.  x86-64
 * alone, as the system call filter is.
 */
#include <stdbool.h>
#include <stddef.h>
#include <sys/syscall.h>

#include "tools/cli/front.h"

#define WHOLE "/../lib/aios/aios"

static long system_call(long number, long a, long b, long c)
{
    long ret;

    __asm__ volatile("syscall"
                     : "=a"(ret)
                     : "a"(number), "D"(a), "S"(b), "d"(c)
                     : "rcx", "r11", "memory");
    return ret;
}

int front_execute(char **argv, char **env, char path[FRONT_PATH_BYTES])
{
    long len = system_call(SYS_readlink, (long)"/proc/self/exe", (long)path,
                           FRONT_PATH_BYTES - sizeof WHOLE);
    size_t at = len > 0 ? (size_t)len : 0;

    while (at > 0 && path[at - 1] != '/')
        at--;
    if (at == 0) {
        path[0] = '\0';
        return (int)-len;
    }
    for (size_t i = 0; i < sizeof WHOLE; i++) {
        path[at - 1 + i] = WHOLE[i];
        __asm__ volatile("" ::: "memory"); /* one by one, not by a call of memcpy() */
    }
    return (int)-system_call(SYS_execve, (long)path, (long)argv, (long)env);
}

static bool is_run(const char *word)
{
    return word[0] == 'r' && word[1] == 'u' && word[2] == 'n' && word[3] == '\0';
}

/* @stack as the kernel hands it over: argc, argv, NULL, the environment.  What fails is told by
 * main(), which tries again. */
__attribute__((used)) void front_first(long *stack);
void front_first(long *stack)
{
    long argc = stack[0];
    char **argv = (char **)(stack + 1);
    char path[FRONT_PATH_BYTES];

    if (argc < 2 || !is_run(argv[1]))
        (void)front_execute(argv, argv + argc + 1, path);
}

__asm__(".text\n"
        ".globl front_start\n"
        ".hidden front_start\n"
        ".type front_start, @function\n"
        "front_start:\n"
        "    mov %rsp, %rbx\n"
        "    mov %rsp, %rdi\n"
        "    and $-16, %rsp\n"
        "    call front_first\n"
        "    mov %rbx, %rsp\n"
        "    xor %edx, %edx\n" /* no function for the C library to call at exit */
        "    jmp _start\n"
        ".size front_start, . - front_start\n");
