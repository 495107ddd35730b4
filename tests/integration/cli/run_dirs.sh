#!/bin/sh
# Shared folders: at their own path, written as their owner's files, or not at all.
. "$(dirname "$0")/lib.sh"
need_sandbox
mkdir rw ro rw/below
echo given >rw/given
echo given >ro/given

expect 0 "$AIOS" run --rw "$PWD/rw" -- sh -c "cat $PWD/rw/given; echo made >$PWD/rw/made"
out_is given
[ "$(cat rw/made)" = made ] || fail "what was written is not there"
[ "$(stat -c %u:%g rw/made)" = "$(stat -c %u:%g rw)" ] || fail "the new file belongs to somebody else"

expect 0 "$AIOS" run --ro "$PWD/ro" -- cat "$PWD/ro/given"
out_is given
expect 2 "$AIOS" run --ro "$PWD/ro" -- sh -c "echo x >$PWD/ro/made"
[ ! -e ro/made ] || fail "a read-only folder was written"
expect 2 "$AIOS" run -- sh -c "echo x >$PWD/rw/other"
[ ! -e rw/other ] || fail "a folder was written that was not shared"

# Where it starts.
expect 0 "$AIOS" run -- pwd
out_is /workspace
expect 0 "$AIOS" run --rw "$PWD/rw" -- pwd
out_is /workspace
cd rw/below
expect 0 "$AIOS" run --rw .. -- pwd
out_is "$PWD"
expect 0 "$AIOS" run --rw .. --cwd /tmp -- pwd
out_is /tmp
cd ../..
expect 0 "$AIOS" run --rw rw --ro ro --cwd "$PWD/ro" -- ls
out_is given

# A link is followed before it is shared.
ln -s rw link
expect 0 "$AIOS" run --ro link -- cat "$PWD/rw/given"
out_is given

# The environment.
# shellcheck disable=SC2016 # for the shell inside
expect 0 env OUTSIDE=secret "$AIOS" run --env A=1 --env 'B=two words' -- sh -c 'echo "$A,$B,$OUTSIDE,$HOME"'
out_is "1,two words,,/home/agent"

if [ "$(id -u)" = 0 ]; then
    mkdir other
    echo mine >other/old
    chown -R 12345:23456 other
    expect 0 "$AIOS" run --rw "$PWD/other" -- sh -c "id -u; cat $PWD/other/old; echo x >>$PWD/other/old; echo y >$PWD/other/new"
    out_is "1000
mine"
    [ "$(stat -c %u:%g other/new)" = 12345:23456 ] || fail "new file: $(stat -c %u:%g other/new)"
    [ "$(stat -c %u:%g other/old)" = 12345:23456 ] || fail "old file: $(stat -c %u:%g other/old)"
    # Files of the host's root in a folder of somebody else stay root's.
    install -m 600 /dev/null other/roots
    expect 1 "$AIOS" run --rw "$PWD/other" -- cat "$PWD/other/roots"
fi

# What / lies in is nowhere to be seen, and stays where it is.
expect 0 "$AIOS" run -- sh -c 'ls -A /usr/.aios; ! rmdir /usr/.aios && ! mv /usr/.aios /tmp/x && ! touch /usr/.aios/x'
out_is ""
