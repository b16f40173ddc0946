//! A pretended machine: the directories that daemons see as `/run`, `/etc` and `/var/log`.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use tempfile::TempDir;

use super::{Program, Subject};

/// Files of the real `/etc` that a dynamically linked program or a user lookup wants.
const ETC_FILES: [&str; 5] = ["group", "host.conf", "hosts", "ld.so.cache", "nsswitch.conf"];

/// The user that a session daemon runs as, in its own eyes.
pub(super) const SESSION_UID: u32 = 1000;

/// A group that every host has.
pub const GROUP: &str = "testers";
/// The number of [`GROUP`].
pub const GROUP_GID: u32 = 4242;

/// A scratch directory with the sources of the mounts, removed at the end.
#[derive(Debug)]
pub struct Host {
    root: TempDir,
}

impl Host {
    /// Makes the directories.
    pub fn new() -> Arc<Self> {
        // A socket's path holds 107 bytes, so the prefix is short.
        let root = tempfile::Builder::new().prefix("vt").tempdir().expect("a scratch directory");
        open_to_all(root.path());
        let host = Self { root };
        for directory in
            ["run", "etc/libvirt", "log/libvirt", "user/run", "user/config", "files", "bin"]
        {
            fs::create_dir_all(host.path(directory)).expect("a directory of the host");
        }
        host.write_etc();
        Arc::new(host)
    }

    /// A path below the scratch directory; the daemons see it under the same name.
    pub fn path(&self, relative: &str) -> PathBuf {
        self.root.path().join(relative)
    }

    /// A path for a log or lease of the test's own; the directory exists.
    pub fn file(&self, name: &str) -> PathBuf {
        self.path("files").join(name)
    }

    /// The path through which this process reaches what a daemon calls `inside` (absolute),
    /// if that lies below one of the mounts; otherwise `inside` itself.
    pub fn outside(&self, inside: &Path) -> PathBuf {
        [("/run", "run"), ("/etc", "etc"), ("/var/log", "log")]
            .iter()
            .find_map(|(mount, source)| {
                Some(self.path(source).join(inside.strip_prefix(mount).ok()?))
            })
            .unwrap_or_else(|| inside.to_path_buf())
    }

    /// Where [`Self::put`] puts a daemon's executable.
    pub fn executable(&self, program: Program) -> PathBuf {
        self.path("bin").join(program.name())
    }

    /// Puts a copy of a daemon's executable in place of the one that was there, which may be
    /// running; returns its path.
    pub fn put(&self, subject: Subject) -> PathBuf {
        let original = subject.executable().expect("checked before the test");
        self.put_copy(subject.program, &original)
    }

    /// The same with the executable that is in this directory.
    pub fn put_from(&self, directory: &Path, program: Program) -> PathBuf {
        self.put_copy(program, &directory.join(program.name()))
    }

    fn put_copy(&self, program: Program, original: &Path) -> PathBuf {
        let new = self.path("bin/new");
        // By a process of its own: what this one has open for writing, a child that another test
        // starts meanwhile has open too, and then the copy cannot be executed.
        let copied = Command::new("cp").arg(original).arg(&new).status();
        assert!(copied.expect("cp can be run").success(), "copying the executable");
        self.put_file(program, &new)
    }

    /// Puts a file in place of a daemon's executable.
    pub fn put_file(&self, program: Program, file: &Path) -> PathBuf {
        let executable = self.executable(program);
        fs::rename(file, &executable).expect("replacing the executable");
        executable
    }

    /// Gives everything to another user.
    pub(super) fn chown_all(&self, uid: u32) {
        chown_tree(self.root.path(), uid);
    }

    fn write_etc(&self) {
        for name in ETC_FILES {
            let real = Path::new("/etc").join(name);
            if real.exists() {
                fs::copy(real, self.path("etc").join(name)).expect("copying a file of /etc");
            }
        }
        self.add_line("passwd", &format!("tester:x:{SESSION_UID}:{SESSION_UID}::/:/bin/sh"));
        self.add_line("group", &format!("{GROUP}:x:{GROUP_GID}:"));
    }

    fn add_line(&self, name: &str, line: &str) {
        let mut text = fs::read_to_string(Path::new("/etc").join(name)).unwrap_or_default();
        text.push_str(line);
        text.push('\n');
        fs::write(self.path("etc").join(name), text).expect("writing a file of /etc");
    }
}

fn open_to_all(path: &Path) {
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).expect("opening a directory");
}

fn chown_tree(path: &Path, uid: u32) {
    chown(path, Some(uid), Some(uid)).expect("giving a file away");
    if path.is_dir() {
        for entry in fs::read_dir(path).expect("reading a directory") {
            chown_tree(&entry.expect("a directory entry").path(), uid);
        }
    }
}
