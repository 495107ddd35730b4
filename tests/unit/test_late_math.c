/* The functions of libm that are bound at their first call, beside the library itself. */
#include <dlfcn.h>
#include <math.h>

#include "kernel/base/attr.h"
#include "tests/support/check.h"

typedef double fn_1(double x);
typedef double fn_2(double x, double y);

#define BOTH(name)  \
    {               \
#name, name \
    }

static void are_the_librarys_own(void **state)
{
    static const struct {
        const char *name;
        fn_1 *ours;
    } ones[] = {
        BOTH(acos), BOTH(acosh), BOTH(asin), BOTH(asinh), BOTH(atan), BOTH(atanh),
        BOTH(cos),  BOTH(cosh),  BOTH(exp),  BOTH(log),   BOTH(sin),  BOTH(sinh),
        BOTH(sqrt), BOTH(tan),   BOTH(tanh), BOTH(trunc),
    };
    static const struct {
        const char *name;
        fn_2 *ours;
    } twos[] = { BOTH(atan2), BOTH(fmod), BOTH(pow) };
    void *library = dlopen("libm.so.6", RTLD_NOW | RTLD_LOCAL);

    (void)state;
    assert_non_null(library);
    for (size_t i = 0; i < ARRAY_LEN(ones); i++) {
        fn_1 *theirs;

        *(void **)(void *)&theirs = dlsym(library, ones[i].name);
        assert_non_null(theirs);
        assert_ptr_not_equal(theirs, ones[i].ours);
        for (double x = 0.25; x < 4; x += 0.75) /* twice and more: bound, then used */
            if (!isnan(theirs(x)) && ones[i].ours(x) != theirs(x))
                fail_msg("%s of %g", ones[i].name, x);
    }
    for (size_t i = 0; i < ARRAY_LEN(twos); i++) {
        fn_2 *theirs;

        *(void **)(void *)&theirs = dlsym(library, twos[i].name);
        assert_non_null(theirs);
        for (double x = 0.25; x < 4; x += 0.75)
            if (twos[i].ours(x, 1.5) != theirs(x, 1.5))
                fail_msg("%s of %g", twos[i].name, x);
    }
    (void)dlclose(library);
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(are_the_librarys_own) };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
