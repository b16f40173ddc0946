//! The roles in which the executable runs.

use std::ffi::OsStr;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

/// Leads every process to the executable that it runs itself.
pub(crate) const OWN_EXECUTABLE: &str = "/proc/self/exe";

/// What a process of the demo is, beside the one that the user started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// Acts as libvirtd would, and says what happens.
    Scenes,
    /// The daemon that keeps logs.
    Virtlogd,
    /// The daemon that holds leases.
    Virtlockd,
    /// A guest that writes into its log.
    Writer,
    /// A guest that wants a disk.
    DiskUser,
}

impl Role {
    const ALL: [Self; 5] =
        [Self::Scenes, Self::Virtlogd, Self::Virtlockd, Self::Writer, Self::DiskUser];

    /// The role whose processes are called so, by name or by path.
    pub(crate) fn named(name: &OsStr) -> Option<Self> {
        let name = Path::new(name).file_name()?;
        Self::ALL.into_iter().find(|role| name == role.name())
    }

    /// What `ps` shows.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Scenes => "demo-scenes",
            Self::Virtlogd => "virtlogd",
            Self::Virtlockd => "virtlockd",
            Self::Writer => "demo-guest-with-log",
            Self::DiskUser => "demo-guest-with-disk",
        }
    }

    /// A process in this role, to be given arguments and started. It sees nothing of our
    /// environment, which could give a daemon sockets or other settings.
    pub(crate) fn command(self) -> Command {
        let mut command = Command::new(OWN_EXECUTABLE);
        command.arg0(self.name()).env_clear();
        command
    }

    /// The same, called by the path of a link to [`OWN_EXECUTABLE`], where it can find itself.
    pub(crate) fn command_at(self, link: &Path) -> Command {
        let mut command = Command::new(link);
        command.env_clear();
        command
    }
}
