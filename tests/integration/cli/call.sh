#!/bin/sh
# A client of our own server: tools, arguments, exit codes.
. "$(dirname "$0")/lib.sh"
need_sandbox

expect 0 "$AIOS" call --list
out_has terminal_run
out_has computer_create
expect 0 "$AIOS" call terminal_run --help
out_has "command"
out_has "Arguments:"

expect 0 "$AIOS" call terminal_run 'command=echo hello'
out_has hello
# The schema says string, so "true" and "5" are text.
expect 0 "$AIOS" call terminal_run command=true
out_has "exit code 0"
expect 0 "$AIOS" call terminal_run 'argv=["printf","%s,","a b","c"]'
out_has "a b,c,"
expect 0 "$AIOS" call terminal_run 'argv:=["echo","forced"]' timeout_ms=30000
out_has forced
printf 'from a "file"\nwith lines' >text
expect 0 "$AIOS" call file_write path=/workspace/f content=@text
expect 0 "$AIOS" call computer_list --json
json "$out" 'd["structuredContent"]["computers"] == []'

expect 1 "$AIOS" call file_read path=/no/such/file
err_has "/no/such/file"
out_is ""
expect 2 "$AIOS" call no_such_tool
err_has no_such_tool
expect 2 "$AIOS" call no_such_tool n=5
expect 2 "$AIOS" call no_such_tool --help
expect 2 "$AIOS" call terminal_run command
err_has "key=value"
expect 2 "$AIOS" call terminal_run 'argv:=[1,'
expect 2 "$AIOS" call terminal_run command=a command=b
err_has "given twice"
expect 1 "$AIOS" call file_write path=x content=@/no/such/file
expect 1 "$AIOS" call terminal_run command=true --config /no/such/file
expect 1 "$AIOS" call computer_list --server /no/such/server
err_has /no/such/server

# Lines share a server, and so a computer; quoting is a shell's.
expect 0 "$AIOS" call - <<'LINES'
# a comment, and an empty line

terminal_run command="printf '%s\n' \"it's\" > 'a file'"
terminal_run command='cat "a file"'
terminal_run command=ls\ -1
file_write path=/workspace/g content='no newline'
file_read path=/workspace/g
LINES
out_has "it's"
out_has "a file"
out_has "no newline"

expect 2 "$AIOS" call - <<'LINES'
terminal_run command="not closed
terminal_run command='echo and goes on'
file_read path=/no/such/file
LINES
err_has "a quote is not closed"
out_has "and goes on"
err_has "/no/such/file"
expect 0 "$AIOS" call - </dev/null

# One that runs is connected to; what was made there stays there.
expect 1 "$AIOS" call computer_list --connect ""
err_has "aios serve"
mkfifo listening
"$AIOS" serve >served 2>listening &
serving=$!
trap 'kill "$serving" 2>"$err" || :; rm -rf "$place"' EXIT
exec 4<listening
read -r line <&4
case $line in *listening*) ;; *) fail "it says: $line" ;; esac
expect 0 "$AIOS" call terminal_run command='echo kept >f' --connect "" --agent alice
expect 0 "$AIOS" call terminal_run command='cat f' --connect "" --agent alice
out_has kept
expect 1 "$AIOS" call file_read path=f --connect "$AIOS_HOME/run/aios.sock" --agent bob
expect 2 "$AIOS" call computer_list --connect "" --config /no/such/file
err_has "--connect"
kill "$serving"
wait "$serving" || fail "the server failed"
