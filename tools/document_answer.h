/*
 * document_answer - what the driver of documents says: one line of JSON, then text, then images.
 *
 * Its size in bytes stands before it, as eight digits.
 *
 *   {"ok": true, "text": LENGTH, "images": [["image/png", LENGTH], …]}\n TEXT IMAGE…
 *   {"error": "not_found", "text": LENGTH}\n TEXT
 *
 * It comes out of a computer, so nothing in it is believed: lengths, types and codes are checked.
 * Threads: any.
 */
#pragma once

#include "kernel/base/buf.h"
#include "kernel/base/error.h"
#include "kernel/base/limits.h"

#define DOCUMENT_HEAD_MAX   4096u
#define DOCUMENT_ANSWER_MAX (DOCUMENT_HEAD_MAX + (1u << 20) + LIMIT_IMAGES * LIMIT_IMAGE_BYTES)

struct document_image {
    const char *mime_type; /* a constant */
    const char *data;      /* borrowed */
    size_t len;
};

struct document_answer {
    bool ok;
    enum error_code code; /* where it is not ok */
    const char *text;     /* borrowed from the bytes that were read; any bytes */
    size_t text_len;
    struct document_image images[LIMIT_IMAGES];
    size_t image_count;
};

/** The size that stands before an answer, eight digits.  ERR_PROTOCOL: none that one can have. */
NODISCARD bool document_answer_size(const char digits[8], size_t *ret, struct error *err);

/** The whole of what the driver wrote.  ERR_PROTOCOL where it is anything else than an answer. */
NODISCARD bool document_answer_read(const char *bytes, size_t len, struct document_answer *ret,
                                    struct error *err);
