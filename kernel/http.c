#include "kernel/http.h"

#include <assert.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>

#include "kernel/base/clock.h"
#include "kernel/http_internal.h"

#define POLL_MS 100 /* longest wait without a look at the clock, which a test may turn */

/* ---- what the caller asks ---- */

/* One line of printable text: a line break would smuggle in another header. */
static bool is_one_line(const char *text)
{
    for (; *text; text++) {
        if ((unsigned char)*text < 0x20 && *text != '\t')
            return false;
        if (*text == 0x7f)
            return false;
    }
    return true;
}

static bool method_is_token(const char *method)
{
    size_t len = strspn(method, "ABCDEFGHIJKLMNOPQRSTUVWXYZ");

    return len > 0 && len <= 16 && method[len] == '\0';
}

static bool host_is_loopback(const char *host)
{
    size_t len = strlen(host);

    if (!strcasecmp(host, "localhost") || !strcmp(host, "[::1]") || !strncmp(host, "127.", 4))
        return true;
    return len > 10 && !strcasecmp(host + len - 10, ".localhost");
}

struct target {
    char origin[HTTP_ORIGIN_BYTES];
    bool loopback;
};

/* The address taken apart by libcurl itself, so that what is checked is what is connected to. */
static bool target_of(const struct http_curl *curl, const char *address, struct target *ret,
                      struct error *err)
{
    char *scheme = NULL, *host = NULL, *port = NULL, *user = NULL;
    CURLU *url = curl->url();
    bool ok = false;
    int len;

    if (!url)
        return error_set(err, ERR_NOMEM, "an address");
    if (curl->url_set(url, CURLUPART_URL, address, 0) != CURLUE_OK ||
        curl->url_get(url, CURLUPART_SCHEME, &scheme, 0) != CURLUE_OK ||
        curl->url_get(url, CURLUPART_HOST, &host, 0) != CURLUE_OK ||
        curl->url_get(url, CURLUPART_PORT, &port, CURLU_DEFAULT_PORT) != CURLUE_OK) {
        error_set(err, ERR_INVALID, "the server's address is not a URL");
    } else if (strcmp(scheme, "http") != 0 && strcmp(scheme, "https") != 0) {
        error_set(err, ERR_INVALID,
                  "the server's address begins with %s:, not with http: or https:", scheme);
    } else if (curl->url_get(url, CURLUPART_USER, &user, 0) == CURLUE_OK) {
        error_set(err, ERR_INVALID, "the server's address must not hold a user name or password");
    } else {
        len = snprintf(ret->origin, sizeof ret->origin, "%s:%s", host, port);
        ret->loopback = host_is_loopback(host);
        ok = len > 0 && (size_t)len < sizeof ret->origin;
        if (!ok)
            error_set(err, ERR_INVALID, "the host name is longer than any can be");
    }
    curl->free(scheme);
    curl->free(host);
    curl->free(port);
    curl->free(user);
    curl->url_cleanup(url);
    return ok;
}

static bool request_check(const struct http_request *request, struct error *err)
{
    if (!method_is_token(request->method))
        return error_set(err, ERR_INVALID, "the method is not a word of capital letters");
    if (!is_one_line(request->url))
        return error_set(err, ERR_INVALID, "the server's address is not one line of text");
    for (const char *const *h = request->headers; h && *h; h++) {
        if (!is_one_line(*h) || !strchr(*h, ':'))
            return error_set(err, ERR_INVALID, "header %zu is not one line with a colon",
                             (size_t)(h - request->headers) + 1);
    }
    return true;
}

static bool has_header(const struct http_request *request, const char *name)
{
    size_t len = strlen(name);

    for (const char *const *h = request->headers; h && *h; h++) {
        if (!strncasecmp(*h, name, len) && (*h)[len] == ':')
            return true;
    }
    return false;
}

static bool add_line(const struct http_curl *curl, struct curl_slist **list, const char *line)
{
    struct curl_slist *longer = curl->slist_append(*list, line);

    if (longer)
        *list = longer;
    return longer != NULL;
}

static struct curl_slist *header_list(const struct http_curl *curl,
                                      const struct http_request *request, struct error *err)
{
    struct curl_slist *list = NULL;
    bool ok = add_line(curl, &list, "Expect:"); /* libcurl would wait a second for 100 Continue */

    if (ok && !has_header(request, "Content-Type"))
        ok = add_line(curl, &list, "Content-Type:"); /* nor does it know what we send */
    for (const char *const *h = request->headers; ok && h && *h; h++)
        ok = add_line(curl, &list, *h);
    if (!ok) {
        curl->slist_free_all(list);
        error_set(err, ERR_NOMEM, "the headers of a request");
        return NULL;
    }
    return list;
}

static curl_socket_t open_socket(void *arg, curlsocktype purpose, struct curl_sockaddr *address)
{
    (void)arg, (void)purpose;
    return socket(address->family, address->socktype | SOCK_CLOEXEC, address->protocol);
}

static long milliseconds(int64_t ns)
{
    return (long)MAX(ns / CLOCK_NS_PER_MS, 1);
}

/* No option here can be refused by a libcurl of the version that the build asks for, except where
 * it copies a string: then memory is out. */
static bool configure(const struct http_transfer *t, CURL *easy, const struct target *target,
                      struct curl_slist *headers, struct error *err)
{
    const struct http_request *request = t->request;
    CURLcode (*set)(CURL *, CURLoption, ...) = t->curl->easy_setopt;
    bool ok;

    (void)set(easy, CURLOPT_NOSIGNAL, 1L);
    (void)set(easy, CURLOPT_QUICK_EXIT, 1L); /* never wait for a resolver that hangs */
    (void)set(easy, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
    (void)set(easy, CURLOPT_FOLLOWLOCATION, 0L);
    (void)set(easy, CURLOPT_TCP_KEEPALIVE, 1L);
    (void)set(easy, CURLOPT_OPENSOCKETFUNCTION, open_socket);
    (void)set(easy, CURLOPT_HTTPHEADER, headers);
    (void)set(easy, CURLOPT_CONNECTTIMEOUT_MS,
              milliseconds(request->connect_ns ? request->connect_ns : HTTP_CONNECT_NS));
    ok = set(easy, CURLOPT_PROTOCOLS_STR, "http,https") == CURLE_OK &&
         set(easy, CURLOPT_URL, request->url) == CURLE_OK &&
         set(easy, CURLOPT_USERAGENT, "aios/" AIOS_VERSION) == CURLE_OK &&
         set(easy, CURLOPT_CUSTOMREQUEST, request->method) == CURLE_OK;
    if (ok && target->loopback) /* otherwise the environment says which proxy */
        ok = set(easy, CURLOPT_PROXY, "") == CURLE_OK;
    if (ok && request->ca_file && *request->ca_file)
        ok = set(easy, CURLOPT_CAINFO, request->ca_file) == CURLE_OK &&
             set(easy, CURLOPT_CAPATH, NULL) == CURLE_OK;
    if (!strcmp(request->method, "HEAD")) {
        (void)set(easy, CURLOPT_NOBODY, 1L);
    } else if (request->body_len || !strcmp(request->method, "POST") ||
               !strcmp(request->method, "PUT")) {
        (void)set(easy, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)request->body_len);
        (void)set(easy, CURLOPT_POSTFIELDS, request->body_len ? request->body : "");
    }
    return ok || error_set(err, ERR_NOMEM, "a request");
}

/* ---- the exchange ---- */

struct waker {
    const struct http_curl *curl;
    CURLM *multi;
};

static void wake(void *arg)
{
    struct waker *waker = arg;

    (void)waker->curl->multi_wakeup(waker->multi);
}

static bool is_idle(const struct http_transfer *t)
{
    return t->request->idle_ns > 0 && t->active_ns > 0 &&
           clock_now_ns() >= clock_add_ns(t->active_ns, t->request->idle_ns);
}

static int poll_ms(const struct http_transfer *t)
{
    int ms = clock_left_ms(t->wait->deadline_ns, POLL_MS);

    if (t->request->idle_ns > 0 && t->active_ns > 0)
        ms = clock_left_ms(clock_add_ns(t->active_ns, t->request->idle_ns), ms);
    return ms;
}

/* Until curl has ended it; false when we did. */
static bool drive(struct http_transfer *t, CURLM *multi, CURLcode *ret_code, struct error *err)
{
    const struct http_curl *curl = t->curl;
    CURLMcode code;
    CURLMsg *msg;
    int running, left;

    for (;;) {
        code = curl->multi_perform(multi, &running);
        if (code != CURLM_OK)
            return error_set(err, code == CURLM_OUT_OF_MEMORY ? ERR_NOMEM : ERR_INTERNAL, "%s",
                             curl->multi_strerror(code));
        msg = curl->multi_info_read(multi, &left);
        if (msg && msg->msg == CURLMSG_DONE) {
            *ret_code = msg->data.result;
            return true;
        }
        if (!wait_check(t->wait, err))
            return false;
        if (is_idle(t))
            return error_set(err, ERR_TIMEOUT, "nothing came for %lld ms",
                             (long long)(t->request->idle_ns / CLOCK_NS_PER_MS));
        code = curl->multi_poll(multi, NULL, 0, poll_ms(t), NULL);
        if (code != CURLM_OK)
            return error_set(err, code == CURLM_OUT_OF_MEMORY ? ERR_NOMEM : ERR_INTERNAL, "%s",
                             curl->multi_strerror(code));
    }
}

static enum error_code code_of(CURLcode code, const char *detail)
{
    switch (code) {
    case CURLE_OUT_OF_MEMORY:
        return ERR_NOMEM;
    case CURLE_OPERATION_TIMEDOUT:
        return ERR_TIMEOUT;
    case CURLE_URL_MALFORMAT:
    case CURLE_SSL_CACERT_BADFILE:
        return ERR_INVALID;
    case CURLE_WEIRD_SERVER_REPLY:
    case CURLE_UNSUPPORTED_PROTOCOL: /* HTTP/0.9, as the scheme was checked */
    case CURLE_BAD_CONTENT_ENCODING:
        return ERR_PROTOCOL;
    default:
        return strstr(detail, "chunked-encoding") ? ERR_PROTOCOL : ERR_LOST;
    }
}

/* What curl's result means, in the light of why a callback may have ended it. */
static bool conclude(const struct http_transfer *t, CURLcode code, const char *detail, int os_errno,
                     struct error *err)
{
    if (t->too_long)
        return error_set(
            err, ERR_LIMIT, "the answer is longer than %llu bytes",
            (unsigned long long)(t->head_bytes > HTTP_HEAD_BYTES ? HTTP_HEAD_BYTES : t->max_bytes));
    if (t->no_memory)
        return error_set(err, ERR_NOMEM, "the answer");
    if (code == CURLE_OK || t->reply->stopped || t->cut) {
        if (t->reply->status)
            return true;
        return error_set(err, ERR_PROTOCOL, "an answer without a status");
    }
    /* curl would say once more to where, which whoever asks has said. */
    if (code == CURLE_COULDNT_RESOLVE_HOST)
        return error_set(err, ERR_LOST, "this name has no address (%s)",
                         t->curl->easy_strerror(code));
    if (code == CURLE_COULDNT_CONNECT && os_errno)
        return error_set(err, ERR_LOST, "no connection: %s", strerror(os_errno));
    return error_set(err, code_of(code, detail), "%s",
                     *detail ? detail : t->curl->easy_strerror(code));
}

static bool exchange(struct http_transfer *t, struct http_session *session,
                     const struct target *target, struct curl_slist *headers, struct error *err)
{
    const struct http_curl *curl = t->curl;
    struct waker waker = { curl, session->multi };
    char detail[CURL_ERROR_SIZE] = "";
    struct cancel_hook hook;
    CURLcode code = CURLE_OK;
    long os_errno = 0;
    bool ok;

    curl->easy_reset(session->easy);
    http_reply_attach(t, session->easy);
    if (!configure(t, session->easy, target, headers, err))
        return false;
    (void)curl->easy_setopt(session->easy, CURLOPT_ERRORBUFFER, detail);
    if (curl->multi_add_handle(session->multi, session->easy) != CURLM_OK)
        return error_set(err, ERR_NOMEM, "a request");
    cancel_attach(t->wait->cancel, &hook, wake, &waker);
    ok = drive(t, session->multi, &code, err);
    cancel_detach(t->wait->cancel, &hook);
    (void)curl->multi_remove_handle(session->multi, session->easy);
    (void)curl->easy_getinfo(session->easy, CURLINFO_OS_ERRNO, &os_errno);
    curl->easy_reset(session->easy); /* nothing of ours stays behind in what is kept */
    return ok && conclude(t, code, detail, (int)os_errno, err);
}

/* A TLS connection that the server has closed raises SIGPIPE, which libcurl leaves to us: it is
 * blocked meanwhile and one that came is taken away. */
static bool block_sigpipe(sigset_t *ret_old)
{
    sigset_t pipe, pending;

    sigemptyset(&pending);
    (void)sigpending(&pending);
    if (sigismember(&pending, SIGPIPE))
        return false; /* not ours to take away, and blocked already */
    sigemptyset(&pipe);
    sigaddset(&pipe, SIGPIPE);
    return pthread_sigmask(SIG_BLOCK, &pipe, ret_old) == 0;
}

static void unblock_sigpipe(const sigset_t *old)
{
    static const struct timespec now = { 0, 0 };
    sigset_t pipe;

    sigemptyset(&pipe);
    sigaddset(&pipe, SIGPIPE);
    while (sigtimedwait(&pipe, NULL, &now) == SIGPIPE)
        ;
    (void)pthread_sigmask(SIG_SETMASK, old, NULL);
}

bool http_send(struct http *h, const struct http_request *request, const struct wait *w,
               struct http_reply *ret, struct error *err)
{
    struct http_transfer t = { .request = request, .reply = ret, .wait = w };
    struct http_session *session;
    struct curl_slist *headers;
    struct target target = { .loopback = false };
    sigset_t old;
    bool ok, blocked;

    *ret = (struct http_reply){ .retry_after_ns = -1, .date_wall_ns = -1 };
    ret->content_length = ret->range_total = UINT64_MAX;
    if (!request_check(request, err) || !wait_check(w, err))
        return false;
    t.curl = http_pool_curl(h, err);
    if (!t.curl || !target_of(t.curl, request->url, &target, err))
        return false;
    t.max_bytes = request->max_bytes ? request->max_bytes : HTTP_BODY_BYTES;
    headers = header_list(t.curl, request, err);
    if (!headers)
        return false;
    session = http_pool_take(h, target.origin, err);
    if (!session) {
        t.curl->slist_free_all(headers);
        return false;
    }
    blocked = block_sigpipe(&old);
    ok = exchange(&t, session, &target, headers, err);
    if (blocked)
        unblock_sigpipe(&old);
    t.curl->slist_free_all(headers);
    http_pool_give(h, session);
    if (!ok) {
        buf_fini(&ret->body);
        error_prefix(err, "%s", target.origin);
    }
    return ok;
}
