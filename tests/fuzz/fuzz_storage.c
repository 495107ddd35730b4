/* Keys, cursors and tokens from outside: what is accepted keeps the rules, what was made comes
 * back, and nothing else is taken for ours. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "kernel/base/utf8.h"
#include "kernel/storage_file.h"
#include "kernel/storage_internal.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const uint8_t secret[STORAGE_SECRET_BYTES] = "a secret that nobody could guess";

static void check(bool holds)
{
    if (!holds)
        abort();
}

/* Part by part, in another way than the checker goes. */
static bool key_is_good(const char *key)
{
    size_t len = strlen(key), from = 0;

    if (len < 1 || len > STORAGE_KEY_BYTES || !utf8_valid(key, len))
        return false;
    for (size_t i = 0; i <= len; i++) {
        unsigned char c = (unsigned char)key[i], next = (unsigned char)(c ? key[i + 1] : 0);

        if (c != '/' && c != '\0') {
            if (c < 0x20 || c == 0x7f || (c == 0xc2 && next >= 0x80 && next < 0xa0))
                return false;
            continue;
        }
        if (i == from || (i == from + 1 && key[from] == '.') ||
            (i == from + 2 && key[from] == '.' && key[from + 1] == '.'))
            return false;
        from = i + 1;
    }
    return true;
}

static void with_key(const char *key)
{
    struct storage_grant grant = { .space = "alice", .version = 3, .expires_wall_ns = 5 }, back;
    char token[STORAGE_TOKEN_BYTES], position[STORAGE_KEY_BYTES + 1];
    uint8_t hash[FILE_HASH_BYTES], parsed[FILE_HASH_BYTES];
    char name[FILE_NAME_BYTES];
    uint64_t version;
    int64_t wall_ns;
    char *cursor;

    check(storage_check_prefix(key, NULL));
    memcpy(grant.key, key, strlen(key) + 1);
    check(storage_token_make(secret, &grant, token, NULL));
    check(storage_token_read(secret, token, &back, NULL));
    check(memcmp(&back, &grant, sizeof back) == 0);
    cursor = storage_cursor_make(secret, STORAGE_CURSOR_LIST, "alice", "p", key, NULL);
    check(cursor != NULL);
    check(storage_cursor_read(secret, STORAGE_CURSOR_LIST, "alice", "p", cursor, position, NULL));
    check(strcmp(position, key) == 0);
    check(!storage_cursor_read(secret, STORAGE_CURSOR_LIST, "bob", "p", cursor, position, NULL));
    free(cursor);
    file_hash(key, hash);
    check(file_parse_name(file_name(name, hash, 7, -9), parsed, &version, &wall_ns));
    check(version == 7 && wall_ns == -9 && memcmp(hash, parsed, sizeof hash) == 0);
    check(!strchr(name, '/'));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *text = malloc(size + 2);
    struct storage_grant grant;
    char position[STORAGE_KEY_BYTES + 1];
    uint8_t hash[FILE_HASH_BYTES];
    uint64_t version;
    int64_t wall_ns;
    bool good;

    check(text != NULL);
    memcpy(text, data, size);
    text[size] = text[size + 1] = '\0';
    good = storage_check_key(text, NULL);
    check(good == key_is_good(text));
    if (good)
        with_key(text);
    if (storage_check_space(text, NULL))
        check(strlen(text) <= STORAGE_SPACE_BYTES && !strchr(text, '/') && text[0] != '\0');
    check(!storage_token_read(secret, text, &grant, NULL));
    check(!storage_cursor_read(secret, STORAGE_CURSOR_LIST, "alice", "", text, position, NULL));
    if (file_parse_name(text, hash, &version, &wall_ns)) {
        char name[FILE_NAME_BYTES];

        check(strcmp(file_name(name, hash, version, wall_ns), text) == 0);
    }
    free(text);
    return 0;
}
