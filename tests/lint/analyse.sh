#!/bin/bash
# clang-tidy and cppcheck over the product's sources, with the compile commands of one build:
#   analyse.sh TOP BUILD      prints the findings; fails if there are any
set -uo pipefail
top=$1 build=$2
cd "$top" || exit 1
files=$(python3 - "$build/compile_commands.json" "$top" <<'P'
import json, sys
top = sys.argv[2] + "/"
seen = []
for entry in json.load(open(sys.argv[1])):
    path = entry["file"]
    rel = path[len(top):] if path.startswith(top) else path
    if path.endswith(".c") and not rel.startswith(("tests/", "build/")) and rel not in seen:
        seen.append(rel)
print("\n".join(seen))
P
)
[ -n "$files" ] || { echo "no sources in $build/compile_commands.json"; exit 1; }
# gcc's own warning flags mean nothing to clang.
found=$(echo "$files" | xargs -P 2 -n 6 clang-tidy -p "$build" --quiet \
  --extra-arg=-Wno-unknown-warning-option 2>/dev/null | grep -E '(warning|error):' || true)
found+=$(echo "$files" | xargs cppcheck --quiet --std=c11 --enable=warning,portability --inline-suppr \
  --suppress=missingIncludeSystem --suppress=unknownMacro --suppress=nullPointerRedundantCheck \
  -I . -D_GNU_SOURCE --max-configs=2 2>&1 | grep -E ': (error|warning|portability):' || true)
if [ -n "$found" ]; then
  echo "$found"
  exit 1
fi
