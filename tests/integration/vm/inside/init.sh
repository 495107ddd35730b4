#!/bin/bash
# The machine's init: control groups of version 2 alone, an ordinary user, then every suite.
export PATH=/opt/aios/bin:/usr/local/bin:/usr/bin:/usr/sbin
b=/opt/busybox/busybox
mount -t sysfs sys /sys
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mkdir -p /dev/pts /dev/shm
mount -t devpts -o ptmxmode=0666 devpts /dev/pts
mount -t tmpfs -o mode=1777 shm /dev/shm
mount -t tmpfs -o mode=0755 mnt /mnt
chmod 1777 /tmp
mount -t tmpfs -o mode=0755 run /run
$b ip link set lo up
$b hostname machine
chmod 755 /home
mkdir -p /home/user
chown_user() { $b chown 1234:1234 "$@"; }
chown_user /home/user
echo "VM-TEST-BEGIN $(uname -r)"

cd /root || exit
HOME=/root /test/root.sh

# A group that the administrator gives to the user, as systemd does with Delegate=yes.
echo "+memory +pids +cpu" >/sys/fs/cgroup/cgroup.subtree_control
mkdir -p /sys/fs/cgroup/user/shell /sys/fs/cgroup/plain
for group in /sys/fs/cgroup/user /sys/fs/cgroup/user/shell; do
  chown_user "$group" "$group/cgroup.procs" "$group/cgroup.threads" "$group/cgroup.subtree_control"
done
as_user() { # group script
  (
    echo "$BASHPID" >"/sys/fs/cgroup/$1/cgroup.procs"
    cd /home/user || exit
    HOME=/home/user exec setpriv --reuid 1234 --regid 1234 --clear-groups "/test/$2"
  )
}
as_user user/shell delegated.sh
as_user plain plain.sh
HOME=/root /test/units.sh

echo "VM-TEST-END"
$b poweroff -f
