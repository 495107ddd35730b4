# The tests of the family terminal.
