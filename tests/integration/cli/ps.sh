#!/bin/sh
# `aios ps`, `aios vm` and `aios screen`: what runs, from servers that do and from none.
. "$(dirname "$0")/lib.sh"
: >"$out"
: >"$err"

expect 0 "$AIOS" ps --json
json "$out" 'd == []'
expect 0 "$AIOS" ps
out_has COMPUTER
expect 0 "$AIOS" vm
out_has "No templates on disk"
expect 1 "$AIOS" screen c_none
err_has "aios ps"
expect 2 "$AIOS" screen
expect 2 "$AIOS" screen c_none a b
expect 2 "$AIOS" ps what
expect 2 "$AIOS" vm --what

# A server on a fifo that stays open; its answers go to a file.
mkfifo "$place/in"
"$AIOS" mcp --no-pool <"$place/in" >"$place/answers" 2>"$place/said" &
server=$!
exec 3>"$place/in"
say() {
    printf '%s\n' "$1" >&3
}
answered() {
    n=0
    until grep -q "\"id\":$1[,}]" "$place/answers"; do
        n=$((n + 1))
        [ "$n" -lt 1200 ] || fail "no answer to $1"
        sleep 0.05
    done
}
say '{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"x","version":"1"}}}'
answered 1
expect 0 "$AIOS" ps --json
json "$out" 'd == []'
[ ! -e "$AIOS_HOME/run/status" ] || fail "a server without computers listens"

say '{"jsonrpc":"2.0","id":2,"method":"tools/call","params":{"name":"computer_create","arguments":{"memory_mb":64,"disk_mb":32}}}'
answered 2
if grep -q '"isError":true' "$place/answers"; then
    [ -z "${AIOS_TEST_STRICT:-}" ] || fail "no sandbox starts: $(cat "$place/answers")"
    exec 3>&-
    wait "$server" || :
    exit 77
fi
n=0
until [ -S "$AIOS_HOME/run/status/$server.sock" ]; do
    n=$((n + 1))
    [ "$n" -lt 1200 ] || fail "it does not listen"
    sleep 0.05
done
expect 0 "$AIOS" ps --json
json "$out" "len(d) == 1 and d[0]['server'] == $server and d[0]['kind'] == 'sandbox'"
json "$out" 'd[0]["memory_mb"] == 64 and d[0]["agent"] == "default" and d[0]["state"] == "idle"'
computer=$(sed -E 's/.*"computer":"(c_[a-z0-9]+)".*/\1/' "$out")
expect 0 "$AIOS" ps
out_has "$computer"
expect 0 "$AIOS" vm --json
json "$out" 'd == []'
expect 1 "$AIOS" screen "$computer"
err_has 'kind "sandbox" has no screen'

# Nobody else may ask.
[ "$(stat -c %a "$AIOS_HOME/run/status/$server.sock")" = 600 ] || fail "the socket is not its user's"

# It goes with its server; what a killed one left goes at the next look.
exec 3>&-
wait "$server" || fail "the server failed"
[ ! -e "$AIOS_HOME/run/status/$server.sock" ] || fail "the socket stays"
python3 -c 'import socket, sys
socket.socket(socket.AF_UNIX).bind(sys.argv[1])' "$AIOS_HOME/run/status/99999999.sock"
expect 0 "$AIOS" ps --json
json "$out" 'd == []'
[ ! -e "$AIOS_HOME/run/status/99999999.sock" ] || fail "a dead socket stays"
