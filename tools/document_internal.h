/*
 * document_internal - one request to the driver of documents, which runs inside a computer.
 *
 * Threads: worker threads.
 */
#pragma once

#include "tools/toolkit.h"

/** Have the driver (tools/drivers/document.py) answer @request (taken, also on failure; NULL is out
 *  of memory), and put its text and images into call->result. */
NODISCARD bool document_ask(struct tool_call *call, const char *computer, json_t *request,
                            struct error *err);
