#!/bin/sh
# Help everywhere, and wrong usage that says what is right.
. "$(dirname "$0")/lib.sh"
: >"$out"
: >"$err"

# Every command that the program names.
expect 0 "$AIOS" --help
out_has "Exit codes:"
commands=$(sed -nE 's/^  ([a-z]+)  .*/\1/p' "$out")
[ "$(echo "$commands" | wc -l)" -ge 12 ] || fail "commands: $commands"
for command in $commands; do
    expect 0 "$AIOS" "$command" --help
    [ "$command" = version ] && continue
    out_has "usage: aios $command"
    out_has "Exit codes:"
done
expect 0 "$AIOS" version
out_has "aios "
expect 2 "$AIOS"
expect 2 "$AIOS" no-such-command

expect 125 "$AIOS" run
err_has "there is no command"
expect 125 "$AIOS" run --bogus -- true
err_has "there is no option --bogus"
for wrong in '--memory 3x' '--memory -1' '--memory 1G2' '--memory nan' '--disk 0' '--pids 1.5' '--pids many' \
    '--cpus 0' '--cpus inf' '--timeout 0' '--timeout soon' '--cwd here' '--env NAME' '--env =x' '--json=yes'; do
    # shellcheck disable=SC2086 # an option and its value
    expect 125 "$AIOS" run $wrong -- true
    err_has "${wrong%%[ =]*}"
done
expect 125 "$AIOS" run --memory
err_has "--memory needs a value"
expect 125 "$AIOS" run --config /no/such/file -- true
err_has "/no/such/file"

expect 2 "$AIOS" doctor more
expect 2 "$AIOS" audit frobnicate
expect 2 "$AIOS" audit list more
expect 2 "$AIOS" audit verify --last 3
expect 2 "$AIOS" audit --last none
expect 2 "$AIOS" config
expect 2 "$AIOS" config frobnicate
expect 2 "$AIOS" config show more
expect 2 "$AIOS" call
expect 2 "$AIOS" call --server
expect 2 "$AIOS" call --bogus
