/*
 * llm_saved - answers that were put off, in storage: what was asked and the text so far, so that a
 * server which is started again goes on with them.
 *
 * Space "~generation.AGENT", key: the handle, value: {"request", "text"} and, once it is over,
 * "reply".  Storage that is not available makes no question fail: then there is only memory.
 * Threads: worker threads, within one struct tool_call.
 */
#pragma once

#include "kernel/llm_job.h"
#include "kernel/tool.h"

/** Writes down what was @asked and what there is, and has @job go on writing.  @data: the answer
 *  is wanted as data. */
void llm_saved_keep(struct tool_call *call, struct llm_job *job, const struct llm_request *asked,
                    bool data);

/** Whether the answer of @job is wanted as data. */
bool llm_saved_data(struct llm_job *job);

struct llm_saved {
    struct llm_request request; /* borrows from `value`, as the others do */
    const char *text;
    size_t len;
    bool data, over;
    struct llm_reply reply; /* with `over`, without its text */
    json_t *value;
};
void llm_saved_fini(struct llm_saved *saved);

/** Nothing there, or nobody can tell: false, with the reason added to @err, which says that the
 *  handle is not known. */
NODISCARD bool llm_saved_read(struct tool_call *call, const char *handle, struct llm_saved *ret,
                              struct error *err);

/** Its answer was delivered. */
void llm_saved_purge(struct tool_call *call, const char *handle);
