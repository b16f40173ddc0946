//! Takes a set from a holder, and executes its daemon: the protocol's other side.

use std::convert::Infallible;
use std::ffi::{OsStr, OsString};
use std::fmt::Display;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use common::sys::fd;
use common::sys::process;
use common::sys::socket::{Message, connect_for_packets, receive_message, send_datagram};
use common::sys::timeout::timeout;
use nix::poll::{PollFd, PollFlags, poll};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::socket::UnixAddr;
use thiserror::Error;

use crate::options::Exec;
use crate::packet::{CLAIM, PACKET_BYTES_MAX, Packet};
use crate::sockets::Sockets;

/// Number of the first fd that is passed, systemd's.
const FIRST: i32 = 3;

/// Pause before the holder is tried again, which is not there.
const RETRY_PERIOD: Duration = Duration::from_millis(50);

/// Time after which it is told that the start waits.
const SILENCE: Duration = Duration::from_secs(1);

/// Environment variables that would tell the daemon of another supervisor.
const OTHERS: [&str; 3] = ["WATCHDOG_PID", "WATCHDOG_USEC", "LISTEN_PIDFDID"];

/// Reason why the daemon is not executed.
#[derive(Debug, Error)]
pub(crate) enum Error {
    #[error("unable to reach a holder at {}: {error}", set.display())]
    NoHolder { set: OsString, error: io::Error },
    #[error("the holder refuses: {0}")]
    Refused(String),
    #[error("{0}")]
    Nonsense(#[from] crate::packet::Nonsense),
    #[error("no answer from the holder at {}", .0.display())]
    Silent(OsString),
    #[error("unable to pass {count} fds: {error}")]
    Place { count: usize, error: io::Error },
    #[error("unable to execute {}: {error}", program.display())]
    Exec { program: OsString, error: io::Error },
}

/// What a holder has given.
#[derive(Debug, Default)]
struct Given {
    names: Vec<String>,
    fds: Vec<OwnedFd>,
    fds_max: usize,
}

/// A set that is waited for.
struct Wait<'a> {
    set: &'a OsStr,
    /// When that is to be told; `None` when it has been.
    tell_at: Option<Instant>,
    deadline: Instant,
}

/// Addresses of a set.
struct Addresses {
    claims: UnixAddr,
    /// A value for `NOTIFY_SOCKET`.
    messages: OsString,
}

/// Takes the set and executes the daemon in place of this program.
///
/// # Errors
/// [`enum@Error`]; the process is to end then, and with it its claim.
pub(crate) fn exec(options: Exec) -> Result<Infallible, Error> {
    let Exec { wait_s, set, program } = options;
    let no_holder = |error| Error::NoHolder { set: set.clone(), error };
    let addresses = Addresses::of(&set).map_err(no_holder)?;
    let limit = getrlimit(Resource::RLIMIT_NOFILE).ok();
    // What does not fit would not be received.
    fd::raise_open_files_limit().ok();
    let deadline = Instant::now() + Duration::from_secs(wait_s);
    let Given { names, fds, fds_max } = take(&set, &addresses, deadline)?;
    let count = fds.len();
    place(fds).map_err(|error| Error::Place { count, error })?;
    if let Some((soft, hard)) = limit {
        // It was so before.
        setrlimit(Resource::RLIMIT_NOFILE, soft, hard).ok();
    }
    let (name, arguments) = program.split_first().unwrap_or((&set, &[]));
    let mut command = Command::new(name);
    command.args(arguments).env("NOTIFY_SOCKET", addresses.messages);
    command.env("FDSTORE", fds_max.to_string()).env("LISTEN_FDS", count.to_string());
    command.env("LISTEN_PID", std::process::id().to_string());
    command.env("LISTEN_FDNAMES", names.join(":"));
    for name in OTHERS {
        command.env_remove(name);
    }
    Err(Error::Exec { program: name.clone(), error: command.exec() })
}

/// Asks until a holder has answered. One that ends meanwhile may be followed by another.
fn take(set: &OsStr, addresses: &Addresses, deadline: Instant) -> Result<Given, Error> {
    let mut wait = Wait { set, tell_at: Some(Instant::now() + SILENCE), deadline };
    loop {
        let error = match connect_for_packets(&addresses.claims) {
            Ok(stream) => match ask(&stream, &mut wait)? {
                Some(given) => return Ok(given),
                None => None,
            },
            Err(error) => Some(error),
        };
        if Instant::now() >= deadline {
            let set = set.to_owned();
            return Err(match error {
                Some(error) => Error::NoHolder { set, error },
                None => Error::Silent(set),
            });
        }
        if let Some(error) = error {
            wait.tell(&error);
        }
        process::pause(RETRY_PERIOD);
    }
}

/// Asks for the set; `None` when there is no whole answer.
fn ask(stream: &UnixStream, wait: &mut Wait<'_>) -> Result<Option<Given>, Error> {
    let mut given = Given::default();
    // A holder may refuse a process before that has asked: its answer is read all the same.
    send_datagram(stream, CLAIM.as_bytes(), &[]).ok();
    let mut bytes = vec![0; PACKET_BYTES_MAX];
    while wait.until_readable(stream) {
        let Ok(message) = receive_last(stream, &mut bytes) else { return Ok(None) };
        if message.count == 0 {
            return Ok(None);
        }
        match Packet::parse(bytes.get(..message.count).unwrap_or_default())? {
            Packet::Refused(reason) => return Err(Error::Refused(reason.to_owned())),
            Packet::Fds(names) if message.is_whole && names.len() == message.fds.len() => {
                given.names.extend(names.into_iter().map(str::to_owned));
                given.fds.extend(message.fds);
            }
            // The limit of open files.
            Packet::Fds(_) => {
                let error = io::ErrorKind::QuotaExceeded.into();
                return Err(Error::Place { count: given.fds.len(), error });
            }
            Packet::Done { fds_max } => return Ok(Some(Given { fds_max, ..given })),
        }
    }
    Ok(None)
}

/// Receives a packet. When a holder hangs up without reading what it was asked, the kernel reports
/// that once, in front of what it said.
fn receive_last(stream: &UnixStream, bytes: &mut [u8]) -> io::Result<Message> {
    match receive_message(stream, bytes, false) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionReset => {
            receive_message(stream, bytes, false)
        }
        received => received,
    }
}

impl Wait<'_> {
    /// Tells once why the daemon is not started yet, if that has taken a while.
    fn tell(&mut self, why: &dyn Display) {
        if self.tell_at.take_if(|at| *at <= Instant::now()).is_some() {
            eprintln!("virtfdhold: waiting for {}: {why}", self.set.display());
        }
    }

    /// Waits for a packet; `false` when none comes in time.
    fn until_readable(&mut self, stream: &UnixStream) -> bool {
        loop {
            let until = self.tell_at.map_or(self.deadline, |at| at.min(self.deadline));
            if is_readable_by(stream, until) {
                return true;
            }
            if Instant::now() >= self.deadline {
                return false;
            }
            self.tell(&"another process has it");
        }
    }
}

fn is_readable_by(stream: &UnixStream, deadline: Instant) -> bool {
    let left = deadline.saturating_duration_since(Instant::now());
    poll(&mut [PollFd::new(stream.as_fd(), PollFlags::POLLIN)], timeout(left))
        .is_ok_and(|count| count > 0)
}

#[expect(unsafe_code, reason = "numbers of fds are taken")]
fn place(fds: Vec<OwnedFd>) -> io::Result<()> {
    // SAFETY: all other fds of this program were closed, but for the standard streams.
    unsafe { fd::place(FIRST, fds) }
}

impl Addresses {
    /// Those of a set's directory, or `@CLAIMS,@MESSAGES` with abstract names.
    fn of(set: &OsStr) -> io::Result<Self> {
        let Some(names) = set.as_bytes().strip_prefix(b"@") else {
            let [claims, messages] = Sockets::paths(Path::new(set));
            return Ok(Self { claims: UnixAddr::new(&claims)?, messages: messages.into() });
        };
        let comma = names.iter().position(|&byte| byte == b',').unwrap_or(names.len());
        let (claims, messages) = names.split_at(comma);
        let messages = messages.get(1..).unwrap_or_default().to_vec();
        Ok(Self { claims: UnixAddr::new_abstract(claims)?, messages: OsString::from_vec(messages) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Also when the time until then is no whole number of milliseconds.
    #[test]
    fn a_wait_is_told_when_it_is_due() {
        let (stream, _holder) = UnixStream::pair().unwrap();
        let start = Instant::now();
        let (set, tell_at) = (OsStr::new("a"), Some(start + Duration::from_micros(5900)));
        let mut wait = Wait { set, tell_at, deadline: start + Duration::from_millis(50) };
        assert!(!wait.until_readable(&stream));
        assert_eq!(wait.tell_at, None);
    }
}
