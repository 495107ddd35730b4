#!/bin/bash
# The house rules that no compiler knows.  Prints each breach as FILE:LINE: what; fails if any.
#
#   lint.sh TOP [rule …]     rules: includes banned length stdout format headers words
#   lint.sh --self-test TOP  shows that each rule notices a breach (in a scratch copy)
set -uo pipefail

# folder: folders whose headers it may include (docs/ARCHITECTURE.md draws the same table).
declare -A may=(
  [kernel/base]="kernel/base"
  [kernel/computer]="kernel/computer kernel/base"
  [images/guest]="images/guest kernel/computer kernel/base"
  [sandbox]="sandbox kernel/computer kernel/base"
  [vmctl]="vmctl sandbox kernel/computer kernel/base"
  [kernel]="kernel kernel/computer kernel/base"
  [kernel/sdk]="kernel/sdk"
  [mcp]="mcp kernel kernel/computer kernel/base"
  [tools]="tools kernel kernel/computer kernel/base"
  [tools/cli]="tools/cli tools mcp kernel kernel/computer kernel/base sandbox vmctl images/guest"
)

folder_of() { # path -> the key of `may`
  case $1 in
  kernel/base/* | kernel/computer/* | kernel/sdk/* | tools/cli/*) echo "${1%/*}" ;;
  images/guest/* | images/initramfs/*) echo images/guest ;;
  *) echo "${1%%/*}" ;;
  esac
}

sources() { find kernel mcp sandbox vmctl images tools tests -name '*.[ch]' 2>/dev/null | sort; }
product() { sources | grep -v '^tests/'; }

rule_includes() {
  local file from line path to
  while read -r file; do
    from=$(folder_of "$file")
    while IFS=: read -r line path; do
      [ -e "$path" ] || continue # generated, or a system header in quotes
      to=$(folder_of "$path")
      [[ " ${may[$from]:-} " == *" $to "* ]] ||
        echo "$file:$line: $from must not include $to ($path)"
    done < <(sed -nE 's/^#include "([^"]+)".*/\1/p;=' "$file" |
      awk '/^[0-9]+$/ { n = $0; if (p != "") { print n ":" p; p = "" } next } { p = $0 }')
  done < <(product)
  # The SDK stands on the C library and jansson, its public header on the language alone.
  grep -nE '#include <' kernel/sdk/*.[ch] 2>/dev/null |
    grep -vE '<(errno|inttypes|jansson|poll|stdarg|stdbool|stddef|stdint|stdio|stdlib|string|sys/socket|sys/time|sys/un|time|unistd)\.h>' |
    sed 's/$/  (libaios stands on the C library and jansson)/'
  grep -HnE '^#include' kernel/sdk/aios.h 2>/dev/null | grep -vE '<std(bool|def|int)\.h>' |
    sed 's/$/  (the public header stands alone)/'
  # Each outside library stays behind one file or one folder.
  grep -nE '#include <(sqlite3\.h|seccomp\.h|curl/|libpq|png\.h)' $(product) |
    grep -vE '^(kernel/(audit|storage|memory)_[a-z]+\.[ch]|sandbox/seccomp_gen\.c|sandbox/policy[a-z_]*\.[ch]|kernel/http_[a-z]+\.[ch]|kernel/picture_[a-z]+\.[ch]|kernel/storage_postgres[a-z_]*\.[ch]):' |
    sed 's/$/  (this library belongs to one place)/'
}

# FILE:LINE:TEXT of each line on standard input's files that matches, comments and strings blanked.
grep_code() { # pattern
  xargs perl -0777 -ne '
    BEGIN { $pattern = shift @ARGV }
    s{(/\*.*?\*/|//[^\n]*|"(?:\\.|[^"\\\n])*"|\x27(?:\\.|[^\x27\\\n])+\x27)}{ $1 =~ /^["\x27]/ ? "\"\"" : "\n" x ($1 =~ tr/\n//) }gse;
    my $n = 0;
    for (split /\n/) { $n++; print "$ARGV:$n:$_\n" if /$pattern/ }' "$1"
}

rule_banned() {
  local pattern='\b(strcpy|strcat|sprintf|vsprintf|strtok|atoi|atol|atof|system|popen|sleep|usleep|gets|tmpnam|mktemp|alloca|rand|srand|strncpy)\s*\('
  sources | grep_code "$pattern" | sed 's/$/  (banned function)/'
}

rule_length() {
  sources | xargs wc -l | awk '$2 != "total" && $1 > 600 { print $2 ":" $1 ": over 600 lines: two subjects?" }'
}

# Nobody but the programs in tools/cli and the build's own generators writes to standard output.
rule_stdout() {
  product | grep -vE '^(tools/cli/|tools/drivers/|sandbox/seccomp_gen\.c)' |
    grep_code '\b(printf|puts|putchar)\s*\(|\bstdout\b' |
    sed 's/$/  (standard output belongs to the transport)/'
}

rule_format() {
  clang-format --version | grep -q 'version 14' || { echo "lint: clang-format 14 is needed"; return; }
  sources | xargs clang-format --dry-run 2>&1 | grep -E 'warning:' | sed 's/ \[-Wclang-format.*//' | head -50
}

rule_headers() {
  local file
  while read -r file; do
    # The one that is installed has a guard, which every compiler knows.
    [ "$file" = kernel/sdk/aios.h ] || grep -q '^#pragma once' "$file" || echo "$file:1: no #pragma once"
    sed -n '1,2p' "$file" | grep -qE '^ \* [a-z0-9_]+ - ' ||
      echo "$file:2: a header opens with ' * stem - what it is'"
  done < <(product | grep '\.h$')
}

rule_words() {
  grep -nE '\b(TODO|FIXME|XXX|HACK)\b' $(sources) | sed 's/$/  (finish it or open an issue)/'
}

rules=(includes banned length stdout format headers words)

self_test() {
  local scratch rule bad=0
  scratch=$(mktemp -d)
  trap 'rm -rf "$scratch"' EXIT
  mkdir -p "$scratch"/{kernel/base,mcp,tools}
  cp .clang-format "$scratch/"
  cd "$scratch" || exit 1
  printf '/*\n * a - a thing.\n */\n#pragma once\n' >mcp/a.h
  for rule in "${rules[@]}"; do
    rm -f kernel/base/*
    case $rule in
    includes) printf '#include "mcp/a.h"\n' >kernel/base/x.c ;;
    banned) printf 'int f(const char *s)\n{\n    return atoi(s);\n}\n' >kernel/base/x.c ;;
    length) yes 'int x;' | head -601 >kernel/base/x.c ;;
    stdout) printf 'void f(void)\n{\n    puts("x");\n}\n' >kernel/base/x.c ;;
    format) printf 'int   x ;\n' >kernel/base/x.c ;;
    headers) printf 'int x;\n' >kernel/base/x.h ;;
    words) printf '/* TO''DO */\n' >kernel/base/x.c ;;
    esac
    if [ -z "$("rule_$rule")" ]; then
      echo "rule $rule did not notice its breach"
      bad=1
    fi
  done
  exit "$bad"
}

if [ "${1:-}" = --self-test ]; then
  cd "$2" || exit 1
  self_test
fi
cd "$1" || exit 1
shift
[ $# -gt 0 ] || set -- "${rules[@]}"
breaches=0
for rule in "$@"; do
  while read -r line; do
    echo "$line"
    breaches=$((breaches + 1))
  done < <("rule_$rule")
done
[ "$breaches" = 0 ]
