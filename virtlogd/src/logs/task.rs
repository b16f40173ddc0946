//! What is done with one log path, one task after the other.
//!
//! A task owns everything it works on, so that it can run as a job, and brings it back in
//! [`Done`]. It decides by what it finds in its place in the order: whether a path is an open log
//! is known for sure only there.

use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;

use common::rpc::{self, Reply, error};
use common::server::ClientId;
use nix::errno::Errno;

use crate::guest::access::Guest;
use crate::guest::pipe::Arrears;
use crate::guest::staging::{Workspace, Workspaces};
use crate::logs::writer::{Pump, Turn};
use crate::persist::restored_log::Legacy;
use crate::protocol;
use crate::rotating_file::{self, Bytes, Limits, RotatingFile};

/// Something to do with a path.
#[derive(Debug)]
pub(crate) enum Task {
    /// Move what the guest has written.
    Turn {
        /// Partial lines too.
        flush: bool,
        /// Try again if writing failed before.
        retry: bool,
        /// Others wait for theirs.
        is_short: bool,
    },
    /// Make it a log.
    Open {
        client: ClientId,
        truncate: bool,
        /// With the end that we read from.
        guest: Arc<Guest>,
        /// The end for the guest.
        writer: OwnedFd,
    },
    /// Answer where the log's end is.
    Position { client: ClientId },
    /// Answer with bytes.
    Read { client: ClientId, inode: u64, offset: u64, len_max: u64 },
    /// Add a message.
    Append { client: ClientId, message: Vec<u8> },
    /// Go on with what an earlier image of this process had.
    Adopt { guest: Arc<Guest>, legacy: Box<Legacy> },
    /// Store all there is, and see whether the path still leads to the log.
    Settle,
    /// Store all there is, the daemon is about to exit. What is kept goes on in another process.
    Stop { is_kept: bool },
}

/// What a task left.
#[derive(Debug)]
pub(crate) struct Done {
    /// The log, if the path is one now.
    pub(crate) pump: Option<Box<Pump>>,
    /// What to tell a client.
    pub(crate) answer: Option<(ClientId, Result<Reply, rpc::Error>)>,
    /// Where the log stands, if that was looked at.
    pub(crate) turn: Option<Turn>,
    /// A task that is to be gone on with when others have had their turn, and how many bytes of the
    /// guest's it has to store yet before it can be done.
    pub(crate) unfinished: Option<(Task, u64)>,
}

impl Done {
    /// A turn that another image may have as well.
    pub(crate) fn put_off(pump: Option<Box<Pump>>) -> Self {
        Self { pump, answer: None, turn: Some(Turn::Again), unfinished: None }
    }

    fn unfinished(task: Task, left: u64, pump: Option<Box<Pump>>) -> Self {
        Self { pump, answer: None, turn: None, unfinished: Some((task, left)) }
    }
}

impl Task {
    /// Whether nobody waits for it.
    pub(crate) fn can_wait(&self) -> bool {
        matches!(self, Self::Turn { .. })
    }

    /// Whether all that the guest has written comes first.
    fn is_behind_output(&self) -> bool {
        matches!(self, Self::Position { .. } | Self::Read { .. } | Self::Append { .. })
    }

    /// Does it to `path`, which is a log if there is a `pump`. `left` is what it has left unfinished.
    pub(crate) fn run(
        self,
        path: &Arc<Path>,
        mut pump: Option<Box<Pump>>,
        workspaces: &Workspaces,
        limits: Limits,
        left: Option<u64>,
    ) -> Done {
        let mut workspace = workspaces.take();
        let drained = match &mut pump {
            Some(pump) if self.is_behind_output() => pump.drain_part(&mut workspace, left),
            _ => Ok(None),
        };
        let done = match drained {
            Ok(Some(left)) => Done::unfinished(self, left, pump),
            Err(error) if error.is_left_behind() => Done::unfinished(self, 1, pump),
            drained => self.perform(path, pump, &mut workspace, limits, drained.err()),
        };
        workspaces.give_back(workspace);
        done
    }

    /// What the guest has written before is stored, or could not be.
    fn perform(
        self,
        path: &Arc<Path>,
        mut pump: Option<Box<Pump>>,
        workspace: &mut Workspace,
        limits: Limits,
        failure: Option<rotating_file::Error>,
    ) -> Done {
        let mut turn = None;
        let answer = match self {
            Self::Turn { flush, retry, is_short } => {
                turn = pump.as_mut().map(|pump| pump.turn(workspace, flush, retry, is_short));
                if turn == Some(Turn::End)
                    && let Some(ended) = pump.take()
                {
                    ended.give_up();
                }
                None
            }
            Self::Adopt { guest, legacy } => {
                guest.measure();
                let Legacy { file, directory, rotation_steps_left, after_crash, .. } = *legacy;
                let left = match after_crash {
                    true => rotating_file::steps_left(path, directory, limits),
                    false => rotation_steps_left,
                };
                let adopted = Pump::adopt(guest, path, limits, (file, directory), left);
                let mut adopted = Box::new(adopted);
                turn = Some(adopted.turn(workspace, false, true, true));
                pump = Some(adopted);
                None
            }
            Self::Settle => {
                if let Some(pump) = &mut pump {
                    pump.settle(workspace);
                }
                None
            }
            Self::Stop { is_kept } => {
                if let Some(mut ended) = pump.take() {
                    store_all(&mut ended, workspace);
                    let guest = Arc::clone(ended.guest());
                    if !is_kept {
                        ended.give_up();
                    }
                    // Also of one that is not in the fd store for certain: it may go on all the same.
                    guest.intake().lose_unstored();
                }
                None
            }
            Self::Open { client, truncate, guest, writer } => {
                let last_words = make_way(path, &mut pump, workspace);
                let result = open(path, &mut pump, truncate, guest, writer, limits);
                hand_down(last_words, pump.as_deref().filter(|_| !truncate), path);
                Some((client, result))
            }
            Self::Position { client } => Some((client, position(path, pump.as_deref()))),
            Self::Read { client, inode, offset, len_max } => {
                let (known, backups_max) =
                    (pump.as_deref().and_then(Pump::directory), limits.backups_max);
                let reply = protocol::data(|data| {
                    rotating_file::read(path, known, backups_max, inode, offset, len_max, data)
                });
                Some((client, to_reply(reply, |reply| reply)))
            }
            Self::Append { client, message } => {
                let appended = match (&mut pump, failure) {
                    (_, Some(error)) => Err(error),
                    (Some(pump), None) => pump.append(&message),
                    (None, None) => append(path, &message, limits),
                };
                Some((client, to_reply(appended, |()| protocol::appended())))
            }
        };
        let turn = turn.or_else(|| pump.as_ref().and_then(|pump| pump.next_turn()));
        Done { pump, answer, turn, unfinished: None }
    }
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

fn open(
    path: &Arc<Path>,
    pump: &mut Option<Box<Pump>>,
    truncate: bool,
    guest: Arc<Guest>,
    writer: OwnedFd,
    limits: Limits,
) -> Result<Reply, rpc::Error> {
    if pump.is_some() {
        let path = path.as_os_str().as_bytes();
        let detail = [b"Cannot open log file: '", path, b"'"].concat();
        return Err(rpc::Error::system(error::Domain::Logging, detail, Errno::EBUSY as i32));
    }
    let file = RotatingFile::open(Arc::clone(path), limits, truncate);
    let file = file.map_err(|error| to_rpc(&error))?;
    let reply = protocol::position(file.position());
    tracing::debug!(
        target: "logging.log_handler", "{} is the log of {}", path.display(), guest.domain
    );
    *pump = Some(Box::new(Pump::new(guest, file)));
    Ok(Reply { fds: vec![writer], ..reply })
}

/// A log that cannot be written answers with what it has, as in libvirt; the failure is logged where it
/// happens.
fn position(path: &Path, pump: Option<&Pump>) -> Result<Reply, rpc::Error> {
    let Some(pump) = pump else {
        let detail = [b"No open log file ", path.as_os_str().as_bytes()].concat();
        return Err(rpc::Error::new(error::Code::InternalError, error::Domain::Logging, detail));
    };
    Ok(protocol::position(pump.position()))
}

/// What fails is logged where it happens.
fn drain(pump: Option<&mut Pump>, workspace: &mut Workspace) {
    if let Some(pump) = pump
        && let Err(error) = pump.drain(workspace)
    {
        tracing::debug!(target: "logging.log_handler", "{error}");
    }
}

/// Drains until nothing waits; a guest that writes on without end is cut off after what its pipe
/// can hold several times over.
fn store_all(pump: &mut Pump, workspace: &mut Workspace) {
    const DRAINS_MAX: usize = 16;
    for _ in 0..DRAINS_MAX {
        if pump.drain(workspace).is_err() || !pump.has_more() {
            return;
        }
    }
}

/// Adds to what is no log by this name, and may be one by another.
fn append(path: &Path, message: &[u8], limits: Limits) -> Result<(), rotating_file::Error> {
    let mut file = RotatingFile::open_shared(path, limits)?;
    file.append(&mut Bytes(message), true)?;
    Ok(())
}

fn to_reply<T>(
    result: Result<T, rotating_file::Error>,
    reply: impl FnOnce(T) -> Reply,
) -> Result<Reply, rpc::Error> {
    result.map(reply).map_err(|error| to_rpc(&error))
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
