/*
 * revision - everything in which the protocol's revisions differ, and nothing else.
 *
 * Two eras are served side by side, decided for each message.  Modern (2026-07-28): a request
 * carries its protocol version and the client's capabilities in _meta, and nothing is remembered.
 * Legacy (2025-11-25 and before): `initialize` settles the version for later requests.
 * Sources: the protocol's published schemas and specification of each revision.
 * Threads: one at a time.
 */
#pragma once

#include <jansson.h>
#include <stdbool.h>

#include "kernel/base/buf.h"
#include "mcp/jsonrpc.h"

#define REVISION_MODERN_VERSION "2026-07-28"
#define REVISION_LEGACY_LATEST  "2025-11-25"

enum revision_era { REVISION_LEGACY, REVISION_MODERN };

/* RFC 5424 severities, as logging levels name them; larger is more severe. */
enum revision_level {
    REVISION_LEVEL_NONE = -1,
    REVISION_LEVEL_DEBUG,
    REVISION_LEVEL_INFO,
    REVISION_LEVEL_NOTICE,
    REVISION_LEVEL_WARNING,
    REVISION_LEVEL_ERROR,
    REVISION_LEVEL_CRITICAL,
    REVISION_LEVEL_ALERT,
    REVISION_LEVEL_EMERGENCY,
};

/** What a client says that it can be asked. */
struct revision_offers {
    bool roots;
    bool sampling, sampling_tools; /* its model; and that takes tools */
    bool elicitation;              /* a person, by a form */
};

/** What the legacy era remembers of a connection. */
struct revision_legacy {
    const char *version; /* agreed; a constant; REVISION_LEGACY_LATEST until then */
    bool initialized;
    struct revision_offers offers;
    enum revision_level level; /* of logging/setLevel */
};

/** How one message is to be served. */
struct revision {
    enum revision_era era;
    const char *version; /* a constant */
    const json_t *token; /* progressToken: string or integer, borrowed; or NULL */
    struct revision_offers offers;
    enum revision_level level; /* modern: of this request; NONE: send no log messages for it */
};

enum revision_method {
    REVISION_UNKNOWN,
    REVISION_INITIALIZE,
    REVISION_DISCOVER,
    REVISION_PING,
    REVISION_SET_LEVEL,
    REVISION_TOOLS_LIST,
    REVISION_TOOLS_CALL,
};

/** Judge a request: true fills @ret and *ret_method (UNKNOWN: answer method not found).  False:
 *  the whole error answer has been appended to @out. */
bool revision_judge(const struct revision_legacy *legacy, const struct jsonrpc *m,
                    struct revision *ret, enum revision_method *ret_method, struct buf *out);

/** Legacy `initialize`: settles @legacy and appends the result object to @out; or false with the
 * text of an invalid-params error in @ret_text. */
bool revision_initialize(struct revision_legacy *legacy, const json_t *params,
                         const char *instructions, struct buf *out, const char **ret_text);

/** In the _meta of tools/list, true: those too that answer programs and are not shown to models. */
#define REVISION_ALL_TOOLS "aios/all"

/** Modern `server/discover`: the result object. */
bool revision_discover(const char *instructions, struct buf *out);

/** What every result object of this era begins and ends with: open writes "{" and perhaps fields
 *  with a comma after them, close writes the rest and "}".  @cache: a list that may be cached. */
bool revision_open_result(const struct revision *r, struct buf *out);
bool revision_close_result(const struct revision *r, bool cache, struct buf *out);

/** The close of a failed call: its _meta says @class, a stable name such as "not_found", under
 *  REVISION_ERROR_CLASS. */
#define REVISION_ERROR_CLASS "aios/error"
bool revision_close_error(const struct revision *r, const char *class, struct buf *out);

/** Modern: the result object that asks the client for something, to be sent back beside @state with
 *  the call made anew.  @params: a JSON object as text, or NULL. */
bool revision_put_input(const char *method, const char *params, const char *state, struct buf *out);

/** Modern: whether the call brings an answer to such a question, and which.  *ret_state is NULL for
 *  a call that is none; *ret_answer (borrowed) is NULL when the answer is missing.  False:
 * *ret_text of an invalid-params error. */
bool revision_get_input(const json_t *params, const char **ret_state, const json_t **ret_answer,
                        const char **ret_text);

/** True when a tool's declaration may hold this field in this version. */
bool revision_has_annotations(const struct revision *r);
bool revision_has_title(const struct revision *r);
bool revision_has_structured(const struct revision *r);

/** "warning" -> REVISION_LEVEL_WARNING; NONE for an unknown name. */
enum revision_level revision_level_parse(const char *name);
const char *revision_level_name(enum revision_level level);
