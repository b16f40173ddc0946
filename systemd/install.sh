#!/bin/sh
# install.sh [--prefix DIRECTORY] [--uninstall]
#
# Installs the programs from target/release (or BUILT) on a host with systemd and without Debian's
# packages, and has them take over from libvirt's while guests run. The daemons are put where
# libvirt's are, or into DIRECTORY/sbin where there are none; all else into DIRECTORY (/usr/local).
# --uninstall has libvirt's daemons take over, and removes everything.
#
# Run it again with newer programs: that is an upgrade. After an update of libvirt's package, which puts its
# program at the path, run it again too: it takes over again.
set -eu
export LC_ALL=C
cd "$(dirname "$0")/.."

prefix=/usr/local
action=install
while [ $# -gt 0 ]; do
  case $1 in
    --prefix) prefix=${2:?--prefix needs a directory}; shift ;;
    --uninstall) action=uninstall ;;
    *) sed -n '2,/^set/{/^set/d; s/^# \{0,1\}//p}' "$0"; exit 2 ;;
  esac
  shift
done
built=${BUILT:-${CARGO_TARGET_DIR:-$PWD/target}/release}
units=/etc/systemd/system
# Outside of systemd's own directory, the one that all its versions read.
catalogs=/usr/local/lib/systemd/catalog

fail() {
  echo "install.sh: $*" >&2
  exit 1
}

# Where libvirt's unit starts its program, if there is such a unit; ours otherwise.
find_program() {
  program=$(systemctl show --value --property=ExecStart "$name.service" 2>/dev/null | sed -n 's/.* path=\([^ ]*\) .*/\1/p')
  fragment=$(systemctl show --value --property=FragmentPath "$name.service" 2>/dev/null)
  [ -n "$program" ] || program=$prefix/sbin/$name
}

is_ours() { "$1" --version 2>/dev/null | grep -q "^$name-rs "; }

put() {
  mkdir -p "$(dirname "$3")"
  install -m "$1" "$2" "$3.new"
  mv -f "$3.new" "$3"
}

# Keeps libvirt's program. Where there is none the service manager may start ours for the first client.
keep_program() {
  if [ ! -e "$program" ]; then
    put 755 "$built/$name" "$program"
  elif ! is_ours "$program"; then
    ln -f "$program" "$program.libvirt"
  fi
}

# Drop-ins for libvirt's units; our own units where there are none.
install_settings() {
  case $fragment in
    "" | "$units/$name.service")
      mkdir -p "$units"
      for unit in "$name.service" "$name.socket" "$name-admin.socket"; do
        sed "s|/usr/sbin/$name|$program|g" "systemd/$unit" >"$units/$unit"
      done
      systemctl daemon-reload
      systemctl enable --now "$name.socket" "$name-admin.socket"
      ;;
    *)
      mkdir -p "$units/$name.service.d"
      systemd/drop-in.sh "systemd/$name.service" | sed "s|/usr/sbin/$name|$program|g" >"$units/$name.service.d/virt-rs.conf"
      ;;
  esac
}

# Units of our own beside the daemon's, not enabled.
install_units() {
  for unit in "systemd/$name"-*.service "systemd/$name"-*.timer; do
    [ ! -e "$unit" ] || sed "s|/usr/bin/$tool|$prefix/bin/$tool|g" "$unit" >"$units/${unit##*/}"
  done
  systemctl daemon-reload
}

uninstall_units() {
  for unit in "systemd/$name"-*.service "systemd/$name"-*.timer; do
    [ -e "$units/${unit##*/}" ] || continue
    systemctl disable --quiet --now "${unit##*/}" || true
    # It may have asked libvirt's daemon, which does not answer it.
    systemctl reset-failed "${unit##*/}" 2>/dev/null || true
    rm -f "$units/${unit##*/}"
  done
}

# Explanations for journalctl -x, if the daemon has such.
install_catalog() {
  [ -e "systemd/$name.catalog" ] || return 0
  put 644 "systemd/$name.catalog" "$catalogs/$name.catalog"
  journalctl --update-catalog || true
}

install_one() {
  tool=${name%d}ctl
  find_program
  "$built/$name" --version >/dev/null || fail "$built/$name does not run here. Nothing was changed."
  is_ours "$built/$name" || fail "$built/$name is not ours. Nothing was changed."
  put 755 "$built/$tool" "$prefix/bin/$tool"
  put 755 systemd/exchange.sh "$prefix/libexec/$name/exchange"
  install_catalog
  keep_program
  install_settings
  install_units
  RETRY="systemd/install.sh --prefix $prefix" systemd/exchange.sh take-over "$name" "$built/$name" "$program" || failed=1
}

# The order matters: the hand-over, while it can fail; then the program; then the settings.
uninstall_one() {
  tool=${name%d}ctl
  find_program
  PATH=$prefix/bin:$PATH systemd/exchange.sh hand-back "$name" "$program" || fail "$name stays as it is."
  if [ "$program.libvirt" -ef "$program" ]; then
    rm -f "$program.libvirt"
  elif [ -e "$program.libvirt" ]; then
    mv -f "$program.libvirt" "$program"
  elif is_ours "$program"; then
    systemctl disable --now "$name.socket" "$name-admin.socket" 2>/dev/null || true
    systemctl stop "$name.service"
    rm -f "$program"
  fi
  uninstall_units
  rm -rf "$units/$name.service.d/virt-rs.conf" "$prefix/bin/$tool" "$prefix/libexec/$name"
  rmdir "$units/$name.service.d" 2>/dev/null || true
  case $fragment in
    "$units/$name.service") rm -f "$units/$name.service" "$units/$name.socket" "$units/$name-admin.socket" ;;
  esac
  systemctl daemon-reload
  rm -f "$catalogs/$name.catalog"
  journalctl --update-catalog || true
}

[ "$(id -u)" = 0 ] || fail "only root can do this."
[ -d /run/systemd/system ] || fail "there is no systemd here: see systemd/README.md for other supervisors."
failed=0
for name in virtlogd virtlockd; do
  "${action}_one"
done
exit "$failed"
