#!/bin/sh
# Standard streams: every byte, each on its own stream, and both ends of a pipe that goes away.
. "$(dirname "$0")/lib.sh"
need_sandbox

expect 0 "$AIOS" run -- sh -c 'echo one; echo two >&2'
out_is one
err_is two

printf 'hello\nthere' | expect 0 "$AIOS" run -- cat
out_is "hello
there"
expect 0 "$AIOS" run -- cat </dev/null
out_is ""
expect 0 "$AIOS" run -- sh -c 'test ! -t 0 && test ! -t 1 && test ! -t 2' </dev/null

# Binary both ways, more than any buffer on the way, and empty.
head -c 9000000 /dev/urandom >random
"$AIOS" run -- cat <random | cmp - random || fail "a pipe through cat changes bytes"
"$AIOS" run -- cat <random >copy
cmp copy random || fail "a file through cat changes bytes"
"$AIOS" run -- sh -c 'cat >&2' <random 2>copy
cmp copy random || fail "standard error changes bytes"
# shellcheck disable=SC2002 # a pipe on both sides
cat random | "$AIOS" run -- sh -c 'tee /dev/stderr' 2>copy2 | cmp - random || fail "both at once: output"
cmp copy2 random || fail "both at once: error"

# A slow reader gets everything too: it begins when the command has filled every buffer.
mkfifo pipe
"$AIOS" run -- sh -c 'cat; echo done >&2' <random >pipe 2>"$err" &
{ cmp - random || fail "a late reader loses bytes"; } <pipe
wait $!
err_is "done"

# The end of what it prints is there though it ends at once.
i=0
while [ $i -lt 20 ]; do
    "$AIOS" run -- sh -c 'head -c 200000 /dev/zero' </dev/null | wc -c >"$out"
    [ "$(tr -d ' ' <"$out")" = 200000 ] || fail "output was lost at the end"
    i=$((i + 1))
done

# Input that the command does not read does not hold it up; it may close what it prints to.
"$AIOS" run -- true <random >"$out" 2>"$err" || fail "unread input"
expect 3 "$AIOS" run -- sh -c 'exec >&- 2>&-; sleep 0.2; exit 3'

# A reader that goes away ends it, as a signal would.
{
    code=0
    "$AIOS" run -- yes || code=$?
    echo "$code" >code
} | head -1 >"$out"
out_is y
[ "$(cat code)" = 141 ] || fail "yes ended with $(cat code), not 141"

# Without standard streams at all.
code=0
"$AIOS" run -- sh -c 'echo x; exit 4' <&- >&- 2>&- || code=$?
[ $code = 4 ] || fail "without standard streams: $code"
