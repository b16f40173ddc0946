//! Where lines go.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::time::{Duration, Instant};

use common::query::Bytes;
use common::sys::errno::io_text;
use common::systemd::Pace;
use common::systemd::journal::{Entry, SOCKET};
use common::tool::{Failure, escaped};
use serde::Serialize;

use super::super::show::Shown;
use super::guest::{Guest, remark};
use super::lines::Piece;
use super::missed::Missed;

/// Pause after which a journal that is behind is tried again.
const BEHIND_PERIOD: Duration = Duration::from_millis(1);

/// Pause after which a journal that is not there is tried again.
const ABSENT_PERIOD: Duration = Duration::from_millis(500);

/// Pause of a follower that has passed on as many lines as it may.
const PACE_PERIOD: Duration = Duration::from_millis(10);

/// Remarks that wait for a journal that is behind. More are on the standard error only.
const REMARKS_MAX: usize = 1024;

/// Name of guests' lines, and of remarks about them, in the journal.
const LINE_IDENTIFIER: &str = "virtlogd-guest";
const REMARK_IDENTIFIER: &str = "virtlogctl";

/// Syslog's priorities "warning" and "informational".
const WARNING: &str = "4";
const INFO: &str = "6";

/// Where lines go, and how fast.
#[derive(Debug)]
pub(super) struct Output<W> {
    form: Form<W>,
    pace: Option<Pace>,
}

/// Form of lines.
#[derive(Debug)]
pub(super) enum Form<W> {
    /// For people: `DOMAIN: LINE`.
    Text(W),
    /// An object a line.
    Json(W),
    /// Entries of the journal.
    Journal(Journal),
}

/// The journal.
#[derive(Debug)]
pub(super) struct Journal {
    socket: UnixDatagram,
    remarks: VecDeque<Entry>,
    is_absent: bool,
}

/// Whether a line was passed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sent {
    /// It was.
    Now,
    /// It is to be tried again after this time.
    Later(Duration),
}

#[derive(Serialize)]
struct JsonLine<'a> {
    domain: &'a Bytes,
    uuid: &'a str,
    path: Bytes,
    #[serde(skip_serializing_if = "Option::is_none")]
    line: Option<Bytes>,
    #[serde(skip_serializing_if = "Option::is_none")]
    line_break: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    remark: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    missed_bytes: Option<u64>,
}

impl<W: Write> Output<W> {
    /// Makes one that takes so many lines a second at most.
    pub(super) fn new(form: Form<W>, lines_per_s: Option<u32>) -> Self {
        let pace =
            lines_per_s.map(|rate| Pace::new(rate.max(1), Duration::from_secs(1) / rate.max(1)));
        Self { form, pace }
    }

    /// Passes on a line.
    ///
    /// # Errors
    /// The standard output cannot be written.
    pub(super) fn line(&mut self, guest: &Guest, piece: &Piece<'_>) -> Result<Sent, Failure> {
        let now = Instant::now();
        if self.pace.as_ref().is_some_and(|pace| !pace.is_due(now)) {
            return Ok(Sent::Later(PACE_PERIOD));
        }
        let sent = match &mut self.form {
            Form::Text(out) => {
                write!(out, "{}: ", escaped(&guest.domain.text()))?;
                Shown::new(&mut *out).write_all(piece.text)?;
                let mark = piece.ending.name().map(|_| "\\").unwrap_or_default();
                writeln!(out, "{mark}")?;
                Sent::Now
            }
            Form::Json(out) => {
                let line = Some(Bytes::from(piece.text));
                let line_break = piece.ending.name();
                json(out, &JsonLine { line, line_break, ..JsonLine::of(guest) })?;
                Sent::Now
            }
            Form::Journal(journal) => journal.line(guest, piece),
        };
        if let (Some(pace), Sent::Now) = (&mut self.pace, sent) {
            pace.step(now);
        }
        Ok(sent)
    }

    /// Tells that something was missed.
    pub(super) fn missed(&mut self, guest: &Guest, missed: Missed) {
        self.tell(guest, &missed.text(), Some(missed.bytes()));
    }

    /// Tells something else about a log.
    pub(super) fn remark(&mut self, guest: &Guest, text: &str) {
        self.tell(guest, text, None);
    }

    fn tell(&mut self, guest: &Guest, text: &str, missed_bytes: Option<u64>) {
        remark(&guest.path, text);
        match &mut self.form {
            Form::Text(_) => {}
            Form::Json(out) => {
                let object = JsonLine { remark: Some(text), missed_bytes, ..JsonLine::of(guest) };
                // A line will fail as well.
                json(out, &object).ok();
            }
            Form::Journal(journal) => journal.remark(guest, text, missed_bytes),
        }
    }

    /// Has everything written that was passed on.
    ///
    /// # Errors
    /// As `write(2)`.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        match &mut self.form {
            Form::Text(out) | Form::Json(out) => out.flush(),
            Form::Journal(journal) => {
                // What is left is tried again with the next line.
                journal.send_remarks().ok();
                Ok(())
            }
        }
    }
}

impl<'a> JsonLine<'a> {
    fn of(guest: &'a Guest) -> Self {
        Self {
            domain: &guest.domain,
            uuid: &guest.uuid,
            path: Bytes::from(guest.path.as_os_str().as_bytes()),
            line: None,
            line_break: None,
            remark: None,
            missed_bytes: None,
        }
    }
}

fn json(out: &mut impl Write, object: &JsonLine<'_>) -> io::Result<()> {
    serde_json::to_writer(&mut *out, object)?;
    out.write_all(b"\n")
}

impl Journal {
    /// Makes one.
    ///
    /// # Errors
    /// As `socket(2)`.
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self { socket: UnixDatagram::unbound()?, remarks: VecDeque::new(), is_absent: false })
    }

    fn line(&mut self, guest: &Guest, piece: &Piece<'_>) -> Sent {
        let mut entry = Entry::default();
        entry.field("MESSAGE", piece.text);
        entry.field("PRIORITY", INFO);
        entry.field("SYSLOG_IDENTIFIER", LINE_IDENTIFIER);
        add_guest(&mut entry, guest);
        if let Some(name) = piece.ending.name() {
            entry.field("LIBVIRT_LINE_BREAK", name);
        }
        let sent = self.send_remarks().and_then(|()| self.send(&entry));
        match sent {
            Ok(()) => Sent::Now,
            Err(error) if error.kind() == ErrorKind::WouldBlock => Sent::Later(BEHIND_PERIOD),
            Err(error) => {
                if !std::mem::replace(&mut self.is_absent, true) {
                    let text = format!("{}; lines wait in their logs", io_text(&error));
                    remark(Path::new(SOCKET), &text);
                }
                Sent::Later(ABSENT_PERIOD)
            }
        }
    }

    fn remark(&mut self, guest: &Guest, text: &str, missed_bytes: Option<u64>) {
        let mut entry = Entry::default();
        entry.field("MESSAGE", format!("{}: {text}", guest.shown_path()));
        entry.field("PRIORITY", WARNING);
        entry.field("SYSLOG_IDENTIFIER", REMARK_IDENTIFIER);
        add_guest(&mut entry, guest);
        if let Some(bytes) = missed_bytes {
            entry.field("LIBVIRT_MISSED_BYTES", bytes.to_string());
        }
        if self.remarks.len() < REMARKS_MAX {
            self.remarks.push_back(entry);
        }
    }

    fn send_remarks(&mut self) -> io::Result<()> {
        while let Some(entry) = self.remarks.pop_front() {
            if let Err(error) = self.send(&entry) {
                self.remarks.push_front(entry);
                return Err(error);
            }
        }
        Ok(())
    }

    fn send(&mut self, entry: &Entry) -> io::Result<()> {
        entry.send(&self.socket, Path::new(SOCKET))?;
        self.is_absent = false;
        Ok(())
    }
}

fn add_guest(entry: &mut Entry, guest: &Guest) {
    entry.field("LIBVIRT_DOMAIN", &guest.domain.0);
    entry.field("LIBVIRT_UUID", &guest.uuid);
    entry.field("LIBVIRT_CHANNEL", guest.channel());
    entry.field("LIBVIRT_LOG_PATH", guest.path.as_os_str().as_bytes());
}
