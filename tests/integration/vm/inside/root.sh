#!/bin/bash
# The server run by root, where control groups of version 2 are what the machine has.
cd /test || exit
. ./lib.sh
. ./common.sh

doctor() {
  expect 0 aios doctor
  grep -F 'v2 at /sys/fs/cgroup' "$dir/out"
  ! grep -F 'without cpu' "$dir/out"
  no_groups
}

# What the kernel was told is what was asked for.
limits_are_set() {
  started --memory 96M --pids 40 --cpus 0.5
  group=$(groups)
  [ "$(cat "$group/memory.max")" = $((96 << 20)) ]
  [ "$(cat "$group/pids.max")" = 40 ]
  [ "$(cat "$group/cpu.max")" = "50000 100000" ]
  [ "$(cat "$group/pids.current")" -ge 3 ]
  exec 5>&-
  code=0
  wait "$pid" || code=$?
  [ "$code" = 3 ]
  no_groups
}

memory() { ended oom 137 --memory 64M -- tail -n 1 /dev/zero; }
cpu_share() { ended exit 0 --cpus 0.5 -- true; }

# The disk has id-mapped mounts on this kernel, and what is in memory only has not.
shared_folders() {
  local shared=/srv-of-the-host
  mkdir -p "$shared"
  echo given >"$shared/given"
  run --rw "$shared" -- sh -c "cat $shared/given && echo made >$shared/made"
  grep -x given "$dir/out"
  [ "$(stat -c %u:%g "$shared/made")" = 0:0 ]
  expect 1 aios run --ro "$shared" -- sh -c "cat $shared/given; touch $shared/no"
  grep -x given "$dir/out"
  [ ! -e "$shared/no" ]
  mkdir -p /mnt/shared
  expect 125 aios run --rw /mnt/shared -- true
  grep -F 'cannot be mapped to another user' "$dir/err"
}
too_many() { too_many_as pids; }
saves() { saves_while_at_work ''; }

check doctor
check starts
check exit_codes
check limits_are_set
check memory
check cpu_share
check too_many
check full_disk
check usage
check layers
check renames
check refusals
check shared_folders
check many_at_once
check protocol
check terminal
check saves
check changes_what_was_saved
check after_kill
check tidy
