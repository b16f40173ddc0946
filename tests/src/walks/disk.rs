//! The two disks of a walk: a sound one, and one that can have every fault of a disk.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use nix::libc;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::step::Fault;
use crate::harness::{Host, eventually};

/// Where a file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Place {
    /// Nothing ever happens to it.
    Sound,
    /// On the disk that can have faults.
    Sick,
    /// In a directory that may be taken away.
    Movable,
}

/// The disk with faults: a file system of its own, and the process that serves it.
#[derive(Debug)]
pub(super) struct Disk {
    host: Arc<Host>,
    server: Child,
    control: PathBuf,
    /// What the file system was told of each fault.
    told: RefCell<BTreeMap<Fault, String>>,
}

impl Disk {
    /// Mounts it, for this process and all that it starts.
    pub(super) fn mount(host: &Arc<Host>, program: &Path) -> Self {
        let (backing, mountpoint) = (host.file("backing"), host.file("sick"));
        for directory in [&backing, &mountpoint, &host.file("movable")] {
            fs::create_dir(directory).expect("a directory for files");
        }
        let control = host.path("disk");
        let server = Command::new(program)
            .args([&backing, &mountpoint, &control])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .expect("starting the file system");
        let mark = backing.join("mark");
        fs::write(&mark, "").expect("a file on the disk");
        // To read it is to close it: the kernel learns now that it need not ask for that.
        eventually("the file system is mounted", || fs::read(mountpoint.join("mark")).is_ok());
        fs::remove_file(mark).expect("removing a file");
        Self { host: Arc::clone(host), server, control, told: RefCell::default() }
    }

    /// The path by which the daemon knows a file.
    pub(super) fn path(&self, place: Place, name: &str) -> PathBuf {
        let directory = match place {
            Place::Sound => return self.host.file(name),
            Place::Sick => "sick",
            Place::Movable => "movable",
        };
        self.host.file(directory).join(name)
    }

    /// The path by which it can be looked at whatever is wrong.
    pub(super) fn beside(&self, place: Place, name: &str) -> PathBuf {
        let moved = self.host.file("moved");
        match place {
            Place::Sick => self.host.file("backing").join(name),
            Place::Movable if moved.exists() => moved.join(name),
            Place::Sound | Place::Movable => self.path(place, name),
        }
    }

    /// Something goes wrong, if it is a matter of disks; `amount` is any number.
    pub(super) fn begin(&self, fault: Fault, amount: u64) {
        match fault {
            Fault::DiskHangs => self.signal(Signal::SIGSTOP),
            Fault::DiskSlow => self.say(fault, format!("delay-us {}\n", 500 + amount % 10_000)),
            Fault::DiskFull => self.say(fault, format!("room {}\n", amount % 8 * 3_000)),
            Fault::IoError => self.say(fault, format!("errno {}\n", libc::EIO)),
            Fault::ReadOnly => self.say(fault, "read-only 1\n".to_owned()),
            Fault::AppendOnly => self.say(fault, "append-only 1\n".to_owned()),
            Fault::DirectoryGone => self.rename("movable", "moved"),
            _ => {}
        }
    }

    /// It goes well again.
    pub(super) fn end(&self, fault: Fault) {
        match fault {
            Fault::DiskHangs => self.signal(Signal::SIGCONT),
            Fault::DiskSlow
            | Fault::DiskFull
            | Fault::IoError
            | Fault::ReadOnly
            | Fault::AppendOnly => self.say(fault, String::new()),
            Fault::DirectoryGone => self.rename("moved", "movable"),
            _ => {}
        }
    }

    /// Where files may fail by a fault; `None` where none may.
    pub(super) fn place_of(fault: Fault) -> Option<Place> {
        match fault {
            Fault::DiskHangs
            | Fault::DiskSlow
            | Fault::DiskFull
            | Fault::IoError
            | Fault::ReadOnly => Some(Place::Sick),
            Fault::DirectoryGone => Some(Place::Movable),
            _ => None,
        }
    }

    fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.server.id().cast_signed());
        kill(pid, signal).expect("the file system's process is there");
    }

    fn say(&self, fault: Fault, text: String) {
        let mut told = self.told.borrow_mut();
        told.insert(fault, text);
        let new = self.host.path("disk.new");
        let all: String = told.values().map(String::as_str).collect();
        fs::write(&new, all).expect("telling the file system");
        fs::rename(new, &self.control).expect("telling the file system");
    }

    fn rename(&self, from: &str, to: &str) {
        fs::rename(self.host.file(from), self.host.file(to)).expect("renaming a directory");
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Its end is that of the mount; nobody uses it any more.
        self.server.kill().ok();
        self.server.wait().ok();
    }
}
