//! A client of the holder's protocol, written apart from the holder's own code.

use std::io::{self, IoSlice, pipe};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{
    AddressFamily, ControlMessage, MsgFlags, SockFlag, SockType, UnixAddr, connect, sendmsg, socket,
};

use crate::wire::receive_now;

/// How long the holder may take for anything.
const PATIENCE: Duration = Duration::from_secs(10);

/// Bytes of a packet.
const PACKET_BYTES_MAX: usize = 65_536;

/// This process, as a client of one set.
#[derive(Debug)]
pub struct Client {
    set: PathBuf,
    messages: UnixDatagram,
}

/// What a holder has answered.
#[derive(Debug, Default)]
pub struct Given {
    /// Names and fds, in order.
    pub fds: Vec<(String, OwnedFd)>,
    /// How many fds the set takes.
    pub fds_max: usize,
}

impl Client {
    /// A client of the set in this directory.
    ///
    /// # Panics
    /// When there is no socket for messages.
    pub fn of(set: &Path) -> Self {
        let messages = UnixDatagram::unbound().expect("a socket");
        messages.connect(set.join("messages")).expect("connecting to a holder");
        Self { set: set.to_path_buf(), messages }
    }

    /// Sends a message.
    ///
    /// # Panics
    /// When it cannot be sent.
    pub fn send(&self, text: &str, fds: &[BorrowedFd<'_>]) {
        let numbers: Vec<_> = fds.iter().map(AsRawFd::as_raw_fd).collect();
        let rights = [ControlMessage::ScmRights(&numbers)];
        let rights = if fds.is_empty() { &[][..] } else { &rights };
        let socket = self.messages.as_raw_fd();
        sendmsg::<UnixAddr>(
            socket,
            &[IoSlice::new(text.as_bytes())],
            rights,
            MsgFlags::empty(),
            None,
        )
        .expect("sending a message");
    }

    /// Stores an fd under this name, whatever becomes of its other end.
    pub fn store(&self, name: &str, fd: impl AsFd) {
        self.send(&format!("FDSTORE=1\nFDPOLL=0\nFDNAME={name}"), &[fd.as_fd()]);
    }

    /// Waits until everything that was sent has been seen to.
    ///
    /// # Panics
    /// When that takes too long.
    pub fn settle(&self) {
        let (reader, writer) = pipe().expect("a pipe");
        self.send("BARRIER=1", &[writer.as_fd()]);
        drop(writer);
        assert!(is_ready(&reader.into(), PATIENCE), "a barrier does not end");
    }

    /// Asks for the set.
    ///
    /// # Errors
    /// Why the holder refuses.
    ///
    /// # Panics
    /// When it does not answer.
    pub fn claim(&self) -> Result<Given, String> {
        let stream = self.connect().expect("connecting to a holder");
        stream.send(b"CLAIM=1").expect("asking for a set");
        let mut given = Given::default();
        let mut buffer = vec![0; PACKET_BYTES_MAX];
        loop {
            assert!(is_ready(&stream.as_fd().try_clone_to_owned().expect("a copy"), PATIENCE * 2));
            let received = receive_now(&stream, &mut buffer).expect("receiving a packet");
            let (len, fds) = received.expect("a packet");
            assert!(len > 0, "the holder has hung up");
            let text = String::from_utf8_lossy(&buffer[..len]).into_owned();
            if let Some(reason) = text.strip_prefix("ERROR=") {
                return Err(reason.to_owned());
            }
            if let Some(names) = text.strip_prefix("FDNAMES=") {
                given.fds.extend(names.split(':').map(str::to_owned).zip(fds));
                continue;
            }
            let fds_max = text.strip_prefix("DONE=1\nFDSTORE=").expect("the end of an answer");
            given.fds_max = fds_max.parse().expect("a number of fds");
            return Ok(given);
        }
    }

    /// The names of what the holder would give, in order.
    ///
    /// # Panics
    /// When it refuses.
    pub fn names(&self) -> Vec<String> {
        self.settle();
        let given = self.claim().expect("an answer");
        given.fds.into_iter().map(|(name, _)| name).collect()
    }

    /// Connects to the socket for claims, and says nothing.
    ///
    /// # Errors
    /// As `connect(2)`.
    pub fn connect(&self) -> io::Result<UnixDatagram> {
        let flags = SockFlag::SOCK_CLOEXEC;
        let stream = socket(AddressFamily::Unix, SockType::SeqPacket, flags, None)?;
        connect(stream.as_raw_fd(), &UnixAddr::new(&self.set.join("claims"))?)?;
        // Its calls are those that are needed.
        Ok(stream.into())
    }
}

fn is_ready(fd: &OwnedFd, patience: Duration) -> bool {
    let mut fds = [PollFd::new(fd.as_fd(), PollFlags::POLLIN)];
    poll(&mut fds, PollTimeout::try_from(patience).expect("a short time")).expect("polling") == 1
}
