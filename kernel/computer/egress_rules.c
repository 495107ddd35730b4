#include "kernel/computer/egress.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernel/base/limits.h"
#include "kernel/computer/egress_internal.h"

enum rule_kind { RULE_NAME, RULE_BELOW, RULE_ANY, RULE_NETWORK };

struct rule {
    enum rule_kind kind;
    char *text;
    char name[EGRESS_HOST_MAX + 1]; /* NAME; for BELOW what comes after "*." */
    struct egress_address network;
    unsigned bits; /* of the 16 bytes, so 96 more than were written for IPv4 */
    uint16_t port_first, port_last;
    bool web_ports; /* no port was given: 80 and 443 */
};

struct egress_rules {
    size_t count;
    struct rule rules[];
};

static bool parse_ports(const char *text, struct rule *rule)
{
    const char *dash = strchr(text, '-');

    if (!strcmp(text, "*")) {
        rule->port_first = 1;
        rule->port_last = UINT16_MAX;
        return true;
    }
    rule->port_first = egress_port_parse(text, dash ? (size_t)(dash - text) : strlen(text));
    rule->port_last = dash ? egress_port_parse(dash + 1, strlen(dash + 1)) : rule->port_first;
    return rule->port_first && rule->port_first <= rule->port_last;
}

/* "10.0.0.0/8", "fc00::/7"; @slash is inside @text. */
static const char *parse_network(char *text, char *slash, struct rule *rule)
{
    struct egress_host host;
    unsigned most, bits = 0;

    *slash = '\0';
    if (egress_host_parse(text, strlen(text), &host) || !host.is_address)
        return "a network is written as ADDRESS/BITS, such as 10.0.0.0/8 or [fc00::/7]";
    most = strchr(text, ':') ? 128 : 32;
    slash++;
    if (!*slash || strlen(slash) > 3 || (slash[0] == '0' && slash[1]))
        return "the number of bits after '/' is not one";
    for (; *slash; slash++) {
        if (*slash < '0' || *slash > '9')
            return "the number of bits after '/' is not one";
        bits = bits * 10 + (unsigned)(*slash - '0');
    }
    if (bits > most)
        return "the number of bits after '/' is too large";
    rule->kind = RULE_NETWORK;
    rule->network = host.address;
    rule->bits = most == 32 ? bits + 96 : bits;
    if (rule->network.v4 && rule->bits < 96)
        return "write a network of IPv4 addresses as a.b.c.d/BITS";
    for (unsigned bit = rule->bits; bit < 128; bit++) {
        if (rule->network.bytes[bit / 8] & (0x80u >> bit % 8))
            return "the network has bits set after its prefix; set them to zero";
    }
    return NULL;
}

static const char *parse_rule_host(char *text, struct rule *rule)
{
    char *slash = strchr(text, '/');
    struct egress_host host;
    const char *why;

    if (slash)
        return parse_network(text, slash, rule);
    if (!strcmp(text, "*")) {
        rule->kind = RULE_ANY;
        return NULL;
    }
    rule->kind = RULE_NAME;
    if (!strncmp(text, "*.", 2)) {
        rule->kind = RULE_BELOW;
        text += 2;
    }
    if (strchr(text, '*'))
        return "'*' stands alone or at the front, as in *.example.org";
    why = egress_host_parse(text, strlen(text), &host);
    if (why)
        return why;
    if (!host.is_address) {
        memcpy(rule->name, host.name, sizeof rule->name);
        return NULL;
    }
    if (rule->kind == RULE_BELOW)
        return "nothing is below an address";
    rule->kind = RULE_NETWORK;
    rule->network = host.address;
    rule->bits = 128;
    return NULL;
}

/* Splits @text, a copy that it may write to, into host and port. */
static const char *parse_rule(char *text, struct rule *rule)
{
    char *port = NULL;

    if (!*text)
        return "it is empty; write HOST:PORT, such as pypi.org:443";
    if (strstr(text, "://"))
        return "give HOST:PORT, not a URL";
    if (*text == '[') {
        char *end = strchr(text, ']'), *rest = end ? end + 1 : NULL;
        size_t bits = rest && *rest == '/' ? strcspn(rest, ":") : 0;

        if (!end || (rest[bits] && rest[bits] != ':'))
            return "an IPv6 rule is written as [ADDRESS]:PORT or [ADDRESS/BITS]:PORT";
        if (rest[bits])
            port = rest + bits + 1;
        memmove(end, rest, bits); /* "[fc00::]/7" reads like "[fc00::/7]" */
        end[bits] = '\0';
        text++;
        if (!strchr(text, ':'))
            return "brackets are for IPv6 addresses";
    } else {
        char *colon = strchr(text, ':');

        if (colon && strchr(colon + 1, ':'))
            return "put an IPv6 address in brackets: [ADDRESS]:PORT";
        if (colon) {
            *colon = '\0';
            port = colon + 1;
        }
    }
    rule->web_ports = !port;
    if (port && !parse_ports(port, rule))
        return "the port must be 1 to 65535, a range such as 8000-8010, or *";
    return parse_rule_host(text, rule);
}

static bool add_rule(struct egress_rules *rules, const char *text, struct error *err)
{
    struct rule *rule = &rules->rules[rules->count];
    char work[EGRESS_HOST_MAX + 64], shown[100];
    size_t len = strlen(text);
    const char *why = "it is too long";

    if (len < sizeof work) {
        memcpy(work, text, len + 1);
        why = parse_rule(work, rule);
    }
    if (why)
        return error_set(err, ERR_INVALID, "network rule \"%s\": %s",
                         egress_clean(text, len, shown, sizeof shown), why);
    rule->text = strdup(text);
    if (!rule->text)
        return error_set(err, ERR_NOMEM, "network rules");
    rules->count++;
    return true;
}

struct egress_rules *egress_rules_new(const char *const *texts, size_t count, struct error *err)
{
    CLEANUP(egress_rules_freep) struct egress_rules *rules = NULL;

    if (count > LIMIT_EGRESS_RULES) {
        error_set(err, ERR_LIMIT, "%zu network rules; the most is %u", count, LIMIT_EGRESS_RULES);
        return NULL;
    }
    rules = calloc(1, sizeof *rules + count * sizeof rules->rules[0]);
    if (!rules) {
        error_set(err, ERR_NOMEM, "network rules");
        return NULL;
    }
    for (size_t i = 0; i < count; i++) {
        if (!add_rule(rules, texts[i], err))
            return NULL;
    }
    return STEAL(rules);
}

void egress_rules_free(struct egress_rules *rules)
{
    if (!rules)
        return;
    for (size_t i = 0; i < rules->count; i++)
        free(rules->rules[i].text);
    free(rules);
}

static bool port_matches(const struct rule *rule, uint16_t port)
{
    if (rule->web_ports)
        return port == 80 || port == 443;
    return port >= rule->port_first && port <= rule->port_last;
}

static bool name_matches(const struct rule *rule, const char *name)
{
    size_t len, tail;

    switch (rule->kind) {
    case RULE_NAME:
        return !strcmp(rule->name, name);
    case RULE_BELOW:
        len = strlen(name);
        tail = strlen(rule->name);
        return len > tail + 1 && name[len - tail - 1] == '.' &&
               !strcmp(name + len - tail, rule->name);
    case RULE_ANY:
        return true;
    case RULE_NETWORK:
        break;
    }
    return false;
}

static bool find_network(const struct egress_rules *rules, const struct egress_address *address,
                         uint16_t port, const char **ret_rule)
{
    for (size_t i = 0; rules && i < rules->count; i++) {
        const struct rule *rule = &rules->rules[i];

        if (rule->kind == RULE_NETWORK && rule->network.v4 == address->v4 &&
            port_matches(rule, port) &&
            egress_same_prefix(rule->network.bytes, address->bytes, rule->bits)) {
            *ret_rule = rule->text;
            return true;
        }
    }
    return false;
}

bool egress_rules_match_host(const struct egress_rules *rules, const struct egress_host *host,
                             uint16_t port, const char **ret_rule)
{
    if (host->is_address)
        return find_network(rules, &host->address, port, ret_rule);
    for (size_t i = 0; rules && i < rules->count; i++) {
        const struct rule *rule = &rules->rules[i];

        if (port_matches(rule, port) && name_matches(rule, host->name)) {
            *ret_rule = rule->text;
            return true;
        }
    }
    return false;
}

bool egress_rules_match_address(const struct egress_rules *rules, const struct egress_host *host,
                                uint16_t port, const struct egress_address *address,
                                const char **ret_rule)
{
    const char *name_rule;

    if (host->is_address &&
        (host->address.v4 != address->v4 || memcmp(host->address.bytes, address->bytes, 16) != 0))
        return false;
    if (!egress_rules_match_host(rules, host, port, &name_rule))
        return false;
    if (host->is_address || !egress_address_special(address)) {
        *ret_rule = name_rule;
        return true;
    }
    return find_network(rules, address, port, ret_rule);
}

bool egress_rules_host(const struct egress_rules *rules, const char *host, uint16_t port,
                       const char **ret_rule)
{
    struct egress_host parsed;
    const char *rule;

    if (egress_host_parse(host, strlen(host), &parsed) ||
        !egress_rules_match_host(rules, &parsed, port, &rule))
        return false;
    if (ret_rule)
        *ret_rule = rule;
    return true;
}

bool egress_rules_address(const struct egress_rules *rules, const char *host, uint16_t port,
                          const struct sockaddr_storage *address, const char **ret_rule)
{
    struct egress_address parsed_address;
    struct egress_host parsed;
    const char *rule;

    if (egress_host_parse(host, strlen(host), &parsed) ||
        !egress_address_from(address, &parsed_address) ||
        !egress_rules_match_address(rules, &parsed, port, &parsed_address, &rule))
        return false;
    if (ret_rule)
        *ret_rule = rule;
    return true;
}
