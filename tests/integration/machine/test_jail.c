/* What QEMU can do beside being a machine: nothing.  A probe in its place tries it. */
#include "tests/integration/machine/machine.h"

#include <arpa/inet.h>
#include <grp.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>

#include "sandbox/cgroup.h"
#include "tests/support/folder.h"
#include "vmctl/accel.h"
#include "vmctl/template.h"

#define SERVER_NAME "jailtest"
#define SOMEBODY    65533u

static struct machine_world world;
static const char *missing;
static struct cgroup_host *groups;

/* What anybody on the host may use. */
static int probe_fd = -1, memory_fd = -1, unix_fd = -1, inet_fd = -1;
static char file_path[100], socket_path[100], port[12];

static int make_memory(void)
{
    int fd = memfd_create("template", MFD_CLOEXEC | MFD_ALLOW_SEALING);

    assert_true(fd >= 0);
    assert_int_equal(ftruncate(fd, 1 << 20), 0);
    assert_int_equal(fchmod(fd, 0666), 0);
    assert_int_equal(
        fcntl(fd, F_ADD_SEALS, F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE), 0);
    return fd;
}

static void open_host(void)
{
    struct sockaddr_un un = { .sun_family = AF_UNIX };
    struct sockaddr_in in = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    socklen_t len = sizeof in;

    assert_int_equal(fchmod(folder_fd, 0777), 0);
    (void)snprintf(file_path, sizeof file_path, "%s/file", folder_base);
    fd_close(open(file_path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
    assert_int_equal(chmod(file_path, 0666), 0);
    (void)snprintf(socket_path, sizeof socket_path, "%s/socket", folder_base);
    memcpy(un.sun_path, socket_path, strlen(socket_path) + 1);
    unix_fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    inet_fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(unix_fd, (struct sockaddr *)&un, sizeof un), 0);
    assert_int_equal(bind(inet_fd, (struct sockaddr *)&in, sizeof in), 0);
    assert_int_equal(chmod(socket_path, 0777), 0);
    assert_int_equal(listen(inet_fd, 4), 0);
    assert_int_equal(getsockname(inet_fd, (struct sockaddr *)&in, &len), 0);
    (void)snprintf(port, sizeof port, "%d", ntohs(in.sin_port));
}

static int open_world(void **state)
{
    struct error err = ERROR_INIT;
    char *probe;
    size_t len;

    loop_free(loop_new(NULL));
    if (folder_make(state) != 0)
        return -1;
    missing = machine_open(&world);
    probe = fd_read_file(AT_FDCWD, JAIL_PROBE, 16u << 20, &len, &err);
    assert_ok(probe, err);
    probe_fd = fd_sealed_memfd("probe", probe, len, &err);
    assert_ok(probe_fd >= 0, err);
    assert_int_equal(fchmod(probe_fd, 0555), 0);
    free(probe);
    memory_fd = make_memory();
    open_host();
    groups = cgroup_host_new(SANDBOX_CGROUP_AUTO, SERVER_NAME, &err);
    assert_ok(groups, err);
    return 0;
}

static int close_world(void **state)
{
    cgroup_host_free(groups);
    fd_close(probe_fd);
    fd_close(memory_fd);
    fd_close(unix_fd);
    fd_close(inet_fd);
    machine_close(&world);
    return folder_remove(state);
}

/* ---- the probe ---- */

struct outcome {
    char said[8192];
    int code, status; /* of siginfo */
    bool apart;
};

static bool run_probe(char *const *argv, struct cgroup *group, struct outcome *ret,
                      struct error *err)
{
    const int fds[] = { probe_fd, memory_fd };
    const struct process_plan plan = { .program = "/proc/self/fd/3",
                                       .argv = argv,
                                       .fds = fds,
                                       .fd_count = ARRAY_LEN(fds),
                                       .uid = geteuid() == 0 ? SOMEBODY - 1 : 0,
                                       .gid = geteuid() == 0 ? SOMEBODY - 1 : 0,
                                       .group = group };
    struct process p;
    struct pollfd end = { .events = POLLIN };
    siginfo_t info;
    ssize_t n;

    if (!process_start(&plan, &p, err))
        return false;
    end.fd = p.pidfd;
    if (poll(&end, 1, PATIENCE_S * 1000) != 1)
        (void)kill(p.pid, SIGKILL);
    (void)waitid((idtype_t)P_PIDFD, (id_t)p.pidfd, &info, WEXITED);
    n = read(p.words_fd, ret->said, sizeof ret->said - 1);
    ret->said[MAX(n, 0)] = '\0';
    ret->code = info.si_code;
    ret->status = info.si_status;
    ret->apart = p.apart;
    fd_close(p.pidfd);
    fd_close(p.words_fd);
    return true;
}

/* Whether there are namespaces is known once it runs, so that it is tried twice where not. */
static bool try_all(struct cgroup *group, const char *threads, struct outcome *ret,
                    struct error *err)
{
    char pid[12], apart[2] = "1";
    char *const argv[] = { (char *)unconst("probe"), file_path, socket_path, port, pid, apart,
                           (char *)unconst(threads), NULL };

    (void)snprintf(pid, sizeof pid, "%d", (int)getpid());
    if (!run_probe(argv, group, ret, err))
        return false;
    if (ret->apart)
        return true;
    apart[0] = '0';
    return run_probe(argv, group, ret, err);
}

static struct cgroup *make_group(uint32_t memory_mib)
{
    const struct process_limits limits = { .memory_mib = memory_mib, .cpus = 1 };
    struct error err = ERROR_INIT;
    struct cgroup *group = NULL;

    assert_ok(process_group(groups, &limits, &group, &err), err);
    return group;
}

static void what_has_taken_qemu_over_can_do_nothing(void **state)
{
    struct cgroup *group = make_group(64);
    struct error err = ERROR_INIT;
    static struct outcome out;
    (void)state;

    assert_ok(try_all(group, group ? "97" : "0", &out, &err), err);
    cgroup_free(group);
    print_message("%s, groups %s\n", out.apart ? "in namespaces" : "without namespaces",
                  cgroup_host_describe(groups));
    assert_string_equal(out.said, "done\n");
    if (geteuid() == 0)
        assert_true(out.apart);
}

/* From now on: somebody, who may have user namespaces or not. */
static bool become(bool namespaces)
{
    const char maps[] = "65533 65533 1\n";

    if (setgroups(0, NULL) != 0 || setresgid(SOMEBODY, SOMEBODY, SOMEBODY) != 0 ||
        setresuid(SOMEBODY, SOMEBODY, SOMEBODY) != 0)
        return false;
    (void)prctl(PR_SET_DUMPABLE, 1);
    /* A limit of zero holds for what is made inside of one. */
    return namespaces || (unshare(CLONE_NEWUSER) == 0 &&
                          fd_write_file(AT_FDCWD, "/proc/self/setgroups", "deny", NULL) &&
                          fd_write_file(AT_FDCWD, "/proc/self/gid_map", maps, NULL) &&
                          fd_write_file(AT_FDCWD, "/proc/self/uid_map", maps, NULL) &&
                          fd_write_file(AT_FDCWD, "/proc/sys/user/max_user_namespaces", "0", NULL));
}

static void nor_can_it_where_the_server_is_not_root(void **state)
{
    static struct outcome out;
    (void)state;

    if (geteuid() != 0)
        return; /* the one before was just that */
    for (int namespaces = 0; namespaces < 2; namespaces++) {
        struct error err = ERROR_INIT;
        int result[2], status;
        pid_t pid;

        assert_int_equal(pipe2(result, O_CLOEXEC), 0);
        pid = fork();
        if (pid == 0) {
            if (!become(namespaces))
                _exit(2);
            if (!try_all(NULL, "0", &out, &err))
                (void)snprintf(out.said, sizeof out.said, "%s", err.text);
            (void)!write(result[1], &out, sizeof out);
            _exit(0);
        }
        fd_close(result[1]);
        assert_int_equal(fd_read_full(result[0], &out, sizeof out, &err), sizeof out);
        fd_close(result[0]);
        assert_int_equal(waitpid(pid, &status, 0), pid);
        print_message("%s\n", out.apart ? "in namespaces" : "without namespaces");
        assert_string_equal(out.said, "done\n");
        if (!namespaces)
            assert_false(out.apart);
    }
}

static void memory_beyond_its_limit_ends_it(void **state)
{
    char *const argv[] = { (char *)unconst("probe"), (char *)unconst("hog"), NULL };
    struct cgroup *group = make_group(64);
    struct error err = ERROR_INIT;
    static struct outcome out;
    (void)state;

    if (!group)
        skip_because("%s", cgroup_host_describe(groups));
    assert_ok(run_probe(argv, group, &out, &err), err);
    cgroup_free(group);
    assert_string_equal(out.said, "");
    assert_int_equal(out.code, CLD_KILLED);
    assert_int_equal(out.status, SIGKILL);
}

/* ---- QEMU itself ---- */

static struct cgroup *qemu_group;

static bool start_in_group(const struct process_plan *plan, struct process *ret, struct error *err)
{
    struct process_plan inside = *plan;

    inside.group = qemu_group;
    return process_start(&inside, ret, err);
}

static struct vm_spec spec_of(enum argv_machine kind)
{
    struct vm_spec spec = machine_spec(&world);

    if (missing)
        skip_because("no %s", missing);
    spec.argv.machine = kind;
    spec.argv.tsc_khz = accel_tsc_khz();
    return spec;
}

static void namespace_of(pid_t pid, const char *kind, char ret[64])
{
    char path[64];
    ssize_t n;

    (void)snprintf(path, sizeof path, "/proc/%d/ns/%s", (int)pid, kind);
    n = readlink(path, ret, 63);
    ret[MAX(n, 0)] = '\0';
}

static void a_machine_in_its_group_works_and_is_apart(void **state)
{
    static const char *const kinds[] = { "mnt", "pid", "net", "ipc", "uts" };
    struct vm_spec spec = spec_of(ARGV_Q35);
    struct computer_usage usage = { .pids = 0 };
    struct wait w = patience();
    struct error err = ERROR_INIT;
    char ours[64], its[64];
    struct guest *g;
    struct vm *vm;
    (void)state;

    qemu_group = make_group(spec.argv.memory_mib);
    spec.start = start_in_group;
    vm = vm_start(&spec, NULL, NULL, &w, &err);
    assert_ok(vm, err);
    g = machine_meet(&world, vm);
    assert_says(g, "dd if=/dev/zero of=/tmp/big bs=1M count=100 2>/dev/null; echo ok", false,
                "ok\n");
    if (qemu_group) {
        cgroup_usage(qemu_group, vm_pid(vm), &usage);
        print_message("the group: %u threads, %llu MiB\n", usage.pids,
                      (unsigned long long)usage.memory_bytes >> 20);
        assert_true(usage.pids > 0 && usage.memory_bytes > 100u << 20);
    }
    for (size_t i = 0; geteuid() == 0 && i < ARRAY_LEN(kinds); i++) {
        namespace_of(getpid(), kinds[i], ours);
        namespace_of(vm_pid(vm), kinds[i], its);
        assert_true(its[0]);
        assert_string_not_equal(ours, its);
    }
    guest_free(g);
    vm_free(vm);
    cgroup_free(qemu_group);
    qemu_group = NULL;
}

/* The device list: paravirtual ones, and of a PC what cannot be left out. */
static void a_machine_has_the_devices_it_needs_and_no_others(void **state)
{
    static const char *const allowed[] = {
        "0x8086 0x29c0", /* q35: the host bridge */
        "0x8086 0x2918", /* and the bridge to the interrupt controller and the clock */
    };
    static const enum argv_machine kinds[] = { ARGV_Q35, ARGV_MICROVM };
    (void)state;

    for (size_t i = 0; i < ARRAY_LEN(kinds); i++) {
        struct vm_spec spec = spec_of(kinds[i]);
        struct wait w = patience();
        struct error err = ERROR_INIT;
        struct vm *vm = vm_start(&spec, NULL, NULL, &w, &err);
        struct guest *g;
        unsigned others = 0;
        char *list;

        assert_ok(vm, err);
        g = machine_meet(&world, vm);
        assert_says(
            g, "test -d /sys/bus || { busybox mkdir -p /sys && busybox mount -t sysfs s /sys; }",
            false, "");
        list = machine_hear(g,
                            "for d in /sys/bus/pci/devices/*; do test -e $d/vendor && echo $(cat "
                            "$d/vendor) $(cat $d/device); done; true",
                            false);
        print_message("%s", list);
        for (char *at = list, *line; (line = strsep(&at, "\n")) && *line;) {
            bool known = !strncmp(line, "0x1af4 ", 7);

            for (size_t k = 0; k < ARRAY_LEN(allowed); k++)
                known |= kinds[i] == ARGV_Q35 && !strcmp(line, allowed[k]);
            others += !known;
        }
        assert_int_equal(others, 0);
        free(list);
        /* The console's device is the one that the guest speaks through; there is no other. */
        assert_says(g, "cat /sys/bus/virtio/devices/*/device", false, "0x0003\n");
        assert_says(g, "ls /sys/class/net", false, "lo\n");
        assert_says(g,
                    "for b in usb scsi hid i2c; do ls /sys/bus/$b/devices 2>/dev/null; done; true",
                    false, "");
        guest_free(g);
        vm_free(vm);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_has_taken_qemu_over_can_do_nothing),
        cmocka_unit_test(nor_can_it_where_the_server_is_not_root),
        cmocka_unit_test(memory_beyond_its_limit_ends_it),
        cmocka_unit_test(a_machine_in_its_group_works_and_is_apart),
        cmocka_unit_test(a_machine_has_the_devices_it_needs_and_no_others),
    };

    return cmocka_run_group_tests(tests, open_world, close_world);
}
