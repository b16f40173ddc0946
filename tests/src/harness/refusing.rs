//! System calls that the kernel refuses a daemon.

use std::path::PathBuf;

use nix::errno::Errno;

use super::Setup;

/// Words in front of a command that have it answered these calls with this error, in the words of
/// the executable `refusing`: `splice`, or `fcntl:F_SETPIPE_SZ,tee`.
///
/// # Panics
/// When that executable cannot be where it must be.
pub fn refusing(errno: Errno, calls: &str) -> [String; 3] {
    let executable = launcher().into_os_string().into_string().expect("a path in UTF-8");
    [executable, format!("{errno:?}"), calls.to_owned()]
}

impl Setup {
    /// Has the kernel answer these calls with this error, see [`refusing`].
    #[must_use]
    pub fn refusing(self, errno: Errno, calls: &str) -> Self {
        self.through(refusing(errno, calls))
    }
}

/// It is built with every test, into the directory above the test's own.
fn launcher() -> PathBuf {
    let own = std::env::current_exe().expect("this test's executable");
    own.ancestors().nth(2).expect("the directory of the build").join("refusing")
}
