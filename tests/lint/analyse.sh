#!/bin/bash
# clang-tidy and cppcheck over the product's sources, with the compile commands of one build.
set -uo pipefail
top=$1 build=$2
cd "$top" || exit 1
bad=0
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
echo "$files" | xargs -P 2 -n 6 clang-tidy -p "$build" --quiet \
  --extra-arg=-Wno-unknown-warning-option 2>/dev/null | grep -E '(warning|error):' && bad=1
echo "$files" | xargs cppcheck --quiet --std=c11 --enable=warning,portability --inline-suppr \
  --suppress=missingIncludeSystem --suppress=unknownMacro --suppress=nullPointerRedundantCheck \
  --error-exitcode=1 -I . -D_GNU_SOURCE --max-configs=2 2>&1 | grep -E ': (error|warning|portability):' && bad=1
exit "$bad"
