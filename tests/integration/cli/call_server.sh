#!/bin/sh
# A client of any server: what it may say, and how it is ended.
. "$(dirname "$0")/lib.sh"
: >"$out"
: >"$err"

cat >server.py <<'PYTHON'
import base64, json, os, signal, sys, time

how = sys.argv[1] if len(sys.argv) > 1 else ""

def say(message):
    print(json.dumps(message), flush=True)

def reply(request, result):
    say({"jsonrpc": "2.0", "id": request["id"], "result": result})

def hear():
    line = sys.stdin.readline()
    if not line:
        if how == "stays":
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            open("stays", "w").write(str(os.getpid()))
            while True:
                signal.pause()
        sys.exit(0)
    return json.loads(line)

image = {"type": "image", "mimeType": "image/png", "data": base64.b64encode(b"\x89PNG bytes").decode()}
pages = [["one", "two"], ["three"]]
while True:
    m = hear()
    if m.get("method") == "initialize":
        assert m["params"]["protocolVersion"] == "2025-11-25"
        reply(m, {"protocolVersion": "2025-06-18", "capabilities": {"tools": {}},
                  "serverInfo": {"name": "fake", "version": "1"}})
    elif m.get("method") == "tools/list":
        page = int(m.get("params", {}).get("cursor", "0"))
        result = {"tools": [{"name": n, "description": "Does " + n + ". And more.",
                             "inputSchema": {"type": "object", "properties": {"n": {"type": "string"}}}}
                            for n in pages[page]]}
        if page == 0:
            result["nextCursor"] = "1"
        reply(m, result)
    elif m.get("method") == "tools/call":
        name, args = m["params"]["name"], m["params"]["arguments"]
        if name == "one": # asks first, talks beside, and answers something else before
            say({"jsonrpc": "2.0", "id": "q", "method": "ping"})
            assert hear() == {"jsonrpc": "2.0", "id": "q", "result": {}}
            say({"jsonrpc": "2.0", "id": 7, "method": "roots/list"})
            assert hear()["error"]["code"] == -32601
            say({"jsonrpc": "2.0", "method": "notifications/progress", "params": {}})
            say({"jsonrpc": "2.0", "id": 999, "result": {}})
            reply(m, {"content": [{"type": "text", "text": json.dumps(args)}, image, image]})
        elif name == "two":
            reply(m, {"content": [{"type": "text", "text": "it failed"}], "isError": True})
        elif name == "../three":
            reply(m, {"content": [image]})
        elif name == "long":
            reply(m, {"content": [{"type": "text", "text": "x" * 6000000}]})
        elif name == "bad":
            print("this is no message", flush=True)
        elif name == "gone":
            sys.exit(3)
        else:
            say({"jsonrpc": "2.0", "id": m["id"], "error": {"code": -32603, "message": "inside"}})
PYTHON
server="python3 server.py"

# shellcheck disable=SC2086 # words
{
expect 0 "$AIOS" call --list --server $server
out_is "one                    Does one.
two                    Does two.
three                  Does three."

mkdir pictures
expect 0 "$AIOS" call one n=5 m=5 'o={"p": null}' q=text --out pictures --server $server
out_has '"n": "5"'
out_has '"m": 5'
out_has '"q": "text"'
out_has "pictures/one-1.png: image/png, 10 bytes"
out_has "pictures/one-2.png"
printf '\211PNG bytes' | cmp - pictures/one-2.png || fail "the image is not what was sent"
expect 0 "$AIOS" call one --out pictures --server $server
[ -e pictures/one-4.png ] || fail "a file was overwritten"

expect 1 "$AIOS" call two --server $server
err_is "it failed"
out_is ""
expect 1 "$AIOS" call two --json --server $server
json "$out" 'd["isError"] is True'
expect 1 "$AIOS" call one --out /no/such/folder --server $server
expect 0 "$AIOS" call ../three --out pictures --server $server
[ -e pictures/result-1.png ] || fail "a name from outside left the folder"
expect 0 "$AIOS" call long --server $server
[ "$(wc -c <"$out")" = 6000001 ] || fail "a long answer was cut"
expect 1 "$AIOS" call bad --server $server
err_has "no message"
expect 1 "$AIOS" call gone --server $server
err_has "ended"
expect 1 "$AIOS" call else --server $server
err_has inside
expect 1 "$AIOS" call one --server true
expect 1 "$AIOS" call one --server cat

# One that does not end by itself is ended.
expect 1 "$AIOS" call two --server $server stays
[ ! -e "/proc/$(cat stays)" ] || fail "the server is still there"
}
