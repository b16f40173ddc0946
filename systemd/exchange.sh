#!/bin/sh
# exchange.sh take-over NAME NEW [PROGRAM]
# exchange.sh hand-back NAME [PROGRAM]
#
# Exchanges the program of the running service NAME (virtlogd, virtlockd) while guests run. PROGRAM is
# the path that the service was started from, /usr/sbin/NAME unless given. libvirt's program is
# kept at PROGRAM.libvirt.
#
# take-over: a copy of NEW, which is ours, is put at the path, and takes over from libvirt's or from an
#            older one of ours.
# hand-back: libvirt's is put at the path, and takes over. What it cannot take over is listed before
#            anything is given up, and refused unless VIRT_HAND_BACK=anyway is set.
#
# The path is never empty. What can be checked is checked before path and process are touched. On a
# failure the exit status is 1, the process goes on as it was, and its program is at the path.
set -u
export LC_ALL=C

say() { echo "$name: $*"; }

fail() {
  say "$*" >&2
  exit 1
}

property() { systemctl show --value --property="$1" "$name.service"; }

# The first line of what a program says to --version is libvirt's, a second one ours.
is_ours() { "$1" --version 2>/dev/null | grep -q "^$name-rs "; }

is_libvirts() { "$1" --version 2>/dev/null | grep -q '(libvirt)' && ! is_ours "$1"; }

# That of a program: "virtlogd-rs 0.1.0", or "libvirt's 9.0.0".
version() { "$1" --version 2>/dev/null | sed -n '$p' | sed "s/^.*(libvirt)/libvirt's/"; }

put_libvirts() {
  [ "$program.libvirt" -ef "$program" ] || { ln -f "$program.libvirt" "$program.new" && mv -f "$program.new" "$program"; }
}

put_ours() {
  install -m 755 "$new" "$program.new" && mv -f "$program.new" "$program" || return 1
  ! command -v restorecon >/dev/null || restorecon "$program" || true
}

has_systemd() { [ -d /run/systemd/system ]; }

# Sets pid to the daemon's process, 0 for none.
find_process() {
  pid=0
  if has_systemd; then
    pid=$(property MainPID)
  elif kill -0 "$(cat "/run/$name.pid" 2>/dev/null)" 2>/dev/null; then
    pid=$(cat "/run/$name.pid")
  fi
  pid=${pid:-0}
}

policy_forbids() {
  [ -x /usr/sbin/policy-rc.d ] || return 1
  /usr/sbin/policy-rc.d "$name" reload >/dev/null 2>&1
  [ $? = 101 ]
}

# The service's own words, while it runs.
status() { property StatusText | sed 's/; last upgrade: .*//'; }

reload() {
  systemctl reload "$name.service" 2>/dev/null && return
  failure=$(property StatusText | sed -n 's/.*last upgrade: //p')
  return 1
}

# Whether the process runs the program at the path, and has told systemd that it serves.
serves() { cmp -s "/proc/$pid/exe" "$program" && [ "$(property MainPID)" = "$pid" ]; }

wait_until() {
  for _ in $(seq 100); do
    "$@" && return
    sleep 0.1
  done
  return 1
}

# Has the program that a function puts at the path take over. If it does not, the process's is put back.
execute() {
  rm -f "$program.before"
  [ ! -e "$program" ] || ln "$program" "$program.before"
  if "$1" && reload && wait_until serves; then
    rm -f "$program.before"
    return 0
  fi
  if cmp -s "/proc/$pid/exe" "$program.before"; then
    mv -f "$program.before" "$program"
  fi
  rm -f "$program.before"
  return 1
}

# take-over

take_over() {
  find_process
  check_program
  read_settings
  if [ "$pid" = 0 ]; then
    put_or_fail
    say "it does not run. Its next start is one of $(version "$program")."
  elif ! has_systemd; then
    put_or_fail
    say "there is no systemd here. $(version "$program") takes over at: kill -USR1 $pid"
  elif policy_forbids; then
    put_or_fail
    say "policy-rc.d forbids a reload. $(version "$program") takes over at: systemctl reload $name"
  else
    execute_ours
  fi
}

check_program() {
  local broken
  is_ours "$new" && return
  broken=$("$new" --version 2>&1 | head -n 1)
  fail "the new program does not run here: ${broken:-it says nothing}. At $program is still $(version "$program"), and what ran goes on. Install this package again once the reason is removed."
}

put_or_fail() { put_ours || fail "$program could not be replaced. The next try: $retry"; }

execute_ours() {
  local before
  before=$(version "/proc/$pid/exe")
  is_ours "/proc/$pid/exe" || check_libvirts_process
  if ! execute put_ours; then
    fail "the process goes on with $before: ${failure:-the reload failed, see: journalctl -u $name}. The next try: $retry"
  fi
  # It looks for its fd store in the first moments.
  wait_until is_protected
  say "$(version "$program") has taken over from ${before:-an unknown program}: $(status)."
  case $before in "$name-rs "*) return ;; esac
  ! is_protected || say "a crash, a kill or a restart loses nothing from now on."
  say "the sandbox and the limit of open files take effect at the next start of the process."
}

# From then on the process has an fd store, and a reload tells how it ends.
read_settings() {
  local refusal
  has_systemd || return 0
  refusal=$(systemctl daemon-reload 2>&1) ||
    fail "systemd has not read the new settings: ${refusal%.}. The process goes on, and was not touched. The next try, once that is mended: $retry"
}

is_protected() {
  case $(status) in "" | *"no fd store"*) return 1 ;; esac
}

# libvirt's daemon checks nothing before it executes another program, and ends if that fails.
check_libvirts_process() {
  local refusal="libvirt's process goes on, and was not touched"
  local answer
  # Arguments of the process, less its name.
  set --
  while IFS= read -r argument; do set -- "$@" "$argument"; done <<EOF
$(tr '\0' '\n' <"/proc/$pid/cmdline" | sed 1d)
EOF
  [ "$#" != 1 ] || [ -n "$1" ] || shift
  answer=$(printf '{"magic":"1"}' | "$new" --check-handover "$@" 2>&1)
  case $answer in
    "virt-rs hand-over: ok"*) ;;
    *) fail "${answer#virt-rs hand-over: }. $refusal. The next try, once that is mended: $retry" ;;
  esac
  check_room "$refusal"
  check_clients "$refusal"
}

# It writes its state there, some 4 KiB for each file at the most.
check_room() {
  local file="/run/$name-restart-exec.json"
  local bytes=$((65536 + 4096 * $(ls "/proc/$pid/fd" | wc -l)))
  [ ! -d "$file" ] || fail "$file is a directory, where libvirt's daemon writes its state. $1. The next try: $retry"
  if ! head -c "$bytes" /dev/zero >"$file.room"; then
    rm -f "$file.room"
    fail "there is no room for the $bytes bytes of libvirt's daemon's state in /run, without which it would end. $1. The next try: $retry"
  fi
  rm -f "$file.room"
}

# It ends over a client whose process has died, and over one that has connected but not yet said who
# it is, as libvirt's do for a moment. That cannot be seen: two looks with the same clients are waited for.
check_clients() {
  local now before=none
  command -v virt-admin >/dev/null || return 0
  for _ in $(seq 50); do
    now=$(clients)
    case $now in *gone*) ;; "$before") return ;; esac
    before=$now
    sleep 0.1
  done
  fail "its clients come and go, and libvirt's daemon could end over one that has not said who it is: $now. $1. The next try: $retry"
}

clients() {
  virt-admin -c "$name:///system" client-list "$name" 2>/dev/null | awk '$1 ~ /^[0-9]+$/ { print $1 }' |
    while read -r client; do
      process=$(virt-admin -c "$name:///system" client-info "$name" "$client" 2>/dev/null |
        sed -n 's/^unix_process_id *: *//p')
      [ -d "/proc/$process" ] && echo "client $client of process $process" || echo "client $client, gone"
    done
}

# hand-back

hand_back() {
  find_process
  if ! has_systemd; then
    [ "$pid" = 0 ] || say "there is no systemd here. libvirt's program takes over, once it is at $program, at: kill -USR1 $pid"
  elif [ "$pid" = 0 ]; then
    check_stopped
  elif ! is_ours "/proc/$pid/exe"; then
    :
  elif is_libvirts "$program.libvirt"; then
    check_losses
    execute_libvirts
  else
    holds_nothing || insist "there is no program of libvirt's at $program.libvirt that could take over."
  fi
  # Whatever starts from now on is libvirt's.
  ! is_libvirts "$program.libvirt" || put_libvirts
}

holds_nothing() {
  local all
  all=$(list) && [ -z "$all" ]
}

# Refuses, or goes on if told to.
insist() {
  say "$*" >&2
  [ "${VIRT_HAND_BACK:-}" = anyway ] ||
    fail "nothing was changed. VIRT_HAND_BACK=anyway goes on all the same, and gives that up."
}

check_stopped() {
  local stored
  stored=$(property NFileDescriptorStore)
  [ "${stored:-0}" = 0 ] ||
    insist "it does not run, and systemd keeps $stored descriptors of its guests. They go on after: systemctl start $name"
}

# Lists logs or leases, one a line.
list() { "${name%d}ctl" --connect "$name:///system" list --json 2>&1; }

# Lists what libvirt's daemon cannot take over; other logs and leases go on. Sets ending to the number of
# leases whose guests would be ended if they were lost.
check_losses() {
  local all losses words
  case $name in
    virtlogd) words='"path":{ "state":"held-back" "state":"losing"' ;;
    virtlockd) words='"resource":{ "lockspace":{ "lacks":' ;;
  esac
  if ! all=$(list); then
    insist "what libvirt's daemon could not take over cannot be listed: $all"
    return
  fi
  ending=$(echo "$all" | grep -cF '"on_lost_lease":"end"')
  losses=$(echo "$all" | grep -F "$(echo "$words" | tr ' ' '\n')") || return 0
  insist "libvirt's daemon could not take over: $losses"
}

execute_libvirts() {
  local before
  before=$(status)
  if execute put_libvirts; then
    say "libvirt's program has taken over: $before."
    [ "$ending" = 0 ] ||
      say "on_lost_lease = \"end\" of $ending leases on shared storage has ended, as libvirt's program knows no such policy."
  else
    insist "libvirt's program has not taken over: ${failure:-the reload failed, see: journalctl -u $name}"
  fi
}

what=${1:-}
name=${2:-}
new=
failure=
ending=0
retry=${RETRY:-systemctl reload $name}
if [ "$what" = take-over ] && [ $# -ge 3 ]; then
  new=$3
  shift
fi
program=${3:-/usr/sbin/$name}
case $what:$name:${new:+new} in
  take-over:virtlogd:new | take-over:virtlockd:new) take_over ;;
  hand-back:virtlogd: | hand-back:virtlockd:) hand_back ;;
  *) sed -n '2,3{s/^# /usage: /p}' "$0" >&2; exit 2 ;;
esac
