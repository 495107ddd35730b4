/*
 * wire - the guest protocol: frames on multiplexed channels with credit, over one byte stream.
 *
 * Both sides use this file: the guest in a computer and the client on the host.  Nothing here
 * allocates or blocks.  Each side treats the other's bytes as hostile.
 *
 * A frame is a header of WIRE_HEADER_BYTES, little-endian, and a payload:
 *
 *     u32 payload length (<= WIRE_PAYLOAD_MAX)   u32 channel   u8 type   u8 stream   u16 zero
 *
 * Channel 0 belongs to the connection.  The host opens odd channels by sending a request on one
 * that is not in use; the guest opens even ones with WIRE_OPEN.  Channels of one-shot requests
 * end with their WIRE_REPLY.  Those that live longer (SPAWN, DIAL, WATCH, READ, WRITE, LIST, and
 * WIRE_OPEN) end when both sides have sent WIRE_CLOSE: either may begin, the other answers with
 * its own, and only then may the number be used again.  After its own CLOSE a side sends nothing
 * more on that channel and drops what still arrives.
 *
 * Credit: each stream of a channel may carry WIRE_WINDOW bytes in one direction before the
 * receiver grants more with WIRE_CREDIT.  Sending beyond the credit is a protocol error and ends
 * the connection.  Only WIRE_DATA counts.
 *
 * Threads: any, on separate objects.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define WIRE_VERSION      1u
#define WIRE_MAGIC        0x534f4941u /* "AIOS" */
#define WIRE_HEADER_BYTES 12u
#define WIRE_PAYLOAD_MAX  (64u << 10)
#define WIRE_WINDOW       (256u << 10)
#define WIRE_PATH_MAX     4096u

enum wire_type {
    /* guest to host, channel 0, once, first: u32 magic, u32 version */
    WIRE_HELLO = 1,

    /* one-shot requests, host to guest, answered by one WIRE_REPLY */
    WIRE_PING,     /* bytes; the reply carries them back */
    WIRE_STAT,     /* str root, str path, u8 follow -> struct wire_stat */
    WIRE_MAKE,     /* str root, str path, u32 mode, u8 parents */
    WIRE_MOVE,     /* str root, str from, str to, u8 replace */
    WIRE_REMOVE,   /* str root, str path, u8 recursive */
    WIRE_SET_TIME, /* u64 nanoseconds since 1970 (VM only: EPERM in a sandbox) */
    WIRE_RESEED,   /* bytes of entropy (VM only, likewise) */
    WIRE_SET_NAME, /* str host name, str machine id (VM only, likewise) */
    WIRE_FREEZE,   /* stop every process but the guest; -> u32 how many */
    WIRE_THAW,
    WIRE_SYNC,
    WIRE_SHUTDOWN, /* kill everything, reply, end the connection and exit */

    /* requests whose channel goes on after the reply */
    WIRE_SPAWN, /* see wire_spawn_put(); -> u32 pid */
    WIRE_DIAL,  /* u8 family (4, 6, 1 = Unix), str host or path, u16 port; then DATA both ways */
    WIRE_WATCH, /* str root, str path, u8 recursive; then WIRE_EVENT */
    WIRE_READ,  /* str root, str path, u64 offset, u64 most bytes -> struct wire_stat; DATA, EOF */
    WIRE_WRITE, /* str root, str path, u32 mode, u32 WIRE_WRITE_*; DATA, EOF from the host, and
                   only then the reply: u64 bytes written */
    WIRE_LIST, /* str root, str path, u32 depth, u32 most, u8 hidden -> empty; DATA of entries, EOF:
                  each entry is str path below the listed one, str link target, struct wire_stat */

    /* answers and streams */
    WIRE_REPLY,  /* u32 status: 0 or an errno of this architecture; then, if 0, the result */
    WIRE_DATA,   /* bytes, at most the credit */
    WIRE_EOF,    /* no more DATA on this stream */
    WIRE_CREDIT, /* u32 more bytes */
    WIRE_EXIT,   /* struct wire_exit: the run's first process is gone and what it had written has
                    been sent; DATA may still come from what it left behind */
    WIRE_EVENT,  /* u32 WIRE_EVENT_*, str path */
    WIRE_OPEN,   /* guest to host: u8 kind (WIRE_OPEN_EGRESS) */
    WIRE_CLOSE,
    WIRE_SIGNAL, /* u32 signal number, u8 scope (0 = process group, 1 = whole tree of the run) */
    WIRE_RESIZE, /* u16 rows, u16 columns */

    /* one-shot requests again; the numbers above stay what they were */
    WIRE_LIMIT,      /* u32 processes that programs may be, 0: any number (VM only, as above) */
    WIRE_HOLD,       /* the reply is the last that the guest sends before the host's next frame */
    WIRE_RESET,      /* by a new host after somebody else's HOLD: kill every program, forget every
                        channel; the reply is the first frame on the stream */
    WIRE_LIMIT_DISK, /* u64 bytes that may be written since the guest began, 0: any number (VM only,
                        as above) */
    WIRE_TYPE_COUNT
};

/* Streams of a channel that has several. */
enum wire_stream {
    WIRE_STREAM_MAIN = 0, /* stdin towards the guest; the only one of files and sockets */
    WIRE_STREAM_OUT = 1,  /* stdout, or a pty's output, or both where they are merged */
    WIRE_STREAM_ERR = 2,
    WIRE_STREAM_CONTROL = 3, /* the program reads descriptor 3 and writes descriptor 4 */
    WIRE_STREAM_COUNT
};

enum { WIRE_OPEN_EGRESS = 1 };
enum {
    WIRE_WRITE_CREATE = 1,
    WIRE_WRITE_EXCLUSIVE = 2,
    WIRE_WRITE_APPEND = 4,
    WIRE_WRITE_ATOMIC = 8,
    WIRE_WRITE_PARENTS = 16
};
enum {
    WIRE_EVENT_CREATED = 1,
    WIRE_EVENT_CHANGED = 2,
    WIRE_EVENT_REMOVED = 4,
    WIRE_EVENT_MOVED = 8,
    WIRE_EVENT_LOST = 16
};
enum {
    WIRE_SPAWN_PTY = 1,     /* a terminal as 0, 1 and 2; rows and columns apply */
    WIRE_SPAWN_MERGE = 2,   /* stderr goes where stdout goes, in true order */
    WIRE_SPAWN_STDIN = 4,   /* a pipe from WIRE_STREAM_MAIN; /dev/null without it */
    WIRE_SPAWN_CONTROL = 8, /* WIRE_STREAM_CONTROL on descriptors 3 and 4; what was written to
                               stdout and stderr before a control message is sent before it */
    WIRE_SPAWN_LAST = 16,   /* the guest ends with it, once its exit and its output are sent */
};

struct wire_header {
    uint32_t length;
    uint32_t channel;
    uint8_t type;
    uint8_t stream;
};

/** What a file is: u32 mode (type and permissions), u32 uid, u32 gid, u64 size, u64 mtime in ns. */
struct wire_stat {
    uint32_t mode;
    uint32_t uid;
    uint32_t gid;
    uint64_t size;
    uint64_t mtime_ns;
};

/** How a run ended: u8 flags (1: signalled, 2: the disk is full), u32 code or signal, u64 user_us,
 *  u64 sys_us, u64 maxrss_bytes. */
struct wire_exit {
    bool signalled;
    uint32_t value;
    uint64_t user_us;
    uint64_t sys_us;
    uint64_t maxrss_bytes;
    bool disk_full;
};

void wire_header_put(uint8_t out[WIRE_HEADER_BYTES], const struct wire_header *h);

/** False when the length is over the maximum, the type unknown, the stream out of range or the
 *  reserved bits not zero. */
bool wire_header_get(const uint8_t in[WIRE_HEADER_BYTES], struct wire_header *ret);

/** Composes a payload in the caller's storage.  Once something did not fit, `failed` stays set. */
struct wire_out {
    uint8_t *data;
    size_t cap;
    size_t len;
    bool failed;
};

void wire_put_u8(struct wire_out *o, uint8_t v);
void wire_put_u16(struct wire_out *o, uint16_t v);
void wire_put_u32(struct wire_out *o, uint32_t v);
void wire_put_u64(struct wire_out *o, uint64_t v);
void wire_put_bytes(struct wire_out *o, const void *data, size_t len); /* no length before it */
void wire_put_str(struct wire_out *o, const char *text);               /* u32 length, bytes */
void wire_put_stat(struct wire_out *o, const struct wire_stat *st);
void wire_put_exit(struct wire_out *o, const struct wire_exit *e);

/** Takes a payload apart.  Past the end every get returns 0 and `failed` stays set. */
struct wire_in {
    const uint8_t *data;
    size_t len;
    size_t at;
    bool failed;
};

uint8_t wire_get_u8(struct wire_in *in);
uint16_t wire_get_u16(struct wire_in *in);
uint32_t wire_get_u32(struct wire_in *in);
uint64_t wire_get_u64(struct wire_in *in);

/** A string without NUL inside; borrowed, NOT terminated.  At most @max bytes, else failed. */
const char *wire_get_str(struct wire_in *in, size_t max, size_t *ret_len);

/** The same copied into @buf of @size with a NUL. */
bool wire_get_str_into(struct wire_in *in, char *buf, size_t size);
void wire_get_stat(struct wire_in *in, struct wire_stat *ret);
void wire_get_exit(struct wire_in *in, struct wire_exit *ret);

/** True when nothing failed and nothing is left over. */
bool wire_in_done(const struct wire_in *in);

/** The payload of WIRE_SPAWN: u32 flags, u16 rows, u16 columns, str cwd, u32 argc, argc str,
 *  u32 envc, envc str.  It may span several frames: a SPAWN whose stream is 1 is continued by the
 *  next frame on the same channel, and the one whose stream is 0 is the last; together at most
 *  WIRE_SPAWN_MAX bytes. */
#define WIRE_SPAWN_MAX (1u << 20)

/** Cuts frames out of a byte stream, however it is cut.  The buffer is the caller's. */
struct wire_reader {
    uint8_t *data; /* WIRE_HEADER_BYTES + WIRE_PAYLOAD_MAX at least */
    size_t cap;
    size_t start; /* unread bytes are data[start..end) */
    size_t end;
};

/** Where to read more bytes to: *ret_room of them, never 0 while frames are consumed. */
uint8_t *wire_reader_space(struct wire_reader *r, size_t *ret_room);

/** @n bytes were put there. */
void wire_reader_filled(struct wire_reader *r, size_t n);

enum wire_status { WIRE_OK = 0, WIRE_MORE, WIRE_BAD };

/** The next whole frame: WIRE_OK with the payload borrowed until the next call on @r. */
enum wire_status wire_reader_next(struct wire_reader *r, struct wire_header *ret,
                                  const uint8_t **ret_payload);
