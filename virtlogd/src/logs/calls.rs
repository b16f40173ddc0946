//! Answers to clients' calls about one path, which may be an open log.

use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;

use common::rpc::{self, Reply, error};
use nix::errno::Errno;

use crate::guest::access::Guest;
use crate::guest::backlog::Backlog;
use crate::guest::staging::Workspace;
use crate::guest::tally::Tally;
use crate::logs::writer::LogWriter;
use crate::message::log_about;
use crate::protocol;
use crate::rotating_file::{self, Bytes, Limits, RotatingFile};

/// A file that is to be opened as a log.
#[derive(Debug)]
pub(super) struct ToOpen<'a> {
    pub(super) path: &'a Arc<Path>,
    pub(super) truncate: bool,
    pub(super) limits: Limits,
}

/// A position that a client has been told.
#[derive(Debug, Clone, Copy)]
pub(super) struct Position {
    pub(super) inode: u64,
    pub(super) offset: u64,
}

/// Makes a path the log of `guest`, and answers with the end of the guest's pipe to write to.
pub(super) fn open(
    file: &ToOpen<'_>,
    writer: &mut Option<Box<LogWriter>>,
    guest: Arc<Guest>,
    guest_end: OwnedFd,
    workspace: &mut Workspace,
) -> Result<Reply, rpc::Error> {
    let final_backlog = end_previous(file.path, writer, workspace);
    let result = open_file(file, writer, guest, guest_end);
    pass_on(final_backlog, writer.as_deref().filter(|_| !file.truncate), file.path);
    result
}

/// Answers with the position of the next byte. A log that cannot be written answers with the last
/// one known, as in libvirt; the failure is logged where it happens.
pub(super) fn position(path: &Path, writer: Option<&LogWriter>) -> Result<Reply, rpc::Error> {
    let Some(writer) = writer else {
        let detail = [b"No open log file ", path.as_os_str().as_bytes()].concat();
        return Err(rpc::Error::new(error::Code::InternalError, error::Domain::Logging, detail));
    };
    Ok(protocol::position(writer.position()))
}

/// Answers with bytes of a log, from a position on.
pub(super) fn read(
    path: &Path,
    writer: Option<&LogWriter>,
    limits: Limits,
    Position { inode, offset }: Position,
    len_max: u64,
) -> Result<Reply, rpc::Error> {
    let known = writer.and_then(LogWriter::directory);
    let limits = writer.map_or(limits, LogWriter::limits);
    let reply = protocol::data(|data| {
        rotating_file::read(path, known, limits.backups_max, inode, offset, len_max, data)
    });
    to_reply(reply, |reply| reply)
}

/// Adds a message at the end of a log. A path that is no open log may be one by another name.
pub(super) fn append(
    path: &Path,
    writer: Option<&mut LogWriter>,
    message: &[u8],
    limits: Limits,
    tally: &mut Tally,
) -> Result<(), rotating_file::Error> {
    if let Some(writer) = writer {
        return writer.append(message, tally);
    }
    let mut file = RotatingFile::open_shared(path, limits)?;
    let appended = file.append(&mut Bytes(message), true);
    tally.grown(file.take_growth());
    appended.map(drop)
}

/// Makes the answer to a call that the file layer has carried out.
pub(super) fn to_reply<T>(
    result: Result<T, rotating_file::Error>,
    reply: impl FnOnce(T) -> Reply,
) -> Result<Reply, rpc::Error> {
    result.map(reply).map_err(|error| to_rpc(&error))
}

/// Ends a log whose guest has gone but whose end was not noticed yet, so that a guest can be
/// restarted at once. Returns its backlog.
fn end_previous(
    path: &Path,
    writer: &mut Option<Box<LogWriter>>,
    workspace: &mut Workspace,
) -> Option<Box<Backlog>> {
    drain(Some(writer.as_deref_mut()?), workspace);
    let open = writer.take_if(|open| open.guest_has_gone());
    if let Some(open) = &*writer {
        let guest = &open.guest().identity;
        log_about!(
            warn,
            guest,
            path,
            "Refused to open log {} again: {guest} has it open",
            path.display()
        );
    }
    open?.end()
}

/// Passes the backlog of the log before on to the one that was opened again.
fn pass_on(final_backlog: Option<Box<Backlog>>, writer: Option<&LogWriter>, path: &Path) {
    match (final_backlog, writer) {
        (Some(backlog), Some(writer)) => writer.guest().pipe().inherit(backlog),
        (Some(backlog), None) => backlog.abandon(path),
        (None, _) => {}
    }
}

/// Makes a file the log of a guest, unless it is one already.
fn open_file(
    ToOpen { path, truncate, limits }: &ToOpen<'_>,
    writer: &mut Option<Box<LogWriter>>,
    guest: Arc<Guest>,
    guest_end: OwnedFd,
) -> Result<Reply, rpc::Error> {
    if writer.is_some() {
        let path = path.as_os_str().as_bytes();
        let detail = [b"Cannot open log file: '", path, b"'"].concat();
        return Err(rpc::Error::system(error::Domain::Logging, detail, Errno::EBUSY as i32));
    }
    let file = RotatingFile::open(Arc::clone(path), *limits, *truncate);
    let file = file.map_err(|error| to_rpc(&error))?;
    let reply = protocol::position(file.position());
    tracing::debug!(
        target: "logging.log_handler", "Opened log {} of {}", path.display(), guest.identity
    );
    *writer = Some(Box::new(LogWriter::new(guest, file)));
    Ok(Reply { fds: vec![guest_end], ..reply })
}

/// Stores what waits. A failure is logged where it happens.
fn drain(writer: Option<&mut LogWriter>, workspace: &mut Workspace) {
    if let Some(writer) = writer
        && let Err(error) = writer.drain(workspace)
    {
        tracing::debug!(target: "logging.log_handler", "{error}");
    }
}

/// Converts a failure of the file layer into an error of the wire; the one place that does.
fn to_rpc(error: &rotating_file::Error) -> rpc::Error {
    match error.errno() {
        Some(errno) => rpc::Error::system(error::Domain::None, error.detail(), errno),
        None => {
            rpc::Error::new(error::Code::ConfigUnsupported, error::Domain::None, error.detail())
        }
    }
}
