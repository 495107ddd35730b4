#include "kernel/cpus.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernel/base/fd.h"

#define LIST_MAX_BYTES 4096

/* A number of at most four digits at *@text, which moves behind it; -1 when there is none. */
static int take_number(const char **text)
{
    size_t digits = strspn(*text, "0123456789");
    int number = 0;

    if (!digits || digits > 4)
        return -1;
    for (size_t i = 0; i < digits; i++)
        number = number * 10 + ((*text)[i] - '0');
    *text += digits;
    return number;
}

/* "0-3,6", with a line's end behind it or not. */
static bool parse_list(const char *text, cpu_set_t *ret)
{
    CPU_ZERO(ret);
    for (;;) {
        int first = take_number(&text), last = first;

        if (first >= 0 && *text == '-') {
            text++;
            last = take_number(&text);
        }
        if (first < 0 || last < first || last >= CPU_SETSIZE)
            return false;
        for (int cpu = first; cpu <= last; cpu++)
            CPU_SET(cpu, ret);
        if (*text != ',')
            break;
        text++;
    }
    return *text == '\0' || !strcmp(text, "\n");
}

/* The number of "node7", or -1. */
static int node_of(const char *text)
{
    int node;

    if (strncmp(text, "node", 4) != 0)
        return -1;
    text += 4;
    node = take_number(&text);
    return *text ? -1 : node;
}

bool cpus_check(const char *text, struct error *err)
{
    cpu_set_t set;

    if (!*text || !strcmp(text, "auto") || node_of(text) >= 0 ||
        (!strchr(text, '\n') && parse_list(text, &set)))
        return true;
    return error_set(err, ERR_INVALID,
                     "processors are \"\" (any), \"auto\", a list such as \"0-3,6\" below %d, or "
                     "a node such as \"node0\", but not \"%.100s\"",
                     CPU_SETSIZE, text);
}

static bool read_node(int node, const char *sysfs, cpu_set_t *ret, struct error *err)
{
    char path[512];
    char *list;
    size_t len;
    bool ok;

    (void)snprintf(path, sizeof path, "%s/devices/system/node/node%d/cpulist", sysfs, node);
    list = fd_read_file(AT_FDCWD, path, LIST_MAX_BYTES, &len, NULL);
    ok = list && parse_list(list, ret);
    free(list);
    return ok || error_set(err, ERR_NOT_FOUND, "this machine has no processors in node %d", node);
}

/* The @number-th of those that this process may use, begun anew behind the last. */
static bool pick(size_t number, cpu_set_t *ret)
{
    cpu_set_t allowed;
    size_t count;

    if (sched_getaffinity(0, sizeof allowed, &allowed) < 0 || CPU_COUNT(&allowed) < 2)
        return false;
    count = (size_t)CPU_COUNT(&allowed);
    number %= count;
    for (int cpu = 0; cpu < CPU_SETSIZE; cpu++) {
        if (CPU_ISSET(cpu, &allowed) && number-- == 0) {
            CPU_SET(cpu, ret);
            return true;
        }
    }
    return false;
}

bool cpus_of_thread(const char *text, size_t number, const char *sysfs, cpu_set_t *ret,
                    bool *ret_any, struct error *err)
{
    int node = node_of(text);

    CPU_ZERO(ret);
    *ret_any = false;
    if (!*text) {
        *ret_any = true;
    } else if (!strcmp(text, "auto")) {
        *ret_any = !pick(number, ret);
    } else if (node >= 0) {
        return read_node(node, sysfs, ret, err);
    } else if (!parse_list(text, ret)) {
        return cpus_check(text, err);
    }
    return true;
}
