for cc in cc gcc clang; do command -v "$cc" > /dev/null 2>&1 && break; cc=; done
[ "$cc" ] || exit 127
dir=$(mktemp -d "${TMPDIR:-/tmp}/.cells.XXXXXX") || exit 1
printf '%s' "$1" > "$dir/cell.c" &&
  "$cc" -std=gnu11 -rdynamic -o "$dir/cell" "$dir/cell.c" -ldl && rm "$dir/cell.c" &&
  exec "$dir/cell" "$cc" "$dir"
