#include "kernel/audit.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "kernel/audit_orphan.h"
#include "kernel/base/cancel.h"
#include "kernel/base/clock.h"
#include "kernel/base/fd.h"
#include "kernel/base/id.h"
#include "kernel/base/limits.h"
#include "kernel/base/log.h"
#include "kernel/base/utf8.h"

#define GATHER_MS    50   /* how long records may wait for company */
#define RETRY_MS     1000 /* after the database could not be written */
#define ROOM_WAIT_NS (2 * CLOCK_NS_PER_S)
#define WRITER_STACK (256u << 10)

static const size_t field_limits[AUDIT_FIELD_COUNT] = { 64, 128, 32, 96, LIMIT_AUDIT_DETAIL };

struct audit {
    char *dir;       /* immutable */
    bool power_safe; /* immutable, like the two below */
    int64_t max_bytes;
    unsigned keep;
    atomic_bool give_up;  /* the writer's waiting for other servers is to end soon */
    pthread_cond_t wake;  /* the writer's */
    pthread_cond_t moved; /* broadcast after each attempt of the writer */
    pthread_mutex_t lock; /* guards what follows, and the journal */

    struct audit_journal *journal;
    pthread_t writer;
    bool started;
    bool closing;
    bool idle;         /* the writer sleeps until it is signalled */
    bool hurry;        /* it shall not wait for more */
    uint64_t appended; /* number of the last record */
    uint64_t moved_to; /* number of the last one in the database */
    uint64_t attempts;
    struct error failure; /* of the last attempt, or ERR_NONE */
};

/* ---- the writer ---- */

/* False when @ms have passed.  By the system's clock, whatever a test has done to ours. */
static bool timed_wait(pthread_cond_t *cond, pthread_mutex_t *lock, int64_t ms)
{
    struct timespec until;

    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += ms / 1000;
    until.tv_nsec += ms % 1000 * CLOCK_NS_PER_MS;
    if (until.tv_nsec >= CLOCK_NS_PER_S) {
        until.tv_sec++;
        until.tv_nsec -= CLOCK_NS_PER_S;
    }
    return pthread_cond_timedwait(cond, lock, &until) != ETIMEDOUT;
}

/* Returns with the lock held when there is something to do; false: nothing, and closing. */
static bool wait_for_work(struct audit *a, bool orphans)
{
    int64_t ms = a->failure.code ? RETRY_MS : GATHER_MS;

    while (!audit_journal_used(a->journal) && !orphans) {
        if (a->closing)
            return false;
        a->idle = true;
        pthread_cond_wait(&a->wake, &a->lock);
        a->idle = false;
        ms = GATHER_MS;
    }
    if (a->closing)
        return audit_journal_used(a->journal) > 0;
    while (!a->hurry && !a->closing) {
        if (!timed_wait(&a->wake, &a->lock, ms))
            break;
    }
    a->hurry = false;
    return true;
}

/* What is in the journal now; and when that is nothing much, an orphan. */
static bool move_some(struct audit *a, struct audit_db **db, bool *orphans, struct error *err)
{
    struct audit_cursor cursor;
    bool torn = false, found;
    uint64_t last = 0;

    if (!*db) {
        *db = audit_db_open(a->dir, a->power_safe, &a->give_up, err);
        if (!*db)
            return false;
        audit_db_set_rotation(*db, a->max_bytes, a->keep);
    }
    pthread_mutex_lock(&a->lock);
    audit_journal_begin(a->journal, &cursor);
    pthread_mutex_unlock(&a->lock);
    if (cursor.left) {
        if (!audit_db_move(*db, a->journal, &cursor, &last, &torn, err))
            return false;
        pthread_mutex_lock(&a->lock);
        audit_journal_release(a->journal, cursor.passed);
        a->moved_to = MAX(a->moved_to, last);
        pthread_mutex_unlock(&a->lock);
        if (torn)
            return error_set(err, ERR_IO, "somebody else has written into the audit journal");
    }
    if (*orphans && !atomic_load(&a->give_up)) {
        if (!audit_orphan_move(*db, a->dir, &found, err))
            return false;
        *orphans = found;
    }
    return true;
}

static void note_attempt(struct audit *a, const struct error *why)
{
    if (why->code && !a->failure.code)
        log_line(LOG_ERROR, "audit_write_failed", "why=%s", LOG_ESC(why->text));
    else if (!why->code && a->failure.code)
        log_line(LOG_WARN, "audit_write_recovered", "moved_to=%llu",
                 (unsigned long long)a->moved_to);
    a->failure = *why;
    a->attempts++;
    pthread_cond_broadcast(&a->moved);
}

static void *writer_main(void *arg)
{
    struct audit_db *db = NULL;
    struct audit *a = arg;
    bool orphans = true;

    pthread_mutex_lock(&a->lock);
    while (wait_for_work(a, orphans)) {
        struct error why = ERROR_INIT;

        pthread_mutex_unlock(&a->lock);
        (void)move_some(a, &db, &orphans, &why);
        pthread_mutex_lock(&a->lock);
        note_attempt(a, &why);
        if (why.code && a->closing)
            break; /* the journal stays for whoever comes next */
    }
    if (!audit_journal_used(a->journal)) {
        struct audit_journal *done = STEAL(a->journal);
        struct id server;

        (void)snprintf(server.text, sizeof server.text, "%s", audit_journal_server(done));
        audit_journal_close(done, true);
        if (db)
            audit_db_forget(db, server.text);
    }
    pthread_mutex_unlock(&a->lock);
    audit_db_free(db);
    return NULL;
}

static bool start_writer(struct audit *a, struct error *err)
{
    sigset_t all, before;
    pthread_attr_t attr;
    int rc;

    /* Signals are the loop thread's. */
    sigfillset(&all);
    pthread_attr_init(&attr);
    pthread_attr_setstacksize(&attr, WRITER_STACK);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    rc = pthread_create(&a->writer, &attr, writer_main, a);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_attr_destroy(&attr);
    if (rc)
        return error_set_errno(err, rc, "start the audit's writer");
    a->started = true;
    return true;
}

/* ---- appending ---- */

/* A string made fit to be stored.  @repaired holds the bytes when the given ones would not do. */
static bool take_text(const char *text, size_t limit, struct buf *repaired, struct audit_text *ret)
{
    size_t len;

    text = text ? text : "";
    len = strlen(text);
    if (!utf8_valid(text, len)) {
        if (utf8_append_valid(repaired, text, MIN(len, limit)) < 0)
            return false;
        text = buf_str(repaired);
        len = repaired->len;
    }
    *ret = (struct audit_text){ text, utf8_cut(text, len, MIN(len, limit)) };
    return true;
}

static bool put_next(struct audit *a, struct audit_record *record)
{
    record->sequence = a->appended + 1;
    record->wall_ns = clock_wall_ns();
    if (!audit_journal_put(a->journal, record))
        return false;
    a->appended = record->sequence;
    return true;
}

static bool wait_for_room(struct audit *a, struct audit_record *record, struct error *err)
{
    struct wait w = { .deadline_ns = clock_add_ns(clock_now_ns(), ROOM_WAIT_NS) };

    for (;;) {
        bool in_time;

        if (a->failure.code)
            return error_set(err, a->failure.code, "the audit journal is full: %s",
                             a->failure.text);
        a->hurry = true;
        pthread_cond_signal(&a->wake);
        in_time = wait_cond(&w, &a->moved, &a->lock);
        if (put_next(a, record))
            return true;
        if (!in_time)
            return error_set(err, ERR_TIMEOUT, "the audit journal is full and moves too slowly");
    }
}

static bool append_locked(struct audit *a, struct audit_record *record, struct error *err)
{
    if (!a->started && !start_writer(a, err))
        return false;
    if (!put_next(a, record) && !wait_for_room(a, record, err))
        return false;
    if (a->idle) {
        a->idle = false; /* one signal is enough for all that follow */
        pthread_cond_signal(&a->wake);
    } else if (!a->hurry &&
               audit_journal_used(a->journal) > audit_journal_capacity(a->journal) / 2) {
        a->hurry = true;
        pthread_cond_signal(&a->wake);
    }
    return true;
}

bool audit_append(struct audit *a, const struct audit_entry *entry, struct error *err)
{
    const char *const texts[AUDIT_FIELD_COUNT] = { entry->agent, entry->subject, entry->decision,
                                                   entry->rule, entry->detail };
    struct audit_record record = { .kind = entry->kind, .syscall = entry->syscall };
    struct buf repaired[AUDIT_FIELD_COUNT] = { BUF_INIT };
    bool ok = true;

    if (!a)
        return true; /* switched off */
    for (size_t i = 0; ok && i < AUDIT_FIELD_COUNT; i++)
        ok = take_text(texts[i], field_limits[i], &repaired[i], &record.text[i]) ||
             error_set(err, ERR_NOMEM, "audit record");
    if (ok) {
        pthread_mutex_lock(&a->lock);
        ok = append_locked(a, &record, err);
        pthread_mutex_unlock(&a->lock);
    }
    for (size_t i = 0; i < AUDIT_FIELD_COUNT; i++)
        buf_fini(&repaired[i]);
    return ok && (!a->power_safe || audit_journal_sync(a->journal, err));
}

bool audit_flush(struct audit *a, int64_t deadline_ns, struct error *err)
{
    struct wait w = { .deadline_ns = deadline_ns };
    uint64_t target, attempts;
    bool ok = true;

    if (!a)
        return true;
    pthread_mutex_lock(&a->lock);
    target = a->appended;
    attempts = a->attempts;
    while (ok && a->moved_to < target) {
        /* An attempt that was under way when we came may have failed before our time. */
        if (a->failure.code && a->attempts >= attempts + 2) {
            ok = error_set(err, a->failure.code, "%s", a->failure.text);
            break;
        }
        a->hurry = true;
        pthread_cond_signal(&a->wake);
        if (!wait_cond(&w, &a->moved, &a->lock) && a->moved_to < target)
            ok = error_set(err, ERR_TIMEOUT, "%llu audit records are not in the database yet",
                           (unsigned long long)(target - a->moved_to));
    }
    pthread_mutex_unlock(&a->lock);
    return ok;
}

/* ---- opening and closing ---- */

struct audit *audit_open(const struct audit_config *config, struct error *err)
{
    struct audit *a = calloc(1, sizeof *a);

    if (!a) {
        error_set(err, ERR_NOMEM, "audit");
        return NULL;
    }
    pthread_mutex_init(&a->lock, NULL);
    cond_init(&a->wake);
    cond_init(&a->moved);
    a->power_safe = config->power_safe;
    a->max_bytes = config->max_bytes;
    a->keep = config->keep;
    a->dir = strdup(config->dir);
    if (!a->dir)
        error_set(err, ERR_NOMEM, "audit");
    else if (fd_mkdirs(a->dir, 0700, err))
        a->journal = audit_journal_create(a->dir, err);
    if (a->journal)
        return a;
    audit_close(a);
    return NULL;
}

void audit_close(struct audit *a)
{
    if (!a)
        return;
    if (a->started) {
        pthread_mutex_lock(&a->lock);
        a->closing = true;
        atomic_store(&a->give_up, true);
        pthread_cond_signal(&a->wake);
        pthread_mutex_unlock(&a->lock);
        pthread_join(a->writer, NULL);
    }
    /* What could not be moved stays for the next server. */
    if (a->journal)
        audit_journal_close(a->journal, audit_journal_used(a->journal) == 0);
    pthread_cond_destroy(&a->wake);
    pthread_cond_destroy(&a->moved);
    pthread_mutex_destroy(&a->lock);
    free(a->dir);
    free(a);
}

const char *audit_kind_name(enum audit_kind kind)
{
    static const char *const names[AUDIT_KIND_COUNT] = {
        [AUDIT_DECISION] = "decision", [AUDIT_RESULT] = "result", [AUDIT_COMPUTER] = "computer",
        [AUDIT_REFUSED] = "refused",   [AUDIT_EGRESS] = "egress", [AUDIT_SERVER] = "server",
    };

    return (unsigned)kind < AUDIT_KIND_COUNT ? names[kind] : "unknown";
}
