#!/bin/busybox sh
# The first program of the machine: loads the modules, mounts the disk and hands over to it.  Not
# the whole machine lives in the initramfs, because pivot_root(2), which sandboxes need, is refused
# to whoever has that as its root.
b=/bin/busybox
$b mount -t proc proc /proc
$b mount -t devtmpfs dev /dev
while read -r module; do
  $b insmod "/modules/$module"
done </modules/order
$b mount -t ext4 -o noatime /dev/vda /root || {
  echo "VM-TEST early.disk FAILED"
  $b poweroff -f
}
# Whoever built the disk owns its files.
$b chown -hR 0:0 /root
$b mount --move /proc /root/proc
$b mount --move /dev /root/dev
exec $b switch_root /root /test/init.sh
