#include "vmctl/migrate.h"

#include <string.h>

#include "kernel/base/clock.h"

#define STATE_NAME "state"
#define NO_LIMIT   (1ll << 40) /* bytes a second */
#define CANCEL_NS  (2 * CLOCK_NS_PER_S)

static bool call(struct qmp *q, const char *command, json_t *args, const struct wait *w,
                 struct error *err)
{
    return args ? qmp_call(q, command, args, NULL, w, err)
                : error_set(err, ERR_NOMEM, "a command for QEMU");
}

bool migrate_begin(struct qmp *q, enum migrate_way way, int fd, bool memory, uint64_t *ret_mark,
                   const struct wait *w, struct error *err)
{
    uint64_t mark = qmp_event_mark(q);

    if (!call(q, "migrate-set-capabilities",
              json_pack("{s:[{s:s,s:b},{s:s,s:b}]}", "capabilities", "capability",
                        "x-ignore-shared", "state", !memory, "capability", "events", "state", 1),
              w, err) ||
        (way == MIGRATE_OUT &&
         !call(q, "migrate-set-parameters",
               json_pack("{s:I}", "max-bandwidth", (json_int_t)NO_LIMIT), w, err)) ||
        !qmp_pass_fd(q, STATE_NAME, fd, w, err) ||
        !call(q, way == MIGRATE_OUT ? "migrate" : "migrate-incoming",
              json_pack("{s:s}", "uri", "fd:" STATE_NAME), w, err))
        return false;
    *ret_mark = mark;
    return true;
}

bool migrate_finish(struct qmp *q, uint64_t mark, const struct wait *w, struct error *err)
{
    for (;;) {
        json_t *data = NULL;
        const char *status;
        bool done, failed;

        if (!qmp_await(q, &mark, "MIGRATION", &data, w, err))
            return false;
        status = json_string_value(json_object_get(data, "status"));
        done = status && !strcmp(status, "completed");
        failed = status && (!strcmp(status, "failed") || !strcmp(status, "cancelled"));
        json_decref(data);
        if (done)
            return true;
        if (failed)
            return error_set(err, ERR_IO, "QEMU could not move the state of the machine");
    }
}

void migrate_give_up(struct qmp *q)
{
    const struct wait w = { .deadline_ns = clock_add_ns(clock_now_ns(), CANCEL_NS) };
    uint64_t mark = qmp_event_mark(q);

    if (qmp_call(q, "migrate_cancel", NULL, NULL, &w, NULL))
        (void)!migrate_finish(q, mark, &w, NULL);
}

bool migrate_devices(struct qmp *q, int fd, const struct wait *w, struct error *err)
{
    json_t *args = json_pack("{s:b}", "live", 0); /* so that it keeps its disks */

    return qmp_call_into(q, "xen-save-devices-state", args, fd, w, err);
}
