//! Processes that have a set, or ask for it.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use crate::items::Items;
use crate::packet::{PACKET_FDS_MAX, Packet};
use crate::sockets::Listener;

/// Time for a process to ask, for the one that has the set to end, and for the answer to be taken.
const PATIENCE: Duration = Duration::from_secs(10);

/// A process that has a set until it ends.
#[derive(Debug)]
pub(crate) struct Claim {
    pub(crate) pid: i32,
    pub(crate) pidfd: OwnedFd,
    pub(crate) has_ended: bool,
}

/// A process that asks for a set.
#[derive(Debug)]
pub(crate) struct Claimant {
    pub(crate) number: u64,
    pub(crate) stream: UnixStream,
    pub(crate) pid: i32,
    pub(crate) pidfd: OwnedFd,
    pub(crate) deadline: Instant,
    pub(crate) stage: Stage,
}

/// How far an answer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    /// The process has only connected.
    Connected,
    /// It waits for the set.
    Waiting,
    /// It is sent the listening sockets and the newest fds next.
    First,
    /// It is sent the fds before this one next.
    Before(u64),
    /// It has everything.
    Done,
}

impl Claim {
    pub(crate) fn new(pid: i32, pidfd: OwnedFd) -> Self {
        Self { pid, pidfd, has_ended: false }
    }
}

impl Claimant {
    pub(crate) fn new(number: u64, stream: UnixStream, pid: i32, pidfd: OwnedFd) -> Self {
        let deadline = Instant::now() + PATIENCE;
        Self { number, stream, pid, pidfd, deadline, stage: Stage::Connected }
    }

    /// Returns whether it is being answered.
    pub(crate) fn is_answered(&self) -> bool {
        matches!(self.stage, Stage::First | Stage::Before(_))
    }
}

impl Stage {
    /// Returns the next packet of an answer with its fds, and the stage after it.
    pub(crate) fn packet<'a>(
        self,
        listeners: &'a [Listener],
        items: &'a Items,
        fds_max: usize,
    ) -> (Packet<'a>, Vec<BorrowedFd<'a>>, Self) {
        let (listeners, before) = match self {
            Self::Before(number) => (&[][..], number),
            _ => (listeners, u64::MAX),
        };
        let open = listeners.iter().filter_map(|listener| {
            Some((&*listener.options.name, listener.socket.as_ref()?.as_fd()))
        });
        let (mut names, mut fds): (Vec<_>, Vec<_>) = open.unzip();
        let mut next = before;
        for item in items.before(before).take(PACKET_FDS_MAX.saturating_sub(names.len())) {
            names.push(&item.name);
            fds.push(item.fd.as_fd());
            next = item.number;
        }
        if names.is_empty() {
            return (Packet::Done { fds_max }, fds, Self::Done);
        }
        // Those that only had listening sockets go on with all fds, of which there are none.
        (Packet::Fds(names), fds, Self::Before(if next == u64::MAX { 0 } else { next }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;

    fn names_of(listeners: &[Listener], items: &Items) -> Vec<Vec<String>> {
        let (mut stage, mut packets) = (Stage::First, Vec::new());
        while stage != Stage::Done {
            let (packet, fds, next) = stage.packet(listeners, items, 9);
            match packet {
                Packet::Fds(names) => {
                    assert_eq!(names.len(), fds.len());
                    packets.push(names.into_iter().map(str::to_owned).collect());
                }
                other => assert_eq!(other, Packet::Done { fds_max: 9 }),
            }
            stage = next;
        }
        packets
    }

    #[test]
    fn an_answer_has_all_fds_in_systemds_order() {
        let mut items = Items::default();
        assert_eq!(names_of(&[], &items), Vec::<Vec<String>>::new());
        for number in 0..PACKET_FDS_MAX + 3 {
            items.add(&format!("f{number}"), File::open("/dev/null").unwrap().into(), false);
        }
        let directory = tempfile::tempdir().unwrap();
        let options = crate::options::ListenerOptions {
            name: "a.socket".into(),
            path: directory.path().join("sock"),
            mode: 0o600,
            uid: None,
            gid: None,
        };
        let mut listener = Listener::new(options, &mut crate::sockets::Found::default());
        listener.open().unwrap();
        let packets = names_of(&[listener], &items);
        assert_eq!(packets.iter().map(Vec::len).collect::<Vec<_>>(), [PACKET_FDS_MAX, 4]);
        assert_eq!(packets[0][..2], ["a.socket", &format!("f{}", PACKET_FDS_MAX + 2)]);
        assert_eq!(packets[1].last().unwrap(), "f0");
        assert_eq!(names_of(&[], &Items::default()).len(), 0);
    }
}
