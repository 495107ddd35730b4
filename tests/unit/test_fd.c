#include "kernel/base/fd.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/support/check.h"
#include "tests/support/folder.h"

static void closing_keeps_errno(void **state)
{
    int fd = dup(0);

    (void)state;
    errno = ENOTTY;
    fd_close(-1);
    fd_close(9999);
    assert_int_equal(errno, ENOTTY);
    assert_true(fd >= 0);
    fd_closep(&fd);
    assert_int_equal(fcntl(fd, F_GETFD), -1);
}

struct pour {
    int fd;
    size_t len;
    bool ok;
};

static void *pour_bytes(void *arg)
{
    struct pour *pour = arg;
    char *bytes = calloc(1, pour->len);

    pour->ok = bytes && fd_write_all(pour->fd, bytes, pour->len, NULL);
    free(bytes);
    fd_close(pour->fd);
    return NULL;
}

static void whole_reads_and_writes_cross_short_ones(void **state)
{
    struct pour pour = { .len = 300000 };
    char *got = malloc(400000);
    struct error err = ERROR_INIT;
    pthread_t thread;
    int ends[2];

    (void)state;
    assert_non_null(got);
    assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
    pour.fd = ends[1];
    assert_int_equal(pthread_create(&thread, NULL, pour_bytes, &pour), 0);
    assert_int_equal(fd_read_full(ends[0], got, 200000, &err), 200000);
    assert_int_equal(fd_read_full(ends[0], got, 400000, &err), 100000);
    assert_int_equal(fd_read_full(ends[0], got, 400000, &err), 0);
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_true(pour.ok);
    fd_close(ends[0]);
    free(got);
}

static void a_lost_reader_and_a_bad_descriptor_are_errors(void **state)
{
    struct error err = ERROR_INIT;
    char byte;
    int ends[2];

    (void)state;
    (void)signal(SIGPIPE, SIG_IGN);
    assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
    fd_close(ends[0]);
    assert_false(fd_write_all(ends[1], "x", 1, &err));
    assert_code(err, ERR_LOST);
    error_clear(&err);
    assert_int_equal(fd_read_full(ends[1], &byte, 1, &err), -1);
    assert_code(err, ERR_IO);
    error_clear(&err);
    fd_close(ends[1]);
    assert_false(fd_set_nonblock(ends[1], true, &err));
}

static void nonblocking_is_switched_on_and_off(void **state)
{
    struct error err = ERROR_INIT;
    int ends[2];
    char byte;

    (void)state;
    assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
    assert_ok(fd_set_nonblock(ends[0], true, &err), err);
    assert_int_equal(read(ends[0], &byte, 1), -1);
    assert_int_equal(errno, EAGAIN);
    assert_ok(fd_set_nonblock(ends[0], false, &err), err);
    assert_int_equal(fcntl(ends[0], F_GETFL) & O_NONBLOCK, 0);
    fd_close(ends[0]);
    fd_close(ends[1]);
}

static void reads_small_files(void **state)
{
    struct error err = ERROR_INIT;
    size_t len = 0;
    char *text;

    (void)state;
    folder_put("a", "twelve bytes");
    text = fd_read_file(folder_fd, "a", 12, &len, &err);
    assert_ok(text != NULL, err);
    assert_string_equal(text, "twelve bytes");
    assert_int_equal(len, 12);
    free(text);
    folder_put("empty", "");
    text = fd_read_file(AT_FDCWD, folder_path("empty"), 12, NULL, &err);
    assert_ok(text != NULL, err);
    assert_string_equal(text, "");
    free(text);
    /* states a size of 0 */
    text = fd_read_file(AT_FDCWD, "/proc/self/status", 100000, &len, &err);
    assert_ok(text != NULL, err);
    assert_contains(text, "Name:");
    assert_int_equal(len, strlen(text));
    free(text);
}

static void refuses_to_read_what_is_no_small_file(void **state)
{
    static const struct {
        const char *name;
        size_t max;
        enum error_code want;
    } rows[] = {
        { "a", 11, ERR_LIMIT },
        { "a", 0, ERR_LIMIT },
        { "missing", 100, ERR_NOT_FOUND },
        { "folder", 100, ERR_IO },
    };
    char *text;

    (void)state;
    folder_put("a", "twelve bytes");
    assert_int_equal(mkdirat(folder_fd, "folder", 0700), 0);
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct error err = ERROR_INIT;

        assert_null(fd_read_file(folder_fd, rows[i].name, rows[i].max, NULL, &err));
        assert_code(err, rows[i].want);
    }
    assert_int_equal(mkfifoat(folder_fd, "fifo", 0600), 0);
    text = fd_read_file(folder_fd, "fifo", 100, NULL, NULL); /* and does not wait for a writer */
    free(text);
}

static void reading_survives_every_allocation_failure(void **state)
{
    (void)state;
    folder_put("a", "twelve bytes");
    FAULT_EACH(n)
    {
        struct error err = ERROR_INIT;
        char *text = fd_read_file(folder_fd, "a", 100, NULL, &err);

        FAULT_DONE(n);
        assert_true(n_last ? text != NULL : text == NULL && err.code == ERR_NOMEM);
        free(text);
    }
}

static void writes_to_existing_files_only(void **state)
{
    struct error err = ERROR_INIT;
    char *text;

    (void)state;
    folder_put("a", "");
    assert_ok(fd_write_file(folder_fd, "a", "max", &err), err);
    text = fd_read_file(folder_fd, "a", 10, NULL, &err);
    assert_string_equal(text, "max");
    free(text);
    assert_false(fd_write_file(folder_fd, "b", "max", &err));
    assert_code(err, ERR_NOT_FOUND);
    assert_false(folder_has("b"));
}

static size_t entries(void)
{
    DIR *dir = opendir(folder_base);
    size_t count = 0;

    assert_non_null(dir);
    while (readdir(dir))
        count++;
    (void)closedir(dir);
    return count - 2;
}

static void replacing_is_whole_or_not_at_all(void **state)
{
    struct error err = ERROR_INIT;
    struct stat st;
    char *text;

    (void)state;
    assert_ok(fd_replace_file(folder_path("a"), "one", 3, 0640, &err), err);
    assert_ok(fd_replace_file(folder_path("a"), "two", 3, 0640, &err), err);
    assert_int_equal(fstatat(folder_fd, "a", &st, 0), 0);
    assert_int_equal(st.st_mode & 07777, 0640);
    assert_int_equal(symlinkat("a", folder_fd, "link"), 0);
    assert_ok(fd_replace_file(folder_path("link"), "three", 5, 0600, &err), err);
    text = fd_read_file(folder_fd, "a", 10, NULL, &err);
    assert_string_equal(text, "two"); /* the link was replaced, not what it named */
    free(text);
    assert_int_equal(mkdirat(folder_fd, "folder", 0700), 0);
    assert_false(fd_replace_file(folder_path("folder"), "x", 1, 0600, &err));
    error_clear(&err);
    assert_false(fd_replace_file(folder_path("missing/x"), "x", 1, 0600, &err));
    assert_code(err, ERR_NOT_FOUND);
    assert_int_equal(entries(), 3);
}

static void makes_folders_on_the_way(void **state)
{
    struct error err = ERROR_INIT;

    (void)state;
    assert_ok(fd_mkdirs(folder_path("x/y//z/"), 0700, &err), err);
    assert_true(folder_has("x/y/z"));
    assert_ok(fd_mkdirs(folder_path("x/y/z"), 0700, &err), err);
    assert_ok(fd_mkdirs("/", 0700, &err), err);
    assert_ok(fd_mkdirs("/proc/self", 0700, &err), err); /* exists, and cannot be made */
    folder_put("file", "");
    assert_false(fd_mkdirs(folder_path("file"), 0700, &err));
    assert_int_equal(err.os_errno, ENOTDIR);
    error_clear(&err);
    assert_false(fd_mkdirs(folder_path("file/below"), 0700, &err));
    error_clear(&err);
    assert_false(fd_mkdirs("", 0700, &err));
}

static int status_of_child(int (*body)(void))
{
    pid_t pid = fork();
    int status = 0;

    assert_true(pid >= 0);
    if (pid == 0)
        _exit(body());
    assert_int_equal(waitpid(pid, &status, 0), pid);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static void passes_descriptors(void **state)
{
    int pair[2], ends[2], send[2], got[4] = { -1, -1, -1, -1 };
    struct error err = ERROR_INIT;
    size_t count = 9;
    char text[16] = "";

    (void)state;
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
    assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
    send[0] = ends[0];
    send[1] = ends[1];
    assert_ok(fd_send(pair[0], "hello", 5, send, 2, &err), err);
    assert_int_equal(fd_recv(pair[1], text, sizeof text, got, 4, &count, &err), 5);
    assert_string_equal(text, "hello");
    assert_int_equal(count, 2);
    assert_int_equal(fcntl(got[0], F_GETFD), FD_CLOEXEC);
    assert_ok(fd_write_all(got[1], "x", 1, &err), err);
    assert_int_equal(fd_read_full(ends[0], text, 1, &err), 1);
    fd_close(got[0]);
    fd_close(got[1]);
    assert_ok(fd_send(pair[0], "plain", 5, NULL, 0, &err), err);
    assert_int_equal(fd_recv(pair[1], text, sizeof text, got, 4, &count, &err), 5);
    assert_int_equal(count, 0);
    fd_close(pair[0]);
    assert_int_equal(fd_recv(pair[1], text, sizeof text, got, 4, &count, &err), 0);
    assert_false(fd_send(pair[1], "x", 1, NULL, 0, &err));
    assert_code(err, ERR_LOST);
    fd_close(pair[1]);
    fd_close(ends[0]);
    fd_close(ends[1]);
}

/* That none stays open is checked after each test. */
static void descriptors_beyond_the_wanted_are_closed(void **state)
{
    struct error err = ERROR_INIT;
    int pair[2], many[9], got[1];
    size_t count = 9;
    char byte;

    (void)state;
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
    for (size_t i = 0; i < ARRAY_LEN(many); i++)
        many[i] = folder_fd;
    assert_false(fd_send(pair[0], "x", 1, many, 9, &err));
    assert_code(err, ERR_INVALID);
    error_clear(&err);
    assert_false(fd_send(pair[0], "", 0, many, 1, &err));
    assert_code(err, ERR_INVALID);
    error_clear(&err);
    assert_ok(fd_send(pair[0], "x", 1, many, 8, &err), err);
    assert_int_equal(fd_recv(pair[1], &byte, 1, got, 1, &count, &err), 1);
    assert_int_equal(count, 1);
    fd_close(got[0]);
    assert_ok(fd_send(pair[0], "x", 1, many, 8, &err), err);
    assert_int_equal(fd_recv(pair[1], &byte, 1, NULL, 0, &count, &err), 1);
    assert_int_equal(count, 0);
    fd_close(pair[0]);
    fd_close(pair[1]);
}

static void a_sealed_file_cannot_change(void **state)
{
    struct error err = ERROR_INIT;
    int fd = fd_sealed_memfd("aios-test", "content", 7, &err);
    char text[8] = "";
    struct stat st;

    (void)state;
    assert_ok(fd >= 0, err);
    assert_int_equal(fd_read_full(fd, text, 8, &err), 7);
    assert_string_equal(text, "content");
    assert_int_equal(fstat(fd, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0500);
    assert_int_equal(fcntl(fd, F_GETFD), FD_CLOEXEC);
    assert_int_equal(pwrite(fd, "x", 1, 0), -1);
    assert_int_equal(errno, EPERM);
    assert_int_equal(ftruncate(fd, 3), -1);
    assert_int_equal(ftruncate(fd, 30), -1);
    assert_int_equal(fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE), -1);
    assert_ptr_equal(mmap(NULL, 7, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0), MAP_FAILED);
    fd_close(fd);
}

static int sealed_program;

static int run_sealed_program(void)
{
    char *argv[] = { (char[]){ "true" }, NULL }, *envp[] = { NULL };

    (void)fexecve(sealed_program, argv, envp);
    return 10;
}

static void a_sealed_program_runs(void **state)
{
    struct error err = ERROR_INIT;
    size_t len = 0;
    char *program = fd_read_file(AT_FDCWD, "/bin/true", 1u << 22, &len, &err);

    (void)state;
    assert_ok(program != NULL, err);
    sealed_program = fd_sealed_memfd("true", program, len, &err);
    assert_ok(sealed_program >= 0, err);
    assert_int_equal(status_of_child(run_sealed_program), 0);
    fd_close(sealed_program);
    free(program);
}

/* A process that holds the lock until it is told to end, by whatever means. */
static pid_t hold(const char *path, int ret_pipe[2])
{
    char byte;
    pid_t pid;

    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ret_pipe), 0);
    pid = fork();
    if (pid == 0) {
        long holder;
        int fd = fd_lock(AT_FDCWD, path, &holder, NULL);

        (void)!write(ret_pipe[1], fd >= 0 ? "y" : "n", 1);
        (void)!read(ret_pipe[1], &byte, 1);
        _exit(0);
    }
    close(ret_pipe[1]);
    assert_int_equal(read(ret_pipe[0], &byte, 1), 1);
    assert_int_equal(byte, 'y');
    return pid;
}

static void a_lock_names_its_holder_and_is_free_after_any_end(void **state)
{
    char path[64];
    struct error err = ERROR_INIT;
    long holder;
    int pipe_fds[2], fd;
    pid_t pid;
    (void)state;

    (void)snprintf(path, sizeof path, "/tmp/aios-lock-%ld", (long)getpid());
    pid = hold(path, pipe_fds);
    assert_int_equal(fd_lock(AT_FDCWD, path, &holder, &err), -1);
    assert_code(err, ERR_BUSY);
    assert_int_equal(holder, pid);
    assert_int_equal(kill(pid, SIGKILL), 0);
    /* Not waited for: it may still be dying when we ask. */
    error_clear(&err);
    fd = fd_lock(AT_FDCWD, path, &holder, &err);
    assert_ok(fd >= 0, err);
    assert_int_equal(waitpid(pid, NULL, 0), pid);
    fd_close(fd);
    close(pipe_fds[0]);
    (void)unlink(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_lock_names_its_holder_and_is_free_after_any_end),
        WITH_FOLDER(closing_keeps_errno),
        WITH_FOLDER(whole_reads_and_writes_cross_short_ones),
        WITH_FOLDER(a_lost_reader_and_a_bad_descriptor_are_errors),
        WITH_FOLDER(nonblocking_is_switched_on_and_off),
        WITH_FOLDER(reads_small_files),
        WITH_FOLDER(refuses_to_read_what_is_no_small_file),
        WITH_FOLDER(reading_survives_every_allocation_failure),
        WITH_FOLDER(writes_to_existing_files_only),
        WITH_FOLDER(replacing_is_whole_or_not_at_all),
        WITH_FOLDER(makes_folders_on_the_way),
        WITH_FOLDER(passes_descriptors),
        WITH_FOLDER(descriptors_beyond_the_wanted_are_closed),
        WITH_FOLDER(a_sealed_file_cannot_change),
        WITH_FOLDER(a_sealed_program_runs),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
