#!/bin/sh
# The command's own code, signals as a shell tells them, and 124 to 127 for what is not the command's.
. "$(dirname "$0")/lib.sh"
need_sandbox

expect 0 "$AIOS" run -- true
expect 0 "$AIOS" run true
expect 7 "$AIOS" run -- sh -c 'exit 7'
expect 255 "$AIOS" run -- sh -c 'exit 255'
expect 143 "$AIOS" run -- sh -c 'kill -TERM $$'
expect 137 "$AIOS" run -- sh -c 'kill -KILL $$'
expect 139 "$AIOS" run -- sh -c 'kill -SEGV $$'

expect 124 "$AIOS" run --timeout 0.2 -- sleep 60
err_has "0.2 s were up"
expect 124 "$AIOS" run --timeout 0.2 -- sh -c 'trap "" TERM INT; sleep 60 & sleep 60 & wait; sleep 60'
expect 0 "$AIOS" run --timeout 60 -- true

expect 127 "$AIOS" run -- no-such-program
err_has 'no program "no-such-program"'
expect 127 "$AIOS" run -- /no/such/program
expect 126 "$AIOS" run -- /etc
expect 126 "$AIOS" run --cwd / -- ./etc/passwd

expect 125 "$AIOS" run --cwd /no/such/folder -- true
err_has 'working folder "/no/such/folder"'
expect 125 "$AIOS" run --rw /no/such/folder -- true
expect 125 "$AIOS" run --rw /usr -- true
expect 125 "$AIOS" run --allow 'not a rule' -- true

# Its limits.
code=0
"$AIOS" run --memory 64M -- python3 -c 'x = bytearray(1 << 30)' >"$out" 2>"$err" || code=$?
case $code in
137) err_has "the limit is 64 MiB" ;;
1) err_has MemoryError ;; # without control groups the limit is one of address space
*) fail "exit code $code with too much memory" ;;
esac
expect 0 "$AIOS" run --pids 64 --disk 16M --memory 256M -- true
! "$AIOS" run --disk 4M --memory 128M -- sh -c 'cat /dev/zero >/workspace/big' >"$out" 2>"$err" ||
    fail "a full disk is no success"
err_has "the limit is 4 MiB"

# What it leaves running does not hold us up.
expect 5 "$AIOS" run -- sh -c 'sleep 600 & echo early; exit 5'
out_is early
