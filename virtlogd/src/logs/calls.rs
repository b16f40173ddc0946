//! Answers to clients' calls about one path, which may be an open log.

use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;

use common::rpc::{self, Reply, error};
use nix::errno::Errno;

use crate::guest::access::Guest;
use crate::guest::backlog::Arrears;
use crate::guest::staging::Workspace;
use crate::logs::writer::Pump;
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
    pump: &mut Option<Box<Pump>>,
    guest: Arc<Guest>,
    writer: OwnedFd,
    workspace: &mut Workspace,
) -> Result<Reply, rpc::Error> {
    let last_words = make_way(file.path, pump, workspace);
    let result = open_file(file, pump, guest, writer);
    hand_down(last_words, pump.as_deref().filter(|_| !file.truncate), file.path);
    result
}

/// A log that cannot be written answers with what it has, as in libvirt; the failure is logged where it
/// happens.
pub(super) fn position(path: &Path, pump: Option<&Pump>) -> Result<Reply, rpc::Error> {
    let Some(pump) = pump else {
        let detail = [b"No open log file ", path.as_os_str().as_bytes()].concat();
        return Err(rpc::Error::new(error::Code::InternalError, error::Domain::Logging, detail));
    };
    Ok(protocol::position(pump.position()))
}

/// Answers with bytes of a log, from a position on.
pub(super) fn read(
    path: &Path,
    pump: Option<&Pump>,
    limits: Limits,
    Position { inode, offset }: Position,
    len_max: u64,
) -> Result<Reply, rpc::Error> {
    let known = pump.and_then(Pump::directory);
    let reply = protocol::data(|data| {
        rotating_file::read(path, known, limits.backups_max, inode, offset, len_max, data)
    });
    to_reply(reply, |reply| reply)
}

/// Adds a message behind everything that is in a log. A path that is no open log may be one by another
/// name.
pub(super) fn append(
    path: &Path,
    pump: Option<&mut Pump>,
    message: &[u8],
    limits: Limits,
) -> Result<(), rotating_file::Error> {
    if let Some(pump) = pump {
        return pump.append(message);
    }
    let mut file = RotatingFile::open_shared(path, limits)?;
    file.append(&mut Bytes(message), true)?;
    Ok(())
}

/// Makes the answer to a call that the file layer has carried out.
pub(super) fn to_reply<T>(
    result: Result<T, rotating_file::Error>,
    reply: impl FnOnce(T) -> Reply,
) -> Result<Reply, rpc::Error> {
    result.map(reply).map_err(|error| to_rpc(&error))
}

/// A log whose guest has gone but whose end was not noticed yet is ended now, so that a guest can
/// be restarted at once. Gives what could not be stored of it.
fn make_way(
    path: &Path,
    pump: &mut Option<Box<Pump>>,
    workspace: &mut Workspace,
) -> Option<Box<Arrears>> {
    drain(Some(pump.as_deref_mut()?), workspace);
    let open = pump.take_if(|open| open.guest_has_gone());
    if let Some(open) = &*pump {
        tracing::warn!(
            target: "logging.log_handler",
            "Log {} is asked for again while {} has it open", path.display(), open.guest().domain
        );
    }
    open?.end()
}

/// The log that was opened again is owed what the one before was.
fn hand_down(last_words: Option<Box<Arrears>>, pump: Option<&Pump>, path: &Path) {
    match (last_words, pump) {
        (Some(arrears), Some(pump)) => pump.guest().intake().inherit(arrears),
        (Some(arrears), None) => arrears.give_up(path),
        (None, _) => {}
    }
}

/// Makes a file the log of a guest, unless it is one already.
fn open_file(
    ToOpen { path, truncate, limits }: &ToOpen<'_>,
    pump: &mut Option<Box<Pump>>,
    guest: Arc<Guest>,
    writer: OwnedFd,
) -> Result<Reply, rpc::Error> {
    if pump.is_some() {
        let path = path.as_os_str().as_bytes();
        let detail = [b"Cannot open log file: '", path, b"'"].concat();
        return Err(rpc::Error::system(error::Domain::Logging, detail, Errno::EBUSY as i32));
    }
    let file = RotatingFile::open(Arc::clone(path), *limits, *truncate);
    let file = file.map_err(|error| to_rpc(&error))?;
    let reply = protocol::position(file.position());
    tracing::debug!(
        target: "logging.log_handler", "{} is the log of {}", path.display(), guest.domain
    );
    *pump = Some(Box::new(Pump::new(guest, file)));
    Ok(Reply { fds: vec![writer], ..reply })
}

/// What fails is logged where it happens.
fn drain(pump: Option<&mut Pump>, workspace: &mut Workspace) {
    if let Some(pump) = pump
        && let Err(error) = pump.drain(workspace)
    {
        tracing::debug!(target: "logging.log_handler", "{error}");
    }
}

/// The one place where a failure of the file layer becomes an error of the wire.
fn to_rpc(error: &rotating_file::Error) -> rpc::Error {
    match error.errno() {
        Some(errno) => rpc::Error::system(error::Domain::None, error.detail(), errno),
        None => {
            rpc::Error::new(error::Code::ConfigUnsupported, error::Domain::None, error.detail())
        }
    }
}
