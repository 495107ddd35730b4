#include "tools/toolkit.h"

#include <string.h>

#include "kernel/base/buf.h"
#include "kernel/toolmgr.h"
#include "tools/browser_outline.h"

#define EVERY_GROUP "all"

/* The order in which tools are listed to a model: making a computer, then using it; at the end
 * those of the kernel itself, which programs call more than models. */
static const struct toolset *const toolsets[] = {
    &toolset_computer, &toolset_terminal,    &toolset_code,     &toolset_file,
    &toolset_browser,  &toolset_browser_act, &toolset_document, &toolset_desktop,
    &toolset_memory,   &toolset_storage,     &toolset_llm,      &toolset_agent,
};

static bool group_known(const char *name)
{
    for (size_t i = 0; i < ARRAY_LEN(toolsets); i++)
        if (strcmp(toolsets[i]->name, name) == 0)
            return true;
    return false;
}

static bool group_wanted(const json_t *groups, const struct toolset *set)
{
    size_t i;
    json_t *group;

    if (!groups)
        return true;
    json_array_foreach (groups, i, group) {
        const char *text = json_string_value(group);

        if (text && (strcmp(text, set->name) == 0 || strcmp(text, EVERY_GROUP) == 0))
            return true;
    }
    return false;
}

bool toolset_register(struct toolmgr *tools, const json_t *groups, struct error *err)
{
    size_t i;
    json_t *group;

    json_array_foreach (groups, i, group) {
        const char *text = json_string_value(group);

        if (!text || (strcmp(text, EVERY_GROUP) != 0 && !group_known(text))) {
            CLEANUP(buf_fini) struct buf known = BUF_INIT;

            for (i = 0; i < ARRAY_LEN(toolsets); i++)
                if (i == 0 || strcmp(toolsets[i]->name, toolsets[i - 1]->name) != 0)
                    (void)buf_printf(&known, "%s%s", i ? ", " : "", toolsets[i]->name);
            return error_set(err, ERR_INVALID,
                             "no group of tools is called \"%s\"; there are %s, or " EVERY_GROUP,
                             text ? text : "", buf_str(&known));
        }
    }
    for (i = 0; i < ARRAY_LEN(toolsets); i++) {
        if (!groups && toolsets[i]->unlisted)
            toolmgr_end_list(tools);
        if (group_wanted(groups, toolsets[i]) && !toolmgr_add(tools, toolsets[i], err))
            return false;
    }
    return true;
}
