//! Real guests: Debian's `libvirtd` and QEMU (TCG, no acceleration) around the daemons under test.
//!
//! A [`Host`] is a set of private namespaces with file systems of its own over everything libvirt
//! writes to; `virtlogd` and `virtlockd` in it are libvirt's or ours, put over the installed
//! ones, so that even what libvirtd starts by itself is the daemon under test. A [`Guest`] boots a
//! [`BootSector`] that prints numbered lines on its serial port, which makes a lost, doubled or
//! misplaced byte visible. [`Virsh`] does what an operator does.
//!
//! Everything on a host dies with it, and the host with the test, however that ends.

mod boot_sector;
mod guest;
mod host;
mod numbered_lines;
mod upgrade;
mod virsh;

pub use boot_sector::BootSector;
pub use guest::{Disk, Guest, Sharing};
pub use host::{Host, Setup};
pub use numbered_lines::{complete, consecutive};
pub use virsh::Virsh;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::harness::{Program, Subject, Whose, left_out};

/// How long anything that must happen may take on a busy machine.
const DEADLINE: Duration = Duration::from_secs(60);

/// What the scenarios need beside Rust: Debian's libvirt-daemon, libvirt-daemon-system,
/// libvirt-clients, qemu-system-x86, and util-linux.
const PROGRAMS: [&str; 7] = [
    "/usr/sbin/libvirtd",
    "/usr/sbin/virtlogd",
    "/usr/sbin/virtlockd",
    "/usr/bin/virsh",
    "/usr/bin/qemu-system-x86_64",
    "/usr/bin/nsenter",
    "/usr/bin/unshare",
];

/// Runs the scenario called `name` on a fresh host, or leaves it out loudly where it cannot run.
pub fn on_host(whose: Whose, name: &str, setup: &Setup<'_>, scenario: impl FnOnce(&Host)) {
    match prerequisites().and_then(|()| Host::boot(&daemons(whose, setup)?)) {
        Ok(host) => {
            host.start(setup);
            scenario(&host);
        }
        Err(reason) => left_out(&format!("{name}, {whose:?}"), &reason),
    }
}

/// Defines the tests `name::theirs` and `name::ours`, which run one scenario on a fresh host with
/// libvirt's daemons and with ours: `scenario!(name, setup, |host| { ... })`.
#[macro_export]
macro_rules! scenario {
    ($(#[$meta:meta])* $name:ident, $setup:expr, |$host:ident| $body:block) => {
        $(#[$meta])*
        mod $name {
            use super::*;

            fn scenario($host: &Host) $body

            #[test]
            fn theirs() {
                on_host(Whose::Theirs, module_path!(), &$setup, scenario);
            }

            #[test]
            fn ours() {
                on_host(Whose::Ours, module_path!(), &$setup, scenario);
            }
        }
    };
}

/// Waits until `probe` finds something.
///
/// # Panics
///
/// When nothing is found within a generous time.
pub fn wait_for<T>(what: &str, mut probe: impl FnMut() -> Option<T>) -> T {
    let started = Instant::now();
    loop {
        if let Some(found) = probe() {
            return found;
        }
        assert!(started.elapsed() < DEADLINE, "in vain waited for {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn prerequisites() -> Result<(), String> {
    if !nix::unistd::geteuid().is_root() {
        return Err("only root can make a private host".to_owned());
    }
    let missing = PROGRAMS.iter().find(|program| !Path::new(program).exists());
    missing.map_or(Ok(()), |program| Err(format!("{program} is not installed")))
}

/// The daemons to put over the installed ones.
fn daemons(whose: Whose, setup: &Setup<'_>) -> Result<Vec<PathBuf>, String> {
    if whose == Whose::Theirs {
        return Ok(Vec::new());
    }
    let mut programs = vec![Program::Virtlogd];
    programs.extend(setup.locking.then_some(Program::Virtlockd));
    programs.into_iter().map(|program| Subject { whose, program }.executable()).collect()
}
