# The tests of the family file.
add_unit_test(diff tools)
