/* Memory over the storage that it is made for. */
#include "kernel/base/clock.h"
#include "kernel/config.h"
#include "kernel/memory.h"
#include "kernel/storage.h"
#include "tests/support/folder.h"

enum { NOTES = 30, SIZE = 60000 };

static const struct memory_who alice = { .agent = "alice" };

static struct config *config_of(void)
{
    struct error err = ERROR_INIT;
    json_t *json = json_pack("{s:{s:s},s:{s:s,s:i}}", "storage", "dir", folder_path("storage"),
                             "memory", "dir", "/", "quota_mb", 1);
    struct config *config;

    json_object_set_new(json_object_get(json, "memory"), "dir", json_string(folder_path("memory")));
    config = config_parse(NULL, 0, "", json, &err);
    json_decref(json);
    assert_ok(config, err);
    return config;
}

static char *text_of(int number)
{
    char *text = malloc(SIZE + 1);

    assert_non_null(text);
    memset(text, 'a' + number % 26, SIZE);
    text[SIZE] = '\0';
    text[snprintf(text, SIZE, "number%d", number)] = ' ';
    return text;
}

static void moves_notes_to_storage_and_back(void **state)
{
    struct wait w = { .deadline_ns = clock_add_ns(clock_now_ns(), 60 * CLOCK_NS_PER_S) };
    struct config *config = config_of();
    struct error err = ERROR_INIT;
    char ids[NOTES][40];
    struct memory_usage u;
    (void)state;

    for (int round = 0; round < 2; round++) {
        struct storage *storage = storage_open(config, NULL, &err);
        struct memory *m;

        assert_ok(storage, err);
        m = memory_open(config, storage, NULL, NULL, &err);
        assert_ok(m, err);
        for (int i = 0; i < NOTES; i++) {
            char *text = text_of(i);
            struct memory_note note;

            if (round == 0) {
                assert_ok(memory_save(m, &alice, NULL, text, SIZE, NULL, MEMORY_PRIVATE, 0, &w,
                                      &note, &err),
                          err);
                memcpy(ids[i], note.id, sizeof ids[i]);
            } else {
                assert_ok(memory_get(m, &alice, ids[i], &w, &note, &err), err);
            }
            assert_string_equal(note.text, text);
            memory_note_fini(&note);
            free(text);
        }
        assert_ok(memory_usage(m, "alice", &u, &err), err);
        assert_true(u.evictions > 0 && u.resident_bytes <= u.quota_bytes);
        assert_int_equal(u.resident_bytes + u.stored_bytes, NOTES * SIZE);
        for (int i = 0; round == 1 && i < NOTES; i++) {
            CLEANUP(buf_fini) struct buf out = BUF_INIT;

            assert_ok(memory_delete(m, &alice, ids[i], &w, &err), err);
            assert_false(
                storage_get(storage, "~memory.alice", ids[i], 0, 0, SIZE, &out, &w, NULL, &err));
            assert_code(err, ERR_NOT_FOUND);
            error_clear(&err);
        }
        memory_close(m);
        storage_close(storage);
    }
    config_free(config);
}

int main(void)
{
    const struct CMUnitTest tests[] = { WITH_FOLDER(moves_notes_to_storage_and_back) };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
