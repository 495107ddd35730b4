#include "tests/support/check.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/support/folder.h"
#include "vmctl/overlay.h"

static uint64_t number_at(int fd, off_t at, size_t bytes)
{
    uint8_t raw[8];
    uint64_t v = 0;

    assert_int_equal(pread(fd, raw, bytes, at), bytes);
    for (size_t i = 0; i < bytes; i++)
        v = v << 8 | raw[i];
    return v;
}

/* As the format's description has it. */
static void an_overlay_is_an_empty_image_that_names_nothing(void **state)
{
    const char *const dirs[] = { NULL, folder_base };
    (void)state;

    for (size_t i = 0; i < ARRAY_LEN(dirs); i++) {
        struct error err = ERROR_INIT;
        CLEANUP(fd_closep) int fd = overlay_make(dirs[i], 5ull << 30, &err);
        struct stat st;

        assert_ok(fd >= 0, err);
        assert_int_equal(fstat(fd, &st), 0);
        assert_int_equal(st.st_size, 4 * 65536);
        assert_int_equal(st.st_nlink, 0);
        assert_int_equal(number_at(fd, 0, 4), 0x514649fb);
        assert_int_equal(number_at(fd, 4, 4), 3);
        assert_int_equal(number_at(fd, 8, 8), 0);
        assert_int_equal(number_at(fd, 20, 4), 16);
        assert_true(number_at(fd, 24, 8) == 5ull << 30);
        assert_int_equal(number_at(fd, 36, 4), 10); /* entries of 512 MiB */
        assert_int_equal(number_at(fd, 40, 8), 3 * 65536);
        assert_int_equal(number_at(fd, 48, 8), 65536);
        assert_int_equal(number_at(fd, 100, 4), 104);
        assert_int_equal(number_at(fd, 65536, 8), 2 * 65536);
        assert_true(number_at(fd, 2 * 65536, 8) == 0x0001000100010001ull);
        assert_int_equal(number_at(fd, 2 * 65536 + 8, 2), 0);
        assert_int_equal(number_at(fd, 3 * 65536, 8), 0);
    }
    assert_int_equal(folder_has("."), true);
}

static void refuses_what_cannot_be(void **state)
{
    static const struct {
        const char *dir;
        uint64_t bytes;
        enum error_code code;
    } rows[] = {
        { NULL, 0, ERR_INVALID },
        { NULL, 513, ERR_INVALID },
        { NULL, OVERLAY_BYTES_MAX + 512, ERR_INVALID },
        { "/nowhere", 512, ERR_NOT_FOUND },
    };
    (void)state;

    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct error err = ERROR_INIT;

        assert_int_equal(overlay_make(rows[i].dir, rows[i].bytes, &err), -1);
        assert_code(err, rows[i].code);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_FOLDER(an_overlay_is_an_empty_image_that_names_nothing),
        WITH_FOLDER(refuses_what_cannot_be),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
