/*
 * computers_internal - what the files of the registry share.
 *
 * computers.c finds, computers_make.c makes, computers_life.c hears and ends, computers_stop.c ends
 * the idle ones and, when the server stops, all; computers_swap.c puts idle ones aside;
 * computers_runs.c keeps runs and attachments, computers_save.c forks and restores,
 * computers_record.c keeps the list of checkpoints on disk.
 *
 * One lock guards all tables.  It is never held across a call of a back end, a run or the guest,
 * nor across the audit or the bus: hooks arrive with a lock of the computer held and take this one.
 * Of a computer only what is constant, and computer_ref(), is used under it.
 */
#pragma once

#include <pthread.h>

#include "kernel/base/limits.h"
#include "kernel/base/list.h"
#include "kernel/computers.h"

#define COMPUTERS_BACKENDS      4u
#define COMPUTERS_BUCKETS       64u
#define COMPUTERS_RUN_BUCKETS   256u
#define COMPUTERS_RUNS_KEPT     (LIMIT_RUNS / 4 * 3) /* room is left for runs that just start */
#define COMPUTERS_ENDED_KEPT    256u                 /* handles whose end is remembered */
#define COMPUTERS_ENDED_RUNS    8u                   /* lost computers whose runs stay readable */
#define COMPUTERS_AGENT_BYTES   65u
#define COMPUTERS_LABELS_MAX    32u
#define COMPUTERS_TEMPORARY_ID  "tmp" /* a checkpoint that lives for a fork only */
#define COMPUTERS_CHECKPOINT_ID "s"

/* What one agent has.  There is one as long as `count` is not 0. */
struct computers_owner {
    struct list link;
    char agent[COMPUTERS_AGENT_BYTES];
    size_t count;                 /* live ones and those being made */
    struct computers_entry *home; /* the default one */
    bool making_home;
};

/* How a computer ends. */
enum computers_end { COMPUTERS_DESTROYED, COMPUTERS_IDLE, COMPUTERS_LOST, COMPUTERS_STOPPED };

/*
 * One computer, from the asking to long after its end: what is left of it answers for its handle,
 * and takes the events that still arrive.
 */
struct computers_entry {
    struct computers *cs; /* constant, like the next two */
    char agent[COMPUTERS_AGENT_BYTES];
    int64_t idle_ns;

    /* the registry's lock */
    struct list link;              /* in entries, and then in ended */
    struct list bucket;            /* in by_id while live */
    struct list doomed;            /* waits for the reaper */
    struct computers_owner *owner; /* while live */
    struct computer *c;            /* a reference; NULL before it is made, and after its end */
    struct id id;
    json_t *labels; /* or NULL; not changed once set */
    int64_t made_ns;
    int64_t used_ns;
    int64_t swap_look_ns; /* not put aside before: programs run in it */
    bool swaps;           /* it can be put aside, and is when it is idle */
    bool put_aside;       /* or tried to be, since the last use */
    bool live;
    bool ending;   /* one thread destroys it, or is about to */
    bool unhooked; /* no event comes any more */
    enum computers_end end;
    char reason[200]; /* why it is gone; set early when it is lost while it is being made */
    struct list runs;
    size_t run_count;
    struct list things;

    /* the loop's, once the machine is gone */
    struct computer *last; /* until nobody is told about it any more */
    struct loop_post unhook;
    struct loop_post release;
};

struct computers_run {
    struct list link;   /* the oldest first */
    struct list bucket; /* in run_by_id */
    struct computers_entry *entry;
    struct run *run; /* a reference */
};

struct computers_thing {
    struct list link;
    void *thing;
    void (*free_fn)(void *thing);
    computers_save_fn *on_save; /* or NULL */
    char key[];
};

struct computers {
    struct loop *loop; /* constant, like the next four */
    const struct config *config;
    struct audit *audit;
    struct event_bus *bus;
    pthread_mutex_t records_lock; /* one save at a time counts and writes its record */

    pthread_mutex_t lock;   /* guards what follows */
    pthread_cond_t changed; /* a default computer was or was not made; something has left */
    struct computer_backend *backends[COMPUTERS_BACKENDS];
    size_t backend_count;
    struct list owners[COMPUTERS_BUCKETS];
    struct list entries;
    struct list by_id[COMPUTERS_BUCKETS];
    struct list run_by_id[COMPUTERS_RUN_BUCKETS];
    size_t count;      /* live ones and those being made */
    struct list ended; /* the oldest first */
    size_t ended_count;
    bool closing;
    unsigned inside; /* operations and hooks going on */
    bool swept;      /* of what a killed server left among the records */

    struct list doomed;
    pthread_t reaper;
    pthread_cond_t reaper_wake;
    bool reaper_started;
    struct cancel stop;     /* raised at the end: what the reaper waits for */
    int64_t reaper_next_ns; /* when it looks again */

    struct loop_post release;
};

/* ---- computers.c ---- */

size_t computers_bucket(const char *text, size_t buckets);

/** A call that computers_free() waits for.  False: the server is ending. */
NODISCARD bool computers_enter(struct computers *cs, struct error *err);
void computers_leave(struct computers *cs);

/** What @agent has, or NULL when that is nothing. */
struct computers_owner *computers_owner_locked(struct computers *cs, const char *agent);

/** The live computer called @handle, or with NULL the default one, of @agent; or NULL. */
struct computers_entry *computers_find_locked(struct computers *cs, const char *agent,
                                              const char *handle);

/** The live computer called @id, whoever has it, or NULL. */
struct computers_entry *computers_by_id_locked(struct computers *cs, const char *id);

/** The live entry of @c, or NULL. */
struct computers_entry *computers_entry_of_locked(struct computers *cs, const struct computer *c);

/** Says what is wrong with @handle of @agent; returns false.  Takes the lock. */
bool computers_not_found(struct computers *cs, const char *agent, const char *handle,
                         struct error *err);

/** @handle as an error may show it. */
const char *computers_shown(const char *handle, char buf[64]);

struct computer_backend *computers_backend(struct computers *cs, const char *kind,
                                           struct error *err);

/* ---- computers_make.c ---- */

/** One computer of @owner less; frees @owner with its last one. */
void computers_count_down_locked(struct computers *cs, struct computers_owner *owner);

/* What is to be made. */
struct computers_plan {
    const char *agent;
    struct computer_backend *backend;
    struct computer_spec spec;
    const char *checkpoint; /* or NULL */
    const json_t *labels;   /* or NULL */
    int64_t idle_ns;
    bool home;        /* it becomes the agent's default one */
    const char *word; /* "made", "forked", "restored" */
    const char *from; /* what it was made from, or NULL */
};

/** Make it, inside computers_enter().  A reference for the caller. */
NODISCARD struct computer *computers_make(struct computers *cs, const struct computers_plan *plan,
                                          const struct wait *w, struct error *err);

/** The default computer of @agent, made if there is none.  Likewise. */
NODISCARD struct computer *computers_home(struct computers *cs, const char *agent,
                                          const struct wait *w, struct error *err);

NODISCARD bool computers_labels_check(const json_t *labels, struct error *err);
/** The strings of @array (NULL: none), borrowed, NULL-terminated, for free(). */
NODISCARD const char **computers_strings(const json_t *array, struct error *err);

int64_t computers_idle_ns(const struct computers *cs);

/* ---- computers_life.c ---- */

void computers_hook(void *arg, struct computer *c, const struct computer_event *event);

/** Write a row. */
NODISCARD bool computers_note(struct computers *cs, enum audit_kind kind, const char *agent,
                              const char *subject, const char *decision, const char *rule,
                              const char *detail, struct error *err);

/** The same for what has happened already: that it could not be written is only logged. */
void computers_note_done(struct computers *cs, enum audit_kind kind, const char *agent,
                         const char *subject, const char *decision, const char *rule,
                         const char *detail);

/** Take @e out of the tables: from here on its handle is gone. */
void computers_retire_locked(struct computers_entry *e, enum computers_end end, const char *reason);

/** Destroy the machine of a retired entry, and all that hung on it. */
void computers_finish(struct computers_entry *e);

/** Let go of the destroyed @c, whose hook @e is: on the loop, behind what it has left there, so
 * that its last events are still heard. */
void computers_let_go(struct computers_entry *e, struct computer *c);

/** Free what is left of an entry, on the loop, and so after computers_let_go(). */
void computers_release(struct computers_entry *e);

/* ---- computers_stop.c ---- */

/** The reaper shall look at @deadline_ns at the latest; starts it at the first need.  False: there
 *  is no thread to be had. */
NODISCARD bool computers_reaper_by_locked(struct computers *cs, int64_t deadline_ns,
                                          struct error *err);

/** A live run is a use: the idle time counts from about its end.  Opens the lock; *e is NULL when
 *  the computer was used or is ending by now. */
bool computers_runs_keep_it_locked(struct computers *cs, struct computers_entry **e);

/* ---- computers_swap.c ---- */

/** @e is new: from now on it is put aside when it is idle, if it can be. */
NODISCARD bool computers_swap_watch_locked(struct computers_entry *e, const struct computer *c,
                                           struct error *err);

/** A call is for @e. */
void computers_used_locked(struct computers_entry *e);

/** Puts one computer aside that has been idle for long, or the longest idle one when memory is
 *  scarce; opens the lock.  False: there was none; *ret_next: when to look again. */
bool computers_swap_one_locked(struct computers *cs, int64_t *ret_next);

/* ---- computers_runs.c ---- */

/** Move all runs, or all attachments, out of @e into @ret. */
void computers_take_runs_locked(struct computers_entry *e, struct list *ret);
void computers_take_things_locked(struct computers_entry *e, struct list *ret);

/** Release what was taken, without the lock. */
void computers_drop_runs(struct list *runs);
void computers_drop_things(struct list *things);

/** Let what is attached to @c do what computers_on_save() says. */
void computers_tell_saving(struct computers *cs, struct computer *c, const struct wait *w);

/** References to the runs of @e, for free(); NULL when there are none or there is no memory
 *  (*ret_count then says which). */
struct run **computers_runs_locked(const struct computers_entry *e, size_t *ret_count);

/** How many of them are live; the references are released and @runs freed. */
size_t computers_runs_live(struct run **runs, size_t count);

/** An array of these, or NULL without memory. */
NODISCARD json_t *computers_strings_json(const char *const *strings, size_t count);

/* ---- computers_record.c ---- */

/* One checkpoint as the list on disk has it. */
struct computers_record {
    json_t *json; /* a reference; what the strings borrow from */
    const char *id, *agent, *label, *from, *kind, *image;
    json_t *labels;      /* or NULL */
    json_t *allow, *env; /* arrays of strings, or NULL */
    int64_t created_ms;
    int64_t memory_bytes, disk_bytes, cpu_milli, pids, idle_ms;
    bool saving; /* its data is not whole yet */
};

void computers_record_fini(struct computers_record *r);

/** Write it over what is there. */
NODISCARD bool computers_record_write(const struct computers_record *r, struct error *err);

/** ERR_NOT_FOUND says what to do when @agent has no whole checkpoint @id. */
NODISCARD bool computers_record_read(const char *agent, const char *id,
                                     struct computers_record *ret, struct error *err);
void computers_record_remove(const char *id);

/** Call @fn for each record there is, in no order; it returns false to stop. */
NODISCARD bool computers_record_each(bool (*fn)(void *arg, const struct computers_record *r),
                                     void *arg, struct error *err);
