#!/bin/sh
# The configuration is shown whole, described key by key, and checked with the wrong key named.
. "$(dirname "$0")/lib.sh"
: >"$out"
: >"$err"

expect 0 "$AIOS" config path
out_is "$AIOS_HOME/config/config.json"
expect 0 "$AIOS" config check
out_has "defaults"
expect 0 "$AIOS" config show
python3 -c 'import json, sys; d = json.load(open(sys.argv[1])); assert d["computer"]["memory_mb"] == 1024' "$out" ||
    fail "what is shown is not the defaults"
cp "$out" shown.json
expect 0 "$AIOS" config check --config shown.json
expect 0 "$AIOS" config keys
for key in agent.name computer.memory_mb sandbox.cgroup audit.dir access.rules; do
    out_has "$key"
done

mkdir -p "$AIOS_HOME/config"
echo '{"computer": {"memory_mb": 2048}}' >"$AIOS_HOME/config/config.json"
expect 0 "$AIOS" config check
out_has "config.json is right"
expect 0 "$AIOS" config show
out_has '"memory_mb": 2048'

echo '{"computer": {"memmory_mb": 2048}}' >"$AIOS_HOME/config/config.json"
expect 1 "$AIOS" config check
err_has memmory_mb
err_has config.json
expect 1 "$AIOS" config show
expect 125 "$AIOS" run -- true
err_has memmory_mb
expect 1 "$AIOS" call --list

echo '{"computer": ' >half.json
expect 1 "$AIOS" config check --config half.json
err_has half.json
expect 1 "$AIOS" config --config no-such.json check
err_has no-such.json
echo '{"computer": {"memory_mb": "much"}}' >wrong.json
expect 1 "$AIOS" config check --config wrong.json
err_has computer.memory_mb

# What only the tools know: the names of their groups.
echo '{"access": {"groups": ["file", "fiel"]}}' >groups.json
expect 1 "$AIOS" config check --config groups.json
err_has 'groups.json: access.groups: no group of tools is called "fiel"'
echo '{"access": {"groups": ["file"]}}' >groups.json
expect 0 "$AIOS" config check --config groups.json
