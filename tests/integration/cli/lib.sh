# shellcheck shell=sh
# Sourced by every test here: a home of its own, and assertions that say what was expected.
# $AIOS is the program.  Status 77 skips where no sandbox can start, which AIOS_TEST_STRICT forbids.
set -eu
umask 022

place=$(mktemp -d)
chmod 755 "$place" # sandboxes of root pass through it as another user
place=$(cd "$place" && pwd -P)
export AIOS_HOME="$place/home"
mkdir "$AIOS_HOME" "$place/work"
cd "$place/work"
trap 'rm -rf "$place"' EXIT

out="$place/out"
err="$place/err"

fail() {
    echo "FAIL: $*"
    echo "-- standard output:" && head -c 2000 "$out"
    echo "-- standard error:" && head -c 2000 "$err"
    exit 1
}

# expect CODE COMMAND…: runs it with its output in $out and $err.
expect() {
    want=$1
    shift
    code=0
    "$@" >"$out" 2>"$err" || code=$?
    [ "$code" = "$want" ] || fail "exit code $code instead of $want: $*"
}

out_is() { [ "$(cat "$out")" = "$1" ] || fail "standard output is not \"$1\""; }
err_is() { [ "$(cat "$err")" = "$1" ] || fail "standard error is not \"$1\""; }
out_has() { grep -qF -e "$1" "$out" || fail "standard output lacks \"$1\""; }
err_has() { grep -qF -e "$1" "$err" || fail "standard error lacks \"$1\""; }
out_lacks() { ! grep -qF -e "$1" "$out" || fail "standard output has \"$1\""; }

# json FILE EXPRESSION: EXPRESSION over d, the last line of FILE as JSON, must be true.
json() {
    python3 - "$@" <<'PYTHON' || fail "not so: $2"
import json, sys
d = json.loads(open(sys.argv[1]).read().strip().splitlines()[-1])
sys.exit(not eval(sys.argv[2]))
PYTHON
}

need_sandbox() {
    if ! "$AIOS" run -- true </dev/null >"$out" 2>"$err"; then
        [ "${AIOS_TEST_STRICT:-}" = 1 ] && fail "no sandbox starts"
        echo "skipped: no sandbox starts here: $(cat "$err")"
        exit 77
    fi
}
