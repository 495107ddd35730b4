#include "sandbox/skeleton.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <unistd.h>

#include "kernel/base/fd.h"
#include "sandbox/mounts.h"
#include "tests/support/check.h"

static char dir[64], cache[100], host[100];

static void put(const char *path, const char *text, mode_t mode)
{
    char full[300];
    int fd;

    (void)snprintf(full, sizeof full, "%s/%s", host, path);
    fd = open(full, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0 || write(fd, text, strlen(text)) != (ssize_t)strlen(text) || fchmod(fd, mode) != 0)
        abort();
    close(fd);
}

static void put_dir(const char *path)
{
    char full[300];

    (void)snprintf(full, sizeof full, "%s/%s", host, path);
    if (!fd_mkdirs(full, 0755, NULL))
        abort();
}

static void put_link(const char *path, const char *target)
{
    char full[300];

    (void)snprintf(full, sizeof full, "%s/%s", host, path);
    (void)unlink(full);
    if (symlink(target, full) != 0)
        abort();
}

/** A host with something of everything that matters. */
static int make_host(void **state)
{
    (void)state;
    (void)snprintf(dir, sizeof dir, "/tmp/test_skeleton.XXXXXX");
    if (!mkdtemp(dir))
        return 1;
    (void)snprintf(cache, sizeof cache, "%s/cache", dir);
    (void)snprintf(host, sizeof host, "%s/host", dir);
    put_dir("etc/ssl/certs");
    put_dir("etc/alternatives");
    put_dir("etc/apt/sources.list.d");
    put_dir("etc/maven");
    put_dir("usr/bin");
    put_dir("../cache");
    put_link("bin", "usr/bin");
    put_link("lib", "/usr/lib");
    put("usr/bin/bash", "", 0755);
    put("etc/passwd", "real:x:0:0:somebody:/root:/bin/sh\n", 0644);
    put("etc/shadow", "root:secret\n", 0600);
    put("etc/services", "http 80/tcp\n", 0644);
    put("etc/login.defs", "not for all\n", 0640);
    put("etc/wgetrc", "proxy = https://user:password@proxy:3128/\n", 0644);
    put("etc/maven/settings.xml", "<password>x</password>\n", 0644);
    put("etc/maven/m2.conf", "main\n", 0755);
    put("etc/ssl/certs/ca.crt", "CERT\n", 0644);
    put_link("etc/ssl/certs/1.0", "ca.crt");
    put_link("etc/ssl/certs/2.0", "/usr/share/ca/2.crt");
    put("outside", "from outside\n", 0644);
    put_link("etc/ssl/certs/3.0", "../../../outside");
    put_link("etc/alternatives/awk", "/usr/bin/mawk");
    return 0;
}

static int remove_host(void **state)
{
    (void)state;
    return fd_remove_tree(AT_FDCWD, dir, NULL) ? 0 : 1;
}

static void path_of(char full[400], const struct skeleton *s, const char *path)
{
    bool below_usr = !strncmp(path, "usr/", 4);

    (void)snprintf(full, 400, "%s/%s%s", skeleton_path(s), below_usr ? "" : MOUNTS_ROOT "/",
                   below_usr ? path + 4 : path);
}

static char *text_of(const struct skeleton *s, const char *path)
{
    static char text[4096];
    char full[400];
    char *read;

    path_of(full, s, path);
    read = fd_read_file(AT_FDCWD, full, sizeof text - 1, NULL, NULL);
    if (!read)
        return NULL;
    (void)snprintf(text, sizeof text, "%s", read);
    free(read);
    return text;
}

static char *link_of(const struct skeleton *s, const char *path)
{
    static char target[200];
    char full[400];
    ssize_t n;

    path_of(full, s, path);
    n = readlink(full, target, sizeof target - 1);
    if (n < 0)
        return NULL;
    target[n] = '\0';
    return target;
}

static mode_t mode_of(const struct skeleton *s, const char *path)
{
    char full[400];
    struct stat st;

    path_of(full, s, path);
    return lstat(full, &st) == 0 ? st.st_mode : 0;
}

static void has_what_programs_look_for(void **state)
{
    static const char *const folders[] = { "dev/pts", "dev/shm", "home",      "opt",
                                           "proc",    "usr",     "var",       "workspace",
                                           "usr/bin", "usr/lib", "home/agent" };
    struct error err = ERROR_INIT;
    CLEANUP(skeleton_freep)
    struct skeleton *s = skeleton_new(cache, host, geteuid(), getegid(), &err);

    (void)state;
    assert_ok(s, err);
    assert_string_equal(link_of(s, "bin"), "usr/bin");
    assert_string_equal(link_of(s, "lib"), "/usr/lib");
    assert_null(link_of(s, "lib64"));
    assert_contains(text_of(s, "etc/passwd"), "agent:x:1000:1000:Agent:/home/agent:/bin/bash\n");
    assert_contains(text_of(s, "etc/group"), "agent:x:1000:");
    assert_contains(text_of(s, "etc/hosts"), "127.0.0.1 localhost");
    assert_string_equal(text_of(s, "etc/services"), "http 80/tcp\n");
    assert_string_equal(text_of(s, "dev/null"), "");
    assert_string_equal(link_of(s, "dev/stdout"), "/proc/self/fd/1");
    assert_string_equal(link_of(s, "etc/alternatives/awk"), "/usr/bin/mawk");
    for (size_t i = 0; i < ARRAY_LEN(folders); i++) {
        if (mode_of(s, folders[i]) != (S_IFDIR | 0755))
            fail_msg("%s has mode %o", folders[i], mode_of(s, folders[i]));
    }
    assert_int_equal(mode_of(s, "tmp"), S_IFDIR | 01777);
    assert_int_equal(mode_of(s, "sys"), 0);
    assert_int_equal(mode_of(s, ""), S_IFDIR | 0755);
}

static void has_nothing_that_is_not_for_everybody(void **state)
{
    struct error err = ERROR_INIT;
    CLEANUP(skeleton_freep)
    struct skeleton *s = skeleton_new(cache, host, geteuid(), getegid(), &err);

    (void)state;
    assert_ok(s, err);
    assert_null(text_of(s, "etc/shadow"));
    assert_null(text_of(s, "etc/login.defs"));
    assert_null(text_of(s, "etc/wgetrc"));
    assert_null(text_of(s, "etc/maven/settings.xml"));
    assert_string_equal(text_of(s, "etc/maven/m2.conf"), "main\n");
    assert_null(strstr(text_of(s, "etc/passwd"), "somebody"));
}

static void links_stay_links_where_their_target_is_inside(void **state)
{
    struct error err = ERROR_INIT;
    CLEANUP(skeleton_freep)
    struct skeleton *s = skeleton_new(cache, host, geteuid(), getegid(), &err);

    (void)state;
    assert_ok(s, err);
    assert_string_equal(link_of(s, "etc/ssl/certs/1.0"), "ca.crt");
    assert_string_equal(link_of(s, "etc/ssl/certs/2.0"), "/usr/share/ca/2.crt");
    put_link("etc/ssl/certs/4.0", "/dev/../tmp/nowhere");
}

static void the_servers_umask_does_not_matter(void **state)
{
    struct error err = ERROR_INIT;
    mode_t old = umask(0077);
    CLEANUP(skeleton_freep) struct skeleton *s = NULL;

    (void)state;
    put("etc/rpc", "new\n", 0644); /* so that it is made again */
    s = skeleton_new(cache, host, geteuid(), getegid(), &err);
    (void)umask(old);
    assert_ok(s, err);
    assert_int_equal(mode_of(s, "etc/services"), S_IFREG | 0644);
    assert_int_equal(mode_of(s, "etc/ssl"), S_IFDIR | 0755);
}

static void is_found_again_until_the_host_changes(void **state)
{
    struct error err = ERROR_INIT;
    struct skeleton *first = skeleton_new(cache, host, geteuid(), getegid(), &err);
    CLEANUP(skeleton_freep)
    struct skeleton *again = skeleton_new(cache, host, geteuid(), getegid(), &err);
    CLEANUP(skeleton_freep) struct skeleton *changed = NULL;
    CLEANUP(skeleton_freep) struct skeleton *third = NULL;
    char old[200];

    (void)state;
    assert_ok(first && again, err);
    assert_string_equal(skeleton_path(first), skeleton_path(again));
    (void)snprintf(old, sizeof old, "%s", skeleton_path(first));
    put("etc/services", "ssh 22/tcp\nhttp 80/tcp\n", 0644);
    changed = skeleton_new(cache, host, geteuid(), getegid(), &err);
    assert_ok(changed, err);
    assert_string_not_equal(skeleton_path(changed), old);
    assert_int_equal(access(old, F_OK), 0); /* in use */
    skeleton_free(first);
    skeleton_free(STEAL(again));
    put("etc/services", "none\n", 0644);
    third = skeleton_new(cache, host, geteuid(), getegid(), &err);
    assert_ok(third, err);
    assert_int_not_equal(access(old, F_OK), 0);
    assert_int_equal(access(skeleton_path(changed), F_OK), 0);
}

/* Of the only link in the cache. */
static void point_link_to(const char *target)
{
    char path[200] = "";
    DIR *all = opendir(cache);

    assert_non_null(all);
    for (struct dirent *e = readdir(all); e; e = readdir(all)) {
        if (strncmp(e->d_name, "recent-", 7) != 0)
            continue;
        assert_string_equal(path, "");
        (void)snprintf(path, sizeof path, "%s/%.60s", cache, e->d_name);
    }
    closedir(all);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(symlink(target, path), 0);
}

static void the_most_recent_one_is_recalled(void **state)
{
    static const char *const wrong[] = { "/tmp", "skeleton-../host/etc/ssl/certsx",
                                         "skeleton-0123456789abcdef01234567" };
    struct error err = ERROR_INIT;
    struct skeleton *s = skeleton_new(cache, host, geteuid(), getegid(), &err), *again;

    (void)state;
    assert_ok(s, err);
    assert_null(skeleton_recall(cache, "/else", geteuid(), getegid()));
    assert_null(skeleton_recall(cache, host, geteuid() + 1, getegid()));
    assert_null(skeleton_recall("/nowhere", host, geteuid(), getegid()));
    again = skeleton_recall(cache, host, geteuid(), getegid());
    assert_non_null(again);
    assert_string_equal(skeleton_path(again), skeleton_path(s));
    skeleton_free(again);
    put("etc/services", "http 80/tcp # recalled\n", 0644);
    again = skeleton_recall(cache, host, geteuid(), getegid());
    assert_non_null(again); /* nobody has looked */
    assert_string_equal(skeleton_path(again), skeleton_path(s));
    skeleton_free(again);
    skeleton_free(s);
    s = skeleton_new(cache, host, geteuid(), getegid(), &err);
    assert_ok(s, err);
    again = skeleton_recall(cache, host, geteuid(), getegid());
    assert_non_null(again);
    assert_string_equal(skeleton_path(again), skeleton_path(s));
    assert_string_equal(text_of(again, "etc/services"), "http 80/tcp # recalled\n");
    skeleton_free(again);
    for (size_t i = 0; i < ARRAY_LEN(wrong); i++) {
        point_link_to(wrong[i]);
        assert_null(skeleton_recall(cache, host, geteuid(), getegid()));
    }
    skeleton_free(s);
    s = skeleton_new(cache, host, geteuid(), getegid(), &err);
    again = skeleton_recall(cache, host, geteuid(), getegid());
    assert_non_null(again);
    skeleton_free(again);
    skeleton_free(s);
}

static void half_made_ones_are_cleared_away(void **state)
{
    struct error err = ERROR_INIT;
    CLEANUP(skeleton_freep) struct skeleton *s = NULL;
    char path[200];

    (void)state;
    (void)snprintf(path, sizeof path, "%s/.skeleton-t_left", cache);
    assert_int_equal(mkdir(path, 0700), 0);
    put("etc/services", "other\n", 0644);
    s = skeleton_new(cache, host, geteuid(), getegid(), &err);
    assert_ok(s, err);
    assert_int_not_equal(access(path, F_OK), 0);
}

static void refuses_a_host_without_merged_usr(void **state)
{
    struct error err = ERROR_INIT;
    char path[200];

    (void)state;
    put_dir("sbin");
    assert_null(skeleton_new(cache, host, geteuid(), getegid(), &err));
    assert_code(err, ERR_UNSUPPORTED);
    assert_contains(err.text, "/sbin");
    (void)snprintf(path, sizeof path, "%s/sbin", host);
    assert_int_equal(rmdir(path), 0);
}

static void survives_every_allocation_failure(void **state)
{
    (void)state;
    put("etc/services", "yet another\n", 0644);
    FAULT_EACH(n)
    {
        struct error err = ERROR_INIT;
        struct skeleton *s = skeleton_new(cache, host, geteuid(), getegid(), &err);

        FAULT_DONE(n);
        if (!s)
            assert_code(err, ERR_NOMEM);
        skeleton_free(s);
    }
}

static void this_machine_gets_one(void **state)
{
    struct error err = ERROR_INIT;
    CLEANUP(skeleton_freep)
    struct skeleton *s = skeleton_new(cache, "/", geteuid(), getegid(), &err);

    (void)state;
    assert_ok(s, err);
    assert_contains(text_of(s, "etc/nsswitch.conf"), "hosts: files dns");
    assert_non_null(link_of(s, "bin"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(has_what_programs_look_for),
        cmocka_unit_test(has_nothing_that_is_not_for_everybody),
        cmocka_unit_test(links_stay_links_where_their_target_is_inside),
        cmocka_unit_test(the_servers_umask_does_not_matter),
        cmocka_unit_test(is_found_again_until_the_host_changes),
        cmocka_unit_test(the_most_recent_one_is_recalled),
        cmocka_unit_test(half_made_ones_are_cleared_away),
        cmocka_unit_test(refuses_a_host_without_merged_usr),
        cmocka_unit_test(survives_every_allocation_failure),
        cmocka_unit_test(this_machine_gets_one),
    };

    return cmocka_run_group_tests(tests, make_host, remove_host);
}
