//! Fds that a process leaves to the next, under known numbers, and what has to become of them.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::Write;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;

use common::handover::InheritedFds;
use common::sys::lock::{self, Kind, Mode};
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::statvfs::{FsFlags, statvfs};

/// The first number, and how many follow.
pub(crate) const FIRST: RawFd = 200;
pub(crate) const COUNT: usize = 20;

/// Numbers of the kinds.
pub(crate) const GUESTS: [RawFd; 4] = [200, 201, 202, 203];
const LEASES: [RawFd; 3] = [209, 210, 211];

/// Where fds are put aside during an exec.
const ASIDE: RawFd = 600;

/// A directory that the confined process may write to.
const SCRATCH: &str = "/run/fuzz";
const LOGS: &str = "/var/log/libvirt/qemu";

/// The other ends of what was inherited.
pub(crate) struct Inheritance {
    guests: Vec<(RawFd, OwnedFd)>,
    leases: Vec<(RawFd, File)>,
    _peers: Vec<UnixStream>,
}

impl Inheritance {
    /// Returns the inode of a guest's pipe.
    pub(crate) fn guest_inode(&self, index: usize) -> u64 {
        self.guests.get(index).map_or(0, |(_, writer)| super::peer::inode(writer))
    }

    /// Opens everything, so that it looks like what an exec leaves. `bytes` are those of buffers.
    pub(crate) fn new(bytes: &[u8]) -> (Self, InheritedFds) {
        require_confinement();
        start_afresh();
        let (mut guests, mut leases, mut peers) = (Vec::new(), Vec::new(), Vec::new());
        for number in GUESTS {
            let (reader, mut writer) = filled_pipe(b"a line of a guest\nand ");
            writer.write_all(b"more").expect("room in a pipe");
            leave(reader, number);
            guests.push((number, writer.into()));
        }
        for number in [204, 206] {
            let (reader, writer) = filled_pipe(b"staged\n");
            leave(reader, number);
            leave(writer, number + 1);
        }
        let log = Path::new(LOGS).join("a.log");
        leave(
            File::options().create(true).truncate(true).write(true).open(log).expect("a log"),
            208,
        );
        for number in LEASES {
            let path = Path::new(SCRATCH).join(format!("disk.{number}"));
            let open =
                || File::options().create(true).truncate(true).read(true).write(true).open(&path);
            let file = open().expect("a disk");
            let is_locked = lock::try_lock(&file, Kind::Ofd, Mode::Exclusive).expect("a lock");
            assert!(is_locked);
            leave(file, number);
            leases.push((number, open().expect("a disk")));
        }
        for number in [212, 213] {
            let (ours, theirs) = UnixStream::pair().expect("sockets");
            leave(ours, number);
            peers.push(theirs);
        }
        leave(UnixListener::bind(Path::new(SCRATCH).join("sock")).expect("a listener"), 214);
        let third = bytes.len() / 3;
        for (number, bytes) in (215..).zip([&bytes[..third], &bytes[third..], &[]]) {
            leave(memory(bytes), number);
        }
        leave(File::open(SCRATCH).expect("a directory"), 218);
        leave(File::open("/dev/null").expect("a device"), 219);
        let inherited = InheritedFds::of((FIRST..).take(COUNT));
        (Self { guests, leases, _peers: peers }, inherited)
    }

    /// No guest may find its pipe closed, and no lease its lock gone, unless the number is misused.
    pub(crate) fn check(&self, misused: &BTreeSet<i64>) {
        for (number, writer) in &self.guests {
            let mut polled = [PollFd::new(writer.as_fd(), PollFlags::POLLOUT)];
            poll(&mut polled, PollTimeout::ZERO).expect("poll");
            let is_closed =
                polled[0].revents().is_some_and(|events| events.contains(PollFlags::POLLERR));
            assert!(!is_closed || misused.contains(&(*number).into()), "pipe {number} was closed");
        }
        for (number, file) in &self.leases {
            let is_free = lock::try_lock(file, Kind::Ofd, Mode::Exclusive).expect("a disk");
            lock::unlock(file, Kind::Ofd).expect("a disk");
            assert!(
                !is_free || misused.contains(&(*number).into()),
                "the lock of {number} is gone"
            );
        }
    }
}

/// Closes everything as an exec closes it that keeps `numbers` open.
pub(crate) fn exec<T>(process: T, numbers: Vec<RawFd>) -> InheritedFds {
    let numbers: BTreeSet<RawFd> = numbers.into_iter().collect();
    let aside: Vec<_> = numbers.iter().map(|&number| (number, copy(number, ASIDE))).collect();
    drop(process);
    for (number, aside) in aside {
        assert_eq!(copy(aside, number), number, "{number} is still open");
        nix::unistd::close(aside).expect("an open fd");
    }
    InheritedFds::of(numbers)
}

/// Every inherited fd has been closed with its process.
pub(crate) fn check_closed() {
    let numbers: Vec<_> = (FIRST..).take(COUNT).collect();
    let left: Vec<_> = open_numbers().into_iter().filter(|it| numbers.contains(it)).collect();
    for &number in &left {
        nix::unistd::close(number).expect("an open fd");
    }
    assert!(left.is_empty(), "still open: {left:?}");
}

fn open_numbers() -> Vec<RawFd> {
    let names =
        fs::read_dir("/proc/self/fd").expect("proc").flatten().map(|entry| entry.file_name());
    names.filter_map(|name| name.to_str()?.parse().ok()).collect()
}

fn leave(fd: impl Into<OwnedFd>, number: RawFd) {
    assert_eq!(copy(fd.into().as_raw_fd(), number), number, "{number} is in use");
}

/// Copies an fd to the first free number from `least` on.
fn copy(number: RawFd, least: RawFd) -> RawFd {
    common::sys::fd::with_number(number, |fd| Ok(fcntl(fd, FcntlArg::F_DUPFD_CLOEXEC(least))?))
        .expect("a free number")
}

fn filled_pipe(bytes: &[u8]) -> (OwnedFd, File) {
    let (reader, writer) =
        nix::unistd::pipe2(OFlag::O_CLOEXEC | OFlag::O_NONBLOCK).expect("a pipe");
    let mut writer = File::from(writer);
    writer.write_all(bytes).expect("room in a pipe");
    (reader, writer)
}

fn memory(bytes: &[u8]) -> File {
    let mut file = common::sys::file::nameless("fuzz").expect("a memfd");
    file.write_all(bytes).expect("memory");
    file
}

fn start_afresh() {
    for directory in [SCRATCH, LOGS] {
        fs::remove_dir_all(directory).ok();
        fs::create_dir_all(directory).expect("a directory of ours");
    }
}

/// An input may name any path and any process. So the process must have private ones, and nothing
/// else to write to.
fn require_confinement() {
    let is_read_only =
        |path: &str| statvfs(path).is_ok_and(|found| found.flags().contains(FsFlags::ST_RDONLY));
    let is_confined = ["/", "/proc", "/sys"].into_iter().all(is_read_only)
        && Path::new("/run/confined").exists()
        && fs::read_to_string("/proc/1/cmdline").is_ok_and(|words| words.contains("confined"));
    assert!(is_confined, "only to be run by tests/fuzz/confined: paths of the input are opened");
}
