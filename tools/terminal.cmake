# The screen's own parts, and the tests of the family terminal and of what all families share.

add_unit_test(toolkit tools)
add_unit_test(toolkit_output tools)
add_unit_test(screen tools)
add_unit_test(terminal_keys tools)
add_unit_test(terminal tools kernel sandbox guest_image)
add_fuzz_target(screen tools)
