//! An output in use.

use std::io;
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;

use super::Level;
use super::journal::{self, FACILITY_DAEMON};
use super::lines::{Hands, Lines};
use super::output::Output;
use super::record::Record;
use super::stream::Stream;
use crate::sys::fd::set_nonblocking;
use crate::sys::socket::send_datagram_to;

/// Bytes of one datagram to the system log, the limit of common daemons (rsyslog's default). The
/// rest of a longer message is cut.
const SYSLOG_BYTES_MAX: usize = 8192;

/// The two lines at the beginning of every output.
#[derive(Debug, Clone)]
pub(super) struct Greeting {
    pub(super) version: String,
    pub(super) hostname: String,
}

/// An output in use. Writing does not fail: a message that cannot be written is lost, counted, and
/// reported once writing works again.
#[derive(Debug)]
pub(super) struct Sink {
    pub(super) output: Output,
    channel: Channel,
    greeted: bool,
}

#[derive(Debug)]
enum Channel {
    /// To a file or stderr.
    Lines(Lines),
    /// To a service; such writes never block.
    Datagrams { socket: UnixDatagram, service: Service, lost: u64 },
}

/// A log service of the system.
#[derive(Debug)]
pub(super) enum Service {
    Syslog { address: PathBuf, ident: String },
    Journal { address: PathBuf },
}

impl Sink {
    /// Makes an output to a file or stderr.
    pub(super) fn of_stream(output: Output, stream: Stream) -> Self {
        Self { output, channel: Channel::Lines(Lines::new(stream)), greeted: false }
    }

    /// Makes an output to a service, which may be absent.
    ///
    /// # Errors
    /// As `socket(2)`.
    pub(super) fn of_service(output: Output, service: Service) -> io::Result<Self> {
        let socket = UnixDatagram::unbound()?;
        set_nonblocking(&socket)?;
        let channel = Channel::Datagrams { socket, service, lost: 0 };
        Ok(Self { output, channel, greeted: false })
    }

    /// Writes or queues `record` if its level is high enough.
    pub(super) fn write(&mut self, record: &Record<'_>, greeting: &Greeting, hands: Hands) {
        if record.level < self.output.level {
            return;
        }
        if !self.greeted {
            self.greeted = true;
            let Greeting { version, hostname } = greeting;
            self.channel.send(&record.beside(Level::Info, format!("libvirt version: {version}")));
            self.channel.send(&record.beside(Level::Info, format!("hostname: {hostname}")));
        }
        self.channel.send(record);
        self.start_writing(hands);
    }

    /// Starts writing queued lines on the thread that `hands` names.
    pub(super) fn start_writing(&mut self, hands: Hands) {
        if let Channel::Lines(lines) = &mut self.channel {
            lines.start_writing(hands);
        }
    }

    /// Returns its lines, unless it is a service.
    pub(super) fn lines(&self) -> Option<&Lines> {
        match &self.channel {
            Channel::Lines(lines) => Some(lines),
            Channel::Datagrams { .. } => None,
        }
    }

    /// Returns its lines, to be changed.
    pub(super) fn lines_mut(&mut self) -> Option<&mut Lines> {
        match &mut self.channel {
            Channel::Lines(lines) => Some(lines),
            Channel::Datagrams { .. } => None,
        }
    }

    /// Returns the number of messages that are neither written nor reported as lost.
    pub(super) fn pending(&self) -> u64 {
        match &self.channel {
            Channel::Lines(lines) => lines.queue.pending(),
            Channel::Datagrams { lost, .. } => *lost,
        }
    }

    /// Ends it when all queued lines are written.
    pub(super) fn leave(self, hands: Hands) -> Option<Lines> {
        match self.channel {
            Channel::Lines(lines) => lines.leave(hands),
            Channel::Datagrams { .. } => None,
        }
    }
}

impl Channel {
    fn send(&mut self, record: &Record<'_>) {
        match self {
            Self::Lines(lines) => lines.queue.push(&record.line()),
            Self::Datagrams { socket, service, lost } => {
                if *lost > 0 && service.send(socket, &Record::of_lost(*lost)).is_ok() {
                    *lost = 0;
                }
                if service.send(socket, record).is_err() {
                    *lost = lost.saturating_add(1);
                }
            }
        }
    }
}

impl Service {
    fn send(&self, socket: &UnixDatagram, record: &Record<'_>) -> io::Result<()> {
        match self {
            Self::Syslog { address, ident } => {
                send_datagram_to(socket, address, &syslog_message(record, ident), &[])
            }
            Self::Journal { address } => journal::send(socket, address, record),
        }
    }
}

/// Formats a message without a time: the system log adds the time of receipt.
fn syslog_message(record: &Record<'_>, ident: &str) -> Vec<u8> {
    let priority = FACILITY_DAEMON * 8 + record.level.syslog_priority();
    let pid = std::process::id();
    let mut message = format!("<{priority}>{ident}[{pid}]: {}", record.body()).into_bytes();
    message.truncate(SYSLOG_BYTES_MAX);
    message
}

#[cfg(test)]
mod tests;
