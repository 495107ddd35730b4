#include "tests/support/check.h"

#include <arpa/inet.h>

#include "kernel/base/limits.h"
#include "kernel/computer/egress.h"
#include "kernel/computer/egress_host.h"

static struct sockaddr_storage address(const char *text)
{
    struct sockaddr_storage ss = { .ss_family = AF_UNSPEC };
    struct sockaddr_in *in = (struct sockaddr_in *)(void *)&ss;
    struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)(void *)&ss;

    if (inet_pton(AF_INET, text, &in->sin_addr) == 1)
        ss.ss_family = AF_INET;
    else if (inet_pton(AF_INET6, text, &in6->sin6_addr) == 1)
        ss.ss_family = AF_INET6;
    else
        fail_msg("%s is no address", text);
    return ss;
}

static struct egress_rules *rules_of(const char *const *texts, size_t count)
{
    struct error err = ERROR_INIT;
    struct egress_rules *rules = egress_rules_new(texts, count, &err);

    assert_ok(rules != NULL, err);
    return rules;
}

static void hosts_match_exactly_as_the_rule_says(void **state)
{
    static const struct {
        const char *rule;
        const char *host;
        uint16_t port;
        bool want;
    } rows[] = {
        { "pypi.org:443", "pypi.org", 443, true },
        { "pypi.org:443", "PyPI.oRg", 443, true },
        { "pypi.org:443", "pypi.org.", 443, true },
        { "PyPI.org.:443", "pypi.org", 443, true },
        { "pypi.org:443", "pypi.org", 80, false },
        { "pypi.org:443", "xpypi.org", 443, false },
        { "pypi.org:443", "a.pypi.org", 443, false },
        { "pypi.org:443", "pypi.org.evil.com", 443, false },
        { "pypi.org:443", "pypi.or", 443, false },
        { "pypi.org:443", "pypi.org..", 443, false },
        { "pypi.org", "pypi.org", 80, true },
        { "pypi.org", "pypi.org", 443, true },
        { "pypi.org", "pypi.org", 8080, false },
        { "pypi.org:*", "pypi.org", 1, true },
        { "pypi.org:8000-8010", "pypi.org", 7999, false },
        { "pypi.org:8000-8010", "pypi.org", 8000, true },
        { "pypi.org:8000-8010", "pypi.org", 8010, true },
        { "pypi.org:8000-8010", "pypi.org", 8011, false },
        { "*.example.org:443", "a.example.org", 443, true },
        { "*.example.org:443", "a.b.EXAMPLE.org", 443, true },
        { "*.example.org:443", "example.org", 443, false },
        { "*.example.org:443", ".example.org", 443, false },
        { "*.example.org:443", "badexample.org", 443, false },
        { "*.example.org:443", "a.example.org.evil.com", 443, false },
        { "*:443", "anything.at.all", 443, true },
        { "*:443", "1.1.1.1", 443, false }, /* '*' is any name */
        { "*:443", "[2606:4700::1111]", 443, false },
        { "1.1.1.1:443", "1.1.1.1", 443, true },
        { "1.1.1.1:443", "[::ffff:1.1.1.1]", 443, true },
        { "[::ffff:1.1.1.1]:443", "1.1.1.1", 443, true },
        { "1.1.1.1:443", "1.1.1.2", 443, false },
        { "1.1.1.1:443", "1.1.257", 443, false },
        { "0.0.0.0/0:443", "16843009", 443, false },
        { "0.0.0.0/0:443", "0x01010101", 443, false },
        { "*:443", "16843009", 443, false },
        { "*:443", "0x7f.1", 443, false },
        { "*:443", "foo.0x7f", 443, false },
        { "*:443", "foo.127", 443, false },
        { "*:443", "127.0.0.1.", 443, false },
        { "*:443", "0x", 443, false },
        { "*:443", "0xg", 443, true },
        { "10.0.0.0/8:80", "10.255.0.1", 80, true },
        { "10.0.0.0/8:80", "11.0.0.1", 80, false },
        { "10.0.0.0/8:80", "::ffff:10.0.0.1", 80, true },
        { "[fc00::/7]:80", "[fd00::1]", 80, true },
        { "[fc00::]/7:80", "[fd00::1]", 80, true },
        { "[fc00::/7]", "[fe00::1]", 80, false },
        { "[::/0]:80", "[2606:4700::1111]", 80, true },
        { "[::/0]:80", "1.1.1.1", 80, false }, /* IPv4 has its own rules */
        { "[::1]:80", "[::1]", 80, true },
        { "[::1]:80", "0:0:0:0:0:0:0:1", 80, true },
        { "[::1]:80", "[::1%lo]", 80, false },
        { "xn--bcher-kva.example", "XN--bcher-kva.example", 443, true },
        { "*",
          "b\xc3\xbc"
          "cher.example",
          443, false },
        { "*", "ex%61mple.org", 443, false },
        { "*", "example.org\n", 443, false },
        { "*", "user@example.org", 443, false },
        { "*", "", 443, false },
        { "*", ".", 443, false },
    };
    (void)state;

    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        CLEANUP(egress_rules_freep) struct egress_rules *rules = rules_of(&rows[i].rule, 1);
        const char *rule = NULL;
        bool got = egress_rules_host(rules, rows[i].host, rows[i].port, &rule);

        if (got != rows[i].want || (got && strcmp(rule, rows[i].rule) != 0))
            fail_msg("%s for %s:%u: %d", rows[i].rule, rows[i].host, rows[i].port, got);
    }
}

static void special_addresses_need_a_rule_of_their_own(void **state)
{
    static const char *const special[] = {
        "0.0.0.0",
        "0.1.2.3",
        "10.0.0.1",
        "10.255.255.255",
        "100.64.0.1",
        "100.127.255.255",
        "127.0.0.1",
        "127.255.0.1",
        "168.63.129.16",
        "169.254.169.254",
        "172.16.0.1",
        "172.31.255.255",
        "192.0.0.192",
        "192.0.2.1",
        "192.88.99.1",
        "192.168.1.1",
        "198.18.0.1",
        "198.19.255.255",
        "198.51.100.7",
        "203.0.113.9",
        "224.0.0.1",
        "239.255.255.255",
        "240.0.0.1",
        "255.255.255.255",
        "::",
        "::1",
        "::ffff:127.0.0.1",
        "::ffff:10.1.2.3",
        "::127.0.0.1",
        "64:ff9b::7f00:1",
        "64:ff9b::a9fe:a9fe",
        "64:ff9b:1::1",
        "100::1",
        "2001::1",
        "2001:1ff::1",
        "2001:db8::1",
        "2002:7f00:1::",
        "2002:a00:1::1",
        "3fff:1::1",
        "5f00::1",
        "fc00::1",
        "fd00:ec2::254",
        "fe80::1",
        "febf::1",
        "fec0::1",
        "ff02::1",
    };
    static const char *const ordinary[] = {
        "1.1.1.1",       "9.255.255.255",    "11.0.0.1",        "100.63.255.255", "100.128.0.1",
        "126.0.0.1",     "128.0.0.1",        "172.15.0.1",      "172.32.0.1",     "192.0.1.1",
        "198.17.0.1",    "198.20.0.1",       "223.255.255.1",   "2606:4700::1",   "2a00:1450::1",
        "2001:4860::88", "64:ff9b::101:101", "2002:101:101::1", "::ffff:8.8.8.8",
    };
    static const char *const texts[] = { "*:443", "10.0.0.7:443", "127.0.0.0/8:80" };
    CLEANUP(egress_rules_freep) struct egress_rules *rules = rules_of(texts, ARRAY_LEN(texts));
    struct sockaddr_storage ss;
    const char *rule;
    (void)state;

    for (size_t i = 0; i < ARRAY_LEN(special); i++) {
        ss = address(special[i]);
        if (egress_rules_address(rules, "example.org", 443, &ss, &rule))
            fail_msg("%s is open to a name rule", special[i]);
    }
    for (size_t i = 0; i < ARRAY_LEN(ordinary); i++) {
        ss = address(ordinary[i]);
        if (!egress_rules_address(rules, "example.org", 443, &ss, &rule))
            fail_msg("%s is closed to a name rule", ordinary[i]);
        assert_string_equal(rule, "*:443");
    }
    ss = address("10.0.0.7");
    assert_true(egress_rules_address(rules, "example.org", 443, &ss, &rule));
    assert_string_equal(rule, "10.0.0.7:443");
    assert_false(egress_rules_address(rules, "example.org", 80, &ss, NULL)); /* name and port */
    ss = address("::ffff:10.0.0.7");
    assert_true(egress_rules_address(rules, "example.org", 443, &ss, &rule));
    ss = address("127.0.0.1");
    assert_false(egress_rules_address(rules, "example.org", 443, &ss, &rule));
    assert_true(egress_rules_address(rules, "127.0.0.1", 80, &ss, &rule));
    /* Asked for one address, resolved to another: never. */
    ss = address("127.0.0.2");
    assert_false(egress_rules_address(rules, "127.0.0.1", 80, &ss, &rule));
    ss.ss_family = AF_UNIX;
    assert_false(egress_rules_address(rules, "127.0.0.1", 80, &ss, &rule));
}

static void a_bad_rule_is_named_with_what_is_wrong(void **state)
{
    static const struct {
        const char *rule;
        const char *part;
    } rows[] = {
        { "", "empty" },
        { ":443", "empty" },
        { "https://pypi.org", "not a URL" },
        { "pypi.org:", "port" },
        { "pypi.org:0", "port" },
        { "pypi.org:65536", "port" },
        { "pypi.org:80x", "port" },
        { "pypi.org:+80", "port" },
        { "pypi.org:080", "port" },
        { "pypi.org:90-80", "port" },
        { "pypi.org:80-", "port" },
        { "pypi.org:http", "port" },
        { "*.", "empty" },
        { "*..", "1 to 253" },
        { "**", "stands alone" },
        { "*pypi.org", "stands alone" },
        { "a.*.org", "stands alone" },
        { "*.10.0.0.1", "below an address" },
        { "pypi..org", "empty part" },
        { ".pypi.org", "empty part" },
        { "pypi org", "letters" },
        { "b\xc3\xbc"
          "cher.de",
          "ASCII" },
        { "127.1", "four decimal" },
        { "0x7f000001:80", "four decimal" },
        { "010.0.0.1", "four decimal" },
        { "1.2.3.4.", "four decimal" },
        { "::1", "brackets" },
        { "fe80::1:80", "brackets" },
        { "[::1", "is written as" },
        { "[::1]80", "is written as" },
        { "[::1]x:80", "is written as" },
        { "[10.0.0.1]:80", "brackets are" },
        { "[::1%eth0]:80", "zone" },
        { "[::g]:80", "not an IPv6" },
        { "10.0.0.0/33", "too large" },
        { "10.0.0.0/", "bits" },
        { "10.0.0.0/08", "bits" },
        { "10.0.0.0/-1", "bits" },
        { "10.0.0.0/8/8", "bits" },
        { "10.0.0.1/8", "bits set" },
        { "example.org/8", "ADDRESS/BITS" },
        { "[fc00::/129]", "too large" },
        { "[::ffff:0.0.0.0/90]", "a.b.c.d/BITS" },
        { "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa.org", "at most 63" },
    };
    (void)state;

    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        const char *const texts[] = { "fine.example", rows[i].rule };
        struct error err = ERROR_INIT;
        struct egress_rules *rules = egress_rules_new(texts, 2, &err);

        if (rules || err.code != ERR_INVALID || !strstr(err.text, rows[i].part))
            fail_msg("\"%s\": %s", rows[i].rule, err.text);
    }
}

static void limits_hold(void **state)
{
    const char *texts[LIMIT_EGRESS_RULES + 1];
    struct error err = ERROR_INIT;
    char name[400];
    (void)state;

    for (size_t i = 0; i < ARRAY_LEN(texts); i++)
        texts[i] = "example.org";
    assert_null(egress_rules_new(texts, ARRAY_LEN(texts), &err));
    assert_code(err, ERR_LIMIT);
    egress_rules_free(rules_of(texts, LIMIT_EGRESS_RULES));

    for (size_t i = 0; i < sizeof name; i++)
        name[i] = i % 60 == 59 ? '.' : 'a';
    name[253] = '\0';
    texts[0] = name;
    egress_rules_free(rules_of(texts, 1));
    name[253] = 'a';
    name[254] = '\0';
    error_clear(&err);
    assert_null(egress_rules_new(texts, 1, &err));
    assert_code(err, ERR_INVALID);
    name[254] = 'a';
    name[399] = '\0';
    error_clear(&err);
    assert_null(egress_rules_new(texts, 1, &err));
    assert_code(err, ERR_INVALID);
}

static void no_rules_allow_nothing(void **state)
{
    CLEANUP(egress_rules_freep) struct egress_rules *rules = rules_of(NULL, 0);
    struct sockaddr_storage ss = address("1.1.1.1");
    const char *rule;
    (void)state;

    assert_false(egress_rules_host(rules, "example.org", 443, &rule));
    assert_false(egress_rules_host(rules, "1.1.1.1", 443, &rule));
    assert_false(egress_rules_address(rules, "1.1.1.1", 443, &ss, &rule));
    assert_false(egress_rules_host(NULL, "example.org", 443, &rule));
    egress_rules_free(NULL);
}

static void survives_every_allocation_failure(void **state)
{
    static const char *const texts[] = { "example.org:443", "10.0.0.0/8:80" };
    (void)state;

    for (unsigned n = 0, met = 1; met; n++) {
        CLEANUP(egress_rules_freep) struct egress_rules *rules = NULL;
        struct error err = ERROR_INIT;

        fault_arm(n);
        rules = egress_rules_new(texts, ARRAY_LEN(texts), &err);
        met = fault_disarm();
        if (met) {
            assert_null(rules);
            assert_code(err, ERR_NOMEM);
        } else {
            assert_ok(rules != NULL, err);
            assert_true(n > 0);
        }
    }
}

static void hosts_are_kept_in_their_canonical_form(void **state)
{
    static const struct {
        const char *text;
        uint16_t port;
        const char *want;
    } rows[] = {
        { "Example.ORG.", 443, "example.org:443" },
        { "10.0.0.7", 80, "10.0.0.7:80" },
        { "[2001:DB8:0:0::1]", 80, "[2001:db8::1]:80" },
        { "::FFFF:10.0.0.7", 80, "10.0.0.7:80" },
    };
    char authority[EGRESS_AUTHORITY_MAX];
    struct egress_host host;
    (void)state;

    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        assert_null(egress_host_parse(rows[i].text, strlen(rows[i].text), &host));
        assert_string_equal(egress_authority(&host, rows[i].port, authority), rows[i].want);
    }
    assert_non_null(egress_host_parse("a\0b", 3, &host));
    assert_non_null(egress_host_parse("[::1\0]", 6, &host));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(hosts_match_exactly_as_the_rule_says),
        cmocka_unit_test(special_addresses_need_a_rule_of_their_own),
        cmocka_unit_test(a_bad_rule_is_named_with_what_is_wrong),
        cmocka_unit_test(limits_hold),
        cmocka_unit_test(no_rules_allow_nothing),
        cmocka_unit_test(survives_every_allocation_failure),
        cmocka_unit_test(hosts_are_kept_in_their_canonical_form),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
