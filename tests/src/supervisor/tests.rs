use std::io::{IoSlice, pipe};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::socket::{ControlMessage, MsgFlags, UnixAddr, sendmsg};

use super::*;
use crate::harness::eventually;

struct Service {
    supervisor: Supervisor,
    socket: UnixDatagram,
    _directory: tempfile::TempDir,
}

impl Service {
    fn with_limit(limit: usize) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let supervisor = Supervisor::new(&directory.path().join("notify"), limit);
        Self { supervisor, socket: UnixDatagram::unbound().unwrap(), _directory: directory }
    }

    fn send(&self, text: &str, fds: &[BorrowedFd<'_>]) -> nix::Result<usize> {
        let numbers: Vec<_> = fds.iter().map(AsRawFd::as_raw_fd).collect();
        let rights = [ControlMessage::ScmRights(&numbers)];
        let address = UnixAddr::new(self.supervisor.path()).unwrap();
        let text = [IoSlice::new(text.as_bytes())];
        let (socket, flags) = (self.socket.as_raw_fd(), MsgFlags::MSG_DONTWAIT);
        sendmsg(socket, &text, &rights, flags, Some(&address))
    }

    fn try_store(&self, name: &str) -> nix::Result<usize> {
        let file = fs::File::open("/dev/null").unwrap();
        self.send(&format!("FDSTORE=1\nFDPOLL=0\nFDNAME={name}"), &[file.as_fd()])
    }

    fn store(&self, name: &str) {
        self.try_store(name).unwrap();
    }

    fn barrier(&self) -> OwnedFd {
        let (reader, writer) = pipe().unwrap();
        self.send("BARRIER=1", &[writer.as_fd()]).unwrap();
        reader.into()
    }

    fn expect_names(&self, names: &[&str]) {
        let wanted: BTreeSet<_> = names.iter().map(|&name| name.to_owned()).collect();
        eventually("the names are there", || self.supervisor.names() == wanted);
    }
}

fn is_over(barrier: &OwnedFd, patience: Duration) -> bool {
    let mut fds = [PollFd::new(barrier.as_fd(), PollFlags::POLLIN)];
    let patience = PollTimeout::try_from(patience).unwrap();
    poll(&mut fds, patience).unwrap() == 1
}

const LONG: Duration = Duration::from_secs(10);
const SHORT: Duration = Duration::from_millis(50);

#[test]
fn a_barrier_ends_when_everything_before_was_seen_to() {
    let service = Service::with_limit(9);
    service.supervisor.change(|state| state.is_paused = true);
    service.store("a");
    let barrier = service.barrier();
    assert!(!is_over(&barrier, SHORT));
    service.supervisor.go_on();
    assert!(is_over(&barrier, LONG));
    service.expect_names(&["a"]);
    service.send("FDSTOREREMOVE=1\nFDNAME=a", &[]).unwrap();
    service.expect_names(&[]);
}

#[test]
fn one_that_is_busy_has_a_full_queue() {
    let service = Service::with_limit(9);
    service.supervisor.pause();
    assert_eq!(service.try_store("a"), Err(Errno::EAGAIN));
    service.supervisor.go_on();
    eventually("there is room again", || service.try_store("a").is_ok());
    service.expect_names(&["a"]);
}

#[test]
fn it_comes_back_with_what_it_had() {
    let service = Service::with_limit(9);
    service.store("a");
    service.expect_names(&["a"]);
    service.supervisor.leave();
    assert_eq!(service.try_store("b"), Err(Errno::ENOENT));
    service.supervisor.come_back();
    service.store("b");
    service.expect_names(&["a", "b"]);
    service.supervisor.clear();
    service.expect_names(&[]);
}

#[test]
fn an_fd_that_is_watched_goes_when_its_other_end_is_closed() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("notify");
    let supervisor = Supervisor::new(&path, 9);
    let (reader, writer) = pipe().unwrap();
    supervisor.change(|state| state.store.add(Some("a"), reader.into(), true));
    assert_eq!(supervisor.names().len(), 1);
    drop(writer);
    eventually("it is gone", || supervisor.names().is_empty());
}
