/*
 * storage_file - the parts of the file back end: the index of a space, its files, writing.
 *
 * Each space is a folder, each version a file in it, named with a digest of its key, its number and
 * its time: no key can name anything else.  What the files say is read once, when a space is first
 * used, and kept in memory from then on.
 * Threads: any; a space's index is used under its lock, which is held over the disk's syncs when a
 *   batch is written and when the folder is read.
 */
#pragma once

#include <pthread.h>
#include <stdatomic.h>

#include "kernel/storage_backend.h"

#define FILE_HASH_BYTES   20u
#define FILE_NAME_BYTES   80u /* 40 + 1 + 16 + 1 + 16 and the NUL */
#define FILE_JOURNAL      "batch"
#define FILE_TEMP_PREFIX  "t-"
#define FILE_HEADER_BYTES (56u + STORAGE_KEY_BYTES + 16u)

/** One version: what its file's name and header say. */
struct file_version {
    uint64_t version, bytes;
    int64_t wall_ns;
    uint8_t sha256[32];
    bool deleted;
};

struct file_key {
    uint8_t hash[FILE_HASH_BYTES];
    uint32_t count, cap;
    struct file_version *versions; /* oldest first */
    char key[];
};

/** A file that is not what was written there.  Only the hash of its key is known. */
struct file_damage {
    uint8_t hash[FILE_HASH_BYTES];
    uint64_t version;
};

struct file_space {
    char *name;
    atomic_int dirfd; /* -1 or -2: opened for each use; else it stays open */

    pthread_mutex_t lock; /* guards all below */
    bool loaded;
    bool made;              /* the folder is there */
    bool cleaned;           /* what an earlier kernel left half written is removed */
    struct file_key **keys; /* in order of bytes */
    size_t count, cap;
    struct file_damage *damage;
    size_t damage_count;
    struct storage_tally tally;
};

struct file_backend {
    struct storage_backend base;
    int dirfd; /* of the folder that holds the spaces' */

    pthread_mutex_t lock;       /* guards all below */
    struct file_space **spaces; /* in order of names; they stay as long as the back end */
    size_t count, cap;

    atomic_uint kept_open; /* folders of spaces */
};

/* ---- storage_file_index.c ---- */

/** The space @name, loaded, with its lock held: file_unlock(). */
NODISCARD struct file_space *file_lock(struct file_backend *b, const char *name, struct error *err);
void file_unlock(struct file_space *s);

/** Forget what is known of it: the next use reads its folder again. */
void file_forget_locked(struct file_space *s);
void file_space_free(struct file_space *s);

/** The folder of a space, made where @make; -1, and without @err being set when it is not there.
 *  To be closed with file_close_dir(). */
NODISCARD int file_open_dir(struct file_backend *b, struct file_space *s, bool make, bool *ret_none,
                            struct error *err);
void file_close_dir(const struct file_space *s, int fd);

/** Where @key stands, or would. */
size_t file_find(const struct file_space *s, const char *key, bool *ret_found);

/** The newest version that is known to be damaged, 0 for none. */
uint64_t file_damaged(const struct file_space *s, const uint8_t hash[FILE_HASH_BYTES]);

void file_hash(const char *key, uint8_t ret[FILE_HASH_BYTES]);
const struct file_version *file_newest(const struct file_key *k);

/** Room for one more version of @key, so that file_add() cannot fail. */
NODISCARD bool file_reserve(struct file_space *s, const char *key, struct error *err);
void file_add(struct file_space *s, const char *key, const struct file_version *v);

/* ---- storage_file_disk.c ---- */

char *file_name(char buf[FILE_NAME_BYTES], const uint8_t hash[FILE_HASH_BYTES], uint64_t version,
                int64_t wall_ns);
NODISCARD bool file_parse_name(const char *name, uint8_t ret_hash[FILE_HASH_BYTES],
                               uint64_t *ret_version, int64_t *ret_wall_ns);

/** Where the value begins. */
size_t file_header_bytes(size_t key_len);

/** A new file with a header and @op's value, synced; its name goes to @ret_name. */
NODISCARD bool file_write_temp(int dirfd, struct storage_op *op, char ret_name[FILE_NAME_BYTES],
                               struct error *err);

/** *ret_whole false: it is damaged. */
NODISCARD bool file_read_header(int dirfd, const char *name, struct file_version *ret,
                                char ret_key[STORAGE_KEY_BYTES + 1], bool *ret_whole,
                                struct error *err);
NODISCARD bool file_sync_dir(int dirfd, struct error *err);

/** What a batch will rename. */
struct file_move {
    char from[FILE_NAME_BYTES], to[FILE_NAME_BYTES];
};

/** Once this has returned true the moves will be made, whatever happens. */
NODISCARD bool file_journal_write(int dirfd, const struct file_move *moves, size_t count,
                                  struct error *err);
/** Make the moves of a journal that was left behind. */
NODISCARD bool file_journal_replay(int dirfd, struct error *err);

/* ---- storage_file_write.c ---- */

bool storage_file_write(struct storage_backend *base, const char *space, struct storage_op *ops,
                        size_t count, const struct storage_limits *limits, const struct wait *w,
                        size_t *ret_failed, struct error *err);
