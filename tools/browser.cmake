add_unit_test(cdp tools)
add_fuzz_target(cdp tools)
