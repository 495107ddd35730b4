#include "images/guest/file.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "images/guest/inside.h"
#include "images/guest/place.h"
#include "images/guest/sys.h"

#define MODE_BITS 07777u

static int get_stat(struct inside *in, struct wire_in *args, struct stat *ret)
{
    struct place place;
    int error = place_get(&place, in->root_fd, args);
    uint8_t follow;
    int fd;

    if (error)
        return error;
    follow = wire_get_u8(args);
    if (!wire_in_done(args)) {
        place_fini(&place);
        return EBADMSG;
    }
    fd = place_open(&place, O_PATH | (follow ? 0 : O_NOFOLLOW), 0);
    error = fd < 0 || fstat(fd, ret) != 0 ? errno : 0;
    if (fd >= 0)
        close(fd);
    place_fini(&place);
    return error;
}

void file_stat(struct inside *in, uint32_t channel, struct wire_in *args)
{
    uint8_t bytes[64];
    struct wire_out o = { .data = bytes, .cap = sizeof bytes };
    struct stat st;
    int error = get_stat(in, args, &st);

    if (!error) {
        struct wire_stat ws;

        place_fill_stat(&st, &ws);
        wire_put_stat(&o, &ws);
    }
    lane_reply_to(in, channel, error, bytes, o.len);
}

static int make_at(int dir, const char *name, mode_t mode, bool parents)
{
    struct stat st;

    if (mkdirat(dir, name, mode) == 0)
        /* The mode is what was asked for, whatever the umask. */
        return mode & 022 && fchmodat(dir, name, mode, 0) != 0 ? errno : 0;
    if (errno == EEXIST && parents && fstatat(dir, name, &st, 0) == 0)
        return S_ISDIR(st.st_mode) ? 0 : ENOTDIR;
    return errno;
}

static int make(struct inside *in, struct wire_in *args)
{
    struct place place;
    char name[PLACE_NAME_MAX];
    int error = place_get(&place, in->root_fd, args);
    uint32_t mode;
    uint8_t parents;
    int dir;

    if (error)
        return error;
    mode = wire_get_u32(args);
    parents = wire_get_u8(args);
    if (!wire_in_done(args))
        error = EBADMSG;
    else if (parents)
        error = place_make_parents(&place);
    if (!error) {
        dir = place_open_parent(&place, name);
        if (dir >= 0) {
            error = make_at(dir, name, mode & MODE_BITS, parents != 0);
            close(dir);
        } else {
            error = errno == EBUSY ? (parents ? 0 : EEXIST) : errno;
        }
    }
    place_fini(&place);
    return error;
}

void file_make(struct inside *in, uint32_t channel, struct wire_in *args)
{
    lane_reply_to(in, channel, make(in, args), NULL, 0);
}

static int move_between(const struct place *from, const struct place *to, bool replace)
{
    char old_name[PLACE_NAME_MAX], new_name[PLACE_NAME_MAX];
    int old_dir = place_open_parent(from, old_name);
    int new_dir;
    int error = 0;

    if (old_dir < 0)
        return errno;
    new_dir = place_open_parent(to, new_name);
    if (new_dir < 0 || sys_renameat2(old_dir, old_name, new_dir, new_name,
                                     replace ? 0 : SYS_RENAME_NOREPLACE) != 0)
        error = errno;
    if (new_dir >= 0)
        close(new_dir);
    close(old_dir);
    return error;
}

static int move(struct inside *in, struct wire_in *args)
{
    char root[WIRE_PATH_MAX], path[WIRE_PATH_MAX];
    struct place from, to;
    uint8_t replace;
    int error;

    if (!wire_get_str_into(args, root, sizeof root) || !wire_get_str_into(args, path, sizeof path))
        return EBADMSG;
    error = place_init(&from, in->root_fd, root, path);
    if (error)
        return error;
    if (!wire_get_str_into(args, path, sizeof path))
        error = EBADMSG;
    replace = wire_get_u8(args);
    if (!error && !wire_in_done(args))
        error = EBADMSG;
    if (!error)
        error = place_init(&to, in->root_fd, root, path);
    if (!error) {
        error = move_between(&from, &to, replace != 0);
        place_fini(&to);
    }
    place_fini(&from);
    return error;
}

void file_move(struct inside *in, uint32_t channel, struct wire_in *args)
{
    lane_reply_to(in, channel, move(in, args), NULL, 0);
}
