#!/bin/sh
# drop-in.sh UNIT
#
# Prints what libvirt's unit of the same name lacks of ours, UNIT, as a drop-in. Not in it: what it
# is started with, which stays libvirt's, and dependencies on sockets, which a drop-in cannot take away.
set -eu
echo "# Settings of our unit for libvirt's, made by systemd/drop-in.sh."
sed -e '/^\[Install\]/,$d' \
    -e '/^# Not BindsTo=/d' -e '/^Description=/d' -e '/^Documentation=/d' -e '/^Requires=/d' -e '/^ExecStart=/d' \
    -e '/^Environment/d' \
    -e 's/^ExecStartPre=/ExecStartPre=\n&/' -e 's/^ExecReload=/ExecReload=\n&/' \
    -e 's/^CapabilityBoundingSet=/CapabilityBoundingSet=\n&/' \
    -e '/^SystemCallFilter=@system-service/s/^/SystemCallFilter=\n/' "$1"
