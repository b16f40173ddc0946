//! A file system that hangs when a test wants it to.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::{Host, Setup, left_out, needs_root};

/// Mounts the file system inside the namespaces: `$server` on `files/slow`, showing `files/backing`. It
/// ends with the daemon, unless `$stays` is set.
const MOUNT: &str = r#"
mkdir -p "$1/files/slow" "$1/files/backing"
setpriv ${stays:---pdeathsig KILL} "$server" "$1/files/backing" "$1/files/slow" "$1/disk" \
    </dev/null >/dev/null &
echo $! > "$1/slow.pid"
until mountpoint -q "$1/files/slow"; do sleep 0.01; done
"#;

/// Whether such a file system can be had; otherwise says that `what` was left out.
pub fn can_hang(what: &str) -> bool {
    if !Path::new("/dev/fuse").exists() {
        left_out(what, "there is no /dev/fuse");
        return false;
    }
    needs_root(what)
}

impl Setup {
    /// Gives the daemon a file system at `files/slow`, whose files are in `files/backing`, and which
    /// hangs on demand. `server` is the executable `stoppable_fs`.
    #[must_use]
    pub fn with_slow_files(self, server: &str) -> Self {
        self.prepare(&slow_files(server))
    }
}

/// The process behind the files of a daemon that goes into the background, which nothing ends with it.
#[derive(Debug)]
pub struct SlowFilesOfBackground(Arc<Host>);

impl Setup {
    /// The same for a daemon that goes into the background. They are there until the second is dropped.
    #[must_use]
    pub fn with_slow_files_of_background(self, server: &str) -> (Self, SlowFilesOfBackground) {
        let files = SlowFilesOfBackground(self.host());
        let commands = format!("stays=--no-new-privs\n{}", slow_files(server));
        (self.prepare(&commands), files)
    }
}

impl Drop for SlowFilesOfBackground {
    fn drop(&mut self) {
        let text = fs::read_to_string(self.0.path("slow.pid")).unwrap_or_default();
        if let Ok(pid) = text.trim().parse() {
            kill(Pid::from_raw(pid), Signal::SIGKILL).ok();
        }
    }
}

/// The same as shell commands.
pub fn slow_files(server: &str) -> String {
    format!("server='{server}'\n{MOUNT}")
}

/// The process behind the file system. It goes on when this is dropped.
#[derive(Debug)]
pub struct SlowFiles {
    pid: Pid,
    backing: PathBuf,
    control: PathBuf,
}

impl SlowFiles {
    /// Of a host whose daemon has been started.
    pub fn of(host: &Host) -> Self {
        let text = fs::read_to_string(host.path("slow.pid")).expect("the number of the process");
        let pid = Pid::from_raw(text.trim().parse().expect("a number"));
        Self { pid, backing: host.file("backing"), control: host.path("disk") }
    }

    /// Where a file of it really is.
    pub fn backing(&self, name: &str) -> PathBuf {
        self.backing.join(name)
    }

    /// What is wrong with it from now on, in the words of `stoppable_fs`; also with those of processes
    /// that come later.
    pub fn say(&self, text: &str) {
        let new = self.control.with_extension("new");
        fs::write(&new, text).expect("telling the file system");
        fs::rename(new, &self.control).expect("telling the file system");
    }

    /// From now on every call on the file system hangs.
    pub fn stop(&self) {
        kill(self.pid, Signal::SIGSTOP).expect("stopping the file system");
    }

    /// It goes on.
    pub fn go_on(&self) {
        kill(self.pid, Signal::SIGCONT).expect("continuing the file system");
    }
}

impl Drop for SlowFiles {
    fn drop(&mut self) {
        // It may be gone with its daemon.
        kill(self.pid, Signal::SIGCONT).ok();
    }
}
