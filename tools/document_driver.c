#include "tools/document_driver.h"

#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#define SHELF_KEY  "document"
#define KEPT_MAX   2u           /* at rest in one computer: each is some ten MiB */
#define OUTPUT_MAX (1ull << 30) /* of one driver, before it is replaced */
#define PIECE      (256u << 10)
#define SIZE_CHARS 8u

/* document_parts.S: the parts of the driver and what loads them, NUL-terminated. */
extern const char document_text_boot[], document_text_parts[];

/* ---- those at rest ---- */

struct shelf {
    atomic_uint refs;
    pthread_mutex_t lock; /* guards what follows */
    bool closed;          /* the computer is gone */
    struct document_driver kept[KEPT_MAX];
    size_t count;
};

static void shelf_unref(struct shelf *s)
{
    if (!s || atomic_fetch_sub(&s->refs, 1) > 1)
        return;
    for (size_t i = 0; i < s->count; i++)
        document_driver_end(&s->kept[i]);
    pthread_mutex_destroy(&s->lock);
    free(s);
}
DEFINE_CLEANUP(struct shelf, shelf_unref)

static void shelf_drop(void *thing)
{
    struct shelf *s = thing;

    pthread_mutex_lock(&s->lock);
    s->closed = true;
    pthread_mutex_unlock(&s->lock);
    shelf_unref(s);
}

static void take_ref(void *arg, void *thing)
{
    struct shelf *s = thing;

    atomic_fetch_add(&s->refs, 1);
    *(struct shelf **)arg = s;
}

/* NULL: there is none, and with @make none can be made. */
static struct shelf *shelf_get(struct tool_call *call, struct computer *c, bool make)
{
    struct computers *cs = kernel_computers(call->kernel);
    struct shelf *s = NULL;

    if (computers_attached(cs, c, SHELF_KEY, take_ref, &s) || !make)
        return s;
    s = calloc(1, sizeof *s);
    if (!s)
        return NULL;
    atomic_init(&s->refs, 2);
    pthread_mutex_init(&s->lock, NULL);
    if (computers_attach(cs, c, SHELF_KEY, s, shelf_drop, NULL))
        return s;
    atomic_store(&s->refs, 1);
    shelf_unref(s);
    s = NULL;
    /* Another call was faster, or the computer is gone. */
    (void)computers_attached(cs, c, SHELF_KEY, take_ref, &s);
    return s;
}

static bool take_kept(struct tool_call *call, struct computer *c, struct document_driver *ret)
{
    CLEANUP(shelf_unrefp) struct shelf *s = shelf_get(call, c, false);
    bool found = false;

    while (s && !found) {
        struct document_driver d = { .run = NULL };
        struct run_info info;

        pthread_mutex_lock(&s->lock);
        if (s->count > 0)
            d = s->kept[--s->count];
        pthread_mutex_unlock(&s->lock);
        if (!d.run)
            return false;
        run_info(d.run, &info);
        found = info.reason == RUN_LIVE;
        if (found)
            *ret = d;
        else
            document_driver_end(&d);
    }
    return found;
}

void document_driver_keep(struct tool_call *call, struct computer *c, struct document_driver *d)
{
    CLEANUP(shelf_unrefp) struct shelf *s = NULL;
    struct run_info info;

    run_info(d->run, &info);
    if (info.reason == RUN_LIVE && d->offset < OUTPUT_MAX)
        s = shelf_get(call, c, true);
    if (s) {
        pthread_mutex_lock(&s->lock);
        if (!s->closed && s->count < KEPT_MAX) {
            d->warm = true;
            s->kept[s->count++] = *d;
            d->run = NULL;
        }
        pthread_mutex_unlock(&s->lock);
    }
    document_driver_end(d);
}

void document_driver_end(struct document_driver *d)
{
    if (d->run)
        run_kill(d->run, SIGKILL, true);
    run_unref(d->run);
    d->run = NULL;
}

/* ---- a new one ---- */

static bool send_parts(struct run *run, const struct wait *w, struct error *err)
{
    CLEANUP(buf_fini) struct buf message = BUF_INIT;

    buf_printf(&message, "%0*zu", (int)SIZE_CHARS, strlen(document_text_parts));
    buf_append_str(&message, document_text_parts);
    if (message.failed)
        return error_set(err, ERR_NOMEM, "the driver of documents");
    return guest_run_write(run_guest(run), WIRE_STREAM_MAIN, message.data, message.len, w, err);
}

static bool start(struct computer *c, struct document_driver *ret, const struct wait *w,
                  struct error *err)
{
    static const char *const argv[] = {
        "python3", "-I", "-S", "-E", "-c", document_text_boot, NULL,
    };
    const struct run_spec spec = { .argv = argv, .stdin_open = true, .lossless = true };
    struct document_driver d = { .run = NULL };
    struct error why = ERROR_INIT;

    d.run = run_start(c, &spec, w, &why);
    if (d.run) {
        struct error late = ERROR_INIT;

        /* One that ends before it has read its parts is met when it does not answer. */
        if (send_parts(d.run, w, &late) || late.code == ERR_IO) {
            *ret = d;
            return true;
        }
        document_driver_end(&d);
        why = late;
    }
    if (why.code == ERR_NOT_FOUND)
        return error_set(
            err, ERR_NOT_FOUND,
            "python3 is not in this computer, so documents cannot be read here; computer_create "
            "{\"image\":\"desktop\"} makes one that has all that documents need, or install the "
            "Debian packages python3, poppler-utils and pandoc");
    if (err)
        *err = why;
    return false;
}

bool document_driver_take(struct tool_call *call, struct computer *c, bool fresh,
                          struct document_driver *ret, const struct wait *w, struct error *err)
{
    return (!fresh && take_kept(call, c, ret)) || start(c, ret, w, err);
}

/* ---- a request ---- */

static bool send_request(struct run *run, const json_t *request, const struct wait *w,
                         struct error *err)
{
    CLEANUP(buf_fini) struct buf text = BUF_INIT;
    CLEANUP(buf_fini) struct buf message = BUF_INIT;

    if (!json_write(request, &text))
        return error_set(err, ERR_NOMEM, "the request");
    buf_printf(&message, "%0*zu", (int)SIZE_CHARS, text.len);
    buf_append(&message, buf_str(&text), text.len);
    if (message.failed)
        return error_set(err, ERR_NOMEM, "the request");
    return guest_run_write(run_guest(run), WIRE_STREAM_MAIN, message.data, message.len, w, err);
}

bool document_driver_ask(struct document_driver *d, const json_t *request, struct buf *out,
                         const struct wait *w, struct error *err)
{
    CLEANUP(buf_fini) struct buf raw = BUF_INIT;
    struct error late = ERROR_INIT;
    size_t size = 0;

    d->answered = false;
    /* One that has ended is told as such below. */
    if (!send_request(d->run, request, w, &late) && late.code != ERR_IO) {
        if (err)
            *err = late;
        return false;
    }
    for (;;) {
        uint64_t beyond[WIRE_STREAM_COUNT] = { [WIRE_STREAM_OUT] = 0 };
        struct run_info info;
        long n;

        run_info(d->run, &info); /* before reading: what came before the end is then there */
        do {
            n = guest_run_read(run_guest(d->run), WIRE_STREAM_OUT, &d->offset, PIECE, &raw);
        } while (n > 0 && raw.len <= SIZE_CHARS + DOCUMENT_ANSWER_MAX);
        if (n < 0)
            return error_set(err, ERR_NOMEM, "what the document holds");
        if (raw.len >= SIZE_CHARS && !document_answer_size(raw.data, &size, err))
            return false;
        if (raw.len > SIZE_CHARS + (size ? size : DOCUMENT_ANSWER_MAX))
            return error_set(err, ERR_PROTOCOL, "the answer about the document is too long");
        if (size && raw.len == SIZE_CHARS + size) {
            buf_consume(&raw, SIZE_CHARS);
            *out = raw;
            raw = (struct buf)BUF_INIT;
            d->answered = true;
            return true;
        }
        if (info.reason != RUN_LIVE)
            return error_set(err, ERR_LOST, "the program that works on documents ended");
        beyond[WIRE_STREAM_OUT] = d->offset;
        /* With its output at an end, only its own end is left to wait for. */
        if (!run_wait(d->run, info.guest.streams_ended ? 0 : 1u << WIRE_STREAM_OUT, beyond, w, err))
            return false;
    }
}
