#!/usr/bin/env bash
# machine.sh [FILE:PATH]... -- COMMAND [ARGUMENT]...
#
# Boots systemd as process 1 of a machine of its own, puts a copy of each FILE at PATH in it (a directory
# is there itself, to be read), runs COMMAND there and ends it all. The machine is a set of private namespaces, a cgroup and an
# overlay over / (or over MACHINE_ROOT, the root directory of another distribution) whose changes
# are in memory: whatever happens in it, nothing is left but, if this script is killed with SIGKILL,
# an empty cgroup, which the next machine removes.
#
# Needs root, systemd, cgroup2 and util-linux. Exit status: that of COMMAND, 125 without a machine.
set -euo pipefail
export LC_ALL=C

# Units of the distribution's own that a boot may start; all others are masked.
keep=" dbus.socket dbus.service systemd-journald.service systemd-journald.socket
 systemd-journald-dev-log.socket systemd-tmpfiles-setup.service "
boot_timeout_s=60

# Process 1 until systemd takes its place: makes the root directory, with copies of files.
become_init() {
  local root=/run/machine/root
  mount --make-rprivate /
  mount -t tmpfs -o mode=755 tmpfs /run
  mkdir -p /run/machine/{upper,work,root}
  mount -t overlay -o lowerdir="${MACHINE_ROOT:-/}",upperdir=/run/machine/upper,workdir=/run/machine/work overlay "$root"
  make_kernel_file_systems "$root"
  make_devices "$root/dev"
  for directory in /run /tmp /var/tmp /var/log /var/lib/libvirt /var/cache/libvirt; do
    mkdir -p "$root$directory"
    mount -t tmpfs -o mode=755 tmpfs "$root$directory"
  done
  chmod 1777 "$root/tmp" "$root/var/tmp"
  configure "$root"
  for file; do
    put "${file%%:*}" "$root${file#*:}"
  done
  ip link set lo up 2>/dev/null || true
  hostname machine
  cd "$root"
  mkdir -p run/outside
  pivot_root . run/outside
  cd /
  umount --lazy /run/outside
  # As systemd does where it takes itself for alone: services see what is mounted later.
  mount --make-rshared /
  exec env -i container=tests PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C \
    /lib/systemd/systemd --system --show-status=no --log-target=journal
}

put() {
  if [ -d "$1" ]; then
    mkdir -p "$2"
    mount --bind "$1" "$2"
    mount -o remount,bind,ro "$2"
  else
    mkdir -p "$(dirname "$2")"
    cp --remove-destination "$1" "$2"
  fi
}

# Settings outside the namespaces are the whole machine's: systemd's hands off them.
make_kernel_file_systems() {
  mount -t proc -o nosuid,nodev,noexec proc "$1/proc"
  for entry in sys sysrq-trigger; do
    [ -e "$1/proc/$entry" ] || continue
    mount --bind "$1/proc/$entry" "$1/proc/$entry"
    mount -o remount,bind,ro "$1/proc/$entry"
  done
  mount -t sysfs -o ro,nosuid,nodev,noexec sysfs "$1/sys"
  mount -t tmpfs -o mode=755 tmpfs "$1/sys/fs/cgroup"
  mount -t cgroup2 -o nosuid,nodev,noexec cgroup2 "$1/sys/fs/cgroup"
}

make_devices() {
  mount -t tmpfs -o mode=755,nosuid tmpfs "$1"
  local node
  for node in /dev/{null,zero,full,random,urandom,tty,fuse,loop-control} /dev/loop[0-9]*; do
    [ -e "$node" ] && cp --archive "$node" "$1/"
  done
  mkdir "$1"/{pts,shm}
  mount -t devpts -o newinstance,ptmxmode=0666,mode=620 devpts "$1/pts"
  mount -t tmpfs -o mode=1777,nosuid,nodev tmpfs "$1/shm"
  ln -s pts/ptmx "$1/ptmx"
  ln -s /proc/self/fd "$1/fd"
  ln -s /proc/self/fd/0 "$1/stdin"
  ln -s /proc/self/fd/1 "$1/stdout"
  ln -s /proc/self/fd/2 "$1/stderr"
}

# A boot that starts nothing but the journal, and nothing that this machine has enabled.
configure() {
  local units=$1/etc/systemd/system unit name
  mkdir -p "$units" "$1/etc/systemd/journald.conf.d"
  rm -rf "$units"/*.wants "$units"/*.requires "$units/default.target"
  for unit in "$1"/{usr/,}lib/systemd/system/*.target.wants/*; do
    name=${unit##*/}
    case $keep$name in
      *" $name"[[:space:]]*) ;;
      *.target) ;;
      *) [ -L "$unit" ] && ln -sfn /dev/null "$units/$name" ;;
    esac
  done
  ln -s /lib/systemd/system/multi-user.target "$units/default.target"
  printf '[Journal]\nStorage=volatile\nRateLimitBurst=0\nAudit=no\n' \
    >"$1/etc/systemd/journald.conf.d/tests.conf"
  tr -d - </proc/sys/kernel/random/uuid >"$1/etc/machine-id"
  : >"$1/etc/fstab"
  echo machine >"$1/etc/hostname"
}

# Outside.

fail() {
  echo "machine.sh: $*" >&2
  exit 125
}

in_machine() {
  nsenter --target "$init" --mount --uts --ipc --net --pid --cgroup --root --wd "$@"
}

wait_for_boot() {
  local end=$((SECONDS + boot_timeout_s)) state
  while [ $SECONDS -lt $end ] && kill -0 "$outer" 2>/dev/null; do
    init=$(cat "/proc/$outer/task/$outer/children" 2>/dev/null || true)
    init=${init// /}
    if [ -n "$init" ] && [ "$(cat "/proc/$init/comm" 2>/dev/null)" = systemd ]; then
      state=$(in_machine systemctl is-system-running 2>/dev/null || true)
      case $state in running | degraded) return ;; esac
    fi
    sleep 0.05
  done
  return 1
}

tear_down() {
  trap '' TERM INT
  kill -KILL "${command:-}" "${init:-}" "${outer:-}" 2>/dev/null || true
  wait "${outer:-}" 2>/dev/null || true
  remove_cgroup "$cgroup"
}

# Its processes are dead, but perhaps not yet gone.
remove_cgroup() {
  local _
  for _ in {1..100}; do
    find "$1" -depth -type d -exec rmdir {} + 2>/dev/null || true
    [ -d "$1" ] || return 0
    sleep 0.05
  done
}

main() {
  local files=() cgroups console status=0
  while [ $# -gt 0 ] && [ "$1" != -- ]; do files+=("$1"); shift; done
  shift
  cgroups=$(findmnt --noheadings --first-only --types cgroup2 --output TARGET) || fail "no cgroup2 here"
  for cgroup in "$cgroups"/tests-machine.*; do
    [ ! -d "$cgroup" ] || [ -d "/proc/${cgroup##*.}" ] || remove_cgroup "$cgroup"
  done
  cgroup=$cgroups/tests-machine.$$
  mkdir "$cgroup" "$cgroup"/{machine,command} || fail "no cgroup can be made here"
  trap tear_down EXIT
  trap 'exit 143' TERM INT

  (
    echo "$BASHPID" >"$cgroup/machine/cgroup.procs"
    exec setpriv --pdeathsig KILL \
      unshare --cgroup --mount --uts --ipc --net --pid --fork --kill-child=KILL \
      bash "$0" --init ${files[@]+"${files[@]}"}
  ) </dev/null >&2 &
  outer=$!
  wait_for_boot || fail "systemd did not come up"
  (
    echo "$BASHPID" >"$cgroup/command/cgroup.procs"
    in_machine env -i HOME=/root LC_ALL=C PATH=/usr/sbin:/usr/bin:/sbin:/bin "$@" </dev/null
  ) &
  command=$!
  wait "$command" || status=$?
  exit "$status"
}

case ${1:-} in
  --init) shift; become_init "$@" ;;
  *) main "$@" ;;
esac
