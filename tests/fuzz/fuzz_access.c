/* Patterns against arguments: first line the patterns of a rule, second line those of a call. */
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernel/access_args.h"
#include "kernel/access_glob.h"
#include "kernel/base/json.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(bool ok)
{
    if (!ok)
        abort();
}

static void check_normal(const char *path, size_t len)
{
    char once[PATH_MAX], twice[PATH_MAX];

    if (!access_args_normal(path, len, once, sizeof once))
        return;
    check(once[0] == '/' && !strstr(once, "//") && !strstr(once, "/../") && !strstr(once, "/./"));
    check(access_args_normal(once, strlen(once), twice, sizeof twice) &&
          (strlen(once) < len || !strcmp(once, twice) || memchr(path, 0, len)));
}

static void check_glob(const char *text, size_t len)
{
    struct access_glob *g;
    char *pattern = calloc(1, len + 1); /* strndup() looks beyond what it copies */

    check(pattern != NULL);
    memcpy(pattern, text, len);
    g = access_glob_new(pattern, NULL);
    if (g) {
        /* Without an escape a pattern matches itself. */
        check(strchr(pattern, '\\') || access_glob_matches(g, pattern, strlen(pattern)));
        (void)access_glob_matches(g, text, len);
    }
    access_glob_free(g);
    free(pattern);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const char *text = (const char *)data;
    const char *end = size ? memchr(text, '\n', size) : NULL;
    size_t first = end ? (size_t)(end - text) : size;
    json_t *patterns = json_parse(text, first, NULL);
    json_t *call = end ? json_parse(end + 1, size - first - 1, NULL) : NULL;
    struct access_args *args = patterns ? access_args_new(patterns, NULL) : NULL;

    check_normal(text, size);
    check_glob(text, size);
    if (args) {
        enum access_match match = access_args_match(args, call);

        check(match == ACCESS_MATCH_NO || match == ACCESS_MATCH_YES ||
              match == ACCESS_MATCH_UNSURE);
        check(json_object_size(patterns) > 0 || match == ACCESS_MATCH_YES);
    }
    access_args_free(args);
    json_decref(call);
    json_decref(patterns);
    return 0;
}
