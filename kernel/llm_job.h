/*
 * llm_job - a question that is answered on a thread of its own, so that the answer is not lost when
 * whoever asked cannot wait for it any longer: parked under a handle, it goes on, and whoever has
 * the handle takes it up again.
 *
 * Parked jobs are bounded, for each agent and in all; the oldest is dropped for a new one.
 * Whoever parks one may have its text kept elsewhere (llm_job_keep()), so that it is not lost with
 * this process: a job that continues it takes its handle over (llm_job_adopt()).
 * Ownership: llm_job_free(), or llm_job_park() hands it to the service, until llm_job_claim().
 * Threads: any; one at a time for one job.  The model of the MCP host is never asked by a job: its
 *   peer lives only as long as a call.
 */
#pragma once

#include "kernel/base/id.h"
#include "kernel/llm.h"

#define LLM_JOBS_OF_AGENT 8u
#define LLM_JOBS_MAX      128u

struct llm_job;

/** @request is copied, without its callbacks and its peer.  @preempt (may be NULL) is asked on the
 *  job's thread, until llm_job_wait() has returned.  ERR_NOMEM, or what pthread_create() says. */
NODISCARD struct llm_job *llm_job_start(struct llm *l, const struct llm_request *request,
                                        bool (*preempt)(void *arg), void *arg, struct error *err);

/** Asks it to stop, waits until it has, and releases it. */
void llm_job_free(struct llm_job *job);
DEFINE_CLEANUP(struct llm_job, llm_job_free)

/** Waits until it is over.  False: ERR_TIMEOUT (it goes on) or ERR_CANCELLED. */
NODISCARD bool llm_job_wait(struct llm_job *job, const struct wait *w, struct error *err);

/** What became of one that is over: llm_query()'s result.  @ret takes the reply over, once. */
NODISCARD bool llm_job_result(struct llm_job *job, struct llm_reply *ret, struct error *err);

/** How many bytes of text there are by now, with those that it was given to continue. */
size_t llm_job_progress(struct llm_job *job);

/** The text that it was given to continue; "" for none.  Borrowed from the job. */
const char *llm_job_so_far(const struct llm_job *job);

/** What there is of an answer. */
struct llm_job_text {
    const char *so_far; /* what it was given to continue; "" for none */
    const char *text;   /* what came after it */
    size_t len;
    bool first;                    /* from llm_job_keep() itself */
    bool over;                     /* nothing more comes */
    const struct llm_reply *reply; /* the whole answer, when that is why it is over; else NULL */
    struct wait wait;              /* for the time that keeping it may take */
};

typedef void llm_job_keep_fn(void *arg, const struct llm_job_text *now);

/** Has @fn called with what there is: now, on this thread and within @w, with each piece of text
 *  that comes on the job's thread, and when it is over, before llm_job_wait() says so.  Never twice
 *  at a time.  @arg is released with the job.  Once for a job. */
void llm_job_keep(struct llm_job *job, llm_job_keep_fn *fn, void *arg, void (*arg_free)(void *arg),
                  const struct wait *w);

/** The @arg of llm_job_keep(); NULL: it is not kept. */
void *llm_job_kept(struct llm_job *job);

/** Its handle ("q_…"), for its whole life. */
const char *llm_job_id(const struct llm_job *job);

/** Another handle for one that was just started: that of an answer which it continues.  ERR_BUSY:
 *  there is one under it already. */
NODISCARD bool llm_job_adopt(struct llm_job *job, const char *id, struct error *err);

/** Keeps it for its agent under its handle.  Cannot fail. */
void llm_job_park(struct llm_job *job, struct id *ret_id);

/** The agent's job @id, the caller's again.  NULL with ERR_NOT_FOUND, or ERR_BUSY: somebody else
 *  has claimed it. */
NODISCARD struct llm_job *llm_job_claim(struct llm *l, const char *agent, const char *id,
                                        struct error *err);
