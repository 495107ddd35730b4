# Sourced by every suite.  `check NAME` runs the function NAME in a shell that stops at the first
# failing command, and prints one line for the host; what it said follows when it failed.
suite=${0##*/}
suite=${suite%.sh}
umask 022
export AIOS_HOME="$HOME/.aios"
mkdir -p "$AIOS_HOME"
work=$(mktemp -d)

check() {
  local said code
  dir=$work/$1
  mkdir -p "$dir"
  said=$(
    exec 2>&1
    set -eux
    "$1"
  )
  code=$?
  if [ "$code" = 0 ]; then
    echo "VM-TEST $suite.$1 ok"
  else
    echo "VM-TEST $suite.$1 FAILED with code $code"
    tail -n 25 <<<"$said" | sed 's/^/    /'
    for file in "$dir/out" "$dir/err"; do
      [ -f "$file" ] && tail -n 5 "$file" | sed "s/^/    ${file##*/}: /"
    done
    dmesg 2>/dev/null | tail -n 5 | sed 's/^/    kernel: /'
  fi
}

# expect CODE COMMAND…: its output in $dir/out and $dir/err.
expect() {
  local want=$1 code=0
  shift
  timeout -k 5 100 "$@" </dev/null >"$dir/out" 2>"$dir/err" || code=$?
  [ "$code" = "$want" ]
}

run() { expect 0 aios run "$@"; }

# ended REASON CODE OPTIONS…: aios run --json says so.
ended() {
  local reason=$1 code=$2
  shift 2
  expect "$code" aios run --json "$@"
  tail -n 1 "$dir/err" >"$dir/report"
  grep -E "\"reason\": ?\"$reason\"" "$dir/report"
}

# unit NAME: a test program, of whose talk only what failed is of interest.
unit() {
  timeout -k 5 150 "/opt/tests/$1" >"$dir/all" 2>&1 || {
    grep -E 'ERROR|LINE|FAILED|Assert' "$dir/all"
    return 1
  }
}

groups() { find /sys/fs/cgroup -name 'aios-*' 2>/dev/null; }
no_groups() { [ -z "$(groups)" ]; }
no_guests() { ! grep -lx aios-guest /proc/[0-9]*/comm 2>/dev/null; }

# started OPTIONS…: a sandbox whose command lives until its input ends.  Sets $pid; input is 5.
started() {
  mkfifo "$dir/in" "$dir/up"
  aios run "$@" -- sh -c 'echo up; cat; exit 3' <"$dir/in" >"$dir/up" 2>"$dir/err" &
  pid=$!
  exec 5>"$dir/in" 6<"$dir/up"
  read -r -t 100 word <&6
  [ "$word" = up ]
}

# A talk with one server: ask LINE PATTERN sends a line of `aios call -` and leaves in $answer the
# first line of the reply that matches.
talk() {
  mkfifo "$dir/asked" "$dir/answers"
  timeout -k 5 200 aios call - <"$dir/asked" >"$dir/answers" 2>"$dir/err" &
  pid=$!
  exec 7>"$dir/asked" 8<"$dir/answers"
}

ask() {
  echo "$1" >&7
  said=
  answer=
  until grep -qE -e "$2" <<<"$answer"; do
    read -r -t 100 answer <&8
    said+=$answer$'\n'
  done
}

# script TEXT: for bash in the computer, in a file that `command=@` reads.  No single quotes.
script() { printf "exec bash -c '%s' 2>&1\n" "$1" >"$dir/script"; }

# inside TEXT PATTERN [ARGUMENT]: runs it to its end; $answer is the line that matches.
inside() {
  script "$1"
  ask "terminal_run command=@$dir/script ${3:-}" '^\[exit code'
  answer=$(grep -E -e "$2" <<<"$said")
}

hang_up() {
  exec 7>&- 8<&-
  wait "$pid"
}
