#include "tools/desktop_load.h"

#include <stdlib.h>
#include <string.h>

#define TICKS_MIN 5u /* of each processor */
#define FIELDS    8u /* user nice system idle iowait irq softirq steal; guests are in user */
#define IDLE      3u
#define IOWAIT    4u

bool desktop_load_read(const char *text, struct desktop_load *ret)
{
    struct desktop_load load = { .busy = 0 };
    const char *at = text + 3;

    if (strncmp(text, "cpu ", 4) != 0)
        return false;
    for (unsigned i = 0; i < FIELDS; i++) {
        char *end;
        uint64_t ticks = strtoull(at, &end, 10);

        if (end == at)
            return false;
        load.all += ticks;
        load.busy += i == IDLE || i == IOWAIT ? 0 : ticks;
        at = end;
    }
    while ((at = strstr(at, "\ncpu")) != NULL) {
        load.processors++;
        at++;
    }
    if (!load.processors)
        return false;
    *ret = load;
    return true;
}

bool desktop_load_busy(const struct desktop_load *from, const struct desktop_load *to)
{
    uint64_t each = (to->all - from->all) / to->processors;

    return each < TICKS_MIN || (to->busy - from->busy) > each / 3;
}
