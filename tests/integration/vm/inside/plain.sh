#!/bin/bash
# The server run by an ordinary user to whom nothing was given: resource limits and watching.
cd /test || exit
. ./lib.sh
. ./common.sh

doctor() {
  expect 0 aios doctor
  grep -E 'none: v2: .*not delegated' "$dir/out"
}

# One program gets no more data than the limit, if the watcher does not see it before; several
# together are watched, and the largest is killed.
memory() {
  expect 1 aios run --memory 64M -- tail -n 1 /dev/zero || [ "$(tail -n 1 "$dir/err")" = \
    'aios run: killed for memory: the limit is 64 MiB (--memory)' ]
  ended oom 137 --memory 128M -- bash -c '
    hold() { { head -c "$1"; sleep 600; } </dev/zero; }
    hold 30M | tail -n 1 &
    hold 30M | tail -n 1 &
    exec tail -n 1 < <(hold 80M)'
}

cpu_share() {
  expect 125 aios run --cpus 0.5 -- true
  grep -F 'needs cgroups' "$dir/err"
}
too_many() { too_many_as exit; }
saves() { saves_while_at_work noticed; }

check doctor
check starts
check exit_codes
check memory
check cpu_share
check too_many
check full_disk
check usage
check layers
check renames
check refusals
check many_at_once
check protocol
check terminal
check saves
check changes_what_was_saved
check after_kill
check tidy
