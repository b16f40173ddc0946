//! Rights of a process in a container: capabilities and system calls.

use std::path::Path;

use nix::errno::Errno;

use crate::harness::refusing;

/// Capabilities of a container by podman's default, all of which it has by Docker's as well.
const CAPABILITIES: [&str; 11] = [
    "chown",
    "dac_override",
    "fowner",
    "fsetid",
    "kill",
    "net_bind_service",
    "setfcap",
    "setgid",
    "setpcap",
    "setuid",
    "sys_chroot",
];

/// Words that execute a command with an engine's default capabilities, and those that a recipe adds.
pub(super) fn with_capabilities(added: &[String]) -> Vec<String> {
    let own = CAPABILITIES.map(str::to_owned);
    let kept = own.iter().chain(added).map(|name| format!(",+{}", name.to_lowercase()));
    let kept: String = kept.collect();
    ["setpriv".to_owned(), format!("--bounding-set=-all{kept}")].into()
}

/// Words that execute a command with an engine's default seccomp profile.
pub(super) fn with_profile() -> Vec<String> {
    // The last filter's error counts: the C library needs to hear that there is no such call.
    [refusing(Errno::EPERM, "!engine"), refusing(Errno::ENOSYS, "clone3")].concat()
}

/// The directory of the program that [`with_profile`] executes.
pub(super) fn profile_directory() -> String {
    let words = with_profile();
    let directory = Path::new(&words[0]).parent().expect("a directory");
    directory.display().to_string()
}
