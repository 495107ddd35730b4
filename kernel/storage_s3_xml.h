/*
 * storage_s3_xml - the little of XML that an S3 server's answers need, read within bounds.
 *
 * Elements and their text, the five named entities and numeric ones; attributes and comments are
 * passed over; a document type (and with it every entity of its own) is refused.
 * Threads: any; borrows the text.
 */
#pragma once

#include "kernel/base/buf.h"
#include "kernel/base/error.h"

#define S3_XML_DEPTH 16u

/** Called for each element without children: its path below the root ("Contents/Key"; the root
 *  itself is not in it) and its text, valid during the call.  False ends the reading. */
typedef bool s3_xml_fn(void *arg, const char *path, const char *text);

/** Also called with path "/" and the text NULL when an element directly below the root ends, with
 *  @text its name: the end of one record.  ERR_PROTOCOL says where it is not what it should be. */
NODISCARD bool s3_xml_read(const char *data, size_t len, s3_xml_fn *fn, void *arg,
                           char ret_root[64], struct error *err);
