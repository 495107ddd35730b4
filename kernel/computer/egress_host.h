/*
 * egress_host - the hosts and addresses that the egress broker judges, read strictly.
 *
 * Threads: any; plain values.
 */
#pragma once

#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define EGRESS_HOST_MAX      253u /* a DNS name in text, without the root's dot */
#define EGRESS_AUTHORITY_MAX (EGRESS_HOST_MAX + 9u)

/** IPv4 is kept as ::ffff:a.b.c.d with `v4` set, so that one comparison serves both. */
struct egress_address {
    uint8_t bytes[16];
    bool v4;
};

/** A host as rules see it: lower case, no trailing dot, an address in its canonical text. */
struct egress_host {
    char name[EGRESS_HOST_MAX + 1]; /* IPv6 without brackets */
    bool is_address;
    struct egress_address address;
};

/** Reads a name, a dotted quad, or IPv6 with or without brackets.  Spellings that some resolver
 *  would take for an address (127.1, 0x7f.1, 2130706433) are refused, never looked up.
 *  Returns NULL, or what is wrong with it as a constant. */
const char *egress_host_parse(const char *text, size_t len, struct egress_host *ret);

/** "name:port", with brackets around IPv6, into @buf of EGRESS_AUTHORITY_MAX; returns @buf. */
const char *egress_authority(const struct egress_host *host, uint16_t port, char *buf);

/** Printable ASCII only, anything else as '?'; at most @size - 1 bytes; returns @buf. */
const char *egress_clean(const char *text, size_t len, char *buf, size_t size);

/** Decimal 1 to 65535 without sign or leading zero; 0 for anything else. */
uint16_t egress_port_parse(const char *text, size_t len);

bool egress_address_from(const struct sockaddr_storage *from, struct egress_address *ret);
void egress_address_to(const struct egress_address *address, uint16_t port,
                       struct sockaddr_storage *ret);
const char *egress_address_text(const struct egress_address *address, char buf[INET6_ADDRSTRLEN]);

/** NULL for an address of the public internet, else what it is: "a private address". */
const char *egress_address_special(const struct egress_address *address);

/** The first @bits of both are equal. */
bool egress_same_prefix(const uint8_t *a, const uint8_t *b, unsigned bits);
