#include "tests/support/http_script.h"

#include <arpa/inet.h>
#include <assert.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define ARENA_BYTES (1ull << 30) /* mapped, and backed only where it is written */

struct http_script_conn {
    struct http_script *server;
    pthread_t thread;
    int fd;
    unsigned index;
    char *in; /* HTTP_SCRIPT_BYTES */
    size_t len;
    bool ended;
};

struct http_script {
    http_script_fn *fn;
    void *arg;
    int listener, stopping;
    unsigned port;
    char url[512];
    char *arena;
    pthread_t acceptor;

    pthread_mutex_t lock; /* guards what follows */
    pthread_cond_t arrived;
    size_t arena_used;
    unsigned count, conn_count;
    struct http_script_request requests[HTTP_SCRIPT_REQUESTS];
    struct http_script_conn conns[HTTP_SCRIPT_CONNECTIONS];
};

static void *map(size_t len)
{
    void *at =
        mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

    return at == MAP_FAILED ? NULL : at;
}

/* True: @fd has what @events asks.  False: the server stops, or @ms have passed. */
static bool wait_for(struct http_script *s, int fd, short events, int ms)
{
    struct pollfd fds[] = { { .fd = s->stopping, .events = POLLIN },
                            { .fd = fd, .events = events } };
    int n;

    do
        n = poll(fds, 2, ms);
    while (n < 0 && errno == EINTR);
    return n > 0 && !fds[0].revents && fds[1].revents;
}

/* ---- sending ---- */

bool http_script_send(struct http_script_conn *c, const void *data, size_t len)
{
    const char *at = data;

    while (len > 0 && !c->ended) {
        ssize_t n = send(c->fd, at, len, MSG_NOSIGNAL | MSG_DONTWAIT);

        if (n > 0) {
            at += n;
            len -= (size_t)n;
        } else if (n < 0 && errno == EAGAIN) {
            if (!wait_for(c->server, c->fd, POLLOUT, -1))
                c->ended = true;
        } else if (!(n < 0 && errno == EINTR)) {
            c->ended = true;
        }
    }
    return !c->ended;
}

bool http_script_text(struct http_script_conn *c, const char *text)
{
    return http_script_send(c, text, strlen(text));
}

bool http_script_printf(struct http_script_conn *c, const char *fmt, ...)
{
    char text[8192];
    va_list ap;
    int len;

    va_start(ap, fmt);
    len = vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    assert(len >= 0 && (size_t)len < sizeof text);
    return http_script_send(c, text, (size_t)len);
}

bool http_script_reply(struct http_script_conn *c, int status, const char *headers,
                       const char *body)
{
    return http_script_printf(c, "HTTP/1.1 %d Scripted\r\n%sContent-Length: %zu\r\n\r\n", status,
                              headers, strlen(body)) &&
           http_script_text(c, body);
}

bool http_script_chunked(struct http_script_conn *c, int status, const char *headers)
{
    return http_script_printf(c, "HTTP/1.1 %d Scripted\r\n%sTransfer-Encoding: chunked\r\n\r\n",
                              status, headers);
}

bool http_script_chunk(struct http_script_conn *c, const void *data, size_t len)
{
    return http_script_printf(c, "%zx\r\n", len) && http_script_send(c, data, len) &&
           http_script_text(c, "\r\n");
}

bool http_script_pause(struct http_script_conn *c, int ms)
{
    struct pollfd fds[] = { { .fd = c->server->stopping, .events = POLLIN },
                            { .fd = c->fd, .events = POLLRDHUP } };

    if (c->ended)
        return false;
    if (poll(fds, 2, ms) != 0)
        c->ended = true;
    return !c->ended;
}

void http_script_hold(struct http_script_conn *c)
{
    (void)http_script_pause(c, -1);
}

void http_script_close(struct http_script_conn *c)
{
    c->ended = true;
}

void http_script_reset(struct http_script_conn *c)
{
    struct linger now = { .l_onoff = 1, .l_linger = 0 };

    (void)setsockopt(c->fd, SOL_SOCKET, SO_LINGER, &now, sizeof now);
    c->ended = true;
}

/* ---- receiving ---- */

static bool find_header(const char *head, const char *name, char *value, size_t size)
{
    size_t len = strlen(name);

    for (const char *line = strstr(head, "\r\n"); line; line = strstr(line, "\r\n")) {
        line += 2;
        if (strncasecmp(line, name, len) != 0 || line[len] != ':')
            continue;
        line += len + 1;
        line += strspn(line, " ");
        (void)snprintf(value, size, "%.*s", (int)strcspn(line, "\r\n"), line);
        return true;
    }
    return false;
}

bool http_script_header(const struct http_script_request *r, const char *name, char *value,
                        size_t size)
{
    return find_header(r->head, name, value, size);
}

/* NUL-terminated, from the arena, which is never handed back. */
static char *keep_locked(struct http_script *s, const char *data, size_t len)
{
    char *at = s->arena + s->arena_used;

    if (len >= ARENA_BYTES - s->arena_used)
        return NULL;
    memcpy(at, data, len);
    at[len] = '\0';
    s->arena_used += len + 1;
    return at;
}

static struct http_script_request *record(struct http_script_conn *c, size_t head_len,
                                          size_t body_len)
{
    struct http_script *s = c->server;
    struct http_script_request *r = NULL;
    char *head, *body, *method, *target;
    size_t method_len = strcspn(c->in, " "), target_len;

    pthread_mutex_lock(&s->lock);
    head = keep_locked(s, c->in, head_len);
    body = keep_locked(s, c->in + head_len, body_len);
    method = keep_locked(s, c->in, method_len);
    target_len = strcspn(c->in + method_len + 1, " \r");
    target = keep_locked(s, c->in + method_len + 1, target_len);
    if (head && body && method && target && s->count < HTTP_SCRIPT_REQUESTS) {
        r = &s->requests[s->count];
        *r = (struct http_script_request){ .connection = c->index,
                                           .number = s->count,
                                           .method = method,
                                           .target = target,
                                           .head = head,
                                           .body = body,
                                           .body_len = body_len };
        s->count++;
        pthread_cond_broadcast(&s->arrived);
    }
    pthread_mutex_unlock(&s->lock);
    return r;
}

/* Reads on until @want bytes are there. */
static bool fill(struct http_script_conn *c, size_t want)
{
    while (c->len < want) {
        ssize_t n;

        if (c->len >= HTTP_SCRIPT_BYTES || !wait_for(c->server, c->fd, POLLIN, -1))
            return false;
        n = recv(c->fd, c->in + c->len, HTTP_SCRIPT_BYTES - c->len, MSG_DONTWAIT);
        if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR))
            return false;
        if (n > 0)
            c->len += (size_t)n;
    }
    return true;
}

static const struct http_script_request *next_request(struct http_script_conn *c)
{
    char value[32];
    char *end;
    size_t head_len, body_len = 0;
    struct http_script_request *r;

    while (!(end = memmem(c->in, c->len, "\r\n\r\n", 4))) {
        if (!fill(c, c->len + 1))
            return NULL;
    }
    head_len = (size_t)(end - c->in) + 4;
    end[2] = '\0'; /* the head alone, for a moment */
    if (find_header(c->in, "Content-Length", value, sizeof value))
        body_len = strtoul(value, NULL, 10);
    end[2] = '\r';
    if (body_len > HTTP_SCRIPT_BYTES - head_len || !fill(c, head_len + body_len))
        return NULL;
    r = record(c, head_len, body_len);
    c->len -= head_len + body_len;
    memmove(c->in, c->in + head_len + body_len, c->len);
    return r;
}

static void *serve(void *arg)
{
    struct http_script_conn *c = arg;

    while (!c->ended) {
        const struct http_script_request *r = next_request(c);

        if (!r)
            break;
        c->server->fn(c, r, c->server->arg);
    }
    (void)close(c->fd);
    return NULL;
}

static void *accept_all(void *arg)
{
    struct http_script *s = arg;
    int on = 1;

    while (wait_for(s, s->listener, POLLIN, -1)) {
        int fd = accept4(s->listener, NULL, NULL, SOCK_CLOEXEC);
        struct http_script_conn *c;

        if (fd < 0)
            continue;
        (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        pthread_mutex_lock(&s->lock);
        c = s->conn_count < HTTP_SCRIPT_CONNECTIONS ? &s->conns[s->conn_count] : NULL;
        if (c) {
            c->server = s;
            c->fd = fd;
            c->index = s->conn_count;
            c->in = map(HTTP_SCRIPT_BYTES);
            if (c->in && pthread_create(&c->thread, NULL, serve, c) == 0)
                s->conn_count++;
            else
                c = NULL;
        }
        pthread_mutex_unlock(&s->lock);
        if (!c)
            (void)close(fd);
    }
    return NULL;
}

/* ---- the server ---- */

static bool listen_on(struct http_script *s, unsigned port)
{
    struct sockaddr_in at = { .sin_family = AF_INET,
                              .sin_port = htons((uint16_t)port),
                              .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    socklen_t len = sizeof at;
    int on = 1;

    s->listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    s->stopping = eventfd(0, EFD_CLOEXEC);
    if (s->listener < 0 || s->stopping < 0)
        return false;
    (void)setsockopt(s->listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(s->listener, (struct sockaddr *)&at, sizeof at) < 0 || listen(s->listener, 128) < 0 ||
        getsockname(s->listener, (struct sockaddr *)&at, &len) < 0)
        return false;
    s->port = ntohs(at.sin_port);
    return true;
}

struct http_script *http_script_start_on(unsigned port, http_script_fn *fn, void *arg)
{
    struct http_script *s = map(sizeof *s);

    if (!s)
        return NULL;
    s->fn = fn;
    s->arg = arg;
    s->listener = s->stopping = -1;
    s->arena = map(ARENA_BYTES);
    pthread_mutex_init(&s->lock, NULL);
    pthread_cond_init(&s->arrived, NULL);
    if (s->arena && listen_on(s, port) && pthread_create(&s->acceptor, NULL, accept_all, s) == 0)
        return s;
    if (s->arena)
        (void)munmap(s->arena, ARENA_BYTES);
    if (s->listener >= 0)
        (void)close(s->listener);
    if (s->stopping >= 0)
        (void)close(s->stopping);
    (void)munmap(s, sizeof *s);
    return NULL;
}

struct http_script *http_script_start(http_script_fn *fn, void *arg)
{
    return http_script_start_on(0, fn, arg);
}

void http_script_stop(struct http_script *s)
{
    if (!s)
        return;
    (void)eventfd_write(s->stopping, 1);
    (void)pthread_join(s->acceptor, NULL);
    (void)close(s->listener);
    for (unsigned i = 0; i < s->conn_count; i++) {
        (void)pthread_join(s->conns[i].thread, NULL);
        (void)munmap(s->conns[i].in, HTTP_SCRIPT_BYTES);
    }
    (void)close(s->stopping);
    pthread_cond_destroy(&s->arrived);
    pthread_mutex_destroy(&s->lock);
    (void)munmap(s->arena, ARENA_BYTES);
    (void)munmap(s, sizeof *s);
}

unsigned http_script_port(const struct http_script *s)
{
    return s->port;
}

const char *http_script_url(struct http_script *s, const char *path)
{
    (void)snprintf(s->url, sizeof s->url, "http://127.0.0.1:%u%s", s->port, path);
    return s->url;
}

unsigned http_script_count(struct http_script *s)
{
    unsigned count;

    pthread_mutex_lock(&s->lock);
    count = s->count;
    pthread_mutex_unlock(&s->lock);
    return count;
}

unsigned http_script_connections(struct http_script *s)
{
    unsigned count;

    pthread_mutex_lock(&s->lock);
    count = s->conn_count;
    pthread_mutex_unlock(&s->lock);
    return count;
}

const struct http_script_request *http_script_request(struct http_script *s, unsigned i)
{
    return i < http_script_count(s) ? &s->requests[i] : NULL;
}

bool http_script_wait(struct http_script *s, unsigned count)
{
    struct timespec until;
    int code = 0;

    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += 10;
    pthread_mutex_lock(&s->lock);
    while (s->count < count && code != ETIMEDOUT)
        code = pthread_cond_timedwait(&s->arrived, &s->lock, &until);
    code = s->count >= count;
    pthread_mutex_unlock(&s->lock);
    return code;
}
