#include "tools/cli/doctor_vm.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "kernel/base/clock.h"
#include "kernel/base/fd.h"
#include "tools/cli/child.h"
#include "tools/cli/machines.h"
#include "vmctl/accel.h"
#include "vmctl/image.h"

#define VERSION_NS (5 * CLOCK_NS_PER_S)
#define USUAL      "base"

struct report {
    doctor_vm_fn *fn;
    void *arg;
    unsigned images;
};

static void tell(const struct report *r, bool ok, const char *name, const char *detail,
                 const char *remedy)
{
    r->fn(r->arg, &(struct doctor_vm_line){
                      .name = name, .detail = detail, .remedy = ok ? "" : remedy, .ok = ok });
}

static void tell_program(const struct report *r, const char *program, const char *remedy)
{
    const char *argv[] = { program, "--version", NULL };
    CLEANUP(buf_fini) struct buf version = BUF_INIT;
    struct error err = ERROR_INIT;
    int status;

    if (!program) {
        tell(r, false, "qemu", "", remedy);
        return;
    }
    if (!child_capture(argv, clock_add_ns(clock_now_ns(), VERSION_NS), 4096, &version, &status,
                       &err)) {
        tell(r, false, "qemu", "", err.text);
        return;
    }
    if (version.len > 0)
        version.data[strcspn(version.data, "\r\n")] = '\0';
    tell(r, status == 0, "qemu", buf_str(&version), "it does not tell its version");
}

static void on_image(void *arg, const char *hash, const json_t *record)
{
    struct report *r = arg;
    const char *name = json_string_value(json_object_get(record, "name"));
    char title[80];

    r->images++;
    (void)snprintf(title, sizeof title, "image %.60s", name ? name : "?");
    tell(r, record != NULL, title, hash,
         "its record is damaged: `aios image remove` it, and build it again");
}

/* A boot would take seconds: the first machine does that.  A cancelled probe is not kept. */
static bool not_now(void *arg, const struct wait *w, struct error *err)
{
    (void)arg;
    cancel_raise(w->cancel);
    return error_set(err, ERR_CANCELLED, "not tried yet");
}

/* The kernel of the usual image, which the verdict depends on; or -1. */
static int open_kernel(const char *images, const struct config *config)
{
    const char *which = *config->computer.image ? config->computer.image : USUAL;
    CLEANUP(buf_fini) struct buf path = BUF_INIT;
    char *hash = image_find(images, which, NULL);
    int fd = -1;

    if (hash && buf_printf(&path, "%s/%s/" IMAGE_KERNEL, images, hash))
        fd = open(path.data, O_RDONLY | O_CLOEXEC);
    free(hash);
    return fd;
}

static void tell_accel(const struct report *r, const struct machines_places *places,
                       const char *program, const struct config *config)
{
    CLEANUP(fd_closep) int kernel = open_kernel(places->images, config);
    struct accel_query query = {
        .cache_dir = places->cache, .program = program, .kernel_fd = kernel, .boot = not_now
    };
    struct accel_verdict verdict;
    struct cancel cancel;
    struct wait w = { .deadline_ns = clock_add_ns(clock_now_ns(), VERSION_NS), .cancel = &cancel };
    char detail[sizeof verdict.why + 80];

    cancel_init(&cancel);
    accel_choose(&query, &verdict, &w);
    if (cancel_raised(&cancel))
        (void)snprintf(detail, sizeof detail, "the first virtual machine finds out if KVM works");
    else
        (void)snprintf(detail, sizeof detail, "%s: %s",
                       verdict.accel == ARGV_KVM ? "KVM" : "software emulation (TCG)", verdict.why);
    tell(r, true, "accelerator", detail, "");
    cancel_fini(&cancel);
}

void doctor_vm(const struct config *config, doctor_vm_fn *fn, void *arg)
{
    struct report r = { .fn = fn, .arg = arg };
    struct error err = ERROR_INIT;
    char *program = machines_program(config, &err);
    struct machines_places places;

    tell_program(&r, program, err.text);
    if (machines_places(config, &places, NULL)) {
        if (program)
            tell_accel(&r, &places, program, config);
        if (!image_list(places.images, on_image, &r, NULL) || !r.images)
            tell(&r, false, "image base", "", "aios image build base");
        machines_places_fini(&places);
    }
    free(program);
}
