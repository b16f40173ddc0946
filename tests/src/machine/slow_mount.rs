//! A file system of a machine that hangs on demand.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::harness::eventually;

/// Where the program behind it is inside.
pub(super) const PROGRAM: &str = "/opt/stoppable_fs";

/// A file system at `/srv/slow`, whose files are in `/srv/backing`. It hangs while its process is
/// stopped.
#[derive(Debug)]
pub struct SlowMount {
    server: Child,
    backing: PathBuf,
    mount: PathBuf,
}

impl SlowMount {
    /// Mounts it.
    ///
    /// # Panics
    /// When it cannot be mounted.
    pub fn mount() -> Self {
        let [backing, mount] = ["/srv/backing", "/srv/slow"].map(PathBuf::from);
        [&backing, &mount].iter().for_each(|directory| fs::create_dir(directory).unwrap());
        let mut server = Command::new(PROGRAM);
        let server = server.args([&backing, &mount]).spawn().expect("starting a file system");
        let device = |path: &Path| nix::sys::stat::stat(path).unwrap().st_dev;
        eventually("it is mounted", || device(&mount) != device(&backing));
        Self { server, backing, mount }
    }

    /// Makes an empty file on it; its path.
    pub fn file(&self, name: &str) -> String {
        fs::write(self.backing.join(name), "").unwrap();
        self.mount.join(name).to_str().expect("a name").to_owned()
    }

    /// Makes a directory on it; its path.
    pub fn directory(&self, name: &str) -> String {
        fs::create_dir(self.backing.join(name)).unwrap();
        self.mount.join(name).to_str().expect("a name").to_owned()
    }

    /// From now on every call on it hangs.
    pub fn stop(&self) {
        self.signal(Signal::SIGSTOP);
    }

    /// It goes on.
    pub fn go_on(&self) {
        self.signal(Signal::SIGCONT);
    }

    fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.server.id()).expect("a pid");
        kill(Pid::from_raw(pid), signal).unwrap();
    }
}

impl Drop for SlowMount {
    fn drop(&mut self) {
        self.go_on();
        self.server.kill().ok();
        self.server.wait().ok();
    }
}
