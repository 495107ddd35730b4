/*
 * check - CMocka with everything it needs before it, and assertions about struct error.
 *
 * Threads: assertions only on the test's own thread.
 */
#pragma once

/* clang-format off: CMocka wants these four before it */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
/* clang-format on */

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "kernel/base/attr.h"
#include "kernel/base/error.h"
#include "tests/support/fault.h"

/** @cond holds; otherwise the error's text is shown.  @err is a struct error, not a pointer. */
#define assert_ok(cond, err)                                                        \
    do {                                                                            \
        if (!(cond))                                                                \
            fail_msg("%s: %s: %s", #cond, error_code_name((err).code), (err).text); \
    } while (0)

/** The error has this code; otherwise code and text are shown. */
#define assert_code(err, want)                                                                    \
    do {                                                                                          \
        if ((err).code != (want))                                                                 \
            fail_msg("wanted %s, got %s: %s", error_code_name(want), error_code_name((err).code), \
                     (err).text);                                                                 \
    } while (0)

/** @text contains @part; otherwise both are shown. */
#define assert_contains(text, part)                            \
    do {                                                       \
        const char *text_ = (text), *part_ = (part);           \
        if (!strstr(text_, part_))                             \
            fail_msg("\"%s\" is not in \"%s\"", part_, text_); \
    } while (0)

/** The test cannot run here: says why, and is skipped, or fails where AIOS_TEST_STRICT=1. */
#define skip_because(...)                                                    \
    do {                                                                     \
        const char *strict_ = getenv("AIOS_TEST_STRICT");                    \
        print_message("skipped: " __VA_ARGS__);                              \
        print_message("\n");                                                 \
        if (strict_ && !strcmp(strict_, "1"))                                \
            fail_msg("a skipped test is a failure with AIOS_TEST_STRICT=1"); \
        skip();                                                              \
    } while (0)

/** Runs its body once for each allocation the body makes, which then fails, and a last time
 *  without a fault.  The body calls FAULT_DONE(n) right after the operation under test. */
#define FAULT_EACH(n) for (unsigned n = 0, n##_last = 0; !n##_last && (fault_arm(n), 1); n++)
#define FAULT_DONE(n) (n##_last = !fault_disarm())
