#include "kernel/llm_job.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernel/base/clock.h"
#include "kernel/llm_service.h"

#define KEEP_NS     (2 * CLOCK_NS_PER_S)    /* what comes waits meanwhile */
#define KEEP_END_NS (300 * CLOCK_NS_PER_MS) /* of one that is ended: somebody waits for that */
#define KEEP_ROUNDS 2u                      /* for text that comes while it is kept */

struct llm_job {
    struct llm *llm;
    json_t *copy; /* what `request` borrows from: the job thread's */
    struct llm_request request;
    struct wait wait;
    struct cancel cancel;
    pthread_t thread;

    pthread_mutex_t lock; /* guards what follows */
    pthread_cond_t over;
    bool ended;
    bool stopping;   /* it was preempted, and will have ended in a moment */
    bool incomplete; /* a piece of `text` is missing: no memory */
    struct buf text; /* as it came; only the job's thread writes it */
    llm_job_keep_fn *keep;
    void *keep_arg;
    void (*keep_free)(void *arg);
    bool (*preempt)(void *arg);
    void *arg;

    struct llm_reply reply; /* the job thread's until `ended` */
    struct error error;
    bool ok;

    struct list link; /* parked or claimed; what follows is guarded by the service's lock */
    bool claimed;
    struct id id;
};

/* ---- the job's own thread ---- */

static struct wait keep_wait(struct llm_job *job, bool over)
{
    bool ended = cancel_raised(&job->cancel);

    return (struct wait){
        .deadline_ns = clock_add_ns(clock_now_ns(), over && ended ? KEEP_END_NS : KEEP_NS),
        .cancel = over ? NULL : &job->cancel, /* one that is ended is kept all the same */
    };
}

/* On the job's thread, or of a job that is over. */
static void keep(struct llm_job *job, bool over)
{
    const struct buf *text = over ? &job->reply.text : &job->text;
    struct llm_job_text now = { .so_far = llm_job_so_far(job),
                                .text = buf_str(text),
                                .len = text->len,
                                .over = over,
                                .wait = keep_wait(job, over) };

    if (over && job->ok && !job->reply.preempted)
        now.reply = &job->reply;
    job->keep(job->keep_arg, &now);
}

static void on_text(void *arg, const char *text, size_t len)
{
    struct llm_job *job = arg;
    bool kept;

    pthread_mutex_lock(&job->lock);
    job->incomplete |= !buf_append(&job->text, text, len);
    kept = job->keep && !job->incomplete;
    pthread_mutex_unlock(&job->lock);
    if (kept)
        keep(job, false);
}

/* Under the lock, so that nobody is asked any more once llm_job_wait() has returned. */
static bool preempted(void *arg)
{
    struct llm_job *job = arg;
    bool yes;

    pthread_mutex_lock(&job->lock);
    yes = job->preempt && job->preempt(job->arg);
    job->stopping |= yes;
    pthread_mutex_unlock(&job->lock);
    return yes;
}

static void *job_main(void *arg)
{
    struct llm_job *job = arg;

    (void)pthread_setname_np(pthread_self(), "aios-llm-job");
    job->ok = llm_query(job->llm, &job->request, &job->wait, &job->reply, &job->error);
    pthread_mutex_lock(&job->lock);
    if (job->keep) {
        pthread_mutex_unlock(&job->lock);
        keep(job, true);
        pthread_mutex_lock(&job->lock);
    }
    job->ended = true;
    pthread_cond_broadcast(&job->over);
    pthread_mutex_unlock(&job->lock);
    return NULL;
}

/* ---- making and ending ---- */

static bool copy_text(json_t *to, const char *key, const char *text, const char **ret)
{
    if (!text)
        return true;
    *ret = NULL;
    if (!llm_put_str(to, key, text))
        return false;
    *ret = json_string_value(json_object_get(to, key));
    return true;
}

static bool copy_json(json_t *to, const char *key, const json_t *value, json_t **ret)
{
    if (!value)
        return true;
    *ret = NULL;
    if (!llm_put(to, key, json_deep_copy(value)))
        return false;
    *ret = json_object_get(to, key);
    return true;
}

static bool copy_request(struct llm_job *job, const struct llm_request *from)
{
    struct llm_request *to = &job->request;

    job->copy = json_object();
    *to = *from;
    to->on_text = on_text;
    to->preempt = preempted;
    to->arg = job;
    to->peer = NULL;
    to->peer_arg = NULL;
    return job->copy && copy_text(job->copy, "agent", from->agent, &to->agent) &&
           copy_text(job->copy, "provider", from->provider, &to->provider) &&
           copy_text(job->copy, "model", from->model, &to->model) &&
           copy_text(job->copy, "system", from->system, &to->system) &&
           copy_text(job->copy, "so_far", from->so_far, &to->so_far) &&
           copy_json(job->copy, "messages", from->messages, &to->messages) &&
           copy_json(job->copy, "tools", from->tools, &to->tools) &&
           copy_json(job->copy, "tool_choice", from->tool_choice, &to->tool_choice) &&
           copy_json(job->copy, "schema", from->schema, &to->schema) &&
           copy_json(job->copy, "stop", from->stop, &to->stop);
}

static void release(struct llm_job *job)
{
    if (job->keep_arg)
        job->keep_free(job->keep_arg);
    buf_fini(&job->text);
    llm_reply_fini(&job->reply);
    json_decref(job->copy);
    cancel_fini(&job->cancel);
    pthread_cond_destroy(&job->over);
    pthread_mutex_destroy(&job->lock);
    free(job);
}

static bool start_thread(struct llm_job *job, struct error *err)
{
    sigset_t all, before;
    int rc;

    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    rc = pthread_create(&job->thread, NULL, job_main, job);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return rc == 0 || error_set_errno(err, rc, "a thread for a question");
}

struct llm_job *llm_job_start(struct llm *l, const struct llm_request *request,
                              bool (*preempt)(void *arg), void *arg, struct error *err)
{
    struct llm_job *job;

    if (!llm_request_check(request, err)) /* before it is copied */
        return NULL;
    job = calloc(1, sizeof *job);
    if (!job) {
        error_set(err, ERR_NOMEM, "a question");
        return NULL;
    }
    pthread_mutex_init(&job->lock, NULL);
    cond_init(&job->over);
    cancel_init(&job->cancel);
    list_init(&job->link);
    buf_init(&job->text, 0);
    job->id = id_make("q");
    llm_reply_init(&job->reply);
    job->llm = l;
    job->wait = llm_wait(l, &(struct wait){ .deadline_ns = CLOCK_NEVER, .cancel = &job->cancel });
    job->preempt = preempt;
    job->arg = arg;
    if (!copy_request(job, request)) {
        error_set(err, ERR_NOMEM, "a question");
        release(job);
        return NULL;
    }
    if (!start_thread(job, err)) {
        release(job);
        return NULL;
    }
    return job;
}

void llm_job_free(struct llm_job *job)
{
    if (!job)
        return;
    cancel_raise(&job->cancel);
    pthread_join(job->thread, NULL);
    pthread_mutex_lock(&job->llm->lock);
    list_remove(&job->link);
    pthread_mutex_unlock(&job->llm->lock);
    release(job);
}

/* ---- waiting for it ---- */

static void wake_up(void *arg)
{
    struct llm_job *job = arg;

    pthread_mutex_lock(&job->lock);
    pthread_cond_broadcast(&job->over);
    pthread_mutex_unlock(&job->lock);
}

bool llm_job_wait(struct llm_job *job, const struct wait *w, struct error *err)
{
    struct cancel_hook hook;
    bool ended;

    cancel_attach(w->cancel, &hook, wake_up, job);
    pthread_mutex_lock(&job->lock);
    while (!job->ended && wait_cond(w, &job->over, &job->lock))
        continue;
    while (job->stopping && !job->ended) /* else it would be parked half-way */
        pthread_cond_wait(&job->over, &job->lock);
    ended = job->ended;
    job->preempt = NULL;
    pthread_mutex_unlock(&job->lock);
    cancel_detach(w->cancel, &hook);
    if (ended || !wait_check(w, err))
        return ended;
    return error_set(err, ERR_TIMEOUT, "the model is still writing");
}

bool llm_job_result(struct llm_job *job, struct llm_reply *ret, struct error *err)
{
    *ret = job->reply;
    llm_reply_init(&job->reply);
    return job->ok || error_set(err, job->error.code, "%s", job->error.text);
}

size_t llm_job_progress(struct llm_job *job)
{
    size_t bytes;

    pthread_mutex_lock(&job->lock);
    bytes = job->text.len;
    pthread_mutex_unlock(&job->lock);
    return strlen(llm_job_so_far(job)) + bytes;
}

const char *llm_job_so_far(const struct llm_job *job)
{
    return job->request.so_far ? job->request.so_far : "";
}

/* ---- kept ---- */

/* What there is now, on the caller's thread, before the job's own is to do it.  False: no memory.
 */
static bool keep_first(struct llm_job *job, llm_job_keep_fn *fn, void *arg, const struct wait *w,
                       size_t *ret_len)
{
    CLEANUP(buf_fini) struct buf text = BUF_INIT;
    struct llm_job_text now = { .so_far = llm_job_so_far(job), .first = true, .wait = *w };
    bool ok;

    pthread_mutex_lock(&job->lock);
    ok = !job->incomplete && buf_append(&text, buf_str(&job->text), job->text.len);
    pthread_mutex_unlock(&job->lock);
    if (!ok)
        return false;
    now.text = buf_str(&text);
    *ret_len = now.len = text.len;
    fn(arg, &now);
    return true;
}

void llm_job_keep(struct llm_job *job, llm_job_keep_fn *fn, void *arg, void (*arg_free)(void *arg),
                  const struct wait *w)
{
    bool attached = false, ended = false;
    size_t len = 0;

    for (unsigned round = 1; !attached; round++) {
        bool last = !keep_first(job, fn, arg, w, &len) || round == KEEP_ROUNDS;

        pthread_mutex_lock(&job->lock);
        ended = job->ended;
        attached = last || ended || job->text.len == len;
        if (attached) {
            job->keep = fn;
            job->keep_arg = arg;
            job->keep_free = arg_free;
        }
        pthread_mutex_unlock(&job->lock);
    }
    if (ended) /* too late for its own thread */
        keep(job, true);
}

void *llm_job_kept(struct llm_job *job)
{
    void *arg;

    pthread_mutex_lock(&job->lock);
    arg = job->keep_arg;
    pthread_mutex_unlock(&job->lock);
    return arg;
}

/* ---- parked ---- */

const char *llm_job_id(const struct llm_job *job)
{
    return job->id.text;
}

/* The one that must go for another of @agent: its own oldest, or the oldest of all. */
static struct llm_job *surplus_locked(struct llm *l, const char *agent)
{
    struct llm_job *own = NULL, *any = NULL;
    size_t count = 0, of_agent = 0;

    LIST_FOR_EACH (node, &l->parked) {
        struct llm_job *job = LIST_ENTRY(node, struct llm_job, link);

        if (job->claimed)
            continue;
        count++;
        if (!any)
            any = job;
        if (strcmp(job->request.agent, agent) != 0)
            continue;
        of_agent++;
        if (!own)
            own = job;
    }
    if (of_agent >= LLM_JOBS_OF_AGENT)
        return own;
    return count >= LLM_JOBS_MAX ? any : NULL;
}

static struct llm_job *find_locked(struct llm *l, const char *agent, const char *id)
{
    LIST_FOR_EACH (node, &l->parked) {
        struct llm_job *job = LIST_ENTRY(node, struct llm_job, link);

        if (strcmp(job->id.text, id) == 0 && strcmp(job->request.agent, agent) == 0)
            return job;
    }
    return NULL;
}

static bool in_use(const char *id, struct error *err)
{
    return error_set(err, ERR_BUSY, "another call waits for the answer \"%.64s\"", id);
}

bool llm_job_adopt(struct llm_job *job, const char *id, struct error *err)
{
    struct llm *l = job->llm;
    bool there;

    pthread_mutex_lock(&l->lock);
    there = find_locked(l, job->request.agent, id) != NULL;
    if (!there) {
        (void)snprintf(job->id.text, sizeof job->id.text, "%s", id);
        job->claimed = true;
        list_append(&l->parked, &job->link);
    }
    pthread_mutex_unlock(&l->lock);
    return !there || in_use(id, err);
}

void llm_job_park(struct llm_job *job, struct id *ret_id)
{
    struct llm *l = job->llm;
    struct llm_job *surplus;

    pthread_mutex_lock(&l->lock);
    *ret_id = job->id;
    surplus = surplus_locked(l, job->request.agent);
    if (surplus)
        list_remove(&surplus->link);
    job->claimed = false;
    list_remove(&job->link);
    list_append(&l->parked, &job->link);
    pthread_mutex_unlock(&l->lock);
    llm_job_free(surplus);
}

struct llm_job *llm_job_claim(struct llm *l, const char *agent, const char *id, struct error *err)
{
    struct llm_job *found;
    bool claimed = false;

    pthread_mutex_lock(&l->lock);
    found = find_locked(l, agent, id);
    if (found) {
        claimed = found->claimed;
        found->claimed = true;
    }
    pthread_mutex_unlock(&l->lock);
    if (claimed) {
        (void)in_use(id, err);
        return NULL;
    }
    if (!found)
        error_set(err, ERR_NOT_FOUND,
                  "no answer of yours is kept under \"%.64s\"; it was fetched, or had to make room "
                  "for later ones",
                  id);
    return found;
}

void llm_job_drop_all(struct llm *l)
{
    LIST_FOR_EACH (node, &l->parked) /* all at once: each takes a moment to end */
        cancel_raise(&LIST_ENTRY(node, struct llm_job, link)->cancel);
    LIST_FOR_EACH_SAFE (node, &l->parked) {
        struct llm_job *job = LIST_ENTRY(node, struct llm_job, link);

        list_remove(&job->link);
        llm_job_free(job);
    }
}
