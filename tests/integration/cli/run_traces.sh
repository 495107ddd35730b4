#!/bin/sh
# Nothing stays behind a run: no process, no control group, no lock, no mount.
. "$(dirname "$0")/lib.sh"
need_sandbox

mark="$place/work/mark-of-this-test"
mkdir "$mark"
expect 5 "$AIOS" run --ro "$mark" -- sh -c "sleep 600 & setsid sleep 600 & exit 5"
expect 124 "$AIOS" run --ro "$mark" --timeout 0.2 -- sleep 600
expect 127 "$AIOS" run --ro "$mark" -- no-such-program
"$AIOS" run --ro "$mark" -- yes 2>"$err" | head -1 >"$out" || :

ls -A "$AIOS_HOME/run/servers" >"$out"
out_is ""
grep -lF "$mark" /proc/[0-9]*/mountinfo 2>/dev/null >"$out" || :
out_is ""
