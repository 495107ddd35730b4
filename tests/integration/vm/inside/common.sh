# What must hold for every user and every kind of limits.

starts() {
  run -- id
  grep -F 'uid=1000(agent) gid=1000(agent)' "$dir/out"
  run -- cat /proc/self/cgroup
  [ "$(cat "$dir/out")" = "0::/" ]
  run -- sh -c 'exec 3<>/dev/null; tty || head -c 8 /dev/urandom | wc -c'
  grep -x 8 "$dir/out"
}

exit_codes() {
  ended exit 7 -- sh -c 'exit 7'
  ended signal 143 -- sh -c 'kill -TERM $$'
  ended timeout 124 --timeout 1 -- sleep 600
  expect 127 aios run -- no-such-program
  expect 126 aios run -- /etc
}

# Everything that the kernel's file systems must do for it.
layers() {
  run -- bash -exc '
    echo own >/usr/local/bin/own
    mv /usr/local/bin/own /usr/bin/own
    [ "$(cat /usr/bin/own)" = own ]
    rm /usr/bin/seq
    [ ! -e /usr/bin/seq ]
    echo x >/etc/x
    ln /etc/x /workspace/x # another folder: Landlock must know how to allow it
    [ "$(stat -c %h /workspace/x)" = 2 ]
    : >/workspace/x
    [ ! -s /etc/x ]
    [ "$(stat -f -c %T /workspace)" = overlayfs ]
    if (echo 1 >/proc/sys/vm/drop_caches); then exit 1; fi
    [ -z "$(cat /proc/kcore)" ]'
  run -- true
  [ -x /usr/bin/seq ]
}

# Programs expect to rename folders of their own.
renames() {
  local place
  for place in /workspace /home/agent /tmp /opt /var/tmp /srv; do
    run -- bash -ec "cd $place && mkdir a && touch a/f &&
      perl -e 'rename(\"a\", \"b\") or die \"rename: \$!\n\"' && [ -e b/f ] &&
      rm -r b && [ ! -e b ]"
  done
}

refusals() {
  ended exit 1 -- unshare --user true
  grep -E '"syscall": ?"unshare"' "$dir/report"
}

full_disk() { ended disk 1 --disk 4M -- sh -c 'head -c 8M /dev/zero >/workspace/f'; }

# $1: the reason, where the kernel tells.
too_many_as() { ended "$1" 2 --pids 24 -- sh -c 'for i in $(seq 60); do sleep 600 & done; exit 9'; }

usage() {
  ended exit 0 -- sh -c 'i=0; while [ "$i" -lt 100000 ]; do i=$((i+1)); done'
  grep -E '"cpu_ms": ?[1-9]' "$dir/report"
  grep -E '"peak_bytes": ?[1-9][0-9]{5}' "$dir/report"
}

many_at_once() {
  local i pids=()
  for i in 1 2 3 4 5 6; do
    timeout 150 aios run -- sh -c "exit $i" </dev/null &
    pids[$i]=$!
  done
  for i in 1 2 3 4 5 6; do
    code=0
    wait "${pids[$i]}" || code=$?
    [ "$code" = "$i" ]
  done
}

tidy() {
  no_groups
  no_guests
  [ -z "$(ls -A "$AIOS_HOME/run/servers")" ]
}

# The server gets no chance to tidy up: the next one does.
after_kill() {
  started
  kill -9 "$pid"
  wait "$pid" || :
  exec 5>&- 6<&-
  run -- true
  tidy
}

protocol() {
  local line
  mkfifo "$dir/in" "$dir/answers"
  timeout -k 5 150 aios mcp <"$dir/in" >"$dir/answers" 2>"$dir/err" &
  exec 5>"$dir/in" 6<"$dir/answers"
  printf '%s\n' '{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-06-18","capabilities":{},"clientInfo":{"name":"t","version":"1"}}}' >&5
  read -r -t 100 line <&6
  grep -F '"protocolVersion":"2025-06-18"' <<<"$line"
  printf '%s\n' '{"jsonrpc":"2.0","method":"notifications/initialized"}' \
    '{"jsonrpc":"2.0","id":2,"method":"tools/call","params":{"name":"terminal_run","arguments":{"command":"echo $((6*7))"}}}' >&5
  until [[ $line == *'"id":2'* ]]; do
    read -r -t 100 line <&6
  done
  grep -F '"text":"42\n"' <<<"$line"
  exec 5>&-
  wait $!
}

terminal() {
  talk
  ask "terminal_run 'argv=[\"tty\"]' pty=true" /dev/pts/0
  hang_up
}

# With a program at work: one that is stopped by signals would notice it ($1), one that is frozen
# would not.
saves_while_at_work() {
  talk
  script 'trap "echo noticed >noticed" CONT; : >noticed; n=0
    while :; do n=$((n+1)); echo $n >n.new; mv n.new n; sleep 0.02; done'
  ask "terminal_run command=@$dir/script background=true" .
  inside 'until [ -s n ]; do sleep 0.02; done; mkdir -p kept/deep; echo one >kept/deep/file
    rm /usr/bin/seq; echo mine >/usr/bin/mine; echo mine >/etc/mine; echo "code=$?"' '^code=0'
  ask 'computer_snapshot action=save' 'as snapshot'
  snapshot=$(sed -nE 's/.* as snapshot (s_[a-z0-9]+).*/\1/p' <<<"$answer")
  inside 'echo two >kept/deep/file; n=$(cat n); until [ "$(cat n)" -ge $((n+3)) ]; do sleep 0.02; done
    echo "noticed=$(cat noticed)"' '^noticed='
  [ "$answer" = "noticed=$1" ]

  ask "computer_create from=$snapshot" '^.*c_'
  computer=$(grep -oE 'c_[a-z0-9]{20,}' <<<"$answer" | tail -n 1)
  inside 'set -ex; [ "$(cat kept/deep/file)" = one ]; [ ! -e /usr/bin/seq ]
    [ "$(cat /usr/bin/mine /etc/mine)" = "mine
mine" ]; echo all=well' '^all=well' "computer=$computer"
  hang_up
}

# What a snapshot or a fork began with can be changed and removed like the rest.
changes_what_was_saved() {
  talk
  inside 'mkdir -p kept/deep empty; echo one >kept/deep/file; echo code=$?' '^code=0'
  ask 'computer_create from=default' '^.*c_'
  computer=$(grep -oE 'c_[a-z0-9]{20,}' <<<"$answer" | tail -n 1)
  inside 'set -ex; [ "$(cat kept/deep/file)" = one ]; rmdir empty; echo two >kept/deep/file
    mv kept/deep/file kept/file; mkdir new
    perl -e "rename(qw(new newer)) or die qq(rename: \$!\n)"
    rm -r kept; [ ! -e kept ]; mkdir kept; [ -z "$(ls -A kept)" ]; echo all=well' \
    '^all=well' "computer=$computer"
  hang_up
}
