/* Log messages to the client: what the kernel's event bus says, at the level that was asked for. */
#include "mcp/server_internal.h"

#include <string.h>

static enum revision_level level_of(const char *topic)
{
    static const struct {
        const char *topic;
        enum revision_level level;
    } table[] = {
        { "computer.lost", REVISION_LEVEL_ERROR },   { "computer.refused", REVISION_LEVEL_WARNING },
        { "egress.denied", REVISION_LEVEL_WARNING }, { "syscall.denied", REVISION_LEVEL_WARNING },
        { "egress.allowed", REVISION_LEVEL_INFO },   { "egress.ended", REVISION_LEVEL_DEBUG },
    };

    for (size_t i = 0; i < ARRAY_LEN(table); i++)
        if (strcmp(table[i].topic, topic) == 0)
            return table[i].level;
    return strncmp(topic, "computer.", 9) == 0 ? REVISION_LEVEL_INFO : REVISION_LEVEL_DEBUG;
}

/* The least severe level that anybody here wants to hear of just now. */
static enum revision_level wanted(const struct mcp_server *s)
{
    enum revision_level least = s->legacy.level;

    LIST_FOR_EACH (node, &s->requests) {
        const struct request *r = LIST_ENTRY(node, struct request, link);

        if (r->silent || !r->id || r->revision.era != REVISION_MODERN ||
            r->revision.level == REVISION_LEVEL_NONE)
            continue;
        if (least == REVISION_LEVEL_NONE || r->revision.level < least)
            least = r->revision.level;
    }
    return least;
}

static void put_event(struct mcp_server *s, enum revision_level level, const struct event *event)
{
    size_t from = server_compose(s);

    buf_printf(&s->out,
               "{\"jsonrpc\":\"2.0\",\"method\":\"notifications/message\",\"params\":{\"level\":"
               "\"%s\",\"logger\":\"aios\",\"data\":{\"event\":",
               revision_level_name(level));
    jsonrpc_put_string(&s->out, event->topic, strlen(event->topic));
    buf_append_str(&s->out, ",\"subject\":");
    jsonrpc_put_string(&s->out, event->subject, strlen(event->subject));
    buf_append_str(&s->out, ",\"text\":");
    jsonrpc_put_string(&s->out, event->text, strlen(event->text));
    buf_append_str(&s->out, "}}");
    jsonrpc_end(&s->out);
    UNCHECKED(server_commit(s, from, false));
}

static void on_events(struct loop_post *post)
{
    struct mcp_server *s = CONTAINER_OF(post, struct mcp_server, events_post);
    enum revision_level least = wanted(s);
    struct event event;
    uint64_t dropped;

    atomic_store(&s->events_posted, false);
    while (s->events && event_next(s->events, &event, &dropped)) {
        enum revision_level level = level_of(event.topic);

        /* Messages that nobody reads are dropped, since their number has no bound. */
        if (least == REVISION_LEVEL_NONE || level < least ||
            server_unsent(s) > LIMIT_MCP_OUT_BYTES ||
            strcmp(event.agent, agent_name(s->options.agent)) != 0)
            continue;
        put_event(s, level, &event);
    }
    server_flush(s);
}

/* On the publisher's thread; the server is alive as long as it is subscribed. */
static void on_published(void *arg)
{
    struct mcp_server *s = arg;

    if (atomic_exchange(&s->events_posted, true))
        return;
    loop_post(s->loop, &s->events_post, on_events);
}

void server_log_start(struct mcp_server *s)
{
    struct error err = ERROR_INIT;

    if (s->events)
        return;
    /* Without memory for it there are no log messages; everything else goes on. */
    s->events = event_subscribe(kernel_events(s->options.kernel), "*", on_published, s, &err);
}

void server_log_stop(struct mcp_server *s)
{
    if (!s->events)
        return;
    event_unsubscribe(s->events);
    s->events = NULL;
    /* A post that is on its way comes back within one turn. */
    while (atomic_load(&s->events_posted))
        loop_turn(s->loop, 0);
}
