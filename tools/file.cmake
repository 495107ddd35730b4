# The tests of the family file.
