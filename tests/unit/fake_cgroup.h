/*
 * fake_cgroup - a cgroup file system that is only files, for test_cgroup*.c.
 *
 * Making a folder in it makes the control files, and removing one removes them, as the kernel does.
 * What is written stays to be looked at.  Link with WRAP mkdirat unlinkat.
 */
#pragma once

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "kernel/base/fd.h"
#include "sandbox/cgroup_kind.h"
#include "tests/support/check.h"

static struct {
    char root[64];
    const char *const *files; /* in each group; NULL: the real thing is tested */
    int busy;                 /* so many removals answer EBUSY */
    bool read_only;
} fake;

int __real_mkdirat(int dirfd, const char *path, mode_t mode);
int __wrap_mkdirat(int dirfd, const char *path, mode_t mode);
int __real_unlinkat(int dirfd, const char *path, int flags);
int __wrap_unlinkat(int dirfd, const char *path, int flags);

static void put(int dirfd, const char *path, const char *text)
{
    int fd = openat(dirfd, path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);

    if (fd < 0 || write(fd, text, strlen(text)) != (ssize_t)strlen(text))
        abort();
    close(fd);
}

static void populate(int dirfd, const char *group)
{
    for (const char *const *file = fake.files; file && *file; file++) {
        char path[300];
        const char *equals = strchr(*file, '=');

        (void)snprintf(path, sizeof path, "%s/%.*s", group, (int)(equals - *file), *file);
        put(dirfd, path, equals + 1);
    }
}

int __wrap_mkdirat(int dirfd, const char *path, mode_t mode)
{
    int rc;

    if (fake.files && fake.read_only) {
        errno = EROFS;
        return -1;
    }
    rc = __real_mkdirat(dirfd, path, mode);
    if (rc == 0)
        populate(dirfd, path);
    return rc;
}

int __wrap_unlinkat(int dirfd, const char *path, int flags)
{
    if (fake.files && flags == AT_REMOVEDIR && fake.busy > 0) {
        fake.busy--;
        errno = EBUSY;
        return -1;
    }
    for (const char *const *file = fake.files; flags == AT_REMOVEDIR && file && *file; file++) {
        char name[300];

        (void)snprintf(name, sizeof name, "%s/%.*s", path, (int)(strchr(*file, '=') - *file),
                       *file);
        (void)__real_unlinkat(dirfd, name, 0);
    }
    return __real_unlinkat(dirfd, path, flags);
}

static struct cgroup_roots roots;
static char mountinfo_path[128], self_path[128];

static void make_group(const char *path)
{
    char full[300];

    (void)snprintf(full, sizeof full, "%s/%s", fake.root, path);
    assert_int_equal(__real_mkdirat(AT_FDCWD, full, 0755), 0);
    populate(AT_FDCWD, full);
}

/** @mountinfo: lines with one %s for the root of the fake. */
static void set_up_fake(const char *const *files, const char *mountinfo, const char *self)
{
    char text[2048] = "";
    size_t used = 0;

    (void)snprintf(fake.root, sizeof fake.root, "/tmp/test_cgroup.XXXXXX");
    assert_non_null(mkdtemp(fake.root));
    fake.files = files;
    (void)snprintf(mountinfo_path, sizeof mountinfo_path, "%s/mountinfo", fake.root);
    (void)snprintf(self_path, sizeof self_path, "%s/self", fake.root);
    for (const char *at = mountinfo; *at;) {
        size_t line = strcspn(at, "\n");
        const char *mark = strstr(at, "@");

        if (mark && mark < at + line)
            used +=
                (size_t)snprintf(text + used, sizeof text - used, "%.*s%s%.*s\n", (int)(mark - at),
                                 at, fake.root, (int)(at + line - mark - 1), mark + 1);
        at += line + (at[line] == '\n');
    }
    put(AT_FDCWD, mountinfo_path, text);
    put(AT_FDCWD, self_path, self);
    roots = (struct cgroup_roots){ .mountinfo = mountinfo_path, .self = self_path };
}

static int tear_down(void **state)
{
    struct error err = ERROR_INIT;
    bool made = fake.root[0];

    (void)state;
    fake.files = NULL;
    fake.busy = 0;
    fake.read_only = false;
    if (made && !fd_remove_tree(AT_FDCWD, fake.root, &err))
        return 1;
    fake.root[0] = '\0';
    return 0;
}

static void assert_file(const char *path, const char *want)
{
    char full[400];
    char *text;

    (void)snprintf(full, sizeof full, "%s/%s", fake.root, path);
    text = fd_read_file(AT_FDCWD, full, 4096, NULL, NULL);
    if (!text)
        fail_msg("%s is not there", path);
    assert_string_equal(text, want);
    free(text);
}

static bool exists(const char *path)
{
    char full[400];

    (void)snprintf(full, sizeof full, "%s/%s", fake.root, path);
    return access(full, F_OK) == 0;
}
