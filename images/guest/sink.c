#include "images/guest/sink.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <termios.h>
#include <unistd.h>

#include "images/guest/inside.h"

#define CHUNK_LEAST 2048u /* so that many small pieces do not cost many times their size */

struct sink_chunk {
    struct sink_chunk *next;
    size_t cap, start, end;
    uint8_t data[];
};

static void drop_chunks(struct sink *s)
{
    while (s->head) {
        struct sink_chunk *c = s->head;

        s->head = c->next;
        lane_consumed(s->lane, s->stream, c->end - c->start);
        free(c);
    }
    s->tail = NULL;
}

void sink_close(struct sink *s)
{
    int fd = s->source.fd;

    drop_chunks(s);
    s->ended = true;
    if (fd < 0)
        return;
    evloop_unwatch(&s->lane->in->loop, &s->source);
    close(fd);
}

/* How much of it was taken; what nobody will ever read counts as taken. */
static size_t write_some(struct sink *s, const uint8_t *data, size_t len)
{
    size_t done = 0;

    while (done < len && s->source.fd >= 0) {
        ssize_t n = write(s->source.fd, data + done, len - done);

        if (n > 0) {
            done += (size_t)n;
            s->last = data[done - 1];
        } else if (n < 0 && errno == EINTR) {
            continue;
        } else if (n < 0 && errno == EAGAIN) {
            return done;
        } else {
            sink_close(s);
        }
    }
    return len;
}

static void pass_end_on(struct sink *s)
{
    s->ended = true;
    if (s->source.fd < 0)
        return;
    if (s->kind == SINK_PIPE) {
        sink_close(s);
    } else if (s->kind == SINK_SOCKET) {
        (void)shutdown(s->source.fd, SHUT_WR);
        lane_wake(s->lane);
    } else {
        struct termios tio;
        uint8_t end[2] = { 4, 4 };
        size_t len = s->last == 0 || s->last == '\n' ? 1 : 2; /* the first one ends the line */

        if (tcgetattr(s->source.fd, &tio) == 0 && tio.c_cc[VEOF] != 0)
            memset(end, tio.c_cc[VEOF], sizeof end);
        (void)!write(s->source.fd, end, len);
    }
}

static void flush(struct sink *s)
{
    while (s->head) {
        struct sink_chunk *c = s->head;
        size_t n = write_some(s, c->data + c->start, c->end - c->start);

        if (s->head != c) /* nobody reads any more: all was dropped */
            return;
        lane_consumed(s->lane, s->stream, n);
        c->start += n;
        if (c->start < c->end)
            return;
        s->head = c->next;
        if (!s->head)
            s->tail = NULL;
        free(c);
    }
    if (s->eof && !s->ended)
        pass_end_on(s);
}

static void on_ready(struct evloop_source *source, uint32_t events)
{
    struct sink *s = CONTAINER_OF(source, struct sink, source);

    if (events & EPOLLERR && s->kind == SINK_PIPE)
        sink_close(s);
    else
        flush(s);
}

void sink_init(struct sink *s, struct lane *lane, uint8_t stream)
{
    s->source.fd = -1;
    s->source.ready = on_ready;
    s->lane = lane;
    s->stream = stream;
    s->ended = true;
}

bool sink_open(struct sink *s, int fd, enum sink_kind kind)
{
    if (!evloop_watch(&s->lane->in->loop, &s->source, fd, EPOLLOUT, false))
        return false;
    s->kind = kind;
    s->ended = false;
    return true;
}

static bool hold(struct sink *s, const uint8_t *data, size_t len)
{
    struct sink_chunk *c = s->tail;

    if (c && c->cap - c->end >= len) {
        memcpy(c->data + c->end, data, len);
        c->end += len;
        return true;
    }
    c = malloc(sizeof *c + MAX(len, CHUNK_LEAST));
    if (!c)
        return false;
    c->next = NULL;
    c->cap = MAX(len, CHUNK_LEAST);
    c->start = 0;
    c->end = len;
    memcpy(c->data, data, len);
    if (s->tail)
        s->tail->next = c;
    else
        s->head = c;
    s->tail = c;
    return true;
}

void sink_data(struct sink *s, const uint8_t *data, size_t len)
{
    size_t n = len;

    if (s->eof || s->source.fd < 0) {
        lane_consumed(s->lane, s->stream, len);
        return;
    }
    if (!s->head) {
        n = write_some(s, data, len);
        lane_consumed(s->lane, s->stream, n);
        data += n;
        len -= n;
    }
    if (len > 0 && !hold(s, data, len)) {
        /* A gap in the stream would be worse than its end. */
        lane_consumed(s->lane, s->stream, len);
        sink_close(s);
    }
}

void sink_eof(struct sink *s)
{
    s->eof = true;
    if (!s->head && !s->ended)
        pass_end_on(s);
}
