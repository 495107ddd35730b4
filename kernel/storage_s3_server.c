/* Where the S3 server is and with which keys, from the configuration and the environment. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernel/config.h"
#include "kernel/storage_s3_internal.h"

static char *from_environment(const char *variable, struct error *err)
{
    const char *value = *variable ? getenv(variable) : NULL;
    char *copy = NULL;

    if (!value || !*value)
        error_set(err, ERR_INVALID, "the environment variable %s, which holds a key, is not set",
                  variable);
    else if (!(copy = strdup(value)))
        error_set(err, ERR_NOMEM, "the keys of S3");
    return copy;
}

static char *print(const char *fmt, ...) PRINTF_LIKE(1, 2);

static char *print(const char *fmt, ...)
{
    char *text = NULL;
    va_list ap;
    int len;

    va_start(ap, fmt);
    len = vasprintf(&text, fmt, ap);
    va_end(ap);
    return len < 0 ? NULL : text;
}

/* "https://host:port" apart; the port that goes without saying is not said in Host either. */
static bool split_endpoint(const char *endpoint, const char **ret_scheme, char *host, size_t size,
                           struct error *err)
{
    bool tls = !strncmp(endpoint, "https://", 8);
    const char *at = endpoint + (tls ? 8 : 7);
    size_t len = strcspn(at, "/?#");
    const char *usual = tls ? ":443" : ":80";

    if ((!tls && strncmp(endpoint, "http://", 7) != 0) || len == 0 || len >= size ||
        at[len + strspn(at + len, "/")] || memchr(at, '@', len))
        return error_set(err, ERR_INVALID,
                         "s3.endpoint must be http:// or https:// and a host, no path");
    (void)snprintf(host, size, "%.*s", (int)len, at);
    if (len > strlen(usual) && !strcmp(host + len - strlen(usual), usual))
        host[len - strlen(usual)] = '\0';
    *ret_scheme = tls ? "https" : "http";
    return true;
}

static bool bucket_is_plain(const char *bucket)
{
    size_t len =
        strspn(bucket, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-_");

    return len > 0 && bucket[len] == '\0' && bucket[0] != '.';
}

bool s3_server_init(struct s3_server *s, const struct config *config, struct error *err)
{
    const char *scheme = NULL, *bucket = config->s3.bucket;
    char host[256];

    *s = (struct s3_server){ .part_bytes = (size_t)config->s3.part_mb << 20 };
    if (!bucket_is_plain(bucket))
        return error_set(err, ERR_INVALID, "s3.bucket must be the name of a bucket");
    if (!split_endpoint(config->s3.endpoint, &scheme, host, sizeof host, err))
        return false;
    s->access = from_environment(config->s3.access_key_env, err);
    s->secret = s->access ? from_environment(config->s3.secret_key_env, err) : NULL;
    if (!s->secret)
        return false;
    s->http = http_new(err);
    if (!s->http)
        return false;
    s->host = config->s3.path_style ? strdup(host) : print("%s.%s", bucket, host);
    s->base = s->host ? print("%s://%s", scheme, s->host) : NULL;
    s->path = config->s3.path_style ? print("/%s/", bucket) : strdup("/");
    s->prefix = strdup(config->s3.prefix);
    s->bucket = strdup(bucket);
    s->region = strdup(config->s3.region);
    s->ca_file = strdup(config->s3.ca_file);
    if (!s->base || !s->path || !s->prefix || !s->bucket || !s->region || !s->ca_file)
        return error_set(err, ERR_NOMEM, "the address of an S3 server");
    return true;
}

void s3_server_fini(struct s3_server *s)
{
    if (s->secret)
        explicit_bzero(s->secret, strlen(s->secret));
    http_free(s->http);
    free(s->base);
    free(s->host);
    free(s->path);
    free(s->prefix);
    free(s->bucket);
    free(s->access);
    free(s->secret);
    free(s->region);
    free(s->ca_file);
}
