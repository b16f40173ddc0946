//! What an operator does with guests.

use std::process::Command;

use super::host::succeed;
use super::{Guest, Host, wait_for};

/// The unprivileged user of session mode: Debian's `nobody` and `nogroup`.
const USER_ID: &str = "65534";

/// A connection to libvirt on a host, system or session.
#[derive(Debug)]
pub struct Virsh<'a> {
    host: &'a Host,
    session: bool,
}

impl<'a> Virsh<'a> {
    /// Home of session mode's user.
    pub const SESSION_HOME: &'static str = "/run/home";
    /// Session mode's run directory.
    pub const SESSION_RUN: &'static str = "/run/user";

    pub(super) fn system(host: &'a Host) -> Self {
        Self { host, session: false }
    }

    pub(super) fn session(host: &'a Host) -> Self {
        let (home, run) = (Self::SESSION_HOME, Self::SESSION_RUN);
        host.run("install", &["-d", "-m", "700", "-o", USER_ID, "-g", USER_ID, home, run]);
        Self { host, session: true }
    }

    /// Defines a guest and puts its boot disk in place.
    pub fn define(&self, guest: &Guest) {
        let image = guest.boot_image();
        self.host.write(&image, guest.boot().image());
        let xml = format!("{image}.xml");
        self.host.write(&xml, guest.xml());
        if self.session {
            self.host.run("chown", &[USER_ID, &image, &xml]);
        }
        self.run(&["define", &xml]);
    }

    /// Defines and starts a guest.
    pub fn launch(&self, guest: &Guest) {
        self.define(guest);
        self.run(&["start", guest.name()]);
    }

    /// Runs one of virsh's commands and returns what it printed.
    ///
    /// # Panics
    ///
    /// When it fails.
    pub fn run(&self, args: &[&str]) -> String {
        succeed(self.command().args(args))
    }

    /// Runs one of virsh's commands that must fail and returns its error messages.
    ///
    /// # Panics
    ///
    /// When it succeeds.
    pub fn refused(&self, args: &[&str]) -> String {
        let output = self.command().args(args).output().expect("nsenter starts");
        assert!(!output.status.success(), "virsh {args:?} is refused");
        String::from_utf8_lossy(&output.stderr).into_owned()
    }

    /// Runs one of virsh's commands until it succeeds: a lease, say, is free some time after its
    /// guest has gone.
    pub fn run_eventually(&self, args: &[&str]) {
        wait_for(&format!("virsh {args:?}"), || {
            let output = self.command().args(args).output().expect("nsenter starts");
            output.status.success().then_some(())
        });
    }

    /// `running`, `paused`, `shut off` and the like.
    pub fn state(&self, name: &str) -> String {
        self.run(&["domstate", name]).trim().to_owned()
    }

    /// What QEMU itself says of its state, once libvirtd has no other business with it.
    pub fn qemu_status(&self, name: &str) -> String {
        self.run(&["qemu-monitor-command", name, "--hmp", "info status"]).trim().to_owned()
    }

    /// Waits until the guest has powered itself off or died.
    pub fn wait_until_off(&self, name: &str) {
        wait_for("a guest to be shut off", || (self.state(name) == "shut off").then_some(()));
    }

    fn command(&self) -> Command {
        if !self.session {
            let mut command = self.host.command("virsh");
            command.args(["-c", "qemu:///system"]);
            return command;
        }
        let mut command = self.host.command("setpriv");
        command
            .args(["--reuid", USER_ID, "--regid", USER_ID, "--clear-groups"])
            .args(["virsh", "-c", "qemu:///session"])
            .env("HOME", Self::SESSION_HOME)
            .env("XDG_RUNTIME_DIR", Self::SESSION_RUN);
        command
    }
}
