#include "tools/cli/solo.h"

#include <pthread.h>
#include <string.h>

#include "tools/cli/cli.h"

struct solo_work {
    struct solo *s;
    solo_fn *fn;
    void *arg;
    struct loop_post done;
};

static void on_done(struct loop_post *post)
{
    struct solo_work *work = CONTAINER_OF(post, struct solo_work, done);

    loop_stop(work->s->loop);
}

static void *worker_main(void *arg)
{
    struct solo_work *work = arg;

    work->fn(work->s, work->arg);
    loop_post(work->s->loop, &work->done, on_done);
    return NULL;
}

static bool run(struct solo *s, struct solo_work *work, struct error *err)
{
    pthread_t worker;
    int rc = pthread_create(&worker, NULL, worker_main, work);

    if (rc != 0)
        return error_set_errno(err, rc, "start a thread");
    loop_run(s->loop);
    pthread_join(worker, NULL);
    return true;
}

bool solo_run(const struct config *config, solo_ready_fn *ready, solo_fn *fn, void *arg,
              struct error *err)
{
    struct solo s = { .config = config };
    struct solo_work work = { .s = &s, .fn = fn, .arg = arg };
    bool ok = false;

    cancel_init(&s.cancel);
    s.loop = loop_new(err);
    s.hooks.loop = s.loop;
    if (s.loop) {
        s.backend = cli_sandbox(s.loop, config, 0, err);
        if (s.backend) {
            if (ready)
                ready(&s, arg);
            ok = run(&s, &work, err);
            s.backend->free(s.backend);
        }
        loop_free(s.loop);
    }
    cancel_fini(&s.cancel);
    return ok;
}

struct computer *solo_computer(struct solo *s, const struct computer_spec *spec,
                               const struct wait *w, struct error *err)
{
    return s->backend->create(s->backend, spec, NULL, &s->hooks, w, err);
}
