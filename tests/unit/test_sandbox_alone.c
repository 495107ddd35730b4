/* The back end whole, as on a kernel before 6.6: the writable layer has the agent's folders, and
 * checkpoints are copied into it. */
#include "sandbox/mounts.h"

bool __wrap_mounts_opaque(void);

bool __wrap_mounts_opaque(void)
{
    return false;
}

/* The same facts hold. */
#include "tests/unit/test_sandbox.c"
