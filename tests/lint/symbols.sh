#!/bin/bash
# Two functions of one name in the program's libraries: the linker takes one of them without a word.
#
#   tests/lint/symbols.sh ARCHIVE…
set -euo pipefail
twice=$(nm --defined-only --extern-only -A "$@" 2>/dev/null |
  awk 'NF > 2 && ($(NF-1) == "T" || $(NF-1) == "D" || $(NF-1) == "R") { print $NF }' | sort | uniq -d)
[ -n "$twice" ] || { echo "no name is defined twice"; exit 0; }
for name in $twice; do
  echo "defined twice: $name"
  nm --defined-only --extern-only -A "$@" 2>/dev/null | grep -E " [TDR] $name\$"
done
exit 1
