#include "kernel/access_ask.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernel/base/buf.h"
#include "kernel/base/clock.h"
#include "kernel/redact.h"

#define REMEMBER        "remember"
#define ARGUMENTS_BYTES 4000u
#define STRING_BYTES    3000u

/* One box to tick.  Accepting the form is the answer. */
static json_t *form(void)
{
    return json_pack("{s:s, s:{s:{s:s, s:s, s:s, s:b}}}", "type", "object", "properties", REMEMBER,
                     "type", "boolean", "title", "Do not ask again", "description",
                     "Allow this agent every call of this tool that the same rule asks about, "
                     "until the server ends.",
                     "default", 0);
}

static bool put_message(struct buf *out, const struct access_question *q, struct error *err)
{
    char arguments[ARGUMENTS_BYTES];
    bool cut;

    (void)redact_shown(q->call->json, arguments, sizeof arguments, STRING_BYTES, &cut);
    if (buf_printf(out,
                   "Agent %s wants to call the tool %s with\n\n%s\n\n%sThis is left to you by the "
                   "configuration (%s). Allow it?",
                   agent_name(q->call->agent), q->call->tool->name, arguments,
                   cut ? "ATTENTION: it is too long to be shown, and has been cut.\n\n" : "",
                   q->verdict->rule))
        return true;
    return error_set(err, ERR_NOMEM, "a question");
}

/* What became of the question; true for yes. */
static bool put_question(const struct access_question *q, json_t **ret_content, struct error *err)
{
    const struct syscall *sc = q->call;
    struct wait w = { .deadline_ns = clock_add_ns(clock_now_ns(), q->timeout_ns),
                      .cancel = q->cancel };
    CLEANUP(buf_fini) struct buf message = BUF_INIT;
    json_t *schema;
    bool yes;

    if (!sc->peer || !sc->peer->elicit)
        return error_set(err, ERR_UNSUPPORTED, "nobody is there to ask");
    if (!put_message(&message, q, err))
        return false;
    schema = form();
    if (!schema)
        return error_set(err, ERR_NOMEM, "a question");
    yes = sc->peer->elicit(sc->peer_arg, buf_str(&message), schema, ret_content, &w, err);
    json_decref(schema);
    return yes;
}

static bool refuse(const struct access_question *q, const char *why, const char *what_now,
                   struct error *err)
{
    return error_set(err, ERR_DENIED,
                     "%s was not called: the configuration leaves that to a "
                     "person (%s), and %s%s",
                     q->call->tool->name, q->verdict->rule, why, what_now);
}

static bool refuse_as(const struct access_question *q, const struct error *why,
                      char how[ACCESS_ASK_HOW_BYTES], struct error *err)
{
    char text[400];

    (void)snprintf(how, ACCESS_ASK_HOW_BYTES, "%s", error_code_name(why->code));
    switch (why->code) {
    case ERR_CANCELLED:
        (void)snprintf(how, ACCESS_ASK_HOW_BYTES, "cancelled before there was an answer");
        return error_set(err, ERR_CANCELLED, "cancelled before there was an answer");
    case ERR_DENIED:
        (void)snprintf(how, ACCESS_ASK_HOW_BYTES, "the person said no");
        return refuse(q, "the person said no", "; do not try another way around it", err);
    case ERR_TIMEOUT:
        (void)snprintf(how, ACCESS_ASK_HOW_BYTES, "no answer within %lld s",
                       (long long)(q->timeout_ns / CLOCK_NS_PER_S));
        (void)snprintf(text, sizeof text, "there was no answer within %lld s",
                       (long long)(q->timeout_ns / CLOCK_NS_PER_S));
        return refuse(q, text, "; tell the person, and call again when they are there", err);
    case ERR_UNSUPPORTED:
        (void)snprintf(how, ACCESS_ASK_HOW_BYTES, "this client cannot ask a person");
        return refuse(q, "this client cannot ask one",
                      "; it would have to offer MCP elicitation, or the rule be changed", err);
    default:
        (void)snprintf(how, ACCESS_ASK_HOW_BYTES, "asking failed: %.100s", why->text);
        (void)snprintf(text, sizeof text, "asking failed: %.300s", why->text);
        return refuse(q, text, "", err);
    }
}

bool access_ask(struct access *a, const struct access_question *question,
                char how[ACCESS_ASK_HOW_BYTES], struct error *err)
{
    struct error why = ERROR_INIT;
    json_t *content = NULL;

    if (!put_question(question, &content, &why))
        return refuse_as(question, &why, how, err);
    (void)snprintf(how, ACCESS_ASK_HOW_BYTES, "the person said yes");
    if (json_is_true(json_object_get(content, REMEMBER))) {
        access_remember(a, question->verdict->number, question->call->agent,
                        question->call->tool->name);
        (void)snprintf(how, ACCESS_ASK_HOW_BYTES, "the person said yes, also to later calls");
    }
    json_decref(content);
    return true;
}
