/*
 * result - what a tool answers: text and image blocks, or one structured value.
 *
 * Text is made valid UTF-8 and kept within LIMIT_RESULT_TEXT_BYTES in all: result_text() keeps head
 * and tail of what is too long and says in a footer what is missing and @more, how to get it.
 * Threads: one at a time (the worker, then the loop).
 */
#pragma once

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

#include "kernel/base/buf.h"
#include "kernel/base/error.h"

#define RESULT_BLOCKS_MAX 16

enum result_kind { RESULT_TEXT, RESULT_IMAGE };

struct result_block {
    enum result_kind kind;
    struct buf data;       /* text, or the image's bytes */
    const char *mime_type; /* image: a constant */
};

struct result {
    size_t count;
    size_t text_bytes;  /* of all text blocks together */
    json_t *structured; /* owned; NULL, or what outputSchema describes */
    bool is_error;
    enum error_code code;                          /* of an error */
    struct result_block blocks[RESULT_BLOCKS_MAX]; /* those from `count` on are not initialised */
};

void result_init(struct result *r);
void result_fini(struct result *r);

/** Append a text block.  @more: NULL, or the end of the sentence "… bytes left out; " that names
 * the call which reads the rest.  ERR_NOMEM, ERR_LIMIT (too many blocks). */
NODISCARD bool result_text(struct result *r, const char *text, size_t len, const char *more,
                           struct error *err);
NODISCARD bool result_printf(struct result *r, struct error *err, const char *fmt, ...)
    PRINTF_LIKE(3, 4);

/** @mime_type: "image/png", "image/jpeg" or "image/webp". ERR_LIMIT beyond LIMIT_IMAGE_BYTES or
 *  LIMIT_IMAGES. */
NODISCARD bool result_image(struct result *r, const void *data, size_t len, const char *mime_type,
                            struct error *err);

/** Pure data: @value (taken, also on failure) becomes structuredContent, and its compact JSON the
 * one text block. */
NODISCARD bool result_data(struct result *r, json_t *value, struct error *err);

/** Forget everything and become an error whose text is @err's. */
void result_fail(struct result *r, const struct error *err);
