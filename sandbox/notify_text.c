#include "sandbox/notify_text.h"

#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "kernel/base/fd.h"
#include "kernel/base/utf8.h"

#define STRING_MAX 160

struct number_name {
    uint32_t number;
    const char *name;
};

static const struct number_name families[] = {
    { AF_UNSPEC, "AF_UNSPEC" },
    { AF_UNIX, "AF_UNIX" },
    { AF_INET, "AF_INET" },
    { AF_INET6, "AF_INET6" },
    { AF_AX25, "AF_AX25" },
    { AF_IPX, "AF_IPX" },
    { AF_APPLETALK, "AF_APPLETALK" },
    { AF_X25, "AF_X25" },
    { AF_KEY, "AF_KEY" },
    { AF_NETLINK, "AF_NETLINK" },
    { AF_PACKET, "AF_PACKET" },
    { AF_RDS, "AF_RDS" },
    { AF_PPPOX, "AF_PPPOX" },
    { AF_LLC, "AF_LLC" },
    { AF_CAN, "AF_CAN" },
    { AF_TIPC, "AF_TIPC" },
    { AF_BLUETOOTH, "AF_BLUETOOTH" },
    { AF_RXRPC, "AF_RXRPC" },
    { AF_PHONET, "AF_PHONET" },
    { AF_IEEE802154, "AF_IEEE802154" },
    { AF_ALG, "AF_ALG" },
    { AF_NFC, "AF_NFC" },
    { AF_VSOCK, "AF_VSOCK" },
    { AF_KCM, "AF_KCM" },
    { AF_QIPCRTR, "AF_QIPCRTR" },
    { AF_SMC, "AF_SMC" },
    { AF_XDP, "AF_XDP" },
};

static const struct number_name types[] = {
    { SOCK_STREAM, "SOCK_STREAM" }, { SOCK_DGRAM, "SOCK_DGRAM" },
    { SOCK_RAW, "SOCK_RAW" },       { SOCK_RDM, "SOCK_RDM" },
    { SOCK_DCCP, "SOCK_DCCP" },     { SOCK_SEQPACKET, "SOCK_SEQPACKET" },
    { SOCK_PACKET, "SOCK_PACKET" },
};

static const struct number_name namespaces[] = {
    { 0x80, "CLONE_NEWTIME" },
    { CLONE_NEWNS, "CLONE_NEWNS" },
    { CLONE_NEWCGROUP, "CLONE_NEWCGROUP" },
    { CLONE_NEWUTS, "CLONE_NEWUTS" },
    { CLONE_NEWIPC, "CLONE_NEWIPC" },
    { CLONE_NEWUSER, "CLONE_NEWUSER" },
    { CLONE_NEWPID, "CLONE_NEWPID" },
    { CLONE_NEWNET, "CLONE_NEWNET" },
};

static const struct number_name requests[] = {
    { 0x5412, "TIOCSTI" },       { 0x541c, "TIOCLINUX" },   { 0x541d, "TIOCCONS" },
    { 0x5423, "TIOCSETD" },      { 0x4b30, "KIOCSOUND" },   { 0x4b31, "KDGETLED" },
    { 0x4b32, "KDSETLED" },      { 0x4b33, "KDGKBTYPE" },   { 0x4b3a, "KDSETMODE" },
    { 0x4b3b, "KDGETMODE" },     { 0x4b44, "KDGKBMODE" },   { 0x4b45, "KDSKBMODE" },
    { 0x4b46, "KDGKBENT" },      { 0x4b47, "KDSKBENT" },    { 0x4b72, "KDFONTOP" },
    { 0x5600, "VT_OPENQRY" },    { 0x5601, "VT_GETMODE" },  { 0x5602, "VT_SETMODE" },
    { 0x5603, "VT_GETSTATE" },   { 0x5606, "VT_ACTIVATE" }, { 0x5607, "VT_WAITACTIVE" },
    { 0x560b, "VT_LOCKSWITCH" },
};

static const struct number_name commands[] = {
    { F_SETLEASE, "F_SETLEASE" },
    { F_NOTIFY, "F_NOTIFY" },
};

/** Its name, or the number where it has none. */
static void add_name(struct buf *out, const struct number_name *names, size_t count,
                     uint32_t number, const char *unknown)
{
    for (size_t i = 0; i < count; i++) {
        if (names[i].number == number) {
            (void)buf_append_str(out, names[i].name);
            return;
        }
    }
    (void)buf_append_str(out, unknown);
    (void)buf_printf(out, "%#x", number);
}

static void add_flags(struct buf *out, const struct number_name *names, size_t count,
                      uint32_t flags)
{
    size_t start = out->len;

    for (size_t i = 0; i < count; i++) {
        if (!(flags & names[i].number))
            continue;
        if (out->len > start)
            (void)buf_append_char(out, '|');
        (void)buf_append_str(out, names[i].name);
    }
}

/** One plain line, whatever the program has there: this text is shown among the agent's own lines.
 *  Controls, also those of two and three bytes that turn or break lines, do not get through. */
static void tame(char *text, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        const unsigned char *at = (const unsigned char *)text + i;
        size_t left = len - i;

        if (at[0] < 0x20 || at[0] == 0x7f || (at[0] == 0xc2 && left > 1 && at[1] < 0xa0) ||
            (at[0] == 0xe2 && left > 2 && at[1] == 0x80 && at[2] >= 0xa8 && at[2] <= 0xae) ||
            (at[0] == 0xe2 && left > 2 && at[1] == 0x81 && at[2] >= 0xa6 && at[2] <= 0xa9))
            text[i] = '?';
    }
}

static void add_string(struct buf *out, uint64_t address, uint32_t pid)
{
    char path[32], text[STRING_MAX];
    CLEANUP(fd_closep) int fd = -1;
    ssize_t got;
    size_t len;

    if (!address || address > INT64_MAX)
        return;
    (void)snprintf(path, sizeof path, "/proc/%u/mem", pid);
    fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
    if (fd < 0)
        return;
    got = pread(fd, text, sizeof text, (off_t)address);
    if (got <= 0)
        return;
    len = strnlen(text, (size_t)got);
    tame(text, len);
    if (len < sizeof text) {
        /* Without a NUL the string ran into memory that is not there: it is not one. */
        if (len < (size_t)got)
            (void)utf8_append_valid(out, text, len);
        return;
    }
    (void)utf8_append_valid(out, text, utf8_cut(text, len, len));
    (void)buf_append_str(out, "…");
}

void notify_text(struct buf *out, const struct policy_call *call, const uint64_t *args,
                 uint32_t pid)
{
    uint64_t value = args[call->arg];
    uint32_t low = (uint32_t)value;

    switch ((enum policy_text)call->text) {
    case POLICY_TEXT_NONE:
        break;
    case POLICY_TEXT_STRING:
        add_string(out, value, pid);
        break;
    case POLICY_TEXT_STRING_MODE:
        add_string(out, value, pid);
        (void)buf_printf(out, "%smode %04o", out->len ? " " : "",
                         (uint32_t)args[call->arg2] & 0177777u);
        break;
    case POLICY_TEXT_MODE:
        (void)buf_printf(out, "mode %04o", low & 0177777u);
        break;
    case POLICY_TEXT_NUMBER:
        (void)buf_printf(out, "%#x", low);
        break;
    case POLICY_TEXT_SOCKET:
        add_name(out, families, ARRAY_LEN(families), low, "family ");
        (void)buf_append_char(out, ' ');
        add_name(out, types, ARRAY_LEN(types), (uint32_t)args[1] & 0xfu, "type ");
        break;
    case POLICY_TEXT_NAMESPACES:
        /* clone's low byte is a signal, in which the bit of CLONE_NEWTIME means nothing. */
        add_flags(out, namespaces, ARRAY_LEN(namespaces),
                  strcmp(call->name, "clone") == 0 ? low & ~0xffu : low);
        break;
    case POLICY_TEXT_IOCTL:
        add_name(out, requests, ARRAY_LEN(requests), low, "");
        break;
    case POLICY_TEXT_FCNTL:
        add_name(out, commands, ARRAY_LEN(commands), low, "");
        break;
    }
}
