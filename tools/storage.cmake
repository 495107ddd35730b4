# The tests of the family storage.
add_unit_test(storage_tools tools kernel storage WRAP kernel_storage)
