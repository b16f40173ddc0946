//! Dispatch of complete messages.

use std::os::fd::OwnedFd;

use super::connection::{Message, Outgoing};
use super::error::{Code, Domain, Error};
use super::header::{Header, kind, status};

/// Keepalive, answered on every socket.
mod keepalive {
    /// "keep".
    pub(super) const PROGRAM: u32 = 0x6b65_6570;
    pub(super) const VERSION: u32 = 1;
    pub(super) const PING: i32 = 1;
    pub(super) const PONG: i32 = 2;
}

/// Program that a socket serves besides keepalive, alone or with others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Program {
    /// Number of the program.
    pub number: u32,
    /// Version of it.
    pub version: u32,
    /// Last procedure; the first is 1.
    pub last_procedure: i32,
}

/// Kind of a complete message.
#[derive(Debug)]
pub enum Incoming {
    /// A call for the handler of a program, and the address of its answer.
    Call(Call, ReplyTo),
    /// Answered without a handler: an error of the layer below, a pong.
    Answered(Outgoing),
    /// To be dropped; the connection stays usable.
    Dropped,
}

impl std::fmt::Display for Incoming {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Call(call, reply_to) => {
                let ReplyTo { program, serial, .. } = reply_to;
                let bytes = call.arguments.len();
                write!(
                    formatter,
                    "call {serial} of procedure {} of program {program:#x}, {bytes} bytes, {} fds",
                    call.procedure,
                    call.fds.len()
                )
            }
            Self::Answered(_) => formatter.write_str("answered without a handler"),
            Self::Dropped => formatter.write_str("neither call nor ping, dropped"),
        }
    }
}

/// A call of a program that the socket serves.
#[derive(Debug)]
pub struct Call {
    /// From 1 to the program's last procedure.
    pub procedure: i32,
    /// XDR of the arguments, without the count of fds.
    pub arguments: Vec<u8>,
    /// Fds that came with the call; those left here are closed with it.
    pub fds: Vec<OwnedFd>,
}

/// Result of a handler.
#[derive(Debug, Default)]
pub struct Reply {
    /// XDR of the result.
    pub payload: Vec<u8>,
    /// Fds for the client; ours are closed once they are sent.
    pub fds: Vec<OwnedFd>,
}

/// Address of an answer, repeated from the call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReplyTo {
    program: u32,
    version: u32,
    procedure: i32,
    serial: u32,
}

/// Classifies a message to a socket that serves `programs`, in libvirt's order: program and version,
/// type, status, procedure.
#[must_use]
pub fn accept(programs: &[Program], message: Message) -> Incoming {
    let header = message.header;
    if let Some(incoming) = answer_keepalive(&header) {
        return incoming;
    }
    if !matches!(header.kind, kind::CALL | kind::CALL_WITH_FDS) {
        return Incoming::Dropped;
    }
    let reply_to = ReplyTo::new(&header);
    match check(programs, &header) {
        Ok(()) => Incoming::Call(
            Call { procedure: header.procedure, arguments: message.payload, fds: message.fds },
            reply_to,
        ),
        Err(error) => Incoming::Answered(reply_to.answer(Err(error))),
    }
}

impl ReplyTo {
    /// Returns the number of the called program.
    #[must_use]
    pub fn program(&self) -> u32 {
        self.program
    }

    fn new(header: &Header) -> Self {
        Self {
            program: header.program,
            version: header.version,
            procedure: header.procedure,
            serial: header.serial,
        }
    }

    /// Converts to numbers, for an answer by another process.
    #[must_use]
    pub fn to_words(self) -> [u32; 4] {
        [self.program, self.version, self.procedure.cast_unsigned(), self.serial]
    }

    /// Converts back from [`Self::to_words`].
    #[must_use]
    pub fn from_words([program, version, procedure, serial]: [u32; 4]) -> Self {
        Self { program, version, procedure: procedure.cast_signed(), serial }
    }

    /// Makes the message that answers the call. An error carries no fds: libvirt sends a caller's
    /// own fds back with some errors, which puts the caller's stream out of step.
    #[must_use]
    pub fn answer(&self, result: Result<Reply, Error>) -> Outgoing {
        match result {
            Ok(Reply { payload, fds }) => {
                let kind = if fds.is_empty() { kind::REPLY } else { kind::REPLY_WITH_FDS };
                Outgoing::new(&self.header(kind, status::OK), payload, fds)
            }
            Err(error) => {
                let header = self.header(kind::REPLY, status::ERROR);
                Outgoing::new(&header, error.encode(), Vec::new())
            }
        }
    }

    fn header(self, kind: i32, status: u32) -> Header {
        let Self { program, version, procedure, serial } = self;
        Header { program, version, procedure, kind, serial, status }
    }
}

fn check(programs: &[Program], header: &Header) -> Result<(), Error> {
    let refuse = |detail: String| Err(Error::new(Code::Rpc, Domain::Rpc, detail));
    let is_called =
        |known: &&Program| (known.number, known.version) == (header.program, header.version);
    let Some(program) = programs.iter().find(is_called) else {
        // compat: both numbers are printed as signed ones (libvirt 9.0.0).
        let (program, version) = (header.program.cast_signed(), header.version.cast_signed());
        return refuse(format!("Cannot find program {program} version {version}"));
    };
    if header.status != status::OK {
        return refuse(format!("Unexpected message status {}", header.status));
    }
    if !(1..=program.last_procedure).contains(&header.procedure) {
        return refuse(format!("unknown procedure: {}", header.procedure));
    }
    Ok(())
}

/// Handles a keepalive message: any is consumed, and a ping is answered.
fn answer_keepalive(header: &Header) -> Option<Incoming> {
    if (header.program, header.version) != (keepalive::PROGRAM, keepalive::VERSION)
        || header.kind != kind::MESSAGE
    {
        return None;
    }
    if header.procedure != keepalive::PING {
        return Some(Incoming::Dropped);
    }
    let pong = Header { procedure: keepalive::PONG, serial: 0, status: status::OK, ..*header };
    Some(Incoming::Answered(Outgoing::new(&pong, Vec::new(), Vec::new())))
}

#[cfg(test)]
mod tests;
