#include "tools/cli/solo.h"

#include "tools/cli/cli.h"

bool solo_run(const struct config *config, solo_fn *fn, void *arg, struct error *err)
{
    struct solo s = { .config = config };
    bool ok = false;

    cancel_init(&s.cancel);
    s.loop = loop_new(err);
    s.hooks.loop = s.loop;
    if (s.loop) {
        s.backend = cli_sandbox(s.loop, config, 0, NULL, err);
        if (s.backend) {
            fn(&s, arg);
            s.backend->free(s.backend);
            ok = true;
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
