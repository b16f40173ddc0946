//! libvirtd and QEMU with our daemons.

mod handover;
mod virtlockd;
mod virtlogd;
