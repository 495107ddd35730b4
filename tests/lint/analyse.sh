#!/bin/bash
# clang-tidy and cppcheck over every C file of the product.  Prints each finding as FILE:LINE:COL:
# what, then a summary; fails if there is any finding, or a file that was not analysed.
#
#   analyse.sh TOP BUILD         BUILD: a built folder, for its compile commands and generated files
#   analyse.sh --self-test TOP   shows that each kind of fault is noticed (in a scratch copy)
#
# Settings: .clang-tidy; cppcheck.cfg and cppcheck.suppress beside this file.
set -uo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
jobs=2

sources() { find kernel mcp sandbox vmctl images tools -name '*.c' 2>/dev/null | sort; }

# The files that are compiled one by one, and in place of the C driver's parts (which the computer's
# own compiler gets as one text) a file that includes them in their order.
units() { # scratch
  local parts
  sources | grep -v '^tools/drivers/'
  parts=$(sed -nE 's/.*\.incbin "(.*\.c)".*/\1/p' tools/code_drivers.S 2>/dev/null)
  [ -n "$parts" ] || return 0
  sed 's|.*|#include "tools/drivers/&" // NOLINT(bugprone-suspicious-include)|' <<<"$parts" >"$1/c_driver.c"
  echo "$1/c_driver.c"
}

# One compile command for each file: some are compiled a second time for a test.
compile_commands() { # build scratch
  python3 - "$1/compile_commands.json" "$2" "$PWD" <<'P'
import json, sys
commands, scratch, top = sys.argv[1:]
first = {}
for entry in json.load(open(commands)):
    if entry["file"].startswith(top + "/"):
        first.setdefault(entry["file"], entry)
if not first:
    sys.exit(commands + " is not of " + top)
driver = scratch + "/c_driver.c"
first[driver] = {"directory": top, "file": driver,
                 "command": "cc -std=gnu11 -D_GNU_SOURCE -I%s -Wall -Wextra -c %s" % (top, driver)}
json.dump(list(first.values()), open(scratch + "/compile_commands.json", "w"))
P
}

# gcc's own warning flags mean nothing to clang.
tidy_one() { # scratch file
  local said code
  said=$(clang-tidy -p "$1" --config-file="$PWD/.clang-tidy" --quiet \
    --extra-arg=-Wno-unknown-warning-option "$2" 2>"$1/err.$$")
  code=$?
  if grep -qE ': (warning|error): ' <<<"$said"; then
    grep -E ': (warning|error): ' <<<"$said"
  elif [ "$code" != 0 ]; then
    echo "$2:1:1: error: clang-tidy failed ($code): $(tail -1 "$1/err.$$")"
  fi
  rm -f "$1/err.$$"
}
export -f tidy_one

run_tidy() { # scratch
  xargs -P "$jobs" -I{} bash -c 'tidy_one "$@"' tidy_one "$1" {} <"$1/units"
}

# Without the system's headers, which cppcheck knows from its own descriptions.
run_cppcheck() { # build scratch
  local code checked
  mkdir -p "$2/cppcheck"
  cppcheck -j "$jobs" --cppcheck-build-dir="$2/cppcheck" --std=c11 --enable=warning,portability \
    --library=posix --library=gnu --library="$here/cppcheck.cfg" \
    --suppressions-list="$here/cppcheck.suppress" --inline-suppr \
    -I . -I "$1/generated" -D_GNU_SOURCE -D__cppcheck__ "-D__$(uname -m)__" --file-list="$2/units" \
    >"$2/progress" 2>"$2/err.cppcheck"
  code=$?
  grep -E ': (error|warning|portability): ' "$2/err.cppcheck"
  checked=$(grep -c '^Checking .* \.\.\.$' "$2/progress")
  [ "$code" = 0 ] && [ "$checked" -ge "$(wc -l <"$2/units")" ] ||
    echo "cppcheck:1:1: error: cppcheck failed ($code) after $checked files: $(tail -1 "$2/err.cppcheck")"
}

# Neither analyser knows the cleanup attribute: both say that a CLEANUP variable leaks.  Sets aside
# the leak reports (to LIST) whose variable is declared with CLEANUP in the function they are in.
without_cleanup() { # list
  perl -e '
    my ($list, %text) = shift @ARGV;
    open(my $aside, ">>", $list) or die;
    while (my $finding = <STDIN>) {
      my $cleaned = 0;
      if ($finding =~ /^(.+?):(\d+):\d+: .*(?:memory pointed to by \x27|(?:Memory|Resource) leak: )(\w+)/) {
        my ($file, $line, $name) = ($1, $2, $3);
        unless ($text{$file}) { open(my $in, "<", $file) or die "$file: $!"; $text{$file} = [<$in>] }
        my $from = $line - 1;
        $from-- while $from > 0 && $text{$file}[$from] !~ /^\{/;
        $cleaned = join("", @{$text{$file}}[$from .. $line - 1]) =~ /\bCLEANUP\(\w+\)[^;=]*\b$name\b/;
      }
      if ($cleaned) { print $aside $finding } else { print $finding }
    }' "$1"
}

analyse() { # build scratch
  local tool files found
  for tool in clang-tidy cppcheck python3 perl; do
    command -v "$tool" >/dev/null || { echo "$tool is missing"; return 1; }
  done
  units "$2" >"$2/units"
  [ -s "$2/units" ] || { echo "no sources in $PWD"; return 1; }
  compile_commands "$1" "$2" || return 1
  : >"$2/aside"
  { run_tidy "$2"; run_cppcheck "$1" "$2"; } | sed "s|^$PWD/||" | sort -u |
    without_cleanup "$2/aside" >"$2/found" || return 1
  cat "$2/found"
  files=$(wc -l <"$2/units") found=$(wc -l <"$2/found")
  echo "analysers: $files files, $found findings" \
    "($(wc -l <"$2/aside") leak reports of CLEANUP variables set aside), $SECONDS s"
  [ "$found" = 0 ]
}

# name of the case, what a finding must say (nothing: there must be none), text of the file
check() {
  local said
  printf '%s\n' "$3" >kernel/base/x.c
  rm -rf "$scratch/work"
  mkdir "$scratch/work"
  if said=$(analyse "$scratch/build" "$scratch/work" 2>&1); then
    [ -z "$2" ] || { echo "$1 went unnoticed"; bad=1; }
  elif [ -z "$2" ] || ! grep -q "$2" <<<"$said"; then
    printf '%s: expected "%s", got:\n%s\n' "$1" "${2:-nothing}" "$said"
    bad=1
  fi
}

self_test() { # top
  local bad=0 tool head='#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "kernel/base/attr.h"
#include "kernel/base/error.h"
static void closep(FILE **f)
{
    if (*f)
        (void)fclose(*f);
}
DEFINE_CLEANUP(char, free)
int f(const char *s);
int f(const char *s)
{'
  scratch=$(mktemp -d)
  trap 'rm -rf "$scratch"' EXIT
  mkdir -p "$scratch"/{build,bin,kernel/base}
  cp "$1/.clang-tidy" "$scratch/"
  cp "$1"/kernel/base/{attr,error}.h "$scratch/kernel/base/"
  cd "$scratch" || exit 1
  echo "[{\"directory\": \"$PWD\", \"file\": \"$PWD/kernel/base/x.c\"," \
    "\"command\": \"cc -std=gnu11 -D_GNU_SOURCE -I. -c kernel/base/x.c\"}]" >build/compile_commands.json

  check 'a good file' '' "$head
    CLEANUP(freep) char *copy = strdup(s);
    CLEANUP(closep) FILE *file = NULL;
    if (!copy)
        return 1;
    file = fopen(copy, \"r\");
    return file ? fgetc(file) : -1;
}"
  check 'a failure that error_set tells' '' "$head
    struct error err = ERROR_INIT;
    int value;
    bool ok = *s ? true : error_set(&err, ERR_INVALID, \"nothing\");
    if (ok)
        value = (unsigned char)*s;
    return ok ? value : 0;
}"
  check 'a comparison without a result' 'bugprone-suspicious-string-compare' "$head
    if (strcmp(s, \"x\"))
        return 1;
    return 0;
}"
  check 'a value never set' 'clang-analyzer-core' "$head
    int value;
    if (*s)
        value = 1;
    return value;
}"
  check 'memory that leaks (clang-tidy)' 'clang-analyzer-unix.Malloc' "$head
    CLEANUP(freep) char *copy = strdup(s);
    char *other = strdup(s);
    return copy && other ? *copy + *other : 0;
}"
  check 'memory that leaks (cppcheck)' 'Memory leak: other \[memleak\]' "$head
    CLEANUP(freep) char *copy = strdup(s);
    char *other = strdup(s);
    return copy && other ? *copy + *other : 0;
}"
  check 'a descriptor that leaks' 'Resource leak: fd \[resourceLeak\]' "$head
    int fd = open(s, O_RDONLY | O_CLOEXEC);
    char c;
    if (fd < 0)
        return -1;
    if (read(fd, &c, 1) != 1)
        return -2;
    return close(fd);
}"
  check 'what does not compile' 'clang-diagnostic-error' "$head
    return s.length;
}"
  for tool in clang-tidy cppcheck; do
    printf '#!/bin/sh\nexit 139\n' >"bin/$tool"
    chmod +x "bin/$tool"
    PATH="$PWD/bin:$PATH" check "a crash of $tool" "$tool failed (139)" "$head
    return *s;
}"
    rm "bin/$tool"
  done
  exit "$bad"
}

if [ "${1:-}" = --self-test ]; then
  self_test "$(cd "$2" && pwd)"
fi
build=$(cd "$2" && pwd) || exit 1
cd "$1" || exit 1
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
analyse "$build" "$scratch"
