/*
 * limits - the most of everything that somebody outside can make grow.
 *
 * One place, so that a reader of SECURITY can check the list.  Passing one is ERR_LIMIT.
 */
#pragma once

#define LIMIT_MCP_LINE_BYTES     (8u << 20)  /* longest message taken from a host */
#define LIMIT_MCP_OUT_BYTES      (32u << 20) /* unsent answers; past it reading stops */
#define LIMIT_JSON_DEPTH         64u         /* nesting of a message */
#define LIMIT_RESULT_TEXT_BYTES  (32u << 10) /* text in one tool result, head and tail kept */
#define LIMIT_IMAGE_BYTES        (3u << 20)  /* one image, before base64 */
#define LIMIT_IMAGES             4u          /* images in one tool result */
#define LIMIT_INFLIGHT           1024u       /* requests of one host that are not answered yet */
#define LIMIT_QUEUE              4096u       /* syscalls waiting in one class */
#define LIMIT_WORKERS            256u        /* threads of one class */
#define LIMIT_COMPUTERS          512u        /* live computers of one server */
#define LIMIT_RUNS               1024u       /* runs kept by one computer, live or ended */
#define LIMIT_CHECKPOINTS        64u         /* saved states of one agent */
#define LIMIT_WIRE_PAYLOAD       (64u << 10) /* payload of one guest frame */
#define LIMIT_GUEST_CHANNELS     4096u       /* channels one guest may have open */
#define LIMIT_GUEST_QUEUED       (1u << 20)  /* bytes queued towards one guest that does not read */
#define LIMIT_CHANNEL_WINDOW     (256u << 10) /* credit of one channel in one direction */
#define LIMIT_RING_BYTES         (1u << 20)   /* output kept of one stream of one run */
#define LIMIT_RUN_OUTPUT         (4ull << 30) /* output after which a run ends with reason output */
#define LIMIT_FILE_TRANSFER      (64u << 20)  /* one file read or written through the guest */
#define LIMIT_LIST_ENTRIES       10000u       /* entries of one listing */
#define LIMIT_ARGV_BYTES         (1u << 20)   /* arguments and environment of one run */
#define LIMIT_EGRESS_CONNECTIONS 256u         /* at once, of one computer */
#define LIMIT_EGRESS_HEADER      (16u << 10)  /* a proxied request's head */
#define LIMIT_EGRESS_RULES       256u
#define LIMIT_REFUSALS           64u   /* refused system calls remembered per computer */
#define LIMIT_AUDIT_DETAIL       1024u /* bytes of detail in one audit row */
#define LIMIT_EVENT_QUEUE        1024u /* events a slow subscriber may be behind */
