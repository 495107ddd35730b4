#include "kernel/computers_ceiling.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "kernel/base/buf.h"
#include "kernel/computer/egress.h"
#include "kernel/computer/egress_host.h"

enum host_kind { HOST_NAME, HOST_BELOW, HOST_ANY, HOST_NETWORK };

/* One rule, taken apart.  The grammar is checked elsewhere; what is not understood here covers
 * nothing and is covered by nothing. */
struct parsed {
    enum host_kind kind;
    struct egress_host host; /* NAME, BELOW (what follows "*."), NETWORK */
    unsigned bits;           /* NETWORK, of 128 */
    uint16_t first[2], last[2];
    size_t ranges;
};

static bool parse_ports(const char *text, struct parsed *p)
{
    const char *dash;

    p->ranges = 1;
    if (!text) {
        p->ranges = 2;
        p->first[0] = p->last[0] = 80;
        p->first[1] = p->last[1] = 443;
        return true;
    }
    if (!strcmp(text, "*")) {
        p->first[0] = 1;
        p->last[0] = UINT16_MAX;
        return true;
    }
    dash = strchr(text, '-');
    p->first[0] = egress_port_parse(text, dash ? (size_t)(dash - text) : strlen(text));
    p->last[0] = dash ? egress_port_parse(dash + 1, strlen(dash + 1)) : p->first[0];
    return p->first[0] && p->first[0] <= p->last[0];
}

static bool parse_bits(const char *text, struct parsed *p)
{
    unsigned most = p->host.address.v4 ? 32 : 128, bits = 0;

    if (!text) {
        p->bits = 128;
        return true;
    }
    if (!*text || strlen(text) > 3)
        return false;
    for (; *text; text++) {
        if (*text < '0' || *text > '9')
            return false;
        bits = bits * 10 + (unsigned)(*text - '0');
    }
    p->bits = bits + 128 - most;
    return bits <= most;
}

static bool parse_host(const char *text, const char *bits, struct parsed *p)
{
    p->kind = HOST_NAME;
    if (!strcmp(text, "*")) {
        p->kind = HOST_ANY;
        return !bits;
    }
    if (!strncmp(text, "*.", 2)) {
        p->kind = HOST_BELOW;
        text += 2;
    }
    if (egress_host_parse(text, strlen(text), &p->host))
        return false;
    if (!p->host.is_address)
        return !bits;
    if (p->kind == HOST_BELOW)
        return false;
    p->kind = HOST_NETWORK;
    return parse_bits(bits, p);
}

/* Cuts @text at @at and returns what follows. */
static char *cut(char *at)
{
    *at = '\0';
    return at + 1;
}

static bool parse_rule(const char *rule, struct parsed *ret)
{
    char work[EGRESS_HOST_MAX + 64], *host = work, *bits = NULL, *port = NULL, *at;
    size_t len = strlen(rule);

    if (len >= sizeof work)
        return false;
    memcpy(work, rule, len + 1);
    if (*host == '[') {
        /* "[fc00::1]:443", "[fc00::/7]:443" and "[fc00::]/7:443" */
        at = strchr(++host, ']');
        if (!at)
            return false;
        at = cut(at);
        if (*at == '/') {
            bits = at + 1;
            at += strcspn(at, ":");
        }
        if (*at && *at != ':')
            return false;
        if (*at)
            port = cut(at);
    } else {
        at = strchr(host, ':');
        if (at)
            port = cut(at);
    }
    at = strchr(host, '/');
    if (at && bits)
        return false;
    if (at)
        bits = cut(at);
    return parse_ports(port, ret) && parse_host(host, bits, ret);
}

static bool is_below(const char *name, const char *tail)
{
    size_t len = strlen(name), tail_len = strlen(tail);

    return len > tail_len + 1 && name[len - tail_len - 1] == '.' &&
           !strcmp(name + len - tail_len, tail);
}

static bool host_covers(const struct parsed *wide, const struct parsed *narrow)
{
    /* "*" is any name: a special address opens to an address rule alone. */
    if (narrow->kind == HOST_NETWORK)
        return wide->kind == HOST_NETWORK && wide->bits <= narrow->bits &&
               wide->host.address.v4 == narrow->host.address.v4 &&
               egress_same_prefix(wide->host.address.bytes, narrow->host.address.bytes, wide->bits);
    switch (wide->kind) {
    case HOST_ANY:
        return true;
    case HOST_NAME:
        return narrow->kind == HOST_NAME && !strcmp(wide->host.name, narrow->host.name);
    case HOST_BELOW:
        if (narrow->kind == HOST_BELOW && !strcmp(wide->host.name, narrow->host.name))
            return true;
        return narrow->kind != HOST_ANY && is_below(narrow->host.name, wide->host.name);
    case HOST_NETWORK:
        break;
    }
    return false;
}

static bool range_covered(const json_t *ceiling, const struct parsed *rule, size_t range)
{
    for (size_t i = 0; i < json_array_size(ceiling); i++) {
        const char *text = json_string_value(json_array_get(ceiling, i));
        struct parsed wide;

        if (!text || !parse_rule(text, &wide) || !host_covers(&wide, rule))
            continue;
        for (size_t k = 0; k < wide.ranges; k++) {
            if (wide.first[k] <= rule->first[range] && rule->last[range] <= wide.last[k])
                return true;
        }
    }
    return false;
}

static bool covered(const json_t *ceiling, const char *rule)
{
    struct parsed parsed;

    if (!parse_rule(rule, &parsed))
        return false;
    for (size_t i = 0; i < parsed.ranges; i++) {
        if (!range_covered(ceiling, &parsed, i))
            return false;
    }
    return true;
}

static bool refuse(const json_t *ceiling, const char *rule, struct error *err)
{
    char wanted[100], shown[400];
    size_t at = 0;

    for (size_t i = 0; i < json_array_size(ceiling) && at < sizeof shown / 2; i++) {
        const char *text = json_string_value(json_array_get(ceiling, i));

        if (at)
            shown[at++] = ' ';
        at += strlen(egress_clean(text, strlen(text), shown + at, sizeof shown - at - 1));
    }
    shown[at] = '\0';
    return error_set(err, ERR_DENIED,
                     "network rule \"%s\" goes beyond what the configuration permits%s%s",
                     egress_clean(rule, strlen(rule), wanted, sizeof wanted),
                     at ? "; within these you may ask: " : ", which is no network at all", shown);
}

bool computers_ceiling_check(const json_t *ceiling, const char *const *rules, size_t count,
                             struct error *err)
{
    struct egress_rules *parsed;

    if (!ceiling)
        return true;
    parsed = egress_rules_new(rules, count, err); /* what is written wrong is told so */
    if (!parsed)
        return false;
    egress_rules_free(parsed);
    for (size_t i = 0; i < count; i++) {
        if (!covered(ceiling, rules[i]))
            return refuse(ceiling, rules[i], err);
    }
    return true;
}
