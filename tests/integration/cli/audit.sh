#!/bin/sh
# The log is shown and verified, and a changed, removed or reordered row is named.
. "$(dirname "$0")/lib.sh"
: >"$out"
: >"$err"

expect 1 "$AIOS" audit verify
expect 1 "$AIOS" audit
expect 0 "$AIOS" call computer_list
expect 1 "$AIOS" call computer_destroy computer=c_unknown

expect 0 "$AIOS" audit verify
out_has " rows in 1 file, head "
rows=$(cut -d' ' -f1 "$out")
[ "$rows" -ge 6 ] || fail "only $rows rows"
expect 0 "$AIOS" audit verify --json
json "$out" "d['whole'] and d['rows'] == $rows and len(d['head']) == 64 and d['problem'] == ''"

expect 0 "$AIOS" audit
[ "$(wc -l <"$out")" = "$rows" ] || fail "not every row is listed"
out_has computer_destroy
expect 0 "$AIOS" audit list --last 2
[ "$(wc -l <"$out")" = 2 ] || fail "not the last two rows"
expect 0 "$AIOS" audit list --match computer_list --json
json "$out" 'd["subject"] == "computer_list" and d["agent"] == "default" and d["row"] > 0'
expect 0 "$AIOS" audit --match nobody-at-all
out_is ""

log="$AIOS_HOME/state/audit"
break_it() { # SQL
    rm -rf broken
    cp -r "$log" broken
    python3 - "$1" <<'PYTHON'
import sqlite3, sys
db = sqlite3.connect("broken/audit.db")
db.execute(sys.argv[1])
db.commit()
db.close()
PYTHON
    expect 1 "$AIOS" audit verify --dir "$PWD/broken"
    err_has "broken"
}
expect 0 "$AIOS" audit verify --dir "$log"
break_it "update audit set decision = 'deny' where seq = 3"
err_has "row 3"
expect 1 "$AIOS" audit verify --json --dir "$PWD/broken"
json "$out" 'not d["whole"] and d["first_bad"] == 3 and d["problem"]'
break_it "delete from audit where seq = 4"
break_it "delete from audit where seq = (select max(seq) from audit)"
break_it "update audit set wall_ns = wall_ns + 1 where seq = 1"
expect 0 "$AIOS" audit verify
