/*
 * Times whole processes: peers ROUNDS COMMAND [ARGS…] forks, executes and waits ROUNDS times and
 * prints the median and the 90th percentile in microseconds.  With two commands separated by "--vs"
 * they take turns, so that a machine that speeds up or slows down does so for both.  Before each of
 * them PEERS_REST milliseconds pass, 0 if that is not set: what some leave behind for the kernel to
 * clear away is otherwise counted for whoever comes next.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include <fcntl.h>

static double now_us(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e6 + (double)t.tv_nsec / 1e3;
}

static struct timespec rest;

static double once(char **argv)
{
    double start;
    pid_t pid;
    int status;

    (void)nanosleep(&rest, NULL);
    start = now_us();
    pid = fork();
    if (pid == 0) {
        int null = open("/dev/null", O_RDWR);

        dup2(null, 0);
        dup2(null, 1);
        execvp(argv[0], argv);
        _exit(127);
    }
    waitpid(pid, &status, 0);
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) {
        fprintf(stderr, "peers: %s failed\n", argv[0]);
        exit(1);
    }
    return now_us() - start;
}

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a;
    double y = *(const double *)b;

    return (x > y) - (x < y);
}

int main(int argc, char **argv)
{
    int rounds = argc > 2 ? (int)strtol(argv[1], NULL, 10) : 0;
    const char *rest_ms = getenv("PEERS_REST");
    char **second = NULL;
    double *a;
    double *b;

    if (rounds < 1) {
        fprintf(stderr, "usage: peers ROUNDS COMMAND [ARGS] [--vs COMMAND [ARGS]]\n");
        return 2;
    }
    rest.tv_nsec = rest_ms ? 1000000 * strtol(rest_ms, NULL, 10) : 0;
    for (int i = 3; i < argc; i++) {
        if (strcmp(argv[i], "--vs") == 0) {
            argv[i] = NULL;
            second = argv + i + 1;
            break;
        }
    }
    a = calloc((size_t)rounds, sizeof *a);
    b = calloc((size_t)rounds, sizeof *b);
    if (!a || !b)
        return 1;
    once(argv + 2);
    if (second)
        once(second);
    for (int i = 0; i < rounds; i++) {
        a[i] = once(argv + 2);
        if (second)
            b[i] = once(second);
    }
    qsort(a, (size_t)rounds, sizeof *a, compare);
    qsort(b, (size_t)rounds, sizeof *b, compare);
    printf("%.0f %.0f", a[rounds / 2], a[rounds * 9 / 10]);
    if (second)
        printf(" %.0f %.0f", b[rounds / 2], b[rounds * 9 / 10]);
    printf("\n");
    free(a);
    free(b);
    return 0;
}
