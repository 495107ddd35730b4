# The family desktop.
add_unit_test(desktop_keys tools)
