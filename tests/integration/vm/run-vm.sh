#!/bin/bash
# Boots a small machine with the distribution's own kernel and control groups of version 2, in
# which `aios` is tried as root and as users; every check there must say "ok" here.
#
#   run-vm.sh AIOS FOLDER [TEST_PROGRAM …]      (unit tests, to be run there as root)
#
# Status 77 skips where something to build or run it with is missing, which AIOS_TEST_STRICT
# forbids.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
aios=$1 folder=$2
shift 2
deadline_s=${AIOS_VM_DEADLINE:-1200} # software emulation on a busy machine; an idle one needs 90
memory_mb=1024

missing() {
  echo "missing: $1 (tools/dev/setup --tests installs it)"
  [ "${AIOS_TEST_STRICT:-}" = 1 ] && exit 1
  exit 77
}

PATH=$PATH:/usr/sbin:/sbin
for program in qemu-system-x86_64 busybox cpio mke2fs modprobe awk bash hostname perl setpriv; do
  command -v "$program" >/dev/null || missing "$program"
done
kernel=$(find /boot -name 'vmlinuz-*-cloud-amd64' | sort -V | tail -n 1)
[ -n "$kernel" ] || missing linux-image-cloud-amd64
[ -r "$kernel" ] || missing "a readable $kernel"
release=${kernel##*/vmlinuz-}
[ -d "/lib/modules/$release" ] || missing "the modules of $kernel"

"$here/make-machine.sh" "$aios" "$folder" "$release" "$@"
log=$folder/console.log

# Not the smaller microvm: on a busy machine its kernel may fail to measure the processor's clock
# and wait for ever.  The disk stays as it is (snapshot=on), so that a second run finds the same.
TMPDIR=$folder timeout -k 10 "$deadline_s" qemu-system-x86_64 \
  -M q35 -accel tcg -smp 2 -m "$memory_mb" \
  -nodefaults -no-user-config -no-reboot -display none -monitor none -serial stdio \
  -kernel "$kernel" -initrd "$folder/initramfs.cpio" \
  -append "console=ttyS0 reboot=t panic=-1 quiet loglevel=1" \
  -drive "id=disk,file=$folder/disk.img,format=raw,if=none,snapshot=on" \
  -device virtio-blk-pci,drive=disk </dev/null | sed -u 's/\r$//' | tee "$log" || {
  echo "FAIL: the machine did not end by itself within $deadline_s s"
  exit 1
}

# Each check of each suite must have been heard of, so that none gets lost on the way.
bad=0
heard() {
  grep -qx "VM-TEST $1 ok" "$log" || {
    echo "FAIL: $1"
    bad=1
  }
}
for suite in root delegated plain; do
  while read -r name; do
    heard "$suite.$name"
  done < <(sed -n 's/^check //p' "$here/inside/$suite.sh")
done
for test in "$@"; do
  heard "units.$(basename "$test")"
done
grep -qx 'VM-TEST-END' "$log" || {
  echo "FAIL: the machine ended early"
  bad=1
}
exit "$bad"
