/*
 * qmp_message - takes QEMU's side of a QMP connection apart: lines of JSON into messages.
 *
 * QEMU is not trusted: whoever broke out of a guest speaks in its place.  Lines are bounded, and
 * what has none of the four shapes ends the connection.
 * Ownership: a message owns its `data`; the reader owns what has been read and not yet taken.
 * Threads: one reader, one thread.  Nothing blocks.
 */
#pragma once

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "kernel/base/buf.h"

#define QMP_LINE_MAX (1u << 20) /* the answer to query-qmp-schema takes a fifth of that */

enum qmp_kind {
    QMP_GREETING, /* `name` is the version, "7.2.22"; `oob` tells whether that is offered */
    QMP_RETURN,   /* `id`, `data` */
    QMP_ERROR,    /* `id` when `has_id`, `name` is the class, `text` what it says */
    QMP_EVENT,    /* `name`, `data` or NULL */
};

struct qmp_message {
    enum qmp_kind kind;
    bool has_id;
    bool oob;
    uint64_t id;
    json_t *data;
    char name[48];
    char text[192]; /* valid UTF-8 */
};

void qmp_message_fini(struct qmp_message *m);

enum qmp_status { QMP_MESSAGE, QMP_MORE, QMP_BAD };

/** Zero-initialise. */
struct qmp_reader {
    struct buf bytes;
    size_t start; /* of the line that is next */
    size_t seen;  /* bytes after it that are known to hold no end of line */
};

void qmp_reader_fini(struct qmp_reader *r);

/** Room for @size more bytes, or NULL when memory ran out. */
char *qmp_reader_space(struct qmp_reader *r, size_t size);

/** @n bytes were put there. */
void qmp_reader_filled(struct qmp_reader *r, size_t n);

/** The next whole message; after QMP_BAD, with what was wrong in @why, nothing more comes. */
enum qmp_status qmp_reader_next(struct qmp_reader *r, struct qmp_message *ret, const char **why);
