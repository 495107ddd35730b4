#include "sandbox/landlock.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "kernel/base/fd.h"
#include "tests/support/check.h"

#define CHILD_SECONDS 60

/* Two folders, one of which the child may write. */
struct fixture {
    char top[64];
    char in[96], out[96], in_file[112], out_file[112];
    const char *writable[3];
    struct sockaddr_un name; /* abstract, of a socket outside */
    socklen_t name_len;
    int abi;
};

static void touch(const char *path)
{
    int fd = open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0644);

    assert_true(fd >= 0);
    assert_int_equal(write(fd, "text", 4), 4);
    close(fd);
}

static int set_up(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);

    if (!f)
        return -1;
    (void)snprintf(f->top, sizeof f->top, "/tmp/test_landlock.XXXXXX");
    if (!mkdtemp(f->top)) {
        free(f);
        return -1;
    }
    (void)snprintf(f->in, sizeof f->in, "%s/in", f->top);
    (void)snprintf(f->out, sizeof f->out, "%s/out", f->top);
    (void)snprintf(f->in_file, sizeof f->in_file, "%s/file", f->in);
    (void)snprintf(f->out_file, sizeof f->out_file, "%s/file", f->out);
    assert_int_equal(mkdir(f->in, 0755), 0);
    assert_int_equal(mkdir(f->out, 0755), 0);
    touch(f->in_file);
    touch(f->out_file);
    f->writable[0] = f->in;
    f->writable[1] = "/nowhere/at/all";
    f->writable[2] = "/dev/null"; /* a rule about something that is not a folder */
    f->abi = landlock_abi();
    assert_true(f->abi > 0);
    *state = f;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;
    bool removed = fd_remove_tree(AT_FDCWD, f->top, NULL);

    free(f);
    return removed ? 0 : -1;
}

/** Runs @fn under the rules of @abi; its result is 0 or the line that found something else. */
static void in_child(struct fixture *f, int abi, int (*fn)(struct fixture *f))
{
    int status;
    pid_t pid = fork();

    assert_true(pid >= 0);
    if (pid == 0) {
        int line;

        (void)alarm(CHILD_SECONDS);
        if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) ||
            !landlock_apply(abi, f->writable, ARRAY_LEN(f->writable)))
            _exit(2);
        line = fn(f);
        if (line)
            (void)dprintf(STDERR_FILENO, "ABI %d, line %d: %s\n", abi, line, strerror(errno));
        _exit(line ? 1 : 0);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
}

#define EXPECT(cond)         \
    do {                     \
        errno = 0;           \
        if (!(cond))         \
            return __LINE__; \
    } while (0)
#define REFUSED(call, wanted) EXPECT((call) < 0 && errno == (wanted))

static int try_opening(const char *path, int flags)
{
    int fd = open(path, flags | O_CLOEXEC, 0644);

    if (fd >= 0)
        close(fd);
    return fd < 0 ? -1 : 0;
}

static int change_files(struct fixture *f)
{
    char path[160], other[160];

    EXPECT(try_opening("/etc/passwd", O_RDONLY) == 0);
    EXPECT(try_opening(f->out_file, O_RDONLY) == 0);
    EXPECT(try_opening(f->out, O_RDONLY | O_DIRECTORY) == 0);
    EXPECT(access("/bin/sh", X_OK) == 0);

    EXPECT(try_opening(f->in_file, O_WRONLY | O_TRUNC) == 0);
    (void)snprintf(path, sizeof path, "%s/dir", f->in);
    EXPECT(mkdir(path, 0755) == 0);
    (void)snprintf(path, sizeof path, "%s/dir/fifo", f->in);
    EXPECT(mkfifo(path, 0600) == 0);
    (void)snprintf(path, sizeof path, "%s/link", f->in);
    EXPECT(symlink("file", path) == 0);
    EXPECT(unlink(path) == 0);
    (void)snprintf(path, sizeof path, "%s/dir/moved", f->in);
    if (f->abi >= 2) {
        EXPECT(rename(f->in_file, path) == 0);
        EXPECT(link(path, f->in_file) == 0);
        EXPECT(unlink(path) == 0);
    }
    (void)snprintf(path, sizeof path, "%s/dir/fifo", f->in);
    EXPECT(unlink(path) == 0);
    (void)snprintf(path, sizeof path, "%s/dir", f->in);
    EXPECT(rmdir(path) == 0);

    REFUSED(try_opening(f->out_file, O_WRONLY), EACCES);
    (void)snprintf(path, sizeof path, "%s/new", f->out);
    REFUSED(try_opening(path, O_WRONLY | O_CREAT), EACCES);
    REFUSED(mkdir(path, 0755), EACCES);
    REFUSED(mkfifo(path, 0644), EACCES);
    REFUSED(symlink("x", path), EACCES);
    REFUSED(unlink(f->out_file), EACCES);
    (void)snprintf(other, sizeof other, "%s/moved", f->in);
    EXPECT(rename(f->out_file, other) < 0 && (errno == EACCES || errno == EXDEV));
    EXPECT(rename(f->in_file, path) < 0 && (errno == EACCES || errno == EXDEV));
    EXPECT(link(f->in_file, path) < 0 && (errno == EACCES || errno == EXDEV));
    if (f->abi >= 3)
        REFUSED(truncate(f->out_file, 0), EACCES);
    return 0;
}

static void writes_only_where_it_may(void **state)
{
    struct fixture *f = *state;

    in_child(f, f->abi, change_files);
}

static void every_older_interface_still_restricts(void **state)
{
    struct fixture *f = *state;
    int newest = f->abi;

    for (int abi = 1; abi <= newest; abi++) {
        f->abi = abi;
        in_child(f, abi, change_files);
    }
}

static int use_devices(struct fixture *f)
{
    char name[64];
    int fd;

    (void)f;
    fd = open("/dev/null", O_RDWR | O_TRUNC | O_CLOEXEC);
    EXPECT(fd >= 0 && write(fd, "x", 1) == 1);
    close(fd);
    fd = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);
    EXPECT(fd >= 0);
    EXPECT(grantpt(fd) == 0 && unlockpt(fd) == 0);
    EXPECT(ptsname_r(fd, name, sizeof name) == 0);
    EXPECT(try_opening(name, O_RDWR | O_NOCTTY) == 0);
    close(fd);
    REFUSED(try_opening("/dev/new", O_WRONLY | O_CREAT), EACCES);

    (void)snprintf(name, sizeof name, "/test_landlock.%d", (int)getpid());
    fd = shm_open(name, O_RDWR | O_CREAT | O_EXCL, 0600);
    EXPECT(fd >= 0 && ftruncate(fd, 4096) == 0);
    close(fd);
    EXPECT(shm_unlink(name) == 0);
    fd = memfd_create("memory", MFD_CLOEXEC);
    EXPECT(fd >= 0 && ftruncate(fd, 4096) == 0 && write(fd, "x", 1) == 1);
    close(fd);
    return 0;
}

static void devices_and_shared_memory_work(void **state)
{
    struct fixture *f = *state;

    in_child(f, f->abi, use_devices);
}

static int write_own_process_files(struct fixture *f)
{
    int fd = open("/proc/self/comm", O_WRONLY | O_TRUNC | O_CLOEXEC);

    (void)f;
    EXPECT(fd >= 0 && write(fd, "renamed", 7) == 7);
    close(fd);
    fd = open("/proc/self/oom_score_adj", O_RDWR | O_CLOEXEC);
    EXPECT(fd >= 0 && write(fd, "500", 3) == 3);
    close(fd);
    return 0;
}

static void a_process_writes_its_own_files_in_proc(void **state)
{
    struct fixture *f = *state;

    in_child(f, f->abi, write_own_process_files);
}

static int make_device(struct fixture *f)
{
    char path[160];

    (void)snprintf(path, sizeof path, "%s/device", f->in);
    REFUSED(mknod(path, S_IFCHR | 0600, 0x103), EACCES);
    REFUSED(mknod(path, S_IFBLK | 0600, 0x103), EACCES);
    return 0;
}

static void nobody_makes_devices(void **state)
{
    struct fixture *f = *state;

    if (geteuid() != 0)
        skip_because("the kernel refuses an ordinary user anyway");
    in_child(f, f->abi, make_device);
}

static int reach_outside(struct fixture *f)
{
    int sock = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int status;
    pid_t child;

    EXPECT(sock >= 0);
    REFUSED(connect(sock, (struct sockaddr *)&f->name, f->name_len), EPERM);
    close(sock);
    REFUSED(kill(getppid(), 0), EPERM);
    REFUSED(kill(getppid(), SIGTERM), EPERM);
    child = fork();
    EXPECT(child >= 0);
    if (child == 0)
        for (;;)
            (void)pause();
    EXPECT(kill(child, SIGKILL) == 0);
    EXPECT(waitpid(child, &status, 0) == child);
    EXPECT(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
    return 0;
}

static void signals_and_abstract_sockets_end_at_the_sandbox(void **state)
{
    struct fixture *f = *state;
    int sock;

    if (f->abi < 6)
        skip_because("Landlock ABI %d has no scopes", f->abi);
    sock = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(sock >= 0);
    f->name.sun_family = AF_UNIX;
    f->name_len = sizeof(sa_family_t); /* the kernel picks an abstract name */
    assert_int_equal(bind(sock, (struct sockaddr *)&f->name, f->name_len), 0);
    assert_int_equal(listen(sock, 1), 0);
    f->name_len = sizeof f->name;
    assert_int_equal(getsockname(sock, (struct sockaddr *)&f->name, &f->name_len), 0);
    in_child(f, f->abi, reach_outside);
    close(sock);
}

static int write_anywhere(struct fixture *f)
{
    EXPECT(try_opening(f->out_file, O_WRONLY) == 0);
    return 0;
}

static void without_landlock_nothing_is_done(void **state)
{
    struct fixture *f = *state;

    in_child(f, 0, write_anywhere);
}

static void an_unusable_path_is_an_error(void **state)
{
    struct fixture *f = *state;
    int status;
    pid_t pid;

    pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        char loop[160];
        const char *paths[] = { loop };

        (void)snprintf(loop, sizeof loop, "%s/loop", f->in);
        if (symlink("loop", loop) != 0 || prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
            _exit(1);
        if (landlock_apply(f->abi, paths, 1) || errno != ELOOP)
            _exit(2);
        _exit(try_opening(f->out_file, O_WRONLY) == 0 ? 0 : 3); /* nothing was applied */
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
}

#define ROW(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        ROW(writes_only_where_it_may),
        ROW(every_older_interface_still_restricts),
        ROW(devices_and_shared_memory_work),
        ROW(a_process_writes_its_own_files_in_proc),
        ROW(nobody_makes_devices),
        ROW(signals_and_abstract_sockets_end_at_the_sandbox),
        ROW(without_landlock_nothing_is_done),
        ROW(an_unusable_path_is_an_error),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
