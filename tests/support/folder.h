/*
 * folder - an empty folder of its own for each test, removed afterwards; the teardown also fails
 * a test that leaves a descriptor open.  Included by test programs, each with its own copy.
 */
#pragma once

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>

#include "kernel/base/fd.h"
#include "tests/support/check.h"

static char folder_base[64];
static int folder_fd = -1;
static int folder_fds_before;

static inline int folder_open_fds(void)
{
    DIR *dir = opendir("/proc/self/fd");
    int count = 0;

    while (dir && readdir(dir))
        count++;
    (void)closedir(dir);
    return count;
}

static inline int folder_make(void **state)
{
    (void)state;
    (void)snprintf(folder_base, sizeof folder_base, "/tmp/aios-test-XXXXXX");
    if (!mkdtemp(folder_base))
        return -1;
    folder_fd = open(folder_base, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    folder_fds_before = folder_open_fds();
    return folder_fd < 0 ? -1 : 0;
}

static inline int folder_remove(void **state)
{
    int leaked = folder_open_fds() - folder_fds_before;

    (void)state;
    fd_close(folder_fd);
    if (leaked)
        print_message("%d descriptors were left open\n", leaked);
    return fd_remove_tree(AT_FDCWD, folder_base, NULL) && leaked == 0 ? 0 : -1;
}

/** Valid until the next call. */
static inline const char *folder_path(const char *name)
{
    static char path[256];

    (void)snprintf(path, sizeof path, "%s/%s", folder_base, name);
    return path;
}

static inline void folder_put(const char *name, const char *text)
{
    struct error err = ERROR_INIT;

    assert_ok(fd_replace_file(folder_path(name), text, strlen(text), 0644, &err), err);
}

static inline bool folder_has(const char *name)
{
    struct stat st;

    return fstatat(folder_fd, name, &st, AT_SYMLINK_NOFOLLOW) == 0;
}

#define WITH_FOLDER(test) cmocka_unit_test_setup_teardown(test, folder_make, folder_remove)
