//! What is done with one log path, one task after the other.
//!
//! A task owns everything it works on, so that it can run as a job, and brings it back in
//! [`Done`]. It decides by what it finds in its place in the order: whether a path is an open log
//! is known for sure only there.

use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;

use common::rpc::{self, Reply};
use common::server::ClientId;

use crate::guest::access::Guest;
use crate::guest::staging::{Workspace, Workspaces};
use crate::logs::calls::{self, Position, ToOpen};
use crate::logs::restored_file::RestoredFile;
use crate::logs::writer::{Pump, Turn};
use crate::protocol;
use crate::rotating_file::{self, Limits};

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
    Adopt { guest: Arc<Guest>, file: Box<RestoredFile> },
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

    /// Performs it. What the guest has written before is stored, or could not be: the `failure`.
    fn perform(
        self,
        path: &Arc<Path>,
        mut pump: Option<Box<Pump>>,
        workspace: &mut Workspace,
        limits: Limits,
        failure: Option<rotating_file::Error>,
    ) -> Done {
        let (mut turn, mut answer) = (None, None);
        match self {
            Self::Turn { flush, retry, is_short } => {
                turn = pump.as_mut().map(|pump| pump.turn(workspace, flush, retry, is_short));
                let ended = pump.take_if(|_| turn == Some(Turn::End));
                ended.into_iter().for_each(|ended| ended.give_up());
            }
            Self::Adopt { guest, file } => {
                guest.measure();
                let adopted = pump.insert(Box::new(Pump::adopt(guest, path, limits, *file)));
                turn = Some(adopted.turn(workspace, false, true, true));
            }
            Self::Settle => {
                pump.iter_mut().for_each(|pump| pump.settle(workspace));
            }
            Self::Stop { is_kept } => {
                pump.take().into_iter().for_each(|pump| stop(pump, is_kept, workspace));
            }
            Self::Open { client, truncate, guest, writer } => {
                let file = ToOpen { path, truncate, limits };
                answer = Some((client, calls::open(&file, &mut pump, guest, writer, workspace)));
            }
            Self::Position { client } => {
                answer = Some((client, calls::position(path, pump.as_deref())));
            }
            Self::Read { client, inode, offset, len_max } => {
                let from = Position { inode, offset };
                let log = pump.as_deref();
                answer = Some((client, calls::read(path, log, limits, from, len_max)));
            }
            Self::Append { client, message } => {
                let result = failure.map_or(Ok(()), Err);
                let appended = result
                    .and_then(|()| calls::append(path, pump.as_deref_mut(), &message, limits));
                answer = Some((client, calls::to_reply(appended, |()| protocol::appended())));
            }
        }
        let turn = turn.or_else(|| pump.as_ref().and_then(|pump| pump.next_turn()));
        Done { pump, answer, turn, unfinished: None }
    }
}

/// Ends a log, because the daemon is about to exit.
fn stop(mut pump: Box<Pump>, is_kept: bool, workspace: &mut Workspace) {
    store_all(&mut pump, workspace);
    let guest = Arc::clone(pump.guest());
    if !is_kept {
        pump.give_up();
    }
    // Also of one that is not in the fd store for certain: it may go on all the same.
    guest.intake().lose_unstored();
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
