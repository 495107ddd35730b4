#include "images/guest/spawn.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "images/guest/inside.h"
#include "images/guest/sys.h"
#include "kernel/computer/wire.h"

#define STACK_BYTES  (16u << 10)
#define DEFAULT_PATH "/usr/local/bin:/usr/bin:/bin"

struct spawn {
    struct evloop_source source; /* the pipe that tells how it went */
    struct inside *in;
    spawn_done_fn *done; /* NULL: nobody wants to know */
    void *arg;
    struct spawn_request req;
    struct spawn_stack stack;
    int status;
    enum spawn_stage stage;
};

/* One string, copied with a NUL to *@at, which is moved past it. */
static char *take_string(struct wire_in *in, char **at)
{
    size_t len;
    const char *text = wire_get_str(in, WIRE_SPAWN_MAX, &len);
    char *copy = *at;

    if (in->failed)
        return NULL;
    memcpy(copy, text, len);
    copy[len] = '\0';
    *at += len + 1;
    return copy;
}

/* An array of strings, NULL-terminated; false when the count cannot be true. */
static bool take_strings(struct wire_in *in, size_t count, char **array, char **at)
{
    for (size_t i = 0; i < count; i++) {
        array[i] = take_string(in, at);
        if (!array[i])
            return false;
    }
    array[count] = NULL;
    return true;
}

static void skip_strings(struct wire_in *in, size_t count)
{
    size_t len;

    for (size_t i = 0; i < count && !in->failed; i++)
        (void)wire_get_str(in, WIRE_SPAWN_MAX, &len);
}

int spawn_parse(const uint8_t *data, size_t len, struct spawn_request *ret)
{
    struct wire_in in = { .data = data, .len = len };
    struct wire_in again;
    struct spawn_request req = { 0 };
    uint32_t argc, envc;
    size_t path_len;
    char **argv, **env;
    char *at;

    req.flags = wire_get_u32(&in);
    req.rows = wire_get_u16(&in);
    req.cols = wire_get_u16(&in);
    again = in;
    (void)wire_get_str(&in, WIRE_PATH_MAX - 1, &path_len);
    argc = wire_get_u32(&in);
    skip_strings(&in, argc);
    envc = wire_get_u32(&in);
    skip_strings(&in, envc);
    if (!wire_in_done(&in) || argc == 0 || path_len == 0)
        return EBADMSG;
    /* Each string was there with 4 bytes of length, so counts and sum are bounded by @len, and
     * a NUL in place of each length is less than what came. */
    req.memory = malloc(((size_t)argc + envc + 2) * sizeof(char *) + len);
    if (!req.memory)
        return ENOMEM;
    argv = req.memory;
    env = argv + argc + 1;
    at = (char *)(env + envc + 1);
    req.plan.cwd = take_string(&again, &at);
    (void)wire_get_u32(&again);
    if (!take_strings(&again, argc, argv, &at))
        goto bad;
    (void)wire_get_u32(&again);
    if (!take_strings(&again, envc, env, &at))
        goto bad;
    req.plan.argv = argv;
    req.plan.env = env;
    req.plan.path = DEFAULT_PATH;
    for (size_t i = 0; i < envc; i++) {
        if (!strncmp(env[i], "PATH=", 5))
            req.plan.path = env[i] + 5;
    }
    for (size_t i = 0; i < SPAWN_FDS; i++)
        req.plan.fds[i] = -1;
    *ret = req;
    return 0;
bad: /* the first reading has shown that this cannot be */
    free(req.memory);
    return EBADMSG;
}

void spawn_request_free(struct spawn_request *req)
{
    free(req->memory);
    req->memory = NULL;
}

/* ---- the child's stack: one is kept for the next program ---- */

static bool stack_take(struct inside *in, struct spawn_stack *ret)
{
    ret->base = in->spare_stack.base;
    in->spare_stack.base = NULL;
    if (!ret->base)
        ret->base = sys_pages(STACK_BYTES);
    return ret->base != NULL;
}

static void stack_give(struct inside *in, struct spawn_stack *stack)
{
    if (in->spare_stack.base)
        spawn_stack_free(stack);
    else
        in->spare_stack.base = stack->base;
    stack->base = NULL;
}

void spawn_stack_free(struct spawn_stack *stack)
{
    sys_pages_free(stack->base, STACK_BYTES);
    stack->base = NULL;
}

/* ---- starting ---- */

/* The child has executed, or is dead: its memory is ours again. */
static void settle(struct spawn *s)
{
    spawn_done_fn *done = s->done;
    void *arg = s->arg;
    int status = s->status;
    enum spawn_stage stage = s->stage;
    int fd = s->source.fd;

    evloop_unwatch(&s->in->loop, &s->source);
    close(fd);
    stack_give(s->in, &s->stack);
    spawn_request_free(&s->req);
    free(s);
    if (done)
        done(arg, status, stage);
}

static void look(struct spawn *s)
{
    int message[2];

    for (;;) {
        ssize_t n = read(s->source.fd, message, sizeof message);

        if (n == (ssize_t)sizeof message) {
            /* Its stack is in use until the pipe ends. */
            s->status = message[0] > 0 ? message[0] : EIO;
            s->stage = (enum spawn_stage)message[1];
        } else if (n < 0 && errno == EINTR) {
            continue;
        } else if (n < 0 && errno == EAGAIN) {
            return;
        } else {
            settle(s);
            return;
        }
    }
}

static void on_ready(struct evloop_source *source, uint32_t events)
{
    (void)events;
    look(CONTAINER_OF(source, struct spawn, source));
}

void spawn_poll(struct spawn *s)
{
    look(s);
}

void spawn_forget(struct spawn *s)
{
    s->done = NULL;
}

/* The program begins on our processor, behind us: we go on on another one, if we may.  Where it may
 * run it knows from before. */
static void give_way(void)
{
    int here = sched_getcpu();
    cpu_set_t usual, others;

    if (here < 0 || here >= CPU_SETSIZE || sched_getaffinity(0, sizeof usual, &usual) != 0)
        return;
    others = usual;
    CPU_CLR((size_t)here, &others);
    if (sched_setaffinity(0, sizeof others, &others) == 0) /* not where there is no other */
        (void)sched_setaffinity(0, sizeof usual, &usual);
}

int spawn_start(struct inside *in, struct spawn_request *req, spawn_done_fn *done, void *arg,
                struct spawn **ret, pid_t *ret_pid)
{
    struct spawn *s = calloc(1, sizeof *s);
    int pipe_fds[2] = { -1, -1 };
    int error;
    pid_t pid;

    if (!s)
        return ENOMEM;
    s->in = in;
    s->source.fd = -1;
    s->source.ready = on_ready;
    if (!stack_take(in, &s->stack)) {
        free(s);
        return ENOMEM;
    }
    if (pipe2(pipe_fds, O_CLOEXEC | O_NONBLOCK) != 0 ||
        !evloop_watch(&in->loop, &s->source, pipe_fds[0], EPOLLIN, false))
        goto fail;
    s->req = *req;
    s->req.plan.report = pipe_fds[1];
    s->req.plan.user = in->user;
    s->req.plan.processes = in->processes;
    pid = clone(spawn_child, s->stack.base + STACK_BYTES, CLONE_VM | SIGCHLD, &s->req.plan);
    if (pid < 0)
        goto fail;
    give_way();
    close(pipe_fds[1]);
    s->done = done;
    s->arg = arg;
    req->memory = NULL;
    *ret = s;
    *ret_pid = pid;
    return 0;
fail:
    error = errno;
    evloop_unwatch(&in->loop, &s->source);
    if (pipe_fds[0] >= 0) {
        close(pipe_fds[0]);
        close(pipe_fds[1]);
    }
    stack_give(in, &s->stack);
    free(s);
    return error;
}
