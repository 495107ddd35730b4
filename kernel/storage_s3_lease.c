/* The root of a space: who holds it, its epoch, and which index is the latest. */
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "kernel/storage_s3_internal.h"

#define ROOT_BYTES 4096u
#define ROOT_NAME  "root"

static int64_t real_now_ns(void)
{
    struct timespec now;

    /* The server counts the lease by its own clock, which no test turns. */
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * CLOCK_NS_PER_S + now.tv_nsec;
}

bool s3_lease_is_fresh(const struct s3_space *space)
{
    return space->loaded && real_now_ns() - space->lease_ns < S3_RENEW_NS;
}

static void set_lease(struct s3_space *space, int64_t now_ns)
{
    pthread_mutex_lock(&space->lock);
    space->lease_ns = now_ns;
    pthread_mutex_unlock(&space->lock);
}

struct root {
    bool there;
    char etag[160];
    char owner[64], host[128];
    uint32_t epoch, snap_epoch;
    uint64_t snap_seq; /* 0: no index yet */
    int64_t pid;
    int64_t age_ns;
};

static bool root_parse(const char *text, size_t len, struct root *r, bool *ret_no_memory)
{
    json_t *json = s3_json(text, len, ret_no_memory);
    json_int_t epoch = 0, snap_epoch = 0, snap_seq = 0, pid = 0;
    const char *owner, *host;
    bool ok =
        json_unpack(json, "{s:s,s:s,s:I,s:I,s:I,s:I}", "owner", &owner, "host", &host, "pid", &pid,
                    "epoch", &epoch, "snap_seq", &snap_seq, "snap_epoch", &snap_epoch) == 0 &&
        epoch > 0 && epoch < UINT32_MAX && snap_seq >= 0 && snap_epoch >= 0 &&
        snap_epoch <= UINT32_MAX;

    if (ok) {
        (void)snprintf(r->owner, sizeof r->owner, "%s", owner);
        (void)snprintf(r->host, sizeof r->host, "%s", host);
        r->pid = pid;
        r->epoch = (uint32_t)epoch;
        r->snap_seq = (uint64_t)snap_seq;
        r->snap_epoch = (uint32_t)snap_epoch;
    }
    json_decref(json);
    return ok;
}

static bool root_get(struct s3_backend *b, const struct s3_space *space, struct root *r,
                     const struct wait *w, struct error *err)
{
    char name[S3_NAME_BYTES];
    struct buf text = BUF_INIT;
    struct s3_found found;
    struct error fault = ERROR_INIT;
    bool ok = true, no_memory = false;

    *r = (struct root){ .there = false };
    s3_space_plain_name(space, ROOT_NAME, name);
    if (s3_get(&b->server, name, 0, ROOT_BYTES, &text, &found, w, &fault)) {
        r->there = true;
        memcpy(r->etag, found.etag, sizeof r->etag);
        ok = root_parse(buf_str(&text), text.len, r, &no_memory);
        if (!ok && no_memory)
            error_set(err, ERR_NOMEM, "a lease");
        else if (!ok)
            error_set(err, ERR_IO, "the object %s%s in the bucket %s is damaged", b->server.prefix,
                      name, b->server.bucket);
        r->age_ns = found.age_ns;
    } else if (fault.code != ERR_NOT_FOUND) {
        ok = error_set(err, fault.code, "%s", fault.text);
    }
    buf_fini(&text);
    return ok;
}

static bool root_put(struct s3_backend *b, const struct s3_space *space, const struct root *before,
                     const char *owner, const struct wait *w, struct error *err)
{
    char name[S3_NAME_BYTES], host[128] = "";
    struct buf text = BUF_INIT;
    bool ok;

    (void)gethostname(host, sizeof host - 1);
    host[strspn(host, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-_")] = '\0';
    ok = buf_printf(&text,
                    "{\"owner\":\"%s\",\"host\":\"%s\",\"pid\":%ld,\"epoch\":%u,"
                    "\"snap_seq\":%llu,\"snap_epoch\":%u}",
                    owner, host, (long)getpid(), space->epoch, (unsigned long long)space->snap_seq,
                    space->snap_epoch) ||
         error_set(err, ERR_NOMEM, "a lease");
    s3_space_plain_name(space, ROOT_NAME, name);
    ok = ok && s3_put(&b->server, name, text.data, text.len, before->there ? before->etag : NULL,
                      !before->there, w, NULL, err);
    buf_fini(&text);
    return ok;
}

static bool held_by_another(const struct s3_backend *b, const struct s3_space *space,
                            const struct root *r, struct error *err)
{
    if (!r->there || !*r->owner || !strcmp(r->owner, b->owner) ||
        (r->age_ns >= 0 && r->age_ns > S3_LEASE_NS))
        return false;
    (void)error_set(err, ERR_BUSY,
                    "the space %s in the bucket %s is held by another kernel, process %lld on %s",
                    space->name, b->server.bucket, (long long)r->pid, r->host);
    return true;
}

/* What the server keeps is read back, as not every server knows conditions. */
bool s3_lease_take(struct s3_backend *b, struct s3_space *space, const struct wait *w,
                   struct error *err)
{
    struct root before, after;
    int64_t now = real_now_ns();
    struct error fault = ERROR_INIT;

    if (!root_get(b, space, &before, w, err) || held_by_another(b, space, &before, err))
        return false;
    space->epoch = before.epoch + 1;
    space->snap_seq = before.snap_seq;
    space->snap_epoch = before.snap_epoch;
    if (!root_put(b, space, &before, b->owner, w, &fault) && fault.code != ERR_EXISTS)
        return error_set(err, fault.code, "%s", fault.text);
    if (!root_get(b, space, &after, w, err) || held_by_another(b, space, &after, err))
        return false;
    if (!after.there || strcmp(after.owner, b->owner) != 0 || after.epoch != space->epoch)
        return error_set(err, ERR_BUSY, "another kernel takes the space %s at this moment",
                         space->name);
    set_lease(space, now);
    return true;
}

bool s3_lease_renew(struct s3_backend *b, struct s3_space *space, bool *ret_lost,
                    const struct wait *w, struct error *err)
{
    struct root r;
    int64_t now = real_now_ns();
    struct error fault = ERROR_INIT;

    *ret_lost = false;
    if (!root_get(b, space, &r, w, err))
        return false;
    if (!r.there || strcmp(r.owner, b->owner) != 0 || r.epoch != space->epoch) {
        *ret_lost = true;
        return false;
    }
    if (root_put(b, space, &r, b->owner, w, &fault)) {
        set_lease(space, now);
        return true;
    }
    if (fault.code == ERR_EXISTS) {
        *ret_lost = true;
        return false;
    }
    return error_set(err, fault.code, "%s", fault.text);
}

bool s3_lease_rewrite(struct s3_backend *b, struct s3_space *space, const char *owner,
                      const struct wait *w)
{
    struct root r;

    return root_get(b, space, &r, w, NULL) && r.there && !strcmp(r.owner, b->owner) &&
           r.epoch == space->epoch && root_put(b, space, &r, owner, w, NULL);
}
