/*
 * fake_run - runs whose guest is played by hand.
 */
#pragma once

#include "tests/unit/fake_guest.h"

static const char *const hang_argv[] = { "hang", NULL };

/* A run started by an `async`, whose peer is played by hand. */
struct started {
    struct rig *rig;
    struct guest_run_spec spec;
    struct guest_run *run;
    uint32_t channel;
};

UNUSED static bool do_spawn(void *arg, struct error *err)
{
    struct started *st = arg;
    const struct wait w = patience(NULL);

    st->run = guest_spawn(st->rig->g, &st->spec, &w, err);
    return st->run != NULL;
}

UNUSED static void start(struct rig *rig, struct started *st)
{
    st->rig = rig;
    if (!st->spec.argv)
        st->spec.argv = hang_argv;
    if (!st->spec.cwd)
        st->spec.cwd = "/";
    async_start(&rig->call, do_spawn, st);
    st->channel = fake_expect(&rig->f, WIRE_SPAWN);
    (void)fake_reply_pid(&rig->f, st->channel, 77);
    assert_ok(async_join(&rig->call), rig->call.err);
}

UNUSED static void data(struct started *st, unsigned stream, const char *text)
{
    assert_true(fake_send(&st->rig->f, st->channel, WIRE_DATA, stream, text, strlen(text)));
}

/* Everything of @stream from *@offset on, once it is longer than that. */
UNUSED static char *output(struct started *st, unsigned stream, uint64_t *offset)
{
    const struct wait w = patience(NULL);
    uint64_t beyond[WIRE_STREAM_COUNT] = { 0 };
    struct buf out = BUF_INIT;
    struct error err = ERROR_INIT;

    beyond[stream] = *offset;
    assert_ok(guest_run_wait(st->run, 1u << stream, beyond, &w, &err), err);
    assert_true(guest_run_read(st->run, (enum wire_stream)stream, offset, 1u << 20, &out) >= 0);
    assert_true(buf_append_str(&out, ""));
    return buf_take(&out, NULL);
}

UNUSED static void wait_end(struct started *st, struct guest_run_info *ret)
{
    const struct wait w = patience(NULL);
    struct error err = ERROR_INIT;

    assert_ok(guest_run_wait(st->run, 0, NULL, &w, &err), err);
    guest_run_info(st->run, ret);
}

/* What the guest has said before this has been dealt with. */
UNUSED static void sync_up(struct rig *rig)
{
    struct guest_run_info info;
    struct started st = { .rig = rig };

    start(rig, &st);
    (void)fake_exit(&rig->f, st.channel, false, 0);
    wait_end(&st, &info);
    guest_run_unref(st.run);
}
