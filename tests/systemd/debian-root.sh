#!/usr/bin/env bash
# debian-root.sh SUITE DIRECTORY [PACKAGE]...
#
# Makes the root directory of a Debian, with systemd, libvirt, QEMU and further packages, for MACHINE_ROOT. It takes some minutes
# and 0.6 GB; one that is there already is left as it is. libvirt's packages with the two daemons are in
# /opt/libvirt-packages of it, and what is needed to build programs is where apt finds it without a network.
#
# Needs root, debootstrap and the mirror that this machine uses.
set -euo pipefail

suite=$1
directory=$2
packages=(libvirt-daemon-system libvirt-daemon-driver-qemu libvirt-clients qemu-system-x86 seabios ipxe-qemu)
case $suite in
  bookworm) daemons="libvirt-daemon libvirt-daemon-system" ;;
  *) daemons="libvirt-daemon-log libvirt-daemon-lock" packages+=(libvirt-daemon-plugin-lockd) ;;
esac
packages+=("${@:3}")

[ ! -e "$directory/complete" ] || exit 0
codename=$(. /etc/os-release && echo "$VERSION_CODENAME")
mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' "Codename: $codename" | sed -n 1p)
# A suite that this debootstrap is too old to know is made as the newest that it knows.
script=/usr/share/debootstrap/scripts/$suite
[ -e "$script" ] || script=/usr/share/debootstrap/scripts/sid
rm -rf "$directory"
debootstrap --variant=minbase --merged-usr --include=systemd,systemd-sysv,dbus,procps,iproute2 \
  "$suite" "$directory" "$mirror" "$script"

# Nothing is started while it is made.
printf '#!/bin/sh\nexit 101\n' >"$directory/usr/sbin/policy-rc.d"
chmod +x "$directory/usr/sbin/policy-rc.d"
cp /etc/resolv.conf "$directory/etc/resolv.conf"
mkdir -p "$directory/opt/libvirt-packages"
unshare --mount --pid --fork --mount-proc="$directory/proc" bash -euo pipefail -c '
  directory=$1
  daemons=$2
  shift 2
  mount --make-rprivate /
  mount --rbind /dev "$directory/dev"
  mount -t sysfs -o ro sysfs "$directory/sys"
  export DEBIAN_FRONTEND=noninteractive
  chroot "$directory" apt-get update -q
  chroot "$directory" apt-get install -y -q --no-install-recommends "$@" $daemons
  chroot "$directory" sh -ec "cd /opt/libvirt-packages && apt-get download -q $daemons"
  chroot "$directory" apt-get clean
  chroot "$directory" apt-get install -y -q --download-only build-essential
' - "$directory" "$daemons" "${packages[@]}"
rm "$directory/usr/sbin/policy-rc.d"
touch "$directory/complete"
