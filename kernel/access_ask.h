/*
 * access_ask - a person decides about a call: what is asked, and what the answer means.
 *
 * The question goes through the front end that the call came from (tool_peer's elicit) and shows
 * the tool, the rule, and the arguments as the audit shows them, so without what they carry.  The
 * call happens when the person accepts, and not otherwise: declined, dismissed, a client that
 * cannot ask and time that has passed all mean no.
 *
 * Threads: any that may wait.  Blocking: for the person, up to @timeout_ns or until the call is
 *   cancelled.
 */
#pragma once

#include "kernel/access.h"
#include "kernel/syscall.h"

#define ACCESS_ASK_HOW_BYTES 160

struct access_question {
    const struct access_verdict *verdict; /* ACCESS_ASK */
    const struct syscall *call;
    struct cancel *cancel;
    int64_t timeout_ns;
};

/** True: the person has allowed it.  False: ERR_DENIED, or ERR_CANCELLED.  @how, for the audit: by
 *  whom it was decided. */
NODISCARD bool access_ask(struct access *a, const struct access_question *question,
                          char how[ACCESS_ASK_HOW_BYTES], struct error *err);
