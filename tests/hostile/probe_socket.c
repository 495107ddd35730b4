/* Attempts at socket families, at sockets of the host, and at terminals. */
#include "tests/hostile/probe.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/netlink.h>
#include <linux/sockios.h>
#include <net/if.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

#define GARBAGE        0xdead000000000000UL
#define KDGKBTYPE      0x4b33
#define VT_OPENQRY     0x5600
#define IPPROTO_MPTCP_ 262
#define SOCK_DCCP_     6

#define SOCKET_TRY(name, family, type, protocol)             \
    static int name(void)                                    \
    {                                                        \
        return probe_result(socket(family, type, protocol)); \
    }

SOCKET_TRY(netlink_route, AF_NETLINK, SOCK_RAW, NETLINK_ROUTE)
SOCKET_TRY(netlink_netfilter, AF_NETLINK, SOCK_RAW, NETLINK_NETFILTER)
SOCKET_TRY(netlink_generic, AF_NETLINK, SOCK_RAW, NETLINK_GENERIC)
SOCKET_TRY(netlink_uevent, AF_NETLINK, SOCK_RAW, NETLINK_KOBJECT_UEVENT)
SOCKET_TRY(netlink_audit, AF_NETLINK, SOCK_RAW, NETLINK_AUDIT)
SOCKET_TRY(packet, AF_PACKET, SOCK_RAW, 0)
SOCKET_TRY(packet_dgram, AF_PACKET, SOCK_DGRAM, 0)
SOCKET_TRY(alg, 38, SOCK_SEQPACKET, 0)
SOCKET_TRY(vsock, 40, SOCK_STREAM, 0)
SOCKET_TRY(xdp, 44, SOCK_RAW, 0)
SOCKET_TRY(kcm, 41, SOCK_DGRAM, 0)
SOCKET_TRY(key, 15, SOCK_RAW, 2)
SOCKET_TRY(bluetooth, 31, SOCK_RAW, 0)
SOCKET_TRY(can, 29, SOCK_RAW, 1)
SOCKET_TRY(rds, 21, SOCK_SEQPACKET, 0)
SOCKET_TRY(tipc, 30, SOCK_STREAM, 0)
SOCKET_TRY(smc, 43, SOCK_STREAM, 0)
SOCKET_TRY(ax25, 3, SOCK_DGRAM, 0)
SOCKET_TRY(appletalk, 5, SOCK_DGRAM, 0)
SOCKET_TRY(qipcrtr, 42, SOCK_DGRAM, 0)
SOCKET_TRY(inet_raw, AF_INET, SOCK_RAW, IPPROTO_RAW)
SOCKET_TRY(inet_raw_icmp, AF_INET, SOCK_RAW, IPPROTO_ICMP)
SOCKET_TRY(inet6_raw, AF_INET6, SOCK_RAW, IPPROTO_RAW)
SOCKET_TRY(inet_ping, AF_INET, SOCK_DGRAM, IPPROTO_ICMP)
SOCKET_TRY(inet_sctp, AF_INET, SOCK_STREAM, IPPROTO_SCTP)
SOCKET_TRY(inet_mptcp, AF_INET, SOCK_STREAM, IPPROTO_MPTCP_)
SOCKET_TRY(inet_dccp, AF_INET, SOCK_DCCP_, 33)
SOCKET_TRY(inet_udplite, AF_INET, SOCK_DGRAM, IPPROTO_UDPLITE)
SOCKET_TRY(inet_packet_type, AF_INET, SOCK_PACKET, 0)
SOCKET_TRY(inet_tcp, AF_INET, SOCK_STREAM, IPPROTO_TCP)
SOCKET_TRY(inet6_udp, AF_INET6, SOCK_DGRAM, 0)

/* The kernel takes a family as an int: what is above is not looked at. */
static int packet_high(void)
{
    return probe_result(syscall(SYS_socket, (unsigned long)AF_PACKET | GARBAGE, SOCK_RAW, 0));
}

static int pair_inet(void)
{
    int fds[2];

    return probe_result(socketpair(AF_INET, SOCK_STREAM, 0, fds));
}

static int pair_tipc(void)
{
    int fds[2];

    return probe_result(socketpair(30, SOCK_STREAM, 0, fds));
}

/* Straight out, past the proxy: there is no route. */
static int direct(const char *address, int type, int port)
{
    struct sockaddr_in to = { .sin_family = AF_INET, .sin_port = htons((uint16_t)port) };
    int fd = socket(AF_INET, type | SOCK_CLOEXEC, 0);

    if (fd < 0 || inet_pton(AF_INET, address, &to.sin_addr) != 1)
        return errno;
    if (connect(fd, (struct sockaddr *)&to, sizeof to) != 0)
        return errno;
    return probe_result(send(fd, "x", 1, MSG_NOSIGNAL));
}

static int direct_tcp(void)
{
    return direct("192.0.2.1", SOCK_STREAM, 80);
}

static int direct_dns(void)
{
    return direct("192.0.2.53", SOCK_DGRAM, 53);
}

static int direct_metadata(void)
{
    return direct("169.254.169.254", SOCK_STREAM, 80);
}

static int direct_ipv6(void)
{
    struct sockaddr_in6 to = { .sin6_family = AF_INET6, .sin6_port = htons(80) };
    int fd = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);

    if (fd < 0 || inet_pton(AF_INET6, "2001:db8::1", &to.sin6_addr) != 1)
        return errno;
    return probe_result(connect(fd, (struct sockaddr *)&to, sizeof to));
}

/* The names of all interfaces, which must be "lo" alone. */
static int interfaces(void)
{
    struct ifreq req[16];
    struct ifconf conf = { .ifc_len = sizeof req, .ifc_req = req };
    char names[256] = "";
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

    if (fd < 0 || ioctl(fd, SIOCGIFCONF, &conf) < 0)
        return errno;
    for (size_t i = 0; i < (size_t)conf.ifc_len / sizeof req[0]; i++) {
        size_t len = strlen(names);

        (void)snprintf(names + len, sizeof names - len, "%s%.15s", len ? "," : "", req[i].ifr_name);
    }
    probe_detail("%s", names);
    return 0;
}

static int interface_down(void)
{
    struct ifreq req = { .ifr_name = "lo" };
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

    return fd < 0 ? errno : probe_result(ioctl(fd, SIOCSIFFLAGS, &req));
}

static int bind_low_port(void)
{
    struct sockaddr_in at = { .sin_family = AF_INET, .sin_port = htons(80) };
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    return fd < 0 ? errno : probe_result(bind(fd, (struct sockaddr *)&at, sizeof at));
}

/* ---- terminals: run with one as standard input ---- */

static int request(unsigned long number, void *arg)
{
    return probe_result(syscall(SYS_ioctl, STDIN_FILENO, number, arg));
}

static int tiocsti(void)
{
    char c = 'x';

    return request(TIOCSTI, &c);
}

static int tiocsti_high(void)
{
    char c = 'x';

    return request(TIOCSTI | GARBAGE, &c);
}

static int tioclinux(void)
{
    char subcode = 6; /* asks for the shift state */

    return request(TIOCLINUX, &subcode);
}

static int tioclinux_high(void)
{
    char subcode = 6;

    return request(TIOCLINUX | GARBAGE, &subcode);
}

static int tiocsetd(void)
{
    int discipline = 0;

    return request(TIOCSETD, &discipline);
}

static int tiocsetd_high(void)
{
    int discipline = 0;

    return request(TIOCSETD | GARBAGE, &discipline);
}

static int tioccons(void)
{
    return request(TIOCCONS, NULL);
}

static int kd_request(void)
{
    char type = 0;

    return request(KDGKBTYPE, &type);
}

static int vt_request(void)
{
    int free_vt = 0;

    return request(VT_OPENQRY, &free_vt);
}

static int winsize(void)
{
    struct winsize size;

    return request(TIOCGWINSZ, &size);
}

/* ---- the way out ---- */

/* probe proxy TEXT: send the line(s) TEXT and an empty one to the proxy; what comes back, on one
 * line.  "\\n" in TEXT is a line's end. */
static int proxy(int argc, char **argv)
{
    struct sockaddr_in to = { .sin_family = AF_INET, .sin_port = htons(3128) };
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    char request[2048] = "", answer[2048];
    size_t len = 0, got = 0;
    ssize_t n;

    if (argc < 2 || fd < 0)
        return 2;
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    for (const char *c = argv[1]; *c && len + 8 < sizeof request; c++) {
        if (c[0] == '\\' && c[1] == 'n') {
            request[len++] = '\r';
            request[len++] = '\n';
            c++;
        } else {
            request[len++] = *c;
        }
    }
    memcpy(request + len, "\r\n\r\n", 4);
    len += 4;
    if (connect(fd, (struct sockaddr *)&to, sizeof to) != 0 ||
        send(fd, request, len, MSG_NOSIGNAL) != (ssize_t)len) {
        probe_say("proxy", errno);
        return 0;
    }
    (void)shutdown(fd, SHUT_WR);
    while (got + 1 < sizeof answer && (n = recv(fd, answer + got, sizeof answer - 1 - got, 0)) > 0)
        got += (size_t)n;
    answer[got] = '\0';
    for (char *c = answer; *c; c++)
        if (*c == '\r' || *c == '\n')
            *c = ' ';
    probe_detail("%s", answer);
    probe_say("proxy", 0);
    return 0;
}

const struct probe_deed probe_deeds_socket[] = { { "proxy", proxy }, { NULL } };

const struct probe_try probe_tries_socket[] = {
    { "netlink-route", netlink_route },
    { "netlink-netfilter", netlink_netfilter },
    { "netlink-generic", netlink_generic },
    { "netlink-uevent", netlink_uevent },
    { "netlink-audit", netlink_audit },
    { "packet", packet },
    { "packet-dgram", packet_dgram },
    { "packet-high", packet_high },
    { "alg", alg },
    { "vsock", vsock },
    { "xdp", xdp },
    { "kcm", kcm },
    { "key", key },
    { "bluetooth", bluetooth },
    { "can", can },
    { "rds", rds },
    { "tipc", tipc },
    { "smc", smc },
    { "ax25", ax25 },
    { "appletalk", appletalk },
    { "qipcrtr", qipcrtr },
    { "inet-raw", inet_raw },
    { "inet-raw-icmp", inet_raw_icmp },
    { "inet6-raw", inet6_raw },
    { "inet-ping", inet_ping },
    { "inet-sctp", inet_sctp },
    { "inet-mptcp", inet_mptcp },
    { "inet-dccp", inet_dccp },
    { "inet-udplite", inet_udplite },
    { "inet-packet-type", inet_packet_type },
    { "inet-tcp", inet_tcp },
    { "inet6-udp", inet6_udp },
    { "pair-inet", pair_inet },
    { "pair-tipc", pair_tipc },
    { "direct-tcp", direct_tcp },
    { "direct-dns", direct_dns },
    { "direct-metadata", direct_metadata },
    { "direct-ipv6", direct_ipv6 },
    { "interfaces", interfaces },
    { "interface-down", interface_down },
    { "bind-low-port", bind_low_port },
    { "tiocsti", tiocsti },
    { "tiocsti-high", tiocsti_high },
    { "tioclinux", tioclinux },
    { "tioclinux-high", tioclinux_high },
    { "tiocsetd", tiocsetd },
    { "tiocsetd-high", tiocsetd_high },
    { "tioccons", tioccons },
    { "kd-request", kd_request },
    { "vt-request", vt_request },
    { "winsize", winsize },
    { NULL },
};
