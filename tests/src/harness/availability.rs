//! What this machine can run, and the loud word about what it cannot.

use std::io::Write;
use std::process::{Command, Stdio};
use std::sync::LazyLock;

use super::{Route, Subject};

/// Runs a test unless something it needs is missing; that is said with [`left_out`].
pub fn run(subject: Subject, name: &str, test: impl FnOnce(Subject)) {
    match NAMESPACES.clone().and_then(|()| subject.executable()) {
        Ok(_) => test(subject),
        Err(reason) => left_out(&format!("{name}, {:?}", subject.whose), &reason),
    }
}

/// [`run`] for a test that changes from one daemon to another.
pub fn run_along(route: Route, name: &str, test: impl FnOnce(Route)) {
    let subjects = route.subjects();
    let executables = || subjects.iter().try_for_each(|subject| subject.executable().map(drop));
    match NAMESPACES.clone().and_then(|()| executables()) {
        Ok(()) => test(route),
        Err(reason) => left_out(&format!("{name}, {subjects:?}"), &reason),
    }
}

/// Says on the real stderr, past the test runner's capture, that something was not run.
///
/// # Panics
/// With `VIRT_TESTS_REQUIRE=1` in the environment, so that CI cannot lose tests silently.
pub fn left_out(what: &str, reason: &str) {
    assert!(
        std::env::var_os("VIRT_TESTS_REQUIRE").is_none_or(|value| value != "1"),
        "{what} could not run: {reason}"
    );
    // A failing stderr leaves nobody to tell.
    drop(writeln!(std::io::stderr().lock(), "LEFT OUT: {what}: {reason}"));
}

/// True when the tests run as root; otherwise says that `what` was left out.
pub fn needs_root(what: &str) -> bool {
    let root = is_root();
    if !root {
        left_out(what, "it needs root");
    }
    root
}

pub(super) fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

static NAMESPACES: LazyLock<Result<(), String>> = LazyLock::new(|| {
    let output = Command::new("unshare")
        .args(super::setup::unshare_arguments(is_root()))
        .arg("true")
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("unshare cannot be run: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!("no private namespaces here: {}", String::from_utf8_lossy(&output.stderr).trim()))
});
