//! A D-Bus client that asks a few questions and waits for each answer, on systemd's private socket,
//! or on a bus where that is not available.
//!
//! Nothing here waits beyond the connection's deadline.

mod message;

use std::io;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Instant;

use thiserror::Error;

use crate::sys::{pid_namespace, pidfd, process, socket};
pub(super) use message::Value;
use message::{Answer, Arguments, Call, Malformed, START_BYTES};

const SYSTEMD: &str = "org.freedesktop.systemd1";

/// The first call on a bus.
const HELLO: Call<'_> = Call {
    destination: "org.freedesktop.DBus",
    path: "/org/freedesktop/DBus",
    interface: "org.freedesktop.DBus",
    member: "Hello",
    arguments: Arguments::None,
};

/// Bytes of a line of the authentication; systemd's has 37.
const LINE_BYTES_MAX: usize = 256;

/// Messages skipped while an answer is awaited, such as signals about other units.
const OTHERS_MAX: usize = 4096;

/// Kind of peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// systemd itself, at its private socket.
    Direct,
    /// A bus, which expects a greeting first.
    Bus,
}

/// Reason why there is no answer.
#[derive(Debug, Error)]
pub enum Error {
    /// As `connect(2)`, `read(2)` and `write(2)`; `WouldBlock` and `TimedOut` when it took too
    /// long.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// A malformed message, for this reason.
    #[error("received {0}")]
    Malformed(String),
    /// The peer numbers processes in another way, as in another pid namespace.
    #[error("it is in another pid namespace")]
    OtherNamespace,
    /// Authentication failed.
    #[error("access is denied")]
    Denied,
    /// The call was answered with this error's name.
    #[error("{0}")]
    Refused(String),
    /// The answer is of another type.
    #[error("the answer has another type")]
    Type,
}

impl From<Malformed> for Error {
    fn from(malformed: Malformed) -> Self {
        Self::Malformed(malformed.to_string())
    }
}

/// An authenticated connection.
#[derive(Debug)]
pub(super) struct Bus {
    stream: UnixStream,
    deadline: Instant,
    serial: u32,
}

impl Bus {
    /// Connects to the socket at `path`. A peer of another pid namespace, as that of the host is for a
    /// container, has another process with our number, and is asked nothing.
    pub(super) fn connect(path: &Path, kind: Kind, deadline: Instant) -> Result<Self, Error> {
        let stream = socket::connect_until(path, deadline)?;
        if !numbers_as_we_do(&stream) {
            return Err(Error::OtherNamespace);
        }
        let mut bus = Self { stream, deadline, serial: 0 };
        bus.authenticate()?;
        if kind == Kind::Bus {
            bus.ask(&HELLO)?;
        }
        Ok(bus)
    }

    /// Returns the object path of the unit that a process belongs to.
    pub(super) fn unit_of(&mut self, pid: u32) -> Result<String, Error> {
        let call = Call {
            destination: SYSTEMD,
            path: "/org/freedesktop/systemd1",
            interface: "org.freedesktop.systemd1.Manager",
            member: "GetUnitByPID",
            arguments: Arguments::Number(pid),
        };
        match self.ask(&call)? {
            Value::Text(path) => Ok(path),
            _ => Err(Error::Type),
        }
    }

    /// Returns a property of an object of systemd's. `interface` is the last part of the
    /// interface's name.
    pub(super) fn property(
        &mut self,
        path: &str,
        interface: &str,
        name: &str,
    ) -> Result<Value, Error> {
        let interface = format!("org.freedesktop.systemd1.{interface}");
        self.ask(&Call {
            destination: SYSTEMD,
            path,
            interface: "org.freedesktop.DBus.Properties",
            member: "Get",
            arguments: Arguments::Texts(&interface, name),
        })
    }

    fn ask(&mut self, call: &Call<'_>) -> Result<Value, Error> {
        self.serial += 1;
        self.send(&message::encode(self.serial, call))?;
        for _ in 0..OTHERS_MAX {
            let bytes = self.receive()?;
            match message::decode(&bytes, self.serial)? {
                Answer::Return(value) => return Ok(value),
                Answer::Error(name) => return Err(Error::Refused(name)),
                Answer::Other => {}
            }
        }
        Err(io::Error::from(io::ErrorKind::TimedOut).into())
    }

    /// Authenticates with our uid, which the kernel tells the peer as well.
    ///
    /// Sends everything at once, as systemd's own programs do: data right behind a separate `BEGIN`
    /// is not processed (seen with 252, 257 and 262) until more arrives.
    fn authenticate(&mut self) -> Result<(), Error> {
        let uid = process::effective_uid().to_string();
        let uid: String = uid.bytes().map(|digit| format!("{digit:02x}")).collect();
        self.send(format!("\0AUTH EXTERNAL {uid}\r\nBEGIN\r\n").as_bytes())?;
        if self.line()?.starts_with(b"OK ") { Ok(()) } else { Err(Error::Denied) }
    }

    /// Reads a line. The peer sends nothing behind it before we ask.
    fn line(&mut self) -> Result<Vec<u8>, Error> {
        let mut line = Vec::new();
        let mut bytes = [0; LINE_BYTES_MAX];
        while !line.ends_with(b"\r\n") {
            let count = socket::read_until(&self.stream, &mut bytes, self.deadline)?;
            line.extend(bytes.iter().take(count));
            if count == 0 || line.len() > LINE_BYTES_MAX {
                return Err(Error::Denied);
            }
        }
        Ok(line)
    }

    fn send(&mut self, mut bytes: &[u8]) -> Result<(), Error> {
        while !bytes.is_empty() {
            let count = socket::send_until(&self.stream, bytes, self.deadline)?;
            bytes = bytes.get(count..).unwrap_or_default();
        }
        Ok(())
    }

    fn receive(&mut self) -> Result<Vec<u8>, Error> {
        let mut start = [0; START_BYTES];
        self.fill(&mut start)?;
        let mut bytes = vec![0; message::total_length(&start)?];
        let (head, rest) = bytes.split_at_mut_checked(START_BYTES).ok_or(Malformed::Short)?;
        head.copy_from_slice(&start);
        self.fill(rest)?;
        Ok(bytes)
    }

    fn fill(&mut self, mut bytes: &mut [u8]) -> Result<(), Error> {
        while !bytes.is_empty() {
            match socket::read_until(&self.stream, bytes, self.deadline)? {
                0 => return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
                count => bytes = bytes.get_mut(count..).unwrap_or_default(),
            }
        }
        Ok(())
    }
}

/// Returns whether the peer numbers processes as this process does, as far as can be told.
fn numbers_as_we_do(stream: &UnixStream) -> bool {
    let Ok(peer) = socket::peer(stream) else { return true };
    let pidfd = socket::peer_pidfd(stream).or_else(|_| pidfd::open(peer.pid));
    let depth = pidfd.and_then(pidfd::numbers).map(|numbers| numbers.len());
    let is_deeper =
        depth.is_ok_and(|depth| pid_namespace::own_depth().is_ok_and(|own| depth > own));
    peer.pid > 0 && !is_deeper
}

#[cfg(test)]
pub(super) mod tests;
