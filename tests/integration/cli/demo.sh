#!/bin/sh
# What the demonstration of the README shows, and that what it gives the hosts can be pasted.
tools="$(cd "$(dirname "$0")/../../.." && pwd)/tools/dev"
. "$(dirname "$0")/lib.sh"
need_sandbox

expect 0 python3 "$tools/demo_client.py" "$AIOS"
for said in 'hello from' 28.27 '+second: cut once' 'plan.txt:1:first' '[refused by the sandbox: mount(/mnt)]' \
    'no network rule allows example.com:80' '4 notes/plan.txt' '3 notes/plan.txt' 'ended with code 0'; do
    out_has "$said"
done
# Each request with its time.
[ "$(grep -cE '  [0-9.]+ ms$' "$out")" -ge 12 ] || fail "times are missing"

# The entries: for this program, and for one whose path has to be quoted.
cp "$out" demo
python3 - "$tools" "$place/a \"b\"/aios" >quoted <<'PYTHON'
import sys
sys.path.insert(0, sys.argv[1])
sys.dont_write_bytecode = True
import demo_client
demo_client.configuration(sys.argv[2])
PYTHON
for text in demo quoted; do
    python3 - "$text" "$AIOS" "$place/a \"b\"/aios" <<'PYTHON' || fail "what $text says cannot be pasted"
import json, os, re, shlex, sys, textwrap
said = open(sys.argv[1]).read()
program = os.path.realpath(sys.argv[2]) if sys.argv[1] == "demo" else sys.argv[3]
said = said[said.index("one entry to your LLM host"):]
blocks = [json.loads(block) for block in re.findall(r"^  \{\n.*?^  \}$", said, re.M | re.S)]
entry = {"type": "stdio", "command": program, "args": ["mcp"]}
assert blocks == [{"mcpServers": {"aios": entry}}, {"servers": {"aios": entry}}], blocks
line = re.search(r"claude mcp add aios -- (.*)$", said, re.M)[1]
assert shlex.split(line) == [program, "mcp"], line
toml = textwrap.dedent(said[said.index("  [mcp_servers.aios]"):])
try:
    import tomllib
except ImportError: # before Python 3.11
    sys.exit(0)
assert tomllib.loads(toml) == {"mcp_servers": {"aios": {
    "command": program, "args": ["mcp"], "tool_timeout_sec": 60}}}, toml
PYTHON
done
