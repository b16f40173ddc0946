//! Starts daemons, libvirt's or ours, each on a machine of its own as far as it can see.

mod availability;
mod daemon;
mod descriptors;
mod fcntl_lease;
mod files;
mod hang;
mod host;
mod loss;
mod old_kernel;
mod ours;
mod passed;
mod pipe_lock;
mod refusing;
mod route;
mod setup;
mod upgrade;
mod wait;

pub use availability::{left_out, needs_root, run, run_along};
pub use daemon::{Daemon, Exit};
pub use descriptors::Descriptors;
pub use fcntl_lease::FcntlLease;
pub use files::{
    backup, block, expect_file, expect_missing, guest_writes, inode, size, unblock, write,
};
pub use hang::{SlowFiles, SlowFilesOfBackground, can_hang, slow_files};
pub use host::{GROUP, GROUP_GID, Host};
pub use loss::expect_losses;
pub use old_kernel::old_exec;
pub use ours::ours;
pub use pipe_lock::PipeLock;
pub use refusing::refusing;
pub use route::Route;
pub use setup::{CONFINEMENT, Mode, Setup};
pub(crate) use wait::now_us;
pub use wait::{SetAtEnd, eventually, eventually_within};

use std::path::PathBuf;

/// Whose daemon a test runs against.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Whose {
    /// libvirt's, as the distribution installs it.
    Theirs,
    /// The one built from this workspace.
    Ours,
}

/// Which of the two daemons.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Program {
    /// The log daemon.
    Virtlogd,
    /// The lock daemon.
    Virtlockd,
}

impl Program {
    /// The executable's name, and the stem of its sockets' and files' names.
    pub fn name(self) -> &'static str {
        match self {
            Self::Virtlogd => "virtlogd",
            Self::Virtlockd => "virtlockd",
        }
    }

    /// The executable of our tool that looks into this daemon.
    ///
    /// # Panics
    /// When it was not built.
    pub fn tool(self) -> PathBuf {
        ours::directory().expect("our executables").join(self.tool_name())
    }

    /// The name of that tool.
    pub fn tool_name(self) -> &'static str {
        match self {
            Self::Virtlogd => "virtlogctl",
            Self::Virtlockd => "virtlockctl",
        }
    }

    /// The number of the program on the main socket.
    pub fn number(self) -> u32 {
        match self {
            Self::Virtlogd => crate::wire::LOG_PROGRAM,
            Self::Virtlockd => crate::wire::LOCK_PROGRAM,
        }
    }
}

/// The daemon that a test is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Subject {
    /// Whose daemon.
    pub whose: Whose,
    /// Which daemon.
    pub program: Program,
}

impl Subject {
    /// Whether the daemon is the one of this workspace.
    pub fn is_ours(self) -> bool {
        self.whose == Whose::Ours
    }

    /// The same daemon of the other maker, for tests of both side by side.
    #[must_use]
    pub fn other(self) -> Self {
        let whose = match self.whose {
            Whose::Theirs => Whose::Ours,
            Whose::Ours => Whose::Theirs,
        };
        Self { whose, ..self }
    }

    /// Starts the daemon with nothing special on a fresh host.
    pub fn start(self) -> Daemon {
        self.setup().start()
    }

    /// Starts the daemon with this configuration text on a fresh host.
    pub fn start_with(self, config: &str) -> Daemon {
        self.setup().config(config).start()
    }

    /// A fresh host and this daemon on it, to be adjusted before its start.
    pub fn setup(self) -> Setup {
        Setup::new(self, &Host::new())
    }

    /// This daemon on a host that others may use too.
    pub fn setup_on(self, host: &std::sync::Arc<Host>) -> Setup {
        Setup::new(self, host)
    }

    /// The executable, if it is there.
    ///
    /// # Errors
    /// Says why it is not.
    pub fn executable(self) -> Result<PathBuf, String> {
        let path = match self.whose {
            Whose::Theirs => PathBuf::from("/usr/sbin").join(self.program.name()),
            Whose::Ours => ours::directory()?.join(self.program.name()),
        };
        if path.is_file() { Ok(path) } else { Err(format!("there is no {}", path.display())) }
    }
}

/// Makes two tests, `theirs` and `ours`, of each function listed; a function takes a [`Subject`].
#[macro_export]
macro_rules! both {
    ($program:ident: $($name:ident),+ $(,)?) => {$(
        mod $name {
            #[test]
            fn theirs() {
                $crate::conformance_test!(Theirs, $program, $name);
            }
            #[test]
            fn ours() {
                $crate::conformance_test!(Ours, $program, $name);
            }
        }
    )+};
}

/// Makes a test of each function listed that runs against our daemon only.
#[macro_export]
macro_rules! ours {
    ($program:ident: $($name:ident),+ $(,)?) => {$(
        mod $name {
            #[test]
            fn ours() {
                $crate::conformance_test!(Ours, $program, $name);
            }
        }
    )+};
}

/// The body of one generated test.
#[doc(hidden)]
#[macro_export]
macro_rules! conformance_test {
    ($whose:ident, $program:ident, $name:ident) => {
        $crate::harness::run(
            $crate::harness::Subject {
                whose: $crate::harness::Whose::$whose,
                program: $crate::harness::Program::$program,
            },
            module_path!(),
            super::$name,
        )
    };
}
