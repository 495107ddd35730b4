#!/bin/bash
# Makes what run-vm.sh boots: an initramfs that knows how to reach the disk, and the disk, a small
# merged-usr Linux of this machine's own programs with the built `aios` and the checks.
#
#   make-machine.sh AIOS FOLDER KERNEL_RELEASE [TEST_PROGRAM …]
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
aios=$1 folder=$2 release=$3
shift 3

programs=(awk bash cat chmod cp dash dmesg env find grep head hostname id ln ls mkdir mkfifo mktemp
  mount mv perl rm rmdir sed seq setpriv setsid sleep stat tail timeout touch tr true tty uname
  unshare wc)
modules=(overlay virtio_pci virtio_blk)

rm -rf "$folder"
mkdir -p "$folder"/{early/{bin,dev,modules,proc,root},disk}

# ---- the disk ----

disk=$folder/disk
mkdir -p "$disk"/{dev,etc,home/user,mnt,opt/aios/{bin,lib/aios},opt/busybox,opt/tests,proc,root,run,sys,test,tmp}
mkdir -p "$disk"/usr/{bin,sbin,lib,lib64,local/bin,share/doc/sample}
for name in bin sbin lib lib64; do
  ln -s "usr/$name" "$disk/$name"
done

# Each file at the name by which it is asked for, whatever link that is here.
with_libraries() { # source target
  cp -L "$1" "$disk$2"
  chmod 755 "$disk$2"
  { ldd "$1" 2>/dev/null | grep -oE '/[^ ]+' || :; } | while read -r library; do
    [ ! -e "$disk$library" ] || continue
    mkdir -p "$disk$(dirname "$library")"
    cp -L "$library" "$disk$library"
  done
}
for program in "${programs[@]}"; do
  with_libraries "$(type -P "$program")" "/usr/bin/$program"
done
ln -s dash "$disk/usr/bin/sh"
with_libraries "$aios" /opt/aios/bin/aios
whole=$(dirname "$aios")/../lib/aios/aios
[ ! -e "$whole" ] || with_libraries "$whole" /opt/aios/lib/aios/aios
for test in "$@"; do
  with_libraries "$test" "/opt/tests/$(basename "$test")"
done
cp "$(command -v busybox)" "$disk/opt/busybox/busybox"
cp "$here"/inside/* "$disk/test/"
chmod 755 "$disk"/test/*
{
  printf '#!/bin/bash\n# Unit tests that depend on the kernel.\ncd /test || exit\n. ./lib.sh\n'
  for test in "$@"; do
    name=$(basename "$test")
    printf '%s() { unit %s; }\ncheck %s\n' "$name" "$name" "$name"
  done
} >"$disk/test/units.sh"
chmod 755 "$disk/test/units.sh"
echo 'ID=test' >"$disk/usr/lib/os-release"
echo 'a file of the system' >"$disk/usr/share/doc/sample/file"
printf 'root:x:0:0:root:/root:/bin/bash\nuser:x:1234:1234::/home/user:/bin/bash\n' \
  >"$disk/etc/passwd"
printf 'root:x:0:\nuser:x:1234:\n' >"$disk/etc/group"
truncate -s 256M "$folder/disk.img"
mke2fs -q -t ext4 -O ^has_journal -m 0 -d "$disk" "$folder/disk.img"

# ---- the way to it ----

early=$folder/early
cp "$(command -v busybox)" "$early/bin/busybox"
modprobe -S "$release" --show-depends -a "${modules[@]}" | awk '$1 == "insmod" && !seen[$2]++ { print $2 }' |
  while read -r module; do
    cp "$module" "$early/modules/"
    echo "$(basename "$module")" >>"$early/modules/order"
  done
cp "$here/early-init.sh" "$early/init"
chmod 755 "$early/init"
(cd "$early" && find . | cpio --quiet -o -H newc -R 0:0) >"$folder/initramfs.cpio"
rm -rf "$early" "$disk"
