#include "kernel/llm_job.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "kernel/base/clock.h"
#include "kernel/llm_service.h"

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
    bool stopping; /* it was preempted, and will have ended in a moment */
    size_t bytes;
    bool (*preempt)(void *arg);
    void *arg;

    struct llm_reply reply; /* the job thread's until `ended` */
    struct error error;
    bool ok;

    struct list link; /* parked; this and `id` are guarded by the service's lock */
    struct id id;
};

/* ---- the job's own thread ---- */

static void on_text(void *arg, const char *text, size_t len)
{
    struct llm_job *job = arg;

    (void)text;
    pthread_mutex_lock(&job->lock);
    job->bytes += len;
    pthread_mutex_unlock(&job->lock);
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
    bytes = job->bytes;
    pthread_mutex_unlock(&job->lock);
    return bytes;
}

const char *llm_job_so_far(const struct llm_job *job)
{
    return job->request.so_far ? job->request.so_far : "";
}

/* ---- parked ---- */

/* The one that must go for another of @agent: its own oldest, or the oldest of all. */
static struct llm_job *surplus_locked(struct llm *l, const char *agent)
{
    struct llm_job *own = NULL;
    size_t count = 0, of_agent = 0;

    LIST_FOR_EACH (node, &l->parked) {
        struct llm_job *job = LIST_ENTRY(node, struct llm_job, link);

        count++;
        if (strcmp(job->request.agent, agent) != 0)
            continue;
        of_agent++;
        if (!own)
            own = job;
    }
    if (of_agent >= LLM_JOBS_OF_AGENT)
        return own;
    return count >= LLM_JOBS_MAX ? LIST_ENTRY(l->parked.next, struct llm_job, link) : NULL;
}

void llm_job_park(struct llm_job *job, struct id *ret_id)
{
    struct llm *l = job->llm;
    struct llm_job *surplus;

    *ret_id = job->id = id_make("q");
    pthread_mutex_lock(&l->lock);
    surplus = surplus_locked(l, job->request.agent);
    if (surplus)
        list_remove(&surplus->link);
    list_append(&l->parked, &job->link);
    pthread_mutex_unlock(&l->lock);
    llm_job_free(surplus);
}

struct llm_job *llm_job_claim(struct llm *l, const char *agent, const char *id, struct error *err)
{
    struct llm_job *found = NULL;

    pthread_mutex_lock(&l->lock);
    LIST_FOR_EACH (node, &l->parked) {
        struct llm_job *job = LIST_ENTRY(node, struct llm_job, link);

        if (strcmp(job->id.text, id) == 0 && strcmp(job->request.agent, agent) == 0) {
            found = job;
            break;
        }
    }
    if (found)
        list_remove(&found->link);
    pthread_mutex_unlock(&l->lock);
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
