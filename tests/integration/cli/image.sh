#!/bin/sh
# Images are listed, shown, checked and removed; what cannot be built is refused before anything is made.
. "$(dirname "$0")/lib.sh"
: >"$out"
: >"$err"

expect 0 "$AIOS" image list
out_is ""
expect 0 "$AIOS" image list --json
out_is "[]"
expect 2 "$AIOS" image
expect 2 "$AIOS" image frobnicate
expect 2 "$AIOS" image build
expect 2 "$AIOS" image list base
expect 1 "$AIOS" image show base
err_has 'there is no image "base"'
expect 1 "$AIOS" image build nothing
err_has 'there is no recipe "nothing"'
[ ! -e "$AIOS_HOME/cache/images" ] || fail "looking has made a store"

# One as the builder leaves it, but small.
hash=$(printf 'a%.0s' $(seq 64))
dir=$AIOS_HOME/cache/images/$hash
mkdir -p "$dir"
printf 'a kernel' >"$dir/vmlinuz"
sum=$(sha256sum <"$dir/vmlinuz" | cut -d ' ' -f 1)
echo '{"name":"small","description":"a test","packages":{"bash":"5"},"files":[{"path":"vmlinuz","bytes":8,"sha256":"'"$sum"'"}]}' \
    >"$dir/recipe.json"
expect 0 "$AIOS" image list
out_has "aaaaaaaaaaaa  small"
expect 0 "$AIOS" image show small
out_has "$sum  vmlinuz"
out_has "bash"
expect 0 "$AIOS" image show aaaa --json
out_has '"packages":{"bash":"5"}'
expect 0 "$AIOS" image verify
out_is "aaaaaaaaaaaa  small: ok"
printf 'A kernel' >"$dir/vmlinuz"
expect 1 "$AIOS" image verify small
out_is "aaaaaaaaaaaa  vmlinuz: other content than it had"
err_has "1 of 1 images damaged"
echo '{' >"$dir/recipe.json"
expect 1 "$AIOS" image verify
out_has "recipe.json"
expect 0 "$AIOS" image remove aaaa
expect 0 "$AIOS" image list
out_is ""
[ -z "$(find "$AIOS_HOME/cache/images" -mindepth 1 ! -name lock)" ] || fail "removal left something"
