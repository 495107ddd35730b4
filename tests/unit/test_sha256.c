#include "kernel/base/sha256.h"

#include "tests/support/check.h"

static const char *hash_of(const void *data, size_t len, size_t step, char hex[SHA256_HEX])
{
    uint8_t digest[SHA256_BYTES];
    const char *at = data;
    struct sha256 h;

    sha256_init(&h);
    while (len) {
        size_t n = MIN(step, len);

        sha256_add(&h, at, n);
        at += n;
        len -= n;
    }
    sha256_end(&h, digest);
    sha256_hex(digest, hex);
    return hex;
}

static void knows_the_vectors_of_the_standard(void **state)
{
    static const struct {
        const char *text, *hex;
    } rows[] = {
        { "", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855" },
        { "abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad" },
        { "abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq",
          "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1" },
        { "abcdefghbcdefghicdefghijdefghijkefghijklfghijklmghijklmnhijklmnoijklmnopjklmnopq"
          "klmnopqrlmnopqrsmnopqrstnopqrstu",
          "cf5b16a778af8380036ce59e7b0492370b249b11e8f07a51afac45037afee9d1" },
    };
    char hex[SHA256_HEX];

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++)
        assert_string_equal(hash_of(rows[i].text, strlen(rows[i].text), 1000, hex), rows[i].hex);
}

static void a_million_letters(void **state)
{
    char *text = malloc(1000000), hex[SHA256_HEX];

    (void)state;
    assert_non_null(text);
    memset(text, 'a', 1000000);
    assert_string_equal(hash_of(text, 1000000, 1000000, hex),
                        "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
    free(text);
}

static void pieces_do_not_matter(void **state)
{
    char text[300], whole[SHA256_HEX], pieces[SHA256_HEX];

    (void)state;
    for (size_t i = 0; i < sizeof text; i++)
        text[i] = (char)(i * 31);
    for (size_t len = 0; len <= sizeof text; len++) {
        hash_of(text, len, sizeof text, whole);
        for (size_t step = 1; step < 130; step += 21)
            assert_string_equal(hash_of(text, len, step, pieces), whole);
    }
}

/* A block at a time goes the plain way, many at once the processor's own. */
static void many_blocks_at_once_make_the_same_digest(void **state)
{
    static uint8_t data[70001];
    static const size_t lengths[] = { 255, 256, 257, 1000, 4096, 65536, 70000 };
    (void)state;

    for (size_t i = 0; i < sizeof data; i++)
        data[i] = (uint8_t)(i * 2654435761u >> 11);
    for (size_t i = 0; i < ARRAY_LEN(lengths); i++) {
        uint8_t plain[SHA256_BYTES], fast[SHA256_BYTES];
        struct sha256 h;

        sha256_init(&h);
        for (size_t at = 0; at < lengths[i]; at += 64)
            sha256_add(&h, data + 1 + at, MIN(lengths[i] - at, 64));
        sha256_end(&h, plain);
        sha256_of(data + 1, lengths[i], fast);
        if (memcmp(plain, fast, sizeof plain) != 0)
            fail_msg("%zu bytes", lengths[i]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(many_blocks_at_once_make_the_same_digest),
        cmocka_unit_test(knows_the_vectors_of_the_standard),
        cmocka_unit_test(a_million_letters),
        cmocka_unit_test(pieces_do_not_matter),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
