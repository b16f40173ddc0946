//! Crashes and reloads in the midst of dpkg's work: there is a program at the path at every moment.

use std::fs;
use std::path::Path;
use std::thread;

use nix::sys::signal::Signal;
use tests::harness::{Program, Whose, eventually};
use tests::machine::{is_libvirts, main_pid, service, succeed, systemctl};

use super::{be_libvirts_host, changed_package, packaged};
use crate::guests::Guests;
use crate::kills::kill_by;
use crate::libvirt::BOTH;

super::with_packages! {
    crashes_while_dpkg_is_at_work,
}

/// Is there while dpkg waits before it lets ours take over, or after it has removed our files.
const HELD: &str = "/run/held";

/// Has the maintainer scripts wait at their beginning, but not in the midst of an upgrade.
const HOLDING: &str = "sed -i '2i case $1 in configure|remove) : >/run/held; while [ -e /run/held ]; do sleep 0.05; done;; esac' \
     x/DEBIAN/postinst x/DEBIAN/postrm";

fn crashes_while_dpkg_is_at_work() {
    be_libvirts_host();
    for program in BOTH {
        let guests = Guests::start(program);
        let [first, second] =
            ["0.1.1", "0.1.2"].map(|version| changed_package(program, version, HOLDING));
        let before = main_pid(program);
        while_held(&["--install", &first], || {
            systemctl(&["reload", &service(program)]);
            assert!(is_at_path(program, Whose::Theirs));
        });
        assert_eq!((main_pid(program), is_libvirts(program)), (before, false));
        while_held(&["--install", &second], || {
            kill_by(program, Signal::SIGKILL);
            assert!(!is_libvirts(program));
        });
        let before = main_pid(program);
        while_held(&["--remove", program.name()], || {
            expect_removed(program);
            systemctl(&["reload", &service(program)]);
            assert_eq!((main_pid(program), is_libvirts(program)), (before, true));
            guests.finish();
            kill_by(program, Signal::SIGKILL);
            assert!(is_libvirts(program));
        });
        assert!(is_at_path(program, Whose::Theirs));
        let failed = systemctl(&["list-units", "--failed", "--plain", "--no-legend"]);
        assert!(!failed.contains("virt"), "{failed}");
    }
}

/// Runs dpkg, and does something while it is held. It goes on even if that fails.
fn while_held(arguments: &[&str], act: impl FnOnce()) {
    thread::scope(|scope| {
        let dpkg = scope.spawn(|| packaged("dpkg", arguments));
        eventually("dpkg is held", || Path::new(HELD).exists() || dpkg.is_finished());
        let released = Release;
        assert!(!dpkg.is_finished(), "dpkg was not held");
        act();
        drop(released);
    });
}

struct Release;

impl Drop for Release {
    fn drop(&mut self) {
        fs::remove_file(HELD).ok();
    }
}

/// Our files are gone already, as far as dpkg has them.
fn expect_removed(program: Program) {
    assert!(!Path::new(&format!("/usr/libexec/{0}/{0}", program.name())).exists());
    assert!(is_at_path(program, Whose::Theirs));
}

fn is_at_path(program: Program, whose: Whose) -> bool {
    let said = succeed(&format!("/usr/sbin/{}", program.name()), &["--version"]);
    said.contains("-rs ") == (whose == Whose::Ours)
}
