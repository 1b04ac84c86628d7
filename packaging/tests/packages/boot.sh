#!/usr/bin/env bash
# Starts systemd in a root folder, in namespaces of its own: tests/packages/boot.sh ROOT CGROUP
#
# It ends with everything in it when this process ends. CGROUP is a name for its control group, which the caller removes.
set -euo pipefail
root=$1

# The unified hierarchy may be beside the older ones.
cgroups=$(findmnt --noheadings --first-only --types cgroup2 --output TARGET)
mkdir "$cgroups/$2"
echo $$ >"$cgroups/$2/cgroup.procs"

inside=$(cat <<'INSIDE'
set -eu
mount --bind "$1" "$1"
cd "$1"
mount -t proc proc proc
# Nothing in there may change the kernel's settings.
mount --bind proc/sys proc/sys
mount -o remount,bind,ro proc/sys
mount -t sysfs -o ro sysfs sys
mount -t cgroup2 cgroup2 sys/fs/cgroup
mount -t tmpfs -o mode=755 tmpfs dev
for device in null zero full random urandom tty; do
  touch "dev/$device"
  mount --bind "/dev/$device" "dev/$device"
done
mkdir dev/shm dev/pts
mount -t devpts -o newinstance,mode=620,ptmxmode=666 devpts dev/pts
ln -s pts/ptmx dev/ptmx
ln -s /proc/self/fd dev/fd
touch dev/console
mount -t tmpfs -o mode=755 tmpfs run
mount -t tmpfs -o mode=1777 tmpfs tmp
# Of no use here, or of the machine that this runs on.
for unit in systemd-sysctl systemd-modules-load systemd-remount-fs systemd-update-utmp systemd-initctl console-getty getty@ \
  systemd-logind systemd-networkd systemd-resolved systemd-timesyncd modprobe@ e2scrub_reap; do
  ln -sf /dev/null "etc/systemd/system/$unit.service"
done
for unit in sys-kernel-debug.mount sys-kernel-tracing.mount sys-kernel-config.mount sys-fs-fuse-connections.mount \
  dev-hugepages.mount dev-mqueue.mount getty.target apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer \
  man-db.timer systemd-tmpfiles-clean.timer fstrim.timer; do
  ln -sf /dev/null "etc/systemd/system/$unit"
done
mkdir -p before
pivot_root . before
umount -l /before
rmdir /before
exec env -i container=test PATH=/usr/sbin:/usr/bin:/sbin:/bin /lib/systemd/systemd --system --unit=multi-user.target </dev/null
INSIDE
)
exec unshare --mount --uts --ipc --net --pid --cgroup --fork --kill-child --propagation private sh -c "$inside" sh "$root"
