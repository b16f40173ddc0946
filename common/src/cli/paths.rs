//! Paths of a daemon's files.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// Permission bits of the run directory that root's daemon creates, libvirt's value.
pub const SYSTEM_RUN_DIR_MODE: u32 = 0o755;

/// Permission bits of the run directory that a user's daemon creates, libvirt's value.
pub const SESSION_RUN_DIR_MODE: u32 = 0o700;

/// Permission bits of a socket that the daemon creates, whatever the umask, libvirt's value.
pub const SOCKET_MODE: u32 = 0o700;

/// Permission bits of the pid file before the umask, libvirt's value.
pub const PID_FILE_MODE: u32 = 0o644;

/// Neither the XDG variables nor `HOME` give a user's directories.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("Unable to determine the home directory: HOME is not set")]
pub struct HomeUnknown;

/// Paths of one daemon, in one of its two modes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Paths {
    /// Root's daemon rather than a user's.
    pub privileged: bool,
    /// Directory of the sockets.
    pub run_dir: PathBuf,
    /// Socket of the daemon's own program.
    pub socket: PathBuf,
    /// Socket of `virt-admin`.
    pub admin_socket: PathBuf,
    /// The pid file.
    pub pid_file: PathBuf,
    /// State document of a re-exec.
    pub state_file: PathBuf,
    /// The configuration file.
    pub config_file: PathBuf,
    /// The daemon's own log, in the background without a journal.
    pub log_file: PathBuf,
}

impl Paths {
    /// Returns the paths of daemon `name`: root's, or those of the user with this environment.
    ///
    /// # Errors
    /// [`HomeUnknown`], for a user only.
    pub fn new(
        name: &str,
        privileged: bool,
        variable: impl Fn(&str) -> Option<OsString>,
    ) -> Result<Self, HomeUnknown> {
        if privileged {
            return Ok(Self::system(name));
        }
        let set = |name: &str| variable(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let below_home = |dir| set("HOME").map(|home| home.join(dir));
        let cache = set("XDG_CACHE_HOME").or_else(|| below_home(".cache"));
        let config = set("XDG_CONFIG_HOME").or_else(|| below_home(".config"));
        let run_dir = set("XDG_RUNTIME_DIR").or_else(|| cache.clone()).ok_or(HomeUnknown)?;
        let run_dir = run_dir.join("libvirt");
        Ok(Self {
            privileged,
            pid_file: run_dir.join(format!("{name}.pid")),
            state_file: run_dir.join(state_file(name)),
            config_file: libvirt_file(&config.ok_or(HomeUnknown)?, name, "conf"),
            log_file: libvirt_file(&cache.ok_or(HomeUnknown)?, name, "log"),
            run_dir: run_dir.clone(),
            ..Self::system(name)
        }
        .with_socket_dir(&run_dir))
    }

    /// Returns the permission bits of a run directory to be created.
    #[must_use]
    pub fn run_dir_mode(&self) -> u32 {
        if self.privileged { SYSTEM_RUN_DIR_MODE } else { SESSION_RUN_DIR_MODE }
    }

    /// Returns the same paths with both sockets in another directory.
    #[must_use]
    pub fn with_socket_dir(mut self, dir: &Path) -> Self {
        for socket in [&mut self.socket, &mut self.admin_socket] {
            if let Some(name) = socket.file_name() {
                *socket = dir.join(name);
            }
        }
        self
    }

    fn system(name: &str) -> Self {
        let run_dir = PathBuf::from("/run/libvirt");
        Self {
            privileged: true,
            socket: run_dir.join(format!("{name}-sock")),
            admin_socket: run_dir.join(format!("{name}-admin-sock")),
            run_dir,
            pid_file: format!("/run/{name}.pid").into(),
            state_file: Path::new("/run").join(state_file(name)),
            config_file: libvirt_file(Path::new("/etc"), name, "conf"),
            log_file: libvirt_file(Path::new("/var/log"), name, "log"),
        }
    }
}

fn state_file(name: &str) -> String {
    format!("{name}-restart-exec.json")
}

fn libvirt_file(dir: &Path, name: &str, extension: &str) -> PathBuf {
    dir.join("libvirt").join(format!("{name}.{extension}"))
}

#[cfg(test)]
mod tests;
