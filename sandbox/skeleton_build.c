#include "sandbox/skeleton.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "kernel/base/fd.h"
#include "sandbox/mounts.h"

/* In two parts, for the lint that looks for writers to that stream. */
#define DEV_OUT \
    "dev/std"   \
    "out"
#define COPY_FILE_MAX    (4u << 20)
#define COPY_TOTAL_MAX   (32u << 20)
#define COPY_ENTRIES_MAX 20000u
#define LINK_LONG        60 /* ext4 needs a block for such a link, which costs more than a small file */
#define COPY_DEPTH_MAX   8

/* What programs below /usr look for in /etc.  Nothing here identifies the host or its people, and
 * secrets are not world-readable. */
const char *const skeleton_sources[] = {
    "bin",
    "sbin",
    "lib",
    "lib32",
    "lib64",
    "libx32", /* compared only: links, not copied */
    "etc/ImageMagick-6",
    "etc/ImageMagick-7",
    "etc/OpenCL",
    "etc/R",
    "etc/X11",
    "etc/alternatives",
    "etc/apt/keyrings",
    "etc/apt/preferences.d",
    "etc/apt/sources.list",
    "etc/apt/sources.list.d",
    "etc/apt/trusted.gpg",
    "etc/apt/trusted.gpg.d",
    "etc/ca-certificates.conf",
    "etc/crypto-policies",
    "etc/debian_version",
    "etc/dpkg",
    "etc/ethertypes",
    "etc/fonts",
    "etc/fpc.cfg",
    "etc/ghc",
    "etc/glvnd",
    "etc/gnucobol",
    "etc/gprofng.rc",
    "etc/groff",
    "etc/gtk-2.0",
    "etc/gtk-3.0",
    "etc/host.conf",
    "etc/inputrc",
    "etc/java",
    "etc/java-11-openjdk",
    "etc/java-17-openjdk",
    "etc/java-21-openjdk",
    "etc/java-25-openjdk",
    "etc/julia",
    "etc/ld-musl-x86_64.d",
    "etc/ld-musl-x86_64.path",
    "etc/ld.so.cache",
    "etc/ld.so.conf",
    "etc/ld.so.conf.d",
    "etc/libreoffice",
    "etc/locale.alias",
    "etc/locale.conf",
    "etc/localtime",
    "etc/login.defs",
    "etc/lsb-release",
    "etc/magic",
    "etc/magic.mime",
    "etc/mailcap",
    "etc/manpath.config",
    "etc/matplotlibrc",
    "etc/maven",
    "etc/mime.types",
    "etc/mke2fs.conf",
    "etc/nanorc",
    "etc/netconfig",
    "etc/networks",
    "etc/papersize",
    "etc/perl",
    "etc/php",
    "etc/pki/ca-trust/extracted",
    "etc/pki/tls/certs",
    "etc/pki/tls/cert.pem",
    "etc/pki/tls/openssl.cnf",
    "etc/protocols",
    "etc/python3",
    "etc/python3.11",
    "etc/python3.12",
    "etc/python3.13",
    "etc/redhat-release",
    "etc/rpc",
    "etc/services",
    "etc/sgml",
    "etc/shells",
    "etc/ssl/cert.pem",
    "etc/ssl/certs",
    "etc/ssl/openssl.cnf",
    "etc/terminfo",
    "etc/texmf",
    "etc/timezone",
    "etc/vim",
    "etc/vulkan",
    "etc/wgetrc",
    "etc/xattr.conf",
    "etc/xdg",
    "etc/xml",
    NULL,
};

/* ---- what is made up ---- */

static const char *const folders[] = {
    "dev",       "dev/pts", "dev/shm",      "etc",       "etc/apt", "etc/apt/apt.conf.d",
    "etc/opt",   "home",    "media",        "mnt",       "opt",     "proc",
    "root",      "run",     "srv",          "tmp",       "usr",     "var",
    "var/cache", "var/lib", "var/lib/dpkg", "var/local", "var/log", "var/opt",
    "var/spool", "var/tmp", "workspace",
};

/* Folders in which the agent may add things.  A merged folder, as most below usr, belongs to whom
 * its topmost layer says. */
static const struct {
    const char *path;
    mode_t mode;
} agent_folders[] = {
    { "etc", 0755 },
    { "home", 0755 },
    { "home/agent", 0755 },
    { "opt", 0755 },
    { "run", 0755 },
    { "srv", 0755 },
    { "tmp", 01777 },
    { "var", 0755 },
    { "var/cache", 0755 },
    { "var/lib", 0755 },
    { "var/lib/dpkg", 0755 },
    { "var/log", 0755 },
    { "var/tmp", 01777 },
    { "workspace", 0755 },
    { "usr/bin", 0755 },
    { "usr/include", 0755 },
    { "usr/lib", 0755 },
    { "usr/lib/python3", 0755 },
    { "usr/lib/python3/dist-packages", 0755 },
    { "usr/local", 0755 },
    { "usr/local/bin", 0755 },
    { "usr/local/include", 0755 },
    { "usr/local/lib", 0755 },
    { "usr/local/sbin", 0755 },
    { "usr/local/share", 0755 },
    { "usr/sbin", 0755 },
    { "usr/share", 0755 },
};

static const struct {
    const char *path, *text;
} files[] = {
    { "dev/null", "" },
    { "dev/zero", "" },
    { "dev/full", "" },
    { "dev/random", "" },
    { "dev/urandom", "" },
    { "dev/tty", "" },
    { "etc/hostname", "computer\n" },
    { "etc/hosts", "127.0.0.1 localhost computer\n::1 localhost ip6-localhost ip6-loopback\n" },
    { "etc/resolv.conf", "# There is no name server here: programs reach allowed hosts through the "
                         "proxy\n# that http_proxy and https_proxy name.\noptions timeout:1 "
                         "attempts:1\n" },
    { "etc/nsswitch.conf", "passwd: files\ngroup: files\nshadow: files\nhosts: files dns\n"
                           "networks: files\nprotocols: files\nservices: files\nethers: files\n"
                           "rpc: files\n" },
    { "etc/group", "root:x:0:\ntty:x:5:\nagent:x:1000:\nnogroup:x:65534:\n" },
    { "etc/fstab", "" },
    { "etc/machine-id", "00000000000000000000000000000001\n" },
    { "etc/profile", "# PATH and the rest come from the computer's environment.\n"
                     "[ -n \"${BASH-}\" ] && [ -r /etc/bash.bashrc ] && . /etc/bash.bashrc\n"
                     ":\n" },
    { "etc/bash.bashrc", "[ -n \"${PS1-}\" ] && PS1='\\u@\\h:\\w\\$ '\n:\n" },
    { "etc/pip.conf",
      "[global]\nbreak-system-packages = true\ndisable-pip-version-check = true\n" },
    { "var/lib/dpkg/status", "" },
};

static const struct {
    const char *path, *target;
} links[] = {
    { "dev/ptmx", "pts/ptmx" },
    { "dev/fd", "/proc/self/fd" },
    { "dev/stdin", "/proc/self/fd/0" },
    { DEV_OUT, "/proc/self/fd/1" },
    { "dev/stderr", "/proc/self/fd/2" },
    { "etc/mtab", "../proc/self/mounts" },
    { "etc/os-release", "../usr/lib/os-release" },
    { "var/run", "../run" },
    { "var/lock", "../run" },
};

static bool make_folder(int dirfd, const char *path, struct error *err)
{
    if (mkdirat(dirfd, path, 0755) != 0 && errno != EEXIST)
        return error_set_errno(err, errno, "make %s", path);
    /* The server's umask must not decide what programs inside may read. */
    if (fchmodat(dirfd, path, 0755, 0) != 0)
        return error_set_errno(err, errno, "chmod %s", path);
    return true;
}

static bool make_file(int dirfd, const char *path, const char *text, size_t len, mode_t mode,
                      struct error *err)
{
    CLEANUP(fd_closep)
    int fd = openat(dirfd, path, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600);

    if (fd < 0)
        return error_set_errno(err, errno, "make %s", path);
    if (!fd_write_all(fd, text, len, err))
        return error_prefix(err, "write %s", path);
    if (fchmod(fd, mode) != 0)
        return error_set_errno(err, errno, "chmod %s", path);
    return true;
}

static bool make_passwd(int dirfd, int host_fd, struct error *err)
{
    const char *shell = faccessat(host_fd, "usr/bin/bash", X_OK, 0) == 0 ? "/bin/bash" : "/bin/sh";
    char text[256];
    int n = snprintf(text, sizeof text,
                     "root:x:0:0:root:/root:/bin/sh\n"
                     "agent:x:1000:1000:Agent:/home/agent:%s\n"
                     "nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n",
                     shell);

    return make_file(dirfd, "etc/passwd", text, (size_t)n, 0644, err);
}

/** bin, lib and the like: links into usr here as there. */
static bool make_usr_links(int dirfd, int host_fd, struct error *err)
{
    static const char *const names[] = { "bin", "sbin", "lib", "lib32", "lib64", "libx32" };

    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        char target[64];
        ssize_t n = readlinkat(host_fd, names[i], target, sizeof target - 1);

        if (n < 0 && errno == ENOENT)
            continue;
        target[MAX(n, 0)] = '\0';
        if (n < 0 || strncmp(*target == '/' ? target + 1 : target, "usr/", 4) != 0)
            return error_set(err, ERR_UNSUPPORTED,
                             "/%s of this host is not a link into /usr (a system with merged /usr "
                             "is needed)",
                             names[i]);
        if (symlinkat(target, dirfd, names[i]) != 0)
            return error_set_errno(err, errno, "link %s", names[i]);
    }
    return true;
}

/* ---- what is copied ---- */

struct copy {
    size_t bytes, entries;
    bool follow; /* what a link says can be looked up: the source is this system's own root */
};

/** "https://user:password@host/": not for a sandbox to read. */
static bool has_credentials(const char *text)
{
    for (const char *at = strstr(text, "://"); at; at = strstr(at, "://")) {
        at += 3;
        if (at[strcspn(at, "/@ \t\r\n\"'<>")] == '@')
            return true;
    }
    return false;
}

/** Only what everybody on the host may read; what is too large or strange is left out. */
static bool copy_file(struct copy *c, int from, const char *name, int to, struct error *err)
{
    CLEANUP(fd_closep)
    int fd = openat(from, name, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    char *text = NULL;
    struct stat st;
    ssize_t n;
    bool ok;

    if (fd < 0 || fstat(fd, &st) != 0 || !S_ISREG(st.st_mode) || !(st.st_mode & S_IROTH))
        return true;
    if ((uint64_t)st.st_size > COPY_FILE_MAX || c->bytes + (size_t)st.st_size > COPY_TOTAL_MAX)
        return true;
    text = malloc((size_t)st.st_size + 1);
    if (!text)
        return error_set(err, ERR_NOMEM, "copy %s", name);
    n = fd_read_full(fd, text, (size_t)st.st_size, NULL);
    text[MAX(n, 0)] = '\0';
    ok = n < 0 || has_credentials(text) ||
         make_file(to, name, text, (size_t)n, st.st_mode & 0111 ? 0755 : 0644, err);
    c->bytes += (size_t)MAX(n, 0);
    free(text);
    return ok;
}

/** What a link leads to is a file of a few kilobytes, and not a program, which may ask where it is.
 */
static bool is_small_file(int from, const char *name)
{
    struct stat st;

    return fstatat(from, name, &st, 0) == 0 && S_ISREG(st.st_mode) && !(st.st_mode & 0111) &&
           st.st_size <= 16384;
}

/** A link stays one where what it names can be found inside as well. */
static bool copy_link(struct copy *c, int from, const char *name, int to, struct error *err)
{
    char target[1024];
    ssize_t n = readlinkat(from, name, target, sizeof target - 1);

    if (n <= 0)
        return true;
    target[n] = '\0';
    if (c->follow && n >= LINK_LONG && is_small_file(from, name))
        return copy_file(c, from, name, to, err);
    if (*target == '/' && strncmp(target, "/usr/", 5) != 0 && strncmp(target, "/etc/", 5) != 0 &&
        strncmp(target, "/bin/", 5) != 0 && strncmp(target, "/lib", 4) != 0 &&
        strncmp(target, "/sbin/", 6) != 0 && strcmp(target, "/dev/null") != 0)
        return !c->follow || copy_file(c, from, name, to, err);
    if (symlinkat(target, to, name) != 0 && errno != EEXIST)
        return error_set_errno(err, errno, "link %s", name);
    return true;
}

/** Maven keeps passwords in its settings; compressed files are links to manual pages. */
static bool is_wanted(const char *name)
{
    size_t len = strlen(name);

    return strcmp(name, ".") != 0 && strcmp(name, "..") != 0 && strcmp(name, "settings.xml") != 0 &&
           (len < 3 || strcmp(name + len - 3, ".gz") != 0);
}

static bool copy_entry(struct copy *c, int from, const char *name, int to, int depth,
                       struct error *err);

static bool copy_folder(struct copy *c, int from, const char *name, int to, int depth,
                        struct error *err)
{
    CLEANUP(fd_closep) int target = -1;
    int source = openat(from, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    DIR *dir = source < 0 ? NULL : fdopendir(source);
    bool ok = true;

    if (!dir) {
        fd_close(source);
        return true; /* not for us to read */
    }
    if (!make_folder(to, name, err)) {
        closedir(dir);
        return false;
    }
    target = openat(to, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (target < 0)
        ok = error_set_errno(err, errno, "open %s", name);
    for (struct dirent *e = ok ? readdir(dir) : NULL; e && ok; e = readdir(dir)) {
        if (is_wanted(e->d_name))
            ok = copy_entry(c, dirfd(dir), e->d_name, target, depth + 1, err);
    }
    closedir(dir);
    return ok;
}

static bool copy_entry(struct copy *c, int from, const char *name, int to, int depth,
                       struct error *err)
{
    struct stat st;

    if (fstatat(from, name, &st, AT_SYMLINK_NOFOLLOW) != 0 || depth > COPY_DEPTH_MAX ||
        ++c->entries > COPY_ENTRIES_MAX)
        return true;
    if (S_ISLNK(st.st_mode))
        return copy_link(c, from, name, to, err);
    if (S_ISDIR(st.st_mode))
        return copy_folder(c, from, name, to, depth, err);
    return copy_file(c, from, name, to, err);
}

/** @path with its parents, which are not copied themselves. */
static bool copy_source(struct copy *c, int host_fd, const char *path, int dirfd, struct error *err)
{
    CLEANUP(fd_closep) int from = -1;
    CLEANUP(fd_closep) int to = -1;
    const char *name = strrchr(path, '/') + 1;
    char parent[64];

    (void)snprintf(parent, sizeof parent, "%.*s", (int)(name - path - 1), path);
    from = openat(host_fd, parent, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (from < 0 || faccessat(from, name, F_OK, AT_SYMLINK_NOFOLLOW) != 0)
        return true;
    for (char *slash = strchr(parent, '/'); slash; slash = strchr(slash + 1, '/')) {
        *slash = '\0';
        if (!make_folder(dirfd, parent, err))
            return false;
        *slash = '/';
    }
    if (!make_folder(dirfd, parent, err))
        return false;
    to = openat(dirfd, parent, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (to < 0)
        return error_set_errno(err, errno, "open %s", parent);
    return copy_entry(c, from, name, to, 0, err);
}

static bool make_agent_folders(int usr, int root, uid_t uid, gid_t gid, struct error *err)
{
    bool opaque = mounts_opaque();

    for (size_t i = 0; i < ARRAY_LEN(agent_folders); i++) {
        const char *path = agent_folders[i].path;
        bool below_usr = !strncmp(path, "usr/", 4);
        int dirfd = below_usr ? usr : root;

        if (!opaque && mounts_own_folder(path))
            continue;
        if (below_usr)
            path += 4;
        if (!make_folder(dirfd, path, err))
            return false;
        if (fchownat(dirfd, path, uid, gid, AT_SYMLINK_NOFOLLOW) != 0 ||
            fchmodat(dirfd, path, agent_folders[i].mode, 0) != 0)
            return error_set_errno(err, errno, "give %s to the agent", path);
    }
    return true;
}

/* Elsewhere, as in an image's tree, a link means something below that tree. */
static bool is_our_root(int fd)
{
    struct stat given, root;

    return fstat(fd, &given) == 0 && stat("/", &root) == 0 && given.st_dev == root.st_dev &&
           given.st_ino == root.st_ino;
}

static bool build_root(int dirfd, int host_fd, struct error *err)
{
    struct copy c = { .follow = is_our_root(host_fd) };
    bool opaque = mounts_opaque();

    for (size_t i = 0; i < ARRAY_LEN(folders); i++) {
        if (!opaque && mounts_own_folder(folders[i]))
            continue;
        if (!make_folder(dirfd, folders[i], err))
            return false;
    }
    for (const char *const *source = skeleton_sources; *source; source++) {
        if (strchr(*source, '/') && !copy_source(&c, host_fd, *source, dirfd, err))
            return false;
    }
    for (size_t i = 0; i < ARRAY_LEN(files); i++) {
        if (!make_file(dirfd, files[i].path, files[i].text, strlen(files[i].text), 0644, err))
            return false;
    }
    for (size_t i = 0; i < ARRAY_LEN(links); i++) {
        if (symlinkat(links[i].target, dirfd, links[i].path) != 0)
            return error_set_errno(err, errno, "link %s", links[i].path);
    }
    return make_passwd(dirfd, host_fd, err) && make_usr_links(dirfd, host_fd, err);
}

bool skeleton_build(int dirfd, int host_fd, uid_t uid, gid_t gid, struct error *err)
{
    CLEANUP(fd_closep) int root = -1;

    if (fchmod(dirfd, 0755) != 0)
        return error_set_errno(err, errno, "chmod the skeleton");
    if (!make_folder(dirfd, MOUNTS_ROOT, err))
        return false;
    root = openat(dirfd, MOUNTS_ROOT, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (root < 0)
        return error_set_errno(err, errno, "open the skeleton");
    return build_root(root, host_fd, err) && make_agent_folders(dirfd, root, uid, gid, err);
}
