/* No allocation that fails leaves anything but ERR_NOMEM, nothing lost and nothing said twice. */
#include "tests/unit/llm_fake.h"

#include "kernel/llm_job.h"

static void survives_every_allocation_failure(void **state)
{
    static const struct {
        const char *kind, *json, *body, *want;
    } rows[] = {
        { FAKE_ONE("openai", ""), FAKE_HI, OPENAI_ALL("Hello"), "Hello" },
        { FAKE_ONE("openai", ""),
          "{\"so_far\":\"One two\",\"system\":\"s\",\"stop\":[\"x\"],\"max_tokens\":5,"
          "\"messages\":[{\"role\":\"user\",\"content\":\"Hi\"}]}",
          OPENAI_ALL("two three"), " three" },
        { FAKE_ONE("anthropic", ""),
          "{\"tools\":[{\"name\":\"f\"}],\"messages\":[{\"role\":\"user\",\"content\":\"Hi\"}]}",
          CLAUDE_START CLAUDE_TEXT(
              "Hello") "data: "
                       "{\"type\":\"content_block_start\",\"index\":1,\"content_block\":{\"type\":"
                       "\"tool_use\",\"id\":\"b\",\"name\":\"f\",\"input\":{}}}\n\n" CLAUDE_END(
                           "tool_use"),
          "Hello" },
        { FAKE_ONE("openai", ""),
          "{\"schema\":{},\"messages\":[{\"role\":\"user\",\"content\":\"Hi\"}]}",
          "{\"choices\":[{\"message\":{\"content\":\"{}\"},\"finish_reason\":\"stop\"}]}", "{}" },
    };
    (void)state;

    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct llm_request request;
        json_t *all;

        fake_start(rows[i].kind);
        all = fake_request(&request, rows[i].json);
        FAULT_EACH(n)
        {
            struct wait w;
            struct llm_reply reply;
            struct error err = ERROR_INIT;
            bool ok;

            fault_disarm();
            fake_rewind();
            w = fake_wait(100);
            fake_step((struct fake_step){ .status = 200, .body = rows[i].body });
            buf_reserve(&fake.heard, 1000);
            llm_reply_init(&reply);
            fault_arm(n);
            ok = llm_query(fake.llm, &request, &w, &reply, &err);
            FAULT_DONE(n);
            /* jansson's reader drops what it finds no memory for and goes on, so that only the
             * last turn can be held to the text. */
            if (!ok && err.code != ERR_NOMEM)
                fail_msg("row %zu, allocation %u: %s: %s", i, n, error_code_name(err.code),
                         err.text);
            if (n_last) {
                assert_ok(ok, err);
                assert_string_equal(buf_str(&reply.text), rows[i].want);
            }
            llm_reply_fini(&reply);
        }
        json_decref(all);
        fake_end(NULL);
    }
}

static void is_made_whole_or_not_at_all(void **state)
{
    struct error none = ERROR_INIT;
    static const char text[] = "{\"llm\":" FAKE_ONE("openai", ", \"ca_file\": \"/x\"") "}";
    struct config *config = config_parse(text, strlen(text), "test", NULL, &none);
    (void)state;

    assert_ok(config, none);
    FAULT_EACH(n)
    {
        struct error err = ERROR_INIT;
        struct llm *l = llm_new(config, NULL, &err);

        FAULT_DONE(n);
        if (!l)
            assert_code(err, ERR_NOMEM);
        llm_free(l);
    }
    config_free(config);
}

static void vectors_come_or_do_not(void **state)
{
    static const char *const texts[] = { "one", "two" };
    (void)state;

    fake_start("{\"providers\": [{\"name\": \"v\", \"kind\": \"openai\", \"embed_model\": \"e\", "
               "\"base_url\": \"https://two.example\"}]}");
    FAULT_EACH(n)
    {
        struct wait w;
        struct error err = ERROR_INIT;
        float *rows = NULL;
        size_t dims;
        bool ok;

        fault_disarm();
        fake_rewind();
        w = fake_wait(100);
        fake_step((struct fake_step){
            .status = 200, .body = "{\"data\":[{\"embedding\":[1]},{\"embedding\":[2]}]}" });
        fault_arm(n);
        ok = llm_embed(fake.llm, "x", texts, 2, &w, &rows, &dims, &err);
        FAULT_DONE(n);
        if (!ok && err.code != ERR_NOMEM)
            fail_msg("allocation %u: %s: %s", n, error_code_name(err.code), err.text);
        free(rows);
    }
}

static void vectors_of_several_calls_come_or_do_not(void **state)
{
    static const char *const texts[] = { "one", "two" };
    int64_t output = 1;
    uint64_t reserved;
    (void)state;

    fake_start("{\"providers\": [{\"name\": \"v\", \"kind\": \"openai\", \"embed_model\": \"e\", "
               "\"base_url\": \"https://two.example\"}]}");
    /* Or the first that finds no memory for its account would not be in the request. */
    assert_true(llm_account_reserve(fake.llm->accounts, "x", 0, &output, &reserved, NULL));
    FAULT_EACH(n)
    {
        struct wait w;
        struct llm_embed_call calls[2];

        fault_disarm();
        fake_rewind();
        w = fake_wait(100);
        for (size_t i = 0; i < 2; i++)
            calls[i] =
                (struct llm_embed_call){ .agent = "x", .texts = &texts[i], .count = 1, .wait = &w };
        fake_step((struct fake_step){
            .status = 200, .body = "{\"data\":[{\"embedding\":[1]},{\"embedding\":[2]}]}" });
        fault_arm(n);
        llm_embed_many(fake.llm, calls, 2);
        FAULT_DONE(n);
        for (size_t i = 0; i < 2; i++) {
            if (!calls[i].ok && calls[i].err.code != ERR_NOMEM)
                fail_msg("allocation %u: %s: %s", n, error_code_name(calls[i].err.code),
                         calls[i].err.text);
            free(calls[i].rows);
        }
    }
}

static void a_job_starts_or_does_not(void **state)
{
    struct llm_request request;
    json_t *all;
    (void)state;

    fake_start(FAKE_ONE("openai", ""));
    clock_real();
    all = fake_request(&request, "{\"system\":\"s\",\"model\":\"m\",\"so_far\":\"One\",\"stop\":"
                                 "[\"x\"],\"tools\":[{\"name\":\"f\"}],\"messages\":[{\"role\":"
                                 "\"user\",\"content\":\"Hi\"}]}");
    FAULT_EACH(n)
    {
        struct wait w = { .deadline_ns = clock_now_ns() + 30 * CLOCK_NS_PER_S };
        struct error err = ERROR_INIT;
        struct llm_reply reply;
        struct llm_job *job;
        struct id id = { "" };

        fault_disarm();
        fake_rewind();
        fake_step((struct fake_step){ .status = 200, .body = OPENAI_ALL(" two") });
        fault_arm(n);
        job = llm_job_start(fake.llm, &request, NULL, NULL, &err);
        if (job) {
            llm_job_park(job, &id); /* neither can fail */
            job = llm_job_claim(fake.llm, request.agent, id.text, &err);
            assert_ok(job && llm_job_wait(job, &w, &err), err);
        }
        FAULT_DONE(n);
        if (job) {
            if (!llm_job_result(job, &reply, &err))
                assert_code(err, ERR_NOMEM);
            assert_string_equal(llm_job_so_far(job), "One");
            if (n_last)
                assert_string_equal(buf_str(&reply.text), " two");
            llm_reply_fini(&reply);
        } else {
            assert_code(err, ERR_NOMEM);
        }
        llm_job_free(job);
    }
    json_decref(all);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        WITH_FAKE(survives_every_allocation_failure),
        cmocka_unit_test(is_made_whole_or_not_at_all),
        WITH_FAKE(vectors_come_or_do_not),
        WITH_FAKE(vectors_of_several_calls_come_or_do_not),
        WITH_FAKE(a_job_starts_or_does_not),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
