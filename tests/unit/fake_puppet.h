/*
 * fake_puppet - a thread that behaves as a guest whose programs do what their name says.
 *
 * Programs: "true"; "exit N"; "die N" (by signal N); "hang" (until signalled); "echo" (stdin to
 * stdout, ends with it); "flood N" (N bytes, as fast as credit allows, then exits); "say TEXT"
 * (prints it, then exits); "linger" (exits, but its streams stay open); "exit-at-eof N",
 * "die-at-eof N" and "full-at-eof N" (when stdin is closed, the last as the disk is full);
 * "missing"; "nowhere" (no such folder). */
#pragma once

#include "tests/unit/fake_guest.h"

#define PUPPET_RUNS 64u

struct puppet_run {
    uint32_t channel; /* 0: free */
    uint64_t flood;   /* bytes left to send */
    uint32_t credit;
    unsigned streams; /* output streams to end */
    bool echo, lingers, ended;
    bool at_eof; /* then it ends, like this: */
    bool signalled, full;
    uint32_t value;
};

struct puppet {
    pthread_t thread;
    struct fake f;
    struct puppet_run runs[PUPPET_RUNS];
    uint32_t pid;
};

static struct puppet_run *puppet_find(struct puppet *p, uint32_t channel)
{
    for (size_t i = 0; i < PUPPET_RUNS; i++)
        if (p->runs[i].channel == channel)
            return &p->runs[i];
    return NULL;
}

static void puppet_end(struct puppet *p, struct puppet_run *r, bool signalled, uint32_t value)
{
    const struct wire_exit e = { signalled, value, 1000, 500, 4096, r->full };
    uint32_t channel = r->channel;

    if (r->ended)
        return;
    r->ended = true;
    r->flood = 0;
    (void)fake_exit_as(&p->f, channel, &e);
    if (r->lingers)
        return;
    for (unsigned s = WIRE_STREAM_OUT; s < WIRE_STREAM_COUNT; s++)
        if (r->streams & (1u << s))
            (void)fake_send(&p->f, channel, WIRE_EOF, s, NULL, 0);
    (void)fake_send(&p->f, channel, WIRE_CLOSE, 0, NULL, 0);
}

static void puppet_flood(struct puppet *p, struct puppet_run *r)
{
    static const uint8_t block[32768];

    while (r->flood > 0 && r->credit > 0) {
        size_t n = MIN(MIN(r->flood, r->credit), sizeof block);

        if (!fake_send(&p->f, r->channel, WIRE_DATA, WIRE_STREAM_OUT, block, n))
            return;
        r->flood -= n;
        r->credit -= (uint32_t)n;
    }
    if (r->flood == 0)
        puppet_end(p, r, false, 0);
}

static void puppet_refuse(struct puppet *p, uint32_t channel, uint32_t status, uint8_t stage)
{
    uint8_t payload[8];
    struct wire_out o = { .data = payload, .cap = sizeof payload };

    wire_put_u32(&o, status);
    wire_put_u8(&o, stage);
    (void)fake_send(&p->f, channel, WIRE_REPLY, 0, payload, o.len);
    (void)fake_send(&p->f, channel, WIRE_CLOSE, 0, NULL, 0);
    puppet_find(p, channel)->channel = 0;
}

/* argv[0] and argv[1] of a SPAWN; for "/bin/sh -c COMMAND" the words of the command. */
static uint32_t puppet_parse(const struct fake *f, char *name, char *value, size_t size)
{
    struct wire_in in = { .data = f->payload, .len = f->h.length };
    uint32_t flags = wire_get_u32(&in), argc;
    char cwd[256], word[3][128] = { "", "", "" };
    const char *space;

    (void)wire_get_u32(&in);
    (void)wire_get_str_into(&in, cwd, sizeof cwd);
    argc = wire_get_u32(&in);
    for (uint32_t i = 0; i < argc && i < 3; i++)
        (void)wire_get_str_into(&in, word[i], sizeof word[i]);
    (void)snprintf(name, size, "%s", word[0]);
    (void)snprintf(value, size, "%s", word[1]);
    if (strcmp(word[0], "/bin/sh") == 0) {
        space = strchr(word[2], ' ');
        (void)snprintf(name, size, "%.*s", (int)strcspn(word[2], " "), word[2]);
        (void)snprintf(value, size, "%s", space ? space + 1 : "");
    }
    return flags;
}

static void puppet_spawn(struct puppet *p)
{
    struct puppet_run *r = puppet_find(p, 0);
    uint32_t channel = p->f.h.channel, flags;
    char name[128], value[128];
    unsigned long number;

    if (!r)
        return;
    flags = puppet_parse(&p->f, name, value, sizeof name);
    number = strtoul(value, NULL, 10);
    *r = (struct puppet_run){ .channel = channel, .credit = WIRE_WINDOW };
    r->streams = 1u << WIRE_STREAM_OUT;
    if (!(flags & (WIRE_SPAWN_MERGE | WIRE_SPAWN_PTY)))
        r->streams |= 1u << WIRE_STREAM_ERR;
    if (flags & WIRE_SPAWN_CONTROL)
        r->streams |= 1u << WIRE_STREAM_CONTROL;
    if (strcmp(name, "missing") == 0) {
        puppet_refuse(p, channel, ENOENT, 2);
        return;
    }
    if (strcmp(name, "nowhere") == 0) {
        puppet_refuse(p, channel, ENOENT, 1);
        return;
    }
    (void)fake_reply_pid(&p->f, channel, ++p->pid);
    if (strcmp(name, "hang") == 0)
        return;
    if (strcmp(name, "echo") == 0) {
        r->echo = r->at_eof = true;
    } else if (strcmp(name, "exit-at-eof") == 0 || strcmp(name, "die-at-eof") == 0 ||
               strcmp(name, "full-at-eof") == 0) {
        r->at_eof = true;
        r->signalled = name[0] == 'd';
        r->full = name[0] == 'f';
        r->value = (uint32_t)number;
    } else if (strcmp(name, "flood") == 0) {
        r->flood = number;
        puppet_flood(p, r);
    } else {
        r->lingers = strcmp(name, "linger") == 0;
        if (strcmp(name, "say") == 0)
            (void)fake_send(&p->f, channel, WIRE_DATA, WIRE_STREAM_OUT, value, strlen(value));
        puppet_end(p, r, strcmp(name, "die") == 0, (uint32_t)number);
    }
}

static void puppet_run_frame(struct puppet *p, struct puppet_run *r)
{
    struct fake *f = &p->f;
    struct wire_in in = { .data = f->payload, .len = f->h.length };

    switch (f->h.type) {
    case WIRE_SIGNAL:
        puppet_end(p, r, true, wire_get_u32(&in));
        break;
    case WIRE_CREDIT:
        r->credit += wire_get_u32(&in);
        if (r->flood > 0)
            puppet_flood(p, r);
        break;
    case WIRE_DATA:
        if (r->echo) {
            (void)fake_send(f, r->channel, WIRE_DATA, WIRE_STREAM_OUT, f->payload, f->h.length);
            (void)fake_send_u32(f, r->channel, WIRE_CREDIT, 0, f->h.length);
        }
        break;
    case WIRE_EOF:
        if (r->at_eof)
            puppet_end(p, r, r->signalled, r->value);
        break;
    case WIRE_CLOSE:
        r->channel = 0;
        break;
    default:
        break;
    }
}

static void puppet_call(struct puppet *p)
{
    struct fake *f = &p->f;
    uint8_t payload[256] = { 0, 0, 0, 0 }; /* success, and whatever they brought */
    size_t len = 4;

    if (f->h.type == WIRE_PING) {
        memcpy(payload + 4, f->payload, MIN(f->h.length, 64u));
        len += MIN(f->h.length, 64u);
    } else if (f->h.type == WIRE_STAT) {
        len += 28;
    }
    (void)fake_send(f, f->h.channel, WIRE_REPLY, 0, payload, len);
}

static void *puppet_main(void *arg)
{
    struct puppet *p = arg;

    fake_hello(&p->f);
    while (fake_recv(&p->f)) {
        struct puppet_run *r = puppet_find(p, p->f.h.channel);

        if (p->f.h.type == WIRE_SPAWN)
            puppet_spawn(p);
        else if (r)
            puppet_run_frame(p, r);
        else if (p->f.h.type < WIRE_SPAWN)
            puppet_call(p);
    }
    fd_close(p->f.fd);
    return NULL;
}

/* Returns the host's end of the stream. */
UNUSED static int puppet_start(struct puppet *p)
{
    int pair[2];

    memset(p, 0, sizeof *p);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
    assert_true(fd_set_nonblock(pair[0], true, NULL));
    fake_init(&p->f, pair[1]);
    assert_int_equal(pthread_create(&p->thread, NULL, puppet_main, p), 0);
    return pair[0];
}

/* After the host has let go of its end. */
UNUSED static void puppet_join(struct puppet *p)
{
    pthread_join(p->thread, NULL);
}
