#!/bin/sh
# The first signal goes to the command, the second kills it and all that it started.
. "$(dirname "$0")/lib.sh"
need_sandbox
mkfifo ready
export PYTHONDONTWRITEBYTECODE=1

# start COMMAND: runs it in the background and returns once it has printed a line.
start() {
    python3 - "$AIOS" "$1" >ready 2>"$err" <<'PYTHON' &
import os, signal, sys
# A shell starts what is in the background with these two ignored.
signal.signal(signal.SIGINT, signal.SIG_DFL)
signal.signal(signal.SIGQUIT, signal.SIG_DFL)
null = os.open("/dev/null", os.O_RDONLY)
os.dup2(null, 0)
os.execv(sys.argv[1], [sys.argv[1], "run", "--json", "--", "sh", "-c", sys.argv[2]])
PYTHON
    pid=$!
    exec 3<ready
    read -r line <&3
    [ "$line" = ready ] || fail "it is not ready"
}

ends_with() {
    code=0
    wait "$pid" || code=$?
    cat <&3 >"$out"
    exec 3<&-
    [ "$code" = "$1" ] || fail "exit code $code instead of $1"
}

for signal in TERM INT HUP QUIT; do
    start "trap 'echo got; exit 9' $signal; echo ready; sleep 60 & wait"
    kill -s $signal "$pid"
    ends_with 9
    out_is got
done

start 'echo ready; exec sleep 60'
kill -s TERM "$pid"
ends_with 143
json "$err" 'd["reason"] == "killed" and d["signal"] == 15'

# It may ignore the first, and the second is seen once the first has been.
start 'trap "echo first" TERM; echo ready; while :; do sleep 60 & wait; done'
kill -s TERM "$pid"
read -r line <&3
[ "$line" = first ] || fail "the first signal did not arrive"
kill -s TERM "$pid"
ends_with 137

# With nobody reading our output there is nothing to wait for after the third.
expect 0 python3 - "$AIOS" <<'PYTHON'
import signal, subprocess, sys
p = subprocess.Popen([sys.argv[1], "run", "--", "yes"], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
assert p.stdout.read(1) == b"y"
for attempt in range(600):
    p.send_signal(signal.SIGTERM)
    try:
        p.wait(timeout=0.05)
        break
    except subprocess.TimeoutExpired:
        pass
assert p.returncode in (143, 137), p.returncode # by the first, or by the second if that was faster
PYTHON
