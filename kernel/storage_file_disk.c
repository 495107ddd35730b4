/* The file back end on the disk: names, headers, temporary files, the journal of a batch. */
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include "kernel/base/fd.h"
#include "kernel/base/id.h"
#include "kernel/storage_file.h"
#include "kernel/storage_internal.h"

#define FIXED_BYTES   56u /* magic 8, bytes 8, deleted 4, length of the key 4, digest 32 */
#define CHECK_BYTES   16u /* of the header's own digest, behind the key */
#define JOURNAL_BYTES (STORAGE_BATCH_MAX * sizeof(struct file_move) + SHA256_HEX)

static const char magic[8] = "AIOSVAL1";

/* ---- names ---- */

static void put_hex(char *out, const uint8_t *bytes, size_t len)
{
    static const char digits[] = "0123456789abcdef";

    for (size_t i = 0; i < len; i++) {
        out[2 * i] = digits[bytes[i] >> 4];
        out[2 * i + 1] = digits[bytes[i] & 15];
    }
}

static void put_hex_number(char *out, uint64_t number)
{
    uint8_t bytes[8];

    for (size_t i = 0; i < sizeof bytes; i++)
        bytes[i] = (uint8_t)(number >> (56 - 8 * i));
    put_hex(out, bytes, sizeof bytes);
}

static bool get_hex(const char *text, uint8_t *bytes, size_t len)
{
    static const char digits[] = "0123456789abcdef";

    for (size_t i = 0; i < len; i++) {
        const char *high = text[2 * i] ? strchr(digits, text[2 * i]) : NULL;
        const char *low = high && text[2 * i + 1] ? strchr(digits, text[2 * i + 1]) : NULL;

        if (!low)
            return false;
        bytes[i] = (uint8_t)((high - digits) << 4 | (low - digits));
    }
    return true;
}

static bool get_hex_number(const char *text, uint64_t *ret)
{
    uint8_t bytes[8];

    if (!get_hex(text, bytes, sizeof bytes))
        return false;
    *ret = 0;
    for (size_t i = 0; i < sizeof bytes; i++)
        *ret = *ret << 8 | bytes[i];
    return true;
}

char *file_name(char buf[FILE_NAME_BYTES], const uint8_t hash[FILE_HASH_BYTES], uint64_t version,
                int64_t wall_ns)
{
    char *at = buf;

    put_hex(at, hash, FILE_HASH_BYTES);
    at += 2 * FILE_HASH_BYTES;
    *at++ = '.';
    put_hex_number(at, version);
    at += 16;
    *at++ = '.';
    put_hex_number(at, (uint64_t)wall_ns);
    at[16] = '\0';
    return buf;
}

bool file_parse_name(const char *name, uint8_t ret_hash[FILE_HASH_BYTES], uint64_t *ret_version,
                     int64_t *ret_wall_ns)
{
    const size_t dot = 2 * FILE_HASH_BYTES;
    uint64_t wall;

    if (strlen(name) != dot + 34 || name[dot] != '.' || name[dot + 17] != '.' ||
        !get_hex(name, ret_hash, FILE_HASH_BYTES) || !get_hex_number(name + dot + 1, ret_version) ||
        !get_hex_number(name + dot + 18, &wall))
        return false;
    *ret_wall_ns = (int64_t)wall;
    return *ret_version > 0;
}

/* ---- headers ---- */

size_t file_header_bytes(size_t key_len)
{
    return FIXED_BYTES + key_len + CHECK_BYTES;
}

static void put_number(uint8_t *out, uint64_t number, size_t bytes)
{
    for (size_t i = 0; i < bytes; i++)
        out[i] = (uint8_t)(number >> 8 * i);
}

static uint64_t get_number(const uint8_t *in, size_t bytes)
{
    uint64_t number = 0;

    for (size_t i = 0; i < bytes; i++)
        number |= (uint64_t)in[i] << 8 * i;
    return number;
}

static void make_header(const struct storage_op *op, uint8_t ret[FILE_HEADER_BYTES])
{
    size_t key_len = strlen(op->key);
    uint8_t check[SHA256_BYTES];

    memset(ret, 0, FIXED_BYTES);
    memcpy(ret, magic, sizeof magic);
    if (op->kind == STORAGE_PUT) {
        put_number(ret + 8, op->len, 8);
        (void)get_hex(op->stat.sha256, ret + 24, SHA256_BYTES);
    } else {
        put_number(ret + 16, 1, 4);
    }
    put_number(ret + 20, key_len, 4);
    memcpy(ret + FIXED_BYTES, op->key, key_len);
    sha256_of(ret, FIXED_BYTES + key_len, check);
    memcpy(ret + FIXED_BYTES + key_len, check, CHECK_BYTES);
}

static bool parse_header(const uint8_t *in, size_t len, uint64_t file_bytes,
                         struct file_version *ret, char ret_key[STORAGE_KEY_BYTES + 1])
{
    uint8_t check[SHA256_BYTES];
    size_t key_len;

    if (len < FIXED_BYTES || memcmp(in, magic, sizeof magic) != 0)
        return false;
    key_len = (size_t)get_number(in + 20, 4);
    if (key_len < 1 || key_len > STORAGE_KEY_BYTES || len < file_header_bytes(key_len))
        return false;
    sha256_of(in, FIXED_BYTES + key_len, check);
    if (memcmp(check, in + FIXED_BYTES + key_len, CHECK_BYTES) != 0)
        return false;
    ret->bytes = get_number(in + 8, 8);
    ret->deleted = get_number(in + 16, 4) == 1;
    memcpy(ret->sha256, in + 24, SHA256_BYTES);
    memcpy(ret_key, in + FIXED_BYTES, key_len);
    ret_key[key_len] = '\0';
    return file_bytes == file_header_bytes(key_len) + ret->bytes;
}

bool file_read_header(int dirfd, const char *name, struct file_version *ret,
                      char ret_key[STORAGE_KEY_BYTES + 1], bool *ret_whole, struct error *err)
{
    CLEANUP(fd_closep) int fd = openat(dirfd, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    uint8_t header[FILE_HEADER_BYTES];
    uint8_t hash[FILE_HASH_BYTES], of_key[FILE_HASH_BYTES];
    struct stat st;
    ssize_t n;

    *ret_whole = false;
    if (fd < 0 && errno == ELOOP)
        return true; /* whatever it is, it is not ours */
    if (fd < 0 || fstat(fd, &st) < 0)
        return error_set_errno(err, errno, "open the storage file %s", name);
    if (!S_ISREG(st.st_mode))
        return true;
    n = fd_read_full(fd, header, sizeof header, err);
    if (n < 0)
        return error_prefix(err, "read the storage file %s", name);
    if (!file_parse_name(name, hash, &ret->version, &ret->wall_ns) ||
        !parse_header(header, (size_t)n, (uint64_t)st.st_size, ret, ret_key))
        return true;
    file_hash(ret_key, of_key);
    *ret_whole = memcmp(hash, of_key, sizeof hash) == 0;
    return true;
}

/* ---- writing ---- */

static void temp_name(char ret[FILE_NAME_BYTES])
{
    struct id id = id_make("f");

    (void)snprintf(ret, FILE_NAME_BYTES, FILE_TEMP_PREFIX "%s", id.text);
}

static bool write_parts(int fd, off_t at, struct iovec *parts, int count, struct error *err)
{
    while (count > 0) {
        ssize_t n = pwritev(fd, parts, count, at);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return error_set_errno(err, errno, "write a storage file: nothing was changed");
        at += n;
        while (count > 0 && (size_t)n >= parts->iov_len) {
            n -= (ssize_t)parts->iov_len;
            parts++;
            count--;
        }
        if (count > 0) {
            parts->iov_base = (char *)parts->iov_base + n;
            parts->iov_len -= (size_t)n;
        }
    }
    return true;
}

/* A large value is on its way to the disk while its digest, which the header holds, is computed. */
static bool write_op(int fd, struct storage_op *op, struct error *err)
{
    uint8_t header[FILE_HEADER_BYTES];
    size_t header_len = file_header_bytes(strlen(op->key));
    bool has_value = op->kind == STORAGE_PUT && op->len > 0;
    struct iovec parts[2] = { { header, header_len }, { unconst(op->data), op->len } };

    if (op->hashing) {
        if (!write_parts(fd, (off_t)header_len, parts + 1, 1, err))
            return false;
        (void)sync_file_range(fd, 0, 0, SYNC_FILE_RANGE_WRITE); /* it only hurries */
        storage_rule_digest(op);
        make_header(op, header);
        return write_parts(fd, 0, parts, 1, err);
    }
    make_header(op, header);
    return write_parts(fd, 0, parts, has_value ? 2 : 1, err);
}

/* A new file with what @op or @text holds; it is removed when anything fails. */
static bool write_file(int dirfd, struct storage_op *op, const struct buf *text,
                       char ret_name[FILE_NAME_BYTES], struct error *err)
{
    CLEANUP(fd_closep) int fd = -1;
    bool ok;

    assert(!op != !text);
    temp_name(ret_name);
    fd = openat(dirfd, ret_name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (fd < 0)
        return error_set_errno(err, errno, "make a storage file: nothing was changed");
    if (op) {
        ok = write_op(fd, op, err);
    } else {
        struct iovec part = { text->data, text->len };

        ok = write_parts(fd, 0, &part, 1, err);
    }
    if (ok && fsync(fd) != 0)
        ok = error_set_errno(err, errno, "sync a storage file: nothing was changed");
    if (!ok)
        (void)unlinkat(dirfd, ret_name, 0);
    return ok;
}

bool file_write_temp(int dirfd, struct storage_op *op, char ret_name[FILE_NAME_BYTES],
                     struct error *err)
{
    return write_file(dirfd, op, NULL, ret_name, err);
}

bool file_sync_dir(int dirfd, struct error *err)
{
    if (fsync(dirfd) == 0)
        return true;
    error_set_errno(err, errno, "sync a storage folder: it is not known whether this was kept");
    if (err)
        err->code = ERR_LOST;
    return false;
}

/* ---- the journal ---- */

/* Lines "from to", and at the end the digest of all of them. */
bool file_journal_write(int dirfd, const struct file_move *moves, size_t count, struct error *err)
{
    CLEANUP(buf_fini) struct buf text = BUF_INIT;
    uint8_t digest[SHA256_BYTES];
    char hex[SHA256_HEX], name[FILE_NAME_BYTES];

    for (size_t i = 0; i < count; i++)
        buf_printf(&text, "%s %s\n", moves[i].from, moves[i].to);
    sha256_of(buf_str(&text), text.len, digest);
    sha256_hex(digest, hex);
    if (!buf_append_str(&text, hex) || text.failed)
        return error_set(err, ERR_NOMEM, "a batch of %zu", count);
    if (!write_file(dirfd, NULL, &text, name, err))
        return false;
    if (renameat(dirfd, name, dirfd, FILE_JOURNAL) < 0) {
        error_set_errno(err, errno, "write the journal of a batch: nothing was changed");
        (void)unlinkat(dirfd, name, 0);
        return false;
    }
    return file_sync_dir(dirfd, err);
}

static bool replay_line(int dirfd, char *line, struct error *err)
{
    char *to = strchr(line, ' ');
    uint8_t hash[FILE_HASH_BYTES];
    uint64_t version;
    int64_t wall_ns;

    if (!to || strncmp(line, FILE_TEMP_PREFIX, strlen(FILE_TEMP_PREFIX)) != 0)
        return error_set(err, ERR_IO, "the journal of a batch is damaged");
    *to++ = '\0';
    if (strchr(line, '/') || !file_parse_name(to, hash, &version, &wall_ns))
        return error_set(err, ERR_IO, "the journal of a batch is damaged");
    /* Not there: it was moved already. */
    if (renameat(dirfd, line, dirfd, to) < 0 && errno != ENOENT)
        return error_set_errno(err, errno, "finish a batch");
    return true;
}

bool file_journal_replay(int dirfd, struct error *err)
{
    struct error why = ERROR_INIT;
    size_t len = 0;
    char *text = fd_read_file(dirfd, FILE_JOURNAL, JOURNAL_BYTES, &len, &why);
    uint8_t digest[SHA256_BYTES];
    char hex[SHA256_HEX];
    bool ok = true;

    if (!text) {
        if (why.code != ERR_NOT_FOUND && err)
            *err = why;
        return why.code == ERR_NOT_FOUND;
    }
    if (len < SHA256_HEX) {
        free(text);
        return error_set(err, ERR_IO, "the journal of a batch is damaged");
    }
    len -= SHA256_HEX - 1;
    sha256_of(text, len, digest);
    sha256_hex(digest, hex);
    if (memcmp(hex, text + len, SHA256_HEX - 1) != 0)
        ok = error_set(err, ERR_IO, "the journal of a batch is damaged");
    text[len] = '\0';
    for (char *line = text; ok && *line;) {
        char *end = strchr(line, '\n');

        if (!end)
            break;
        *end = '\0';
        ok = replay_line(dirfd, line, err);
        line = end + 1;
    }
    free(text);
    return ok && file_sync_dir(dirfd, err) &&
           (unlinkat(dirfd, FILE_JOURNAL, 0) == 0 || errno == ENOENT ||
            error_set_errno(err, errno, "remove the journal of a batch"));
}
