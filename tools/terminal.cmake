# The tests of the family terminal, and of what all families share.
add_unit_test(screen tools)
add_unit_test(terminal_keys tools)
add_fuzz_target(screen tools)
