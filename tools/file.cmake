# The tests of the family file.
add_unit_test(diff tools)
add_unit_test(file_edit tools kernel sandbox guest_image)
add_unit_test(file_transfer tools kernel sandbox guest_image)
