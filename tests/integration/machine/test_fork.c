/* A machine that stands still, and what another QEMU gets of it. */
#include "tests/integration/machine/machine.h"

#include <errno.h>
#include <signal.h>

#include "vmctl/machine.h"
#include "vmctl/migrate.h"
#include "vmctl/template.h"

#define MEMORY_BYTES (256ull << 20)
#define PIECE        (1u << 20)

static struct machine_world world;
static const char *missing;
static struct template *template;
static uint8_t pieces[2][PIECE];

static int open_world(void **state)
{
    struct vm_spec spec;
    struct wait w = patience();
    struct error err = ERROR_INIT;
    (void)state;

    missing = machine_open(&world);
    if (missing)
        return 0;
    spec = machine_spec(&world);
    template = template_make(&spec, NULL, &w, &err);
    assert_ok(template, err);
    return 0;
}

static int close_world(void **state)
{
    (void)state;
    template_unref(template);
    machine_close(&world);
    return 0;
}

static void need_world(void)
{
    if (missing)
        skip_because("no %s", missing);
}

/* ---- machines ---- */

struct one {
    struct vm *vm;
    struct guest *g;
};

static struct one clone_one(void)
{
    struct wait w = patience();
    struct error err = ERROR_INIT;
    struct one c;

    c.vm = template_clone(template, NULL, NULL, &w, &err);
    assert_ok(c.vm, err);
    c.g = machine_meet(&world, c.vm);
    assert_ok(template_wake(c.g, "source", &w, &err), err);
    return c;
}

static struct one boot_one(void)
{
    struct vm_spec spec = machine_spec(&world);
    struct wait w = patience();
    struct error err = ERROR_INIT;
    struct one c;

    c.vm = vm_start(&spec, NULL, NULL, &w, &err);
    assert_ok(c.vm, err);
    c.g = machine_meet(&world, c.vm);
    assert_ok(template_wake(c.g, "source", &w, &err), err);
    return c;
}

static void end_one(struct one *c)
{
    guest_free(c->g);
    vm_free(c->vm);
    *c = (struct one){ .vm = NULL };
}

static void halt(struct vm *vm)
{
    struct wait w = patience();
    struct error err = ERROR_INIT;

    assert_ok(vm_halt(vm, &w, &err), err);
}

/* One that waits; @memory: what it begins as. */
static struct vm *start_waiting(int memory)
{
    uint8_t hello[WIRE_HEADER_BYTES + 8];
    struct wire_header h = { .length = 8, .type = WIRE_HELLO };
    struct wire_out o = { .data = hello, .cap = sizeof hello, .len = WIRE_HEADER_BYTES };
    struct vm_spec spec = machine_spec(&world);
    struct wait w = patience();
    struct error err = ERROR_INIT;
    struct vm *vm;

    wire_header_put(hello, &h);
    wire_put_u32(&o, WIRE_MAGIC);
    wire_put_u32(&o, WIRE_VERSION);
    spec.said = hello;
    spec.said_len = o.len;
    spec.argv.incoming = true;
    spec.argv.stopped = true;
    spec.argv.ram_fd = memory;
    vm = vm_start(&spec, NULL, NULL, &w, &err);
    assert_ok(vm, err);
    return vm;
}

/* Of one that stands still. */
static struct vm *copy_of(struct vm *from, int memory)
{
    struct vm *vm = start_waiting(memory);
    struct wait w = patience();
    struct error err = ERROR_INIT;

    assert_ok(machine_state_pass(from, vm, &w, &err), err);
    assert_int_equal(vm_state(vm), VM_PREPARED);
    return vm;
}

/* By looking into both. */
static void copy_memory(struct vm *from, struct vm *to)
{
    struct wait w = patience();
    struct error err = ERROR_INIT;

    assert_ok(machine_memory_copy(from, to, &w, &err), err);
}

/* Not every server may look into its children: then all is left to QEMU. */
static void need_sight(struct one *c)
{
    char path[40];
    int fd;

    (void)snprintf(path, sizeof path, "/proc/%d/mem", (int)vm_pid(c->vm));
    fd = open(path, O_RDWR | O_CLOEXEC);
    fd_close(fd);
    if (fd < 0) {
        end_one(c);
        skip_because("we may not look into our own children");
    }
}

static void run(struct vm *vm)
{
    struct wait w = patience();
    struct error err = ERROR_INIT;

    assert_ok(vm_run(vm, &w, &err), err);
}

/* ---- looking at their memory ---- */

static uint64_t address_of(struct vm *vm)
{
    json_t *args = json_pack("{s:s}", "command-line", "gpa2hva 0"), *said;
    struct wait w = patience();
    struct error err = ERROR_INIT;
    const char *at;
    uint64_t address;

    assert_ok(qmp_call(vm_qmp(vm), "human-monitor-command", args, &said, &w, &err), err);
    at = strstr(json_string_value(said), " is 0x");
    assert_non_null(at);
    address = strtoull(at + 4, NULL, 16);
    json_decref(said);
    return address;
}

static int open_memory(struct vm *vm)
{
    char path[40];
    int fd;

    (void)snprintf(path, sizeof path, "/proc/%d/mem", (int)vm_pid(vm));
    fd = open(path, O_RDONLY | O_CLOEXEC);
    assert_true(fd >= 0);
    return fd;
}

static void assert_same_memory(struct vm *a, struct vm *b)
{
    uint64_t at[2] = { address_of(a), address_of(b) };
    CLEANUP(fd_closep) int of_a = open_memory(a);
    CLEANUP(fd_closep) int of_b = open_memory(b);

    for (uint64_t done = 0; done < MEMORY_BYTES; done += PIECE) {
        assert_int_equal(pread(of_a, pieces[0], PIECE, (off_t)(at[0] + done)), PIECE);
        assert_int_equal(pread(of_b, pieces[1], PIECE, (off_t)(at[1] + done)), PIECE);
        for (size_t i = 0; memcmp(pieces[0], pieces[1], PIECE) != 0 && i < PIECE; i++) {
            if (pieces[0][i] != pieces[1][i])
                fail_msg("they differ at %#llx", (unsigned long long)(done + i));
        }
    }
}

static uint64_t hash_of(int fd)
{
    uint64_t hash = 0, words[PIECE / 8];

    for (uint64_t done = 0; done < MEMORY_BYTES; done += PIECE) {
        assert_int_equal(pread(fd, words, PIECE, (off_t)done), PIECE);
        for (size_t i = 0; i < PIECE / 8; i++)
            hash = (hash ^ words[i]) * 0x9e3779b97f4a7c15u + 1;
    }
    return hash;
}

static uint64_t private_kib(struct vm *vm)
{
    char path[64];
    char *text;
    uint64_t kib = 0;

    (void)snprintf(path, sizeof path, "/proc/%d/smaps_rollup", (int)vm_pid(vm));
    text = fd_read_file(AT_FDCWD, path, 1u << 16, NULL, NULL);
    for (const char *at = text; at && (at = strstr(at, "\nPrivate_")); at++)
        kib += strtoull(at + strcspn(at + 1, ":") + 2, NULL, 10);
    free(text);
    return kib;
}

#define DIRTY                                                                                  \
    "dd if=/dev/urandom of=/tmp/big bs=1M count=64 2>/dev/null; dd if=/dev/zero of=/tmp/zero " \
    "bs=1M count=4 2>/dev/null"

/* ---- what is to be seen ---- */

static void a_copy_has_every_byte_of_the_memory(void **state)
{
    struct wait w = patience();
    struct error err = ERROR_INIT;
    struct one source;
    struct vm *copy, *copy_of_it;
    uint64_t before;
    (void)state;

    need_world();
    before = hash_of(template_memory_fd(template));
    source = clone_one();
    need_sight(&source);
    assert_says(source.g, DIRTY, false, "");
    halt(source.vm);
    copy = start_waiting(vm_memory(source.vm));
    copy_memory(source.vm, copy);
    assert_same_memory(source.vm, copy);
    assert_ok(machine_state_pass(source.vm, copy, &w, &err), err);
    assert_same_memory(source.vm, copy);
    copy_of_it = copy_of(copy, vm_memory(copy));
    assert_same_memory(source.vm, copy_of_it);
    print_message("private memory: %d MiB, of the copy %d MiB, of its copy %d MiB\n",
                  (int)(private_kib(source.vm) >> 10), (int)(private_kib(copy) >> 10),
                  (int)(private_kib(copy_of_it) >> 10));
    assert_true(private_kib(copy_of_it) <= private_kib(source.vm) + (16u << 10));
    assert_int_equal(hash_of(template_memory_fd(template)), before);
    vm_free(copy_of_it);
    vm_free(copy);
    end_one(&source);
}

/* As if QEMU had done so on its way up. */
static void scribble(struct vm *vm)
{
    static const uint64_t places[] = { 0x1000, 0x100000, MEMORY_BYTES - 8 };
    uint64_t address = address_of(vm);
    CLEANUP(fd_closep) int fd = -1;
    char path[40];

    (void)snprintf(path, sizeof path, "/proc/%d/mem", (int)vm_pid(vm));
    fd = open(path, O_RDWR | O_CLOEXEC);
    assert_true(fd >= 0);
    for (size_t i = 0; i < ARRAY_LEN(places); i++)
        assert_int_equal(pwrite(fd, "not this", 8, (off_t)(address + places[i])), 8);
}

static void what_a_copy_wrote_before_is_not_left_in_it(void **state)
{
    struct one source;
    struct vm *copy;
    (void)state;

    need_world();
    source = clone_one();
    need_sight(&source);
    halt(source.vm);
    copy = start_waiting(vm_memory(source.vm));
    scribble(copy);
    copy_memory(source.vm, copy);
    assert_same_memory(source.vm, copy);
    vm_free(copy);
    end_one(&source);
}

static void one_that_began_otherwise_gets_it_from_qemu(void **state)
{
    struct one source;
    struct vm *copy;
    struct wait w = patience();
    struct error err = ERROR_INIT;
    (void)state;

    need_world();
    source = clone_one();
    need_sight(&source);
    assert_says(source.g, DIRTY, false, "");
    halt(source.vm);
    copy = start_waiting(-1);
    assert_false(machine_memory_copy(source.vm, copy, &w, &err));
    assert_code(err, ERR_UNSUPPORTED);
    error_clear(&err);
    assert_ok(machine_state_pass(source.vm, copy, &w, &err), err);
    assert_same_memory(source.vm, copy);
    vm_free(copy);
    end_one(&source);
}

static void a_machine_that_booted_is_copied_likewise(void **state)
{
    struct one source;
    struct vm *copy;
    (void)state;

    need_world();
    source = boot_one();
    need_sight(&source);
    assert_says(source.g, DIRTY, false, "");
    halt(source.vm);
    copy = start_waiting(-1);
    scribble(copy);
    copy_memory(source.vm, copy);
    assert_same_memory(source.vm, copy);
    vm_free(copy);
    copy = copy_of(source.vm, -1);
    assert_same_memory(source.vm, copy);
    vm_free(copy);
    end_one(&source);
}

/* A program in both, which counts what it is told, with a file open that has no name any more. */
#define COUNTER                                                                             \
    "/bin/busybox mkfifo /tmp/in; (exec 3<>/tmp/open; /bin/busybox rm /tmp/open; n=0; "     \
    "while read x </tmp/in; do n=$((n+1)); echo $n $x >&3; cat /proc/self/fd/3 >/tmp/new; " \
    "/bin/busybox mv /tmp/new /tmp/out; done) >/dev/null 2>&1 </dev/null & "
#define ASK(word)                                                                                 \
    "/bin/busybox rm -f /tmp/out; echo " word " >/tmp/in; while test ! -e /tmp/out; do :; done; " \
    "cat /tmp/out"

static void programs_go_on_in_both_and_go_their_own_ways(void **state)
{
    struct one source, copy, again;
    struct wait w = patience();
    struct error err = ERROR_INIT;
    (void)state;

    need_world();
    source = clone_one();
    assert_says(source.g, COUNTER, false, "");
    assert_says(source.g, ASK("a"), false, "1 a\n");
    halt(source.vm);
    copy.vm = copy_of(source.vm, vm_memory(source.vm));
    run(source.vm);
    run(copy.vm);
    assert_says(source.g, ASK("b"), false, "1 a\n2 b\n");
    copy.g = machine_meet(&world, copy.vm);
    assert_ok(template_wake(copy.g, "copy", &w, &err), err);
    assert_says(copy.g, ASK("c"), false, "1 a\n2 c\n");
    assert_says(copy.g, "hostname", false, "copy\n");
    assert_says(source.g, ASK("d"), false, "1 a\n2 b\n3 d\n");
    assert_says(source.g, "hostname", false, "source\n");
    halt(copy.vm);
    again.vm = copy_of(copy.vm, vm_memory(copy.vm));
    end_one(&source);
    end_one(&copy);
    run(again.vm); /* of those it came from it needs nothing */
    again.g = machine_meet(&world, again.vm);
    assert_ok(template_wake(again.g, "again", &w, &err), err);
    assert_says(again.g, ASK("e"), false, "1 a\n2 c\n3 e\n");
    assert_says(again.g, DIRTY "; cat /tmp/big | /bin/busybox md5sum | /bin/busybox wc -c", false,
                "36\n");
    end_one(&again);
}

static void a_machine_that_has_ended_is_not_copied(void **state)
{
    struct one source;
    struct vm *copy;
    struct wait w = patience();
    struct error err = ERROR_INIT;
    (void)state;

    need_world();
    source = clone_one();
    halt(source.vm);
    copy = start_waiting(vm_memory(source.vm));
    vm_kill(source.vm);
    assert_ok(vm_await_end(source.vm, &w, &err), err);
    assert_false(machine_state_pass(source.vm, copy, &w, &err));
    assert_code(err, ERR_LOST);
    vm_free(copy);
    end_one(&source);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_copy_has_every_byte_of_the_memory),
        cmocka_unit_test(what_a_copy_wrote_before_is_not_left_in_it),
        cmocka_unit_test(one_that_began_otherwise_gets_it_from_qemu),
        cmocka_unit_test(a_machine_that_booted_is_copied_likewise),
        cmocka_unit_test(programs_go_on_in_both_and_go_their_own_ways),
        cmocka_unit_test(a_machine_that_has_ended_is_not_copied),
    };

    return cmocka_run_group_tests(tests, open_world, close_world);
}
