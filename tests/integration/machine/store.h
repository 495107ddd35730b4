/*
 * store - a store with one small image, "small": busybox on a disk, this system's kernel and
 * modules, and the user that programs run as.
 */
#pragma once

#include "tests/integration/machine/machine.h"

#include <spawn.h>
#include <sys/wait.h>

#include "tests/support/folder.h"
#include "vmctl/vmctl.h"

#define STORE_HASH "5e0a1e5ca1ab1e5ca1ab1e5ca1ab1e5ca1ab1e5ca1ab1e5ca1ab1e5ca1ab1e00"

/** An ext4 disk of @mib with a small root, made by the program that images are made with; -1 where
 *  that is missing.  Opened for reading. */
UNUSED static int store_make_disk(const char *name, unsigned mib, bool user)
{
    static const char *const folders[] = { "root",     "root/bin", "root/dev", "root/proc",
                                           "root/tmp", "root/run", "root/etc", "root/root" };
    static const char *const commands[] = { "sh",     "true",     "cat",  "echo", "dd",    "sync",
                                            "ls",     "id",       "env",  "stat", "sleep", "mount",
                                            "kill",   "ps",       "head", "tail", "wc",    "df",
                                            "md5sum", "hostname", "date", "rm",   "touch", NULL };
    static const char passwd[] =
        "root:x:0:0::/root:/bin/sh\nuser:x:1000:1000::/home/user:/bin/sh\n";
    char image[160], root[128];
    char *const argv[] = { (char *)unconst("mke2fs"),
                           (char *)unconst("-q"),
                           (char *)unconst("-t"),
                           (char *)unconst("ext4"),
                           (char *)unconst("-d"),
                           root,
                           image,
                           NULL };
    char *const env[] = { NULL };
    struct error err = ERROR_INIT;
    char *busybox;
    size_t len;
    int status = -1;
    pid_t pid;
    int fd;

    for (size_t i = 0; i < ARRAY_LEN(folders); i++)
        assert_int_equal(mkdirat(folder_fd, folders[i], 0755), 0);
    busybox = fd_read_file(AT_FDCWD, "/bin/busybox", 8u << 20, &len, &err);
    assert_ok(busybox, err);
    assert_ok(fd_replace_file(folder_path("root/bin/busybox"), busybox, len, 0755, &err), err);
    free(busybox);
    for (const char *const *command = commands; *command; command++) {
        char link[64];

        (void)snprintf(link, sizeof link, "root/bin/%s", *command);
        assert_int_equal(symlinkat("busybox", folder_fd, link), 0);
    }
    if (user)
        assert_ok(
            fd_replace_file(folder_path("root/etc/passwd"), passwd, sizeof passwd - 1, 0644, &err),
            err);
    (void)snprintf(root, sizeof root, "%s/root", folder_base);
    (void)snprintf(image, sizeof image, "%s/%s", folder_base, name);
    fd = open(image, O_RDWR | O_CREAT | O_CLOEXEC, 0644);
    assert_true(fd >= 0);
    assert_int_equal(ftruncate(fd, (off_t)mib << 20), 0);
    fd_close(fd);
    if (posix_spawn(&pid, "/sbin/mke2fs", NULL, NULL, argv, env) != 0)
        return -1;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
    assert_ok(fd_remove_tree(folder_fd, "root", &err), err);
    return open(image, O_RDONLY | O_CLOEXEC);
}

/** The store below the test's folder; NULL, or what is missing here.  @about: more of the record.
 */
UNUSED static const char *store_make(const struct machine_world *mw, const char *about)
{
    char name[300], path[600], target[300];
    struct error err = ERROR_INIT;
    char *kernel;
    size_t len;
    int disk;

    assert_int_equal(mkdirat(folder_fd, "images", 0755), 0);
    assert_int_equal(mkdirat(folder_fd, "images/" STORE_HASH, 0755), 0);
    assert_int_equal(mkdirat(folder_fd, "images/" STORE_HASH "/modules", 0755), 0);
    (void)snprintf(name, sizeof name, "images/" STORE_HASH "/modules/%s", mw->release);
    (void)snprintf(target, sizeof target, "/lib/modules/%s", mw->release);
    assert_int_equal(symlinkat(target, folder_fd, name), 0);
    (void)snprintf(target, sizeof target, "/boot/vmlinuz-%s", mw->release);
    kernel = fd_read_file(AT_FDCWD, target, 64u << 20, &len, &err);
    assert_ok(kernel, err);
    assert_ok(
        fd_replace_file(folder_path("images/" STORE_HASH "/vmlinuz"), kernel, len, 0644, &err),
        err);
    free(kernel);
    (void)snprintf(path, sizeof path, "{\"name\": \"small\", \"files\": [], \"kernel\": \"%s\"%s}",
                   mw->release, about);
    assert_ok(fd_replace_file(folder_path("images/" STORE_HASH "/recipe.json"), path, strlen(path),
                              0644, &err),
              err);
    disk = store_make_disk("images/" STORE_HASH "/root.ext4", 192, true);
    if (disk < 0)
        return "mke2fs";
    fd_close(disk);
    return NULL;
}

UNUSED static struct vmctl_config store_config(const struct machine_world *mw, const char *images)
{
    return (struct vmctl_config){ .loop = mw->loop,
                                  .images_dir = images,
                                  .image = "small",
                                  .cache_dir = folder_base,
                                  .early = early_image,
                                  .early_len = early_image_len,
                                  .guest = guest_image,
                                  .guest_len = guest_image_len };
}

/* ---- programs, as tools start them ---- */

#include "kernel/computer/computer.h"

/** What a command says in the computer's own environment, from /workspace; for free(). */
UNUSED static char *store_hear(struct computer *c, const char *script)
{
    const char *const argv[] = { "/bin/sh", "-c", script, NULL };
    struct wait w = patience();
    struct error err = ERROR_INIT;
    char **env = computer_env(c, NULL, &err);
    struct guest_run_spec spec = { .argv = argv, .cwd = "/workspace", .merge = true };
    CLEANUP(buf_fini) struct buf out = BUF_INIT;
    struct guest_run_info info;
    struct guest_run *run;
    uint64_t offset = 0;

    assert_ok(env, err);
    spec.env = (const char *const *)env;
    run = guest_spawn(computer_guest(c), &spec, &w, &err);
    free(env);
    assert_ok(run, err);
    assert_ok(guest_run_wait(run, 0, NULL, &w, &err), err);
    guest_run_info(run, &info);
    assert_true(guest_run_read(run, WIRE_STREAM_OUT, &offset, 65536, &out) >= 0);
    guest_run_unref(run);
    if (info.end != GUEST_RUN_EXIT || info.value != 0)
        fail_msg("%s: end %d, %d: %s", script, info.end, info.value, buf_str(&out));
    return strdup(buf_str(&out));
}

UNUSED static void store_expect(struct computer *c, const char *script, const char *want)
{
    char *got = store_hear(c, script);

    if (strcmp(got, want) != 0)
        fail_msg("%s: \"%s\"", script, got);
    free(got);
}
