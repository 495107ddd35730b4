#include "kernel/storage_s3_sign.h"

#include "tests/support/check.h"

static void to_hex(const uint8_t digest[SHA256_BYTES], char hex[SHA256_HEX])
{
    sha256_hex(digest, hex);
}

/* RFC 4231, cases 1, 2, 3 and 6. */
static void hmac_agrees_with_the_published_cases(void **state)
{
    unsigned char aa[131], dd[50];
    const struct {
        const char *label;
        const void *key;
        size_t key_len;
        const void *data;
        size_t len;
        const char *want;
    } rows[] = {
        { "case 1",
          "\x0b\x0b\x0b\x0b\x0b\x0b\x0b\x0b\x0b\x0b\x0b\x0b\x0b\x0b\x0b\x0b\x0b\x0b\x0b\x0b", 20,
          "Hi There", 8, "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7" },
        { "case 2", "Jefe", 4, "what do ya want for nothing?", 28,
          "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843" },
        { "case 3", aa, 20, dd, 50,
          "773ea91e36800e46854db8ebd09181a72959098b3ef8c122d9635514ced565fe" },
        { "case 6", aa, 131, "Test Using Larger Than Block-Size Key - Hash Key First", 54,
          "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54" },
    };
    (void)state;

    memset(aa, 0xaa, sizeof aa);
    memset(dd, 0xdd, sizeof dd);
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        uint8_t mac[SHA256_BYTES];
        char hex[SHA256_HEX];

        s3_hmac(rows[i].key, rows[i].key_len, rows[i].data, rows[i].len, mac);
        to_hex(mac, hex);
        if (strcmp(hex, rows[i].want) != 0)
            fail_msg("%s: %s", rows[i].label, hex);
    }
}

#define EMPTY_HASH "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

/* The examples of the S3 reference, and the first of the signature's test suite. */
static void signatures_agree_with_the_published_ones(void **state)
{
    static const struct s3_key s3 = { "AKIAIOSFODNN7EXAMPLE",
                                      "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY", "us-east-1",
                                      "s3" };
    static const struct s3_key suite = { "AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY",
                                         "us-east-1", "service" };
    static const struct s3_header get[] = { { "host", "examplebucket.s3.amazonaws.com" },
                                            { "range", "bytes=0-9" },
                                            { "x-amz-content-sha256", EMPTY_HASH },
                                            { "x-amz-date", "20130524T000000Z" } };
    static const char put_hash[] =
        "44ce7dd67c959e0d3524ffac1771dfbba87d2b6b4b4e99e42034a8b803f8b072";
    static const struct s3_header put[] = { { "date", "Fri, 24 May 2013 00:00:00 GMT" },
                                            { "host", "examplebucket.s3.amazonaws.com" },
                                            { "x-amz-content-sha256", put_hash },
                                            { "x-amz-date", "20130524T000000Z" },
                                            { "x-amz-storage-class", "REDUCED_REDUNDANCY" } };
    static const struct s3_header list[] = { { "host", "examplebucket.s3.amazonaws.com" },
                                             { "x-amz-content-sha256", EMPTY_HASH },
                                             { "x-amz-date", "20130524T000000Z" } };
    static const struct s3_header vanilla[] = { { "host", "example.amazonaws.com" },
                                                { "x-amz-date", "20150830T123600Z" } };
    static const struct {
        const char *label;
        const struct s3_key *key;
        struct s3_signed request;
        const char *want; /* the signature */
    } rows[] = {
        { "get an object's range",
          &s3,
          { "GET", "/test.txt", "", get, 4, EMPTY_HASH, "20130524T000000Z" },
          "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41" },
        { "put an object",
          &s3,
          { "PUT", "/test%24file.text", "", put, 5, put_hash, "20130524T000000Z" },
          "98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd" },
        { "a query without a value",
          &s3,
          { "GET", "/", "lifecycle=", list, 3, EMPTY_HASH, "20130524T000000Z" },
          "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543" },
        { "list",
          &s3,
          { "GET", "/", "max-keys=2&prefix=J", list, 3, EMPTY_HASH, "20130524T000000Z" },
          "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7" },
        { "get-vanilla",
          &suite,
          { "GET", "/", "", vanilla, 2, EMPTY_HASH, "20150830T123600Z" },
          "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31" },
    };
    (void)state;

    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct buf out = BUF_INIT;

        assert_true(s3_sign(rows[i].key, &rows[i].request, &out));
        if (!strstr(buf_str(&out), rows[i].want))
            fail_msg("%s: %s", rows[i].label, buf_str(&out));
        assert_null(strstr(buf_str(&out), rows[i].key->secret));
        buf_fini(&out);
    }
}

static void the_header_names_key_scope_and_headers(void **state)
{
    static const struct s3_key key = { "AKID", "secret", "eu-central-1", "s3" };
    static const struct s3_header headers[] = { { "host", "h" },
                                                { "x-amz-date", "20260101T000000Z" } };
    const struct s3_signed request = { "GET", "/", "", headers, 2, EMPTY_HASH, "20260101T000000Z" };
    struct buf out = BUF_INIT;

    (void)state;
    assert_true(s3_sign(&key, &request, &out));
    assert_ptr_equal(strstr(buf_str(&out),
                            "AWS4-HMAC-SHA256 Credential=AKID/20260101/eu-central-1/s3/"
                            "aws4_request,SignedHeaders=host;x-amz-date,Signature="),
                     buf_str(&out));
    buf_fini(&out);
}

static void dates_are_utc(void **state)
{
    char date[S3_DATE_BYTES];

    (void)state;
    s3_date(1369353600, date);
    assert_string_equal(date, "20130524T000000Z");
    s3_date(0, date);
    assert_string_equal(date, "19700101T000000Z");
}

static void names_are_encoded_once(void **state)
{
    static const struct {
        const char *text;
        bool slash;
        const char *want;
    } rows[] = {
        { "plain-._~09", true, "plain-._~09" },
        { "a/b c+d", true, "a/b%20c%2Bd" },
        { "a/b", false, "a%2Fb" },
        { "100%", true, "100%25" },
        { "\xc3\xbc=&?", true, "%C3%BC%3D%26%3F" },
        { "", true, "" },
    };
    (void)state;

    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct buf out = BUF_INIT;

        assert_true(s3_encode(&out, rows[i].text, rows[i].slash));
        assert_string_equal(buf_str(&out), rows[i].want);
        buf_fini(&out);
    }
}

static void survives_every_allocation_failure(void **state)
{
    static const struct s3_key key = { "AKID", "secret", "eu-central-1", "s3" };
    static const struct s3_header headers[] = { { "host", "h" } };
    const struct s3_signed request = { "GET", "/", "", headers, 1, EMPTY_HASH, "20260101T000000Z" };

    (void)state;
    FAULT_EACH(n)
    {
        struct buf out = BUF_INIT;
        bool ok = s3_sign(&key, &request, &out);
        bool last;

        FAULT_DONE(n);
        last = n_last;
        assert_int_equal(ok, last);
        buf_fini(&out);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(hmac_agrees_with_the_published_cases),
        cmocka_unit_test(signatures_agree_with_the_published_ones),
        cmocka_unit_test(the_header_names_key_scope_and_headers),
        cmocka_unit_test(dates_are_utc),
        cmocka_unit_test(names_are_encoded_once),
        cmocka_unit_test(survives_every_allocation_failure),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
