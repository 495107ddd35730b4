#!/bin/sh
# --json: one line on standard error once the command has ended; standard output stays the command's.
. "$(dirname "$0")/lib.sh"
need_sandbox

expect 3 "$AIOS" run --json -- sh -c 'echo out; echo err >&2; exit 3'
out_is out
[ "$(wc -l <"$err")" = 2 ] || fail "not two lines on standard error"
json "$err" 'd["reason"] == "exit" and d["exit_code"] == 3 and d["signal"] is None'
json "$err" 'd["usage"]["wall_ms"] > 0 and d["usage"]["cpu_ms"] > 0 and d["usage"]["peak_bytes"] > 100000'
json "$err" 'd["refused"] == []'

expect 143 "$AIOS" run --json -- sh -c 'kill -TERM $$'
json "$err" 'd["reason"] == "signal" and d["exit_code"] is None and d["signal"] == 15'

expect 124 "$AIOS" run --json --timeout 0.2 -- sleep 60
json "$err" 'd["reason"] == "timeout" and 200 <= d["usage"]["wall_ms"] < 30000'

expect 127 "$AIOS" run --json -- no-such-program
json "$err" 'd["reason"] == "failed" and "no-such-program" in d["error"]'

"$AIOS" run --json --memory 64M -- python3 -c 'x = bytearray(1 << 30)' >"$out" 2>"$err" || :
json "$err" 'd["reason"] == "oom" and d["signal"] == 9 or d["exit_code"] == 1'

expect 0 "$AIOS" run --json -- python3 -c '
import ctypes, os
libc = ctypes.CDLL(None, use_errno=True)
for i in range(3):
    assert libc.mount(b"x", b"/tmp", b"tmpfs", 0, None) == -1
libc.unshare(0x10000000)'
json "$err" '[r for r in d["refused"] if r["syscall"] == "mount"][0]["count"] == 3'
json "$err" '[r for r in d["refused"] if r["syscall"] == "mount"][0]["argument"] == "/tmp"'
json "$err" 'any(r["syscall"] == "unshare" for r in d["refused"])'
