/*
 * Forks and checkpoints: files are copied, those in memory included, programs are not.  All of the
 * machine is, in fact, and the first that its new owner says to the guest ends what ran in it.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "kernel/base/clock.h"
#include "kernel/base/fd.h"
#include "vmctl/machine.h"
#include "vmctl/overlay.h"

#define FORK_PREFIX "tmp_"
#define GO_ON_NS    (20 * CLOCK_NS_PER_S) /* for a machine that has to run again, whoever waits */

/* ---- what both kinds of copies are ---- */

void machine_copy_fini(struct machine_copy *copy)
{
    vm_free(copy->vm);
    free(copy->id);
    *copy = (struct machine_copy){ .vm = NULL };
}

/* A disk that the whole of another is copied to. */
static bool make_disk(const struct backend *b, int *ret, struct error *err)
{
    /* Its content is replaced, but QEMU wants to see an image when it starts. */
    *ret = overlay_make(b->overlay_dir, 1u << 20, err);
    return *ret >= 0;
}

/* A QEMU of that shape, which waits for its state.  The guest has long said HELLO to another. */
static bool start_waiting(struct machine_copy *copy, int disk, int frozen, int memory,
                          const struct wait *w, struct error *err)
{
    uint8_t hello[WIRE_HEADER_BYTES + 8];
    struct wire_header h = { .length = 8, .type = WIRE_HELLO };
    struct wire_out o = { .data = hello, .cap = sizeof hello, .len = WIRE_HEADER_BYTES };
    struct vm_spec spec = copy->spec;

    wire_header_put(hello, &h);
    wire_put_u32(&o, WIRE_MAGIC);
    wire_put_u32(&o, WIRE_VERSION);
    spec.said = hello;
    spec.said_len = o.len;
    spec.argv.incoming = true;
    spec.argv.stopped = true; /* whatever the state says of it */
    spec.argv.ram_fd = memory;
    spec.argv.disk_fd = disk;
    spec.argv.disk_frozen_fd = frozen;
    copy->vm = vm_start(&spec, NULL, NULL, w, err);
    return copy->vm;
}

/* It is started while the other still works on coming to a halt. */
struct starting {
    struct machine_copy *copy;
    int disk, frozen, memory;
    const struct wait *wait;
    pthread_t thread;
    bool threaded, ok;
    struct error why;
};

static void *start_it(void *arg)
{
    struct starting *s = arg;

    s->ok = start_waiting(s->copy, s->disk, s->frozen, s->memory, s->wait, &s->why);
    return NULL;
}

/* The loop's own thread has to turn the loop, which starts it. */
static void starting_begin(struct starting *s)
{
    s->threaded =
        !loop_is_owner(s->copy->spec.loop) && pthread_create(&s->thread, NULL, start_it, s) == 0;
    if (!s->threaded)
        (void)start_it(s);
}

static bool starting_end(struct starting *s, struct error *err)
{
    if (s->threaded)
        pthread_join(s->thread, NULL);
    s->threaded = false;
    return s->ok || error_set(err, s->why.code, "%s", s->why.text);
}

/* ---- a moment in which it stands still ---- */

/* Where the machine's state and disk go: to another machine, or into files. */
struct target {
    struct starting *other;
    int state; /* when there is no other */
    int disk;  /* -1: it has none */
};

static bool take(struct vm *vm, const struct target *to, const struct wait *w, struct error *err)
{
    if (to->disk >= 0 && !machine_copy_file(vm_disk(vm), to->disk, w, err))
        return false;
    return to->other ? machine_state_pass(vm, to->other->copy->vm, w, err)
                     : machine_state_save(vm, to->state, w, err);
}

/* Whatever came of it, the machine goes on; how late it is then does not matter. */
static bool go_on(struct machine *m, bool frozen, struct error *err)
{
    const struct wait w = { .deadline_ns = clock_add_ns(clock_now_ns(), GO_ON_NS) };
    struct guest *g = computer_guest(&m->base);
    bool ok = vm_state(m->vm) == VM_RUNNING || vm_run(m->vm, &w, err);

    guest_release(g);
    ok = ok && guest_set_time(g, clock_wall_ns(), &w, err) && (!frozen || guest_thaw(g, &w, err));
    return ok && (!m->paused || vm_halt(m->vm, &w, err));
}

static bool capture(struct machine *m, const struct target *to, const struct wait *w,
                    struct error *err)
{
    struct guest *g = computer_guest(&m->base);
    struct error why = ERROR_INIT;
    bool frozen = false, ok;

    ok = !m->paused || vm_run(m->vm, w, &why);
    ok = ok && (frozen = guest_freeze(g, w, &why)) && guest_sync(g, w, &why) &&
         (!to->other || starting_end(to->other, &why)) && guest_hold(g, w, &why) &&
         vm_halt(m->vm, w, &why) && take(m->vm, to, w, &why);
    if (!go_on(m, frozen, ok ? &why : NULL))
        ok = false;
    return ok || error_set(err, why.code, "%s", why.text);
}

/* ---- forks ---- */

static bool fork_machine(struct machine *m, const char *id, const struct wait *w, struct error *err)
{
    struct machine_copy *copy = calloc(1, sizeof *copy);
    struct backend *b = m->backend;
    CLEANUP(fd_closep) int disk = -1;
    struct starting other = { .copy = copy, .wait = w };
    bool ok;

    if (!copy || !(copy->id = strdup(id))) {
        free(copy);
        return error_set(err, ERR_NOMEM, "a virtual machine");
    }
    copy->image = m->image;
    copy->spec = m->spec;
    ok = vm_disk(m->vm) < 0 ||
         (make_disk(b, &disk, err) && machine_copy_file(vm_disk(m->vm), disk, w, err));
    if (ok) {
        other.disk = disk;
        other.frozen = vm_frozen(m->vm);
        other.memory = vm_memory(m->vm);
        starting_begin(&other);
        ok = capture(m, &(struct target){ .other = &other, .disk = disk }, w, err);
        (void)starting_end(&other, NULL); /* wherever capturing ended */
    }
    if (!ok) {
        machine_copy_fini(copy);
        free(copy);
        return false;
    }
    pthread_mutex_lock(&b->lock);
    copy->next = b->forks;
    b->forks = copy;
    pthread_mutex_unlock(&b->lock);
    return true;
}

static struct machine_copy *take_fork(struct backend *b, const char *id)
{
    struct machine_copy *found = NULL;

    pthread_mutex_lock(&b->lock);
    for (struct machine_copy **at = &b->forks; *at; at = &(*at)->next) {
        if (!strcmp((*at)->id, id)) {
            found = *at;
            *at = found->next;
            break;
        }
    }
    pthread_mutex_unlock(&b->lock);
    return found;
}

static bool is_fork(const char *id)
{
    return !strncmp(id, FORK_PREFIX, strlen(FORK_PREFIX));
}

/* ---- checkpoints ---- */

static bool describe(const struct machine *m, struct machine_keep_about *ret, struct error *err)
{
    CLEANUP(buf_fini) struct buf shape = BUF_INIT;
    struct machine_keep_about about = { .memory_mib = m->spec.argv.memory_mib,
                                        .cpus = m->spec.argv.cpus };

    about.qemu = strdup(qmp_version(vm_qmp(m->vm)));
    about.image = strdup(m->image->hash);
    about.shape = argv_shape(&m->spec.argv, &shape) ? buf_take(&shape, NULL) : NULL;
    *ret = about;
    if (about.qemu && about.image && about.shape)
        return true;
    machine_keep_about_fini(ret);
    return error_set(err, ERR_NOMEM, "a checkpoint");
}

static bool keep(struct machine *m, const char *id, const struct wait *w, struct error *err)
{
    const char *dir = m->backend->state_dir;
    int frozen = vm_frozen(m->vm);
    struct machine_keep_files files;
    struct machine_keep_about about;
    bool ok;

    if (!dir)
        return error_set(err, ERR_UNSUPPORTED,
                         "this server has no folder for checkpoints of "
                         "virtual machines");
    if (!machine_keep_begin(dir, id, vm_disk(m->vm) >= 0, frozen >= 0, &files, err))
        return false;
    if (!describe(m, &about, err)) {
        machine_keep_close(dir, id, &files);
        return false;
    }
    ok = capture(m, &(struct target){ .state = files.state, .disk = files.disk }, w, err) &&
         (frozen < 0 || machine_copy_file(frozen, files.frozen, w, err)) &&
         machine_keep_end(dir, id, &files, &about, w, err);
    machine_keep_about_fini(&about);
    machine_keep_close(dir, id, &files);
    return ok || error_prefix(err, "save the computer");
}

bool machine_checkpoint(struct computer *c, const char *id, const struct wait *w, struct error *err)
{
    struct machine *m = machine_of(c);

    if (!machine_bring_in(m, w, err))
        return false;
    return is_fork(id) ? fork_machine(m, id, w, err) : keep(m, id, w, err);
}

/* Everything that could make QEMU misread a state is compared before it sees it. */
static bool check_about(const struct machine_copy *copy, const struct machine_keep_about *about,
                        const char *id, struct error *err)
{
    CLEANUP(buf_fini) struct buf shape = BUF_INIT;

    if (!argv_shape(&copy->spec.argv, &shape))
        return error_set(err, ERR_NOMEM, "a checkpoint");
    if (strcmp(shape.data, about->shape) != 0)
        return error_set(err, ERR_UNSUPPORTED,
                         "checkpoint %s is of another kind of machine than this server makes", id);
    return true;
}

static bool load(struct backend *b, const char *id, const struct machine_keep_files *files,
                 const struct machine_keep_about *about, struct machine_copy *copy,
                 const struct wait *w, struct error *err)
{
    CLEANUP(fd_closep) int disk = -1;

    copy->image = machine_image_get(b, about->image[0] ? about->image : NULL, w, err);
    if (!copy->image)
        return error_prefix(err, "checkpoint %s", id);
    copy->spec = copy->image->spec;
    copy->spec.argv.memory_mib = about->memory_mib;
    copy->spec.argv.cpus = about->cpus;
    if (!check_about(copy, about, id, err) ||
        (files->disk >= 0 &&
         (!make_disk(b, &disk, err) || !machine_copy_file(files->disk, disk, w, err))) ||
        !start_waiting(copy, disk, files->frozen, -1, w, err))
        return false;
    if (strcmp(about->qemu, qmp_version(vm_qmp(copy->vm))) != 0)
        return error_set(err, ERR_UNSUPPORTED, "checkpoint %s is of QEMU %s, and this is %s", id,
                         about->qemu, qmp_version(vm_qmp(copy->vm)));
    return machine_state_load(copy->vm, files->state, w, err);
}

bool machine_copy_get(struct backend *b, const char *id, struct machine_copy *ret,
                      const struct wait *w, struct error *err)
{
    struct machine_copy *waiting, copy = { .vm = NULL };
    struct machine_keep_files files;
    struct machine_keep_about about;
    bool ok;

    if (is_fork(id)) {
        waiting = take_fork(b, id);
        if (!waiting)
            return error_set(err, ERR_NOT_FOUND, "there is no checkpoint %s", id);
        *ret = *waiting;
        free(waiting);
        return true;
    }
    if (!b->state_dir)
        return error_set(err, ERR_NOT_FOUND, "there is no checkpoint %s", id);
    if (!machine_keep_open(b->state_dir, id, &files, &about, w, err))
        return false;
    ok = load(b, id, &files, &about, &copy, w, err);
    machine_keep_about_fini(&about);
    machine_keep_close(b->state_dir, id, &files);
    if (ok)
        *ret = copy;
    else
        machine_copy_fini(&copy);
    return ok;
}

void machine_copy_free_all(struct backend *b)
{
    while (b->forks) {
        struct machine_copy *copy = b->forks;

        b->forks = copy->next;
        machine_copy_fini(copy);
        free(copy);
    }
}

bool machine_copy_remove(struct backend *b, const char *id, struct error *err)
{
    struct machine_copy *waiting;

    if (!is_fork(id))
        return b->state_dir ? machine_keep_remove(b->state_dir, id, err)
                            : error_set(err, ERR_NOT_FOUND, "there is no checkpoint %s", id);
    waiting = take_fork(b, id);
    if (waiting) { /* it was not wanted after all */
        machine_copy_fini(waiting);
        free(waiting);
    }
    return true;
}
