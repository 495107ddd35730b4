#!/bin/sh
# What the doctor says is readable by people and by programs, and its code is the proof's.
. "$(dirname "$0")/lib.sh"
: >"$out"
: >"$err"

code=0
"$AIOS" doctor --json >"$out" 2>"$err" || code=$?
json "$out" 'd["version"] and isinstance(d["checks"], list) and len(d["checks"]) >= 3'
json "$out" 'all(set(c) == {"name", "ok", "required", "detail", "remedy"} for c in d["checks"])'
json "$out" 'all(c["ok"] or c["remedy"] for c in d["checks"])'
json "$out" '{p["name"] for p in d["programs"]} == {"bash", "python3", "node", "gcc", "git", "curl"}'
json "$out" 'all(p["version"] for p in d["programs"] if p["ok"])'
json "$out" '{"qemu", "accelerator"} >= {v["name"] for v in d["vm"] if not v["name"].startswith("image ")}'
json "$out" 'all(v["ok"] or v["remedy"] for v in d["vm"])'
json "$out" '{m["name"] for m in d["modules"]} == {"http", "picture", "postgres"}'
json "$out" 'all(m["ok"] and m["for"] and not m["remedy"] for m in d["modules"])'
json "$out" 'len(d["folders"]) == 3 and all(f["ok"] for f in d["folders"])'
json "$out" 'd["memory_free_mb"] > 0 and d["configuration"] == ""'
json "$out" "d['start']['ok'] is ($code == 0) and (d['start']['ok'] or d['start']['error'])"
expect "$code" "$AIOS" doctor
out_has "python3"
out_has "state folder"
out_has "postgres"
out_has "storage in PostgreSQL"
if [ "$code" = 0 ]; then
    out_has "sandbox started and ran true in"
    "$AIOS" run -- true || fail "the doctor was too hopeful"
fi

mkdir -p "$AIOS_HOME/config"
echo '{"computer": {"memory_mb": 512}}' >"$AIOS_HOME/config/config.json"
expect "$code" "$AIOS" doctor --json
json "$out" 'd["configuration"].endswith("/config/config.json")'
echo '{"computer": {"memory": 512}}' >"$AIOS_HOME/config/config.json"
expect 1 "$AIOS" doctor
err_has "memory"
