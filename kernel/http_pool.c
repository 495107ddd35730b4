/* Sessions with their connections, kept for the next request to the same server. */
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "kernel/http_internal.h"

struct http {
    _Atomic(const struct http_curl *) curl; /* set once, by whoever comes first */
    pthread_mutex_t lock;                   /* guards what follows */
    struct http_session *idle;              /* the latest first */
    size_t idle_count;
};

struct http *http_new(struct error *err)
{
    struct http *h = calloc(1, sizeof *h);

    if (!h) {
        error_set(err, ERR_NOMEM, "an HTTP client");
        return NULL;
    }
    pthread_mutex_init(&h->lock, NULL); /* cannot fail on Linux with these attributes */
    return h;
}

void http_free(struct http *h)
{
    if (!h)
        return;
    while (h->idle) {
        struct http_session *session = h->idle;

        h->idle = session->next;
        http_session_free(h->curl, session);
    }
    pthread_mutex_destroy(&h->lock);
    free(h);
}

const struct http_curl *http_pool_curl(struct http *h, struct error *err)
{
    const struct http_curl *curl = atomic_load(&h->curl);

    if (curl)
        return curl;
    /* Two threads that come first open it twice, which the loader counts. */
    curl = plugin_open("http", HTTP_CURL_SYMBOL, sizeof *curl, err);
    if (curl)
        atomic_store(&h->curl, curl);
    return curl;
}

void http_session_free(const struct http_curl *curl, struct http_session *session)
{
    if (!session)
        return;
    if (session->easy)
        curl->easy_cleanup(session->easy);
    if (session->multi)
        (void)curl->multi_cleanup(session->multi);
    free(session);
}

static struct http_session *session_new(const struct http_curl *curl, struct error *err)
{
    struct http_session *session = calloc(1, sizeof *session);

    if (session) {
        session->multi = curl->multi_init();
        session->easy = session->multi ? curl->easy_init() : NULL;
    }
    if (!session || !session->easy) {
        http_session_free(curl, session);
        error_set(err, ERR_NOMEM, "a session of the HTTP client");
        return NULL;
    }
    (void)curl->multi_setopt(session->multi, CURLMOPT_MAXCONNECTS, (long)HTTP_SESSION_CONNS);
    return session;
}

struct http_session *http_pool_take(struct http *h, const char *origin, struct error *err)
{
    struct http_session *found = NULL;

    pthread_mutex_lock(&h->lock);
    for (struct http_session **at = &h->idle; *at; at = &(*at)->next) {
        if (strcmp((*at)->origin, origin) != 0)
            continue;
        found = *at;
        *at = found->next;
        h->idle_count--;
        break;
    }
    pthread_mutex_unlock(&h->lock);
    if (!found)
        found = session_new(h->curl, err);
    if (found)
        (void)stpncpy(found->origin, origin, sizeof found->origin - 1);
    return found;
}

void http_pool_give(struct http *h, struct http_session *session)
{
    struct http_session *drop = NULL;

    pthread_mutex_lock(&h->lock);
    session->next = h->idle;
    h->idle = session;
    if (++h->idle_count > HTTP_IDLE_SESSIONS) {
        struct http_session **at = &h->idle;

        while ((*at)->next)
            at = &(*at)->next;
        drop = *at;
        *at = NULL;
        h->idle_count--;
    }
    pthread_mutex_unlock(&h->lock);
    http_session_free(h->curl, drop);
}
