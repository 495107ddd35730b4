#!/bin/bash
# The server run by an ordinary user who was given a group.
cd /test || exit
. ./lib.sh
. ./common.sh
own=/sys/fs/cgroup/user
echo "+memory +pids +cpu" >"$own/cgroup.subtree_control"

doctor() {
  expect 0 aios doctor
  grep -F "v2 at $own" "$dir/out"
  no_groups
}

memory() { ended oom 137 --memory 64M -- tail -n 1 /dev/zero; }
cpu_share() { ended exit 0 --cpus 0.5 -- true; }

# Alone in a group that is not divided yet, the server divides it, and leaves it as it was.
alone_in_a_group() {
  mkdir "$own/alone"
  bash -c 'echo $$ >"$1/cgroup.procs" && shift && exec "$@"' - "$own/alone" \
    aios run --json --memory 64M --cpus 0.5 -- tail -n 1 /dev/zero </dev/null 2>"$dir/err" || :
  grep -E '"reason": ?"oom"' "$dir/err"
  no_groups
  [ -z "$(cat "$own/alone/cgroup.procs" "$own/alone/cgroup.subtree_control")" ]
  rmdir "$own/alone"
}

shared_folders() {
  mkdir -p "$HOME/shared"
  run --rw "$HOME/shared" -- sh -c "echo made >$HOME/shared/made"
  [ "$(stat -c %u "$HOME/shared/made")" = 1234 ]
}
too_many() { too_many_as pids; }
saves() { saves_while_at_work ''; }

check doctor
check starts
check exit_codes
check memory
check cpu_share
check too_many
check alone_in_a_group
check usage
check layers
check renames
check shared_folders
check many_at_once
check protocol
check saves
check changes_what_was_saved
check after_kill
check tidy
