//! Tasks of one path, which run one after the other.
//!
//! A task owns everything that it works on, so that it can run as a job, and brings it back in
//! [`TaskResult`]. Whether the path is an open log is certain only when the task runs.

use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;

use common::rpc::{self, Reply};
use common::server::ClientId;

use crate::guest::access::Guest;
use crate::guest::staging::{Workspace, Workspaces};
use crate::logs::calls::{self, Position, ToOpen};
use crate::logs::restored_file::RestoredFile;
use crate::logs::write_outcome::WriteOutcome;
use crate::logs::writer::LogWriter;
use crate::protocol;
use crate::rotating_file::{self, Limits};

/// A task.
#[derive(Debug)]
pub(crate) enum Task {
    /// Write what the guest has written.
    Turn {
        /// Write partial lines too.
        flush: bool,
        /// Try again if writing has failed before.
        retry: bool,
        /// Other logs wait for their turn.
        is_short: bool,
    },
    /// Make the path a log.
    Open {
        client: ClientId,
        truncate: bool,
        limits: Limits,
        /// Guest, with the end of its pipe to read from.
        guest: Arc<Guest>,
        /// End to write to, for the client.
        guest_end: OwnedFd,
    },
    /// Answer with the position of the log's end.
    Position { client: ClientId },
    /// Answer with bytes of the log. The limits are for a path that is none.
    Read { client: ClientId, inode: u64, offset: u64, len_max: u64, limits: Limits },
    /// Add a message to the log. The limits are for a path that is none.
    Append { client: ClientId, message: Vec<u8>, limits: Limits },
    /// Go on with a log of the process before this one.
    Adopt { limits: Limits, guest: Arc<Guest>, file: Box<RestoredFile> },
    /// Store everything, and see whether the path still leads to the log.
    FlushForHandover,
    /// Store everything and end the log: the daemon is about to exit. One that `goes_on` does so in
    /// another process.
    Stop { goes_on: bool },
}

/// Result of a task.
#[derive(Debug)]
pub(crate) struct TaskResult {
    /// Writer of the log, if the path is one now.
    pub(crate) writer: Option<Box<LogWriter>>,
    /// Answer to a client.
    pub(crate) answer: Option<(ClientId, Result<Reply, rpc::Error>)>,
    /// State of the log, if that was looked at.
    pub(crate) outcome: Option<WriteOutcome>,
    /// The task, if it goes on when other logs have had their turn, and the number of the guest's
    /// bytes that it has to store before.
    pub(crate) unfinished: Option<(Task, u64)>,
}

impl TaskResult {
    /// Returns the result of a turn that was left to the process after this one.
    pub(crate) fn postponed(writer: Option<Box<LogWriter>>) -> Self {
        Self { writer, answer: None, outcome: Some(WriteOutcome::Again), unfinished: None }
    }

    fn unfinished(task: Task, left: u64, writer: Option<Box<LogWriter>>) -> Self {
        Self { writer, answer: None, outcome: None, unfinished: Some((task, left)) }
    }
}

impl Task {
    /// Returns whether no client waits for it.
    pub(crate) fn can_wait(&self) -> bool {
        matches!(self, Self::Turn { .. })
    }

    /// Returns whether everything that the guest has written comes first.
    fn is_behind_output(&self) -> bool {
        matches!(self, Self::Position { .. } | Self::Read { .. } | Self::Append { .. })
    }

    /// Runs the task on `path`, which is a log if there is a `writer`. `left` is the number of
    /// bytes that it has left to store.
    pub(crate) fn run(
        self,
        path: &Arc<Path>,
        mut writer: Option<Box<LogWriter>>,
        workspaces: &Workspaces,
        left: Option<u64>,
    ) -> TaskResult {
        let mut workspace = workspaces.take();
        let drained = match &mut writer {
            Some(writer) if self.is_behind_output() => writer.drain_part(&mut workspace, left),
            _ => Ok(None),
        };
        let result = match drained {
            Ok(Some(left)) => TaskResult::unfinished(self, left, writer),
            Err(error) if error.is_left_behind() => TaskResult::unfinished(self, 1, writer),
            drained => self.perform(path, writer, &mut workspace, drained.err()),
        };
        workspaces.give_back(workspace);
        result
    }

    /// Performs the task. What the guest has written before is stored, or could not be: the
    /// `failure`.
    fn perform(
        self,
        path: &Arc<Path>,
        mut writer: Option<Box<LogWriter>>,
        workspace: &mut Workspace,
        failure: Option<rotating_file::Error>,
    ) -> TaskResult {
        let (mut outcome, mut answer) = (None, None);
        match self {
            Self::Turn { flush, retry, is_short } => {
                outcome = writer
                    .as_mut()
                    .map(|writer| writer.write_turn(workspace, flush, retry, is_short));
                let ended = writer.take_if(|_| outcome == Some(WriteOutcome::End));
                ended.into_iter().for_each(|ended| ended.abandon());
            }
            Self::Adopt { limits, guest, file } => {
                guest.measure();
                let adopted = writer.insert(Box::new(LogWriter::adopt(guest, path, limits, *file)));
                outcome = Some(adopted.write_turn(workspace, false, true, true));
            }
            Self::FlushForHandover => {
                writer.iter_mut().for_each(|writer| writer.flush_for_handover(workspace));
            }
            Self::Stop { goes_on } => {
                writer.take().into_iter().for_each(|writer| stop(writer, goes_on, workspace));
            }
            Self::Open { client, truncate, limits, guest, guest_end } => {
                let file = ToOpen { path, truncate, limits };
                answer =
                    Some((client, calls::open(&file, &mut writer, guest, guest_end, workspace)));
            }
            Self::Position { client } => {
                answer = Some((client, calls::position(path, writer.as_deref())));
            }
            Self::Read { client, inode, offset, len_max, limits } => {
                let from = Position { inode, offset };
                let log = writer.as_deref();
                answer = Some((client, calls::read(path, log, limits, from, len_max)));
            }
            Self::Append { client, message, limits } => {
                let result = failure.map_or(Ok(()), Err);
                let appended = result.and_then(|()| {
                    let (log, tally) = (writer.as_deref_mut(), &mut workspace.tally);
                    calls::append(path, log, &message, limits, tally)
                });
                answer = Some((client, calls::to_reply(appended, |()| protocol::appended())));
            }
        }
        let outcome = outcome.or_else(|| writer.as_ref().and_then(|writer| writer.next_outcome()));
        TaskResult { writer, answer, outcome, unfinished: None }
    }
}

/// Ends a log, because the daemon is about to exit.
fn stop(mut writer: Box<LogWriter>, goes_on: bool, workspace: &mut Workspace) {
    store_all(&mut writer, workspace);
    let guest = Arc::clone(writer.guest());
    if !goes_on {
        writer.abandon();
    }
    // Also of one that is not in the fd store for certain: it may go on all the same.
    guest.pipe().lose_unstored();
}

/// Stores what waits until there is nothing more. A guest that writes on without end is cut off
/// after several times what its pipe can hold.
fn store_all(writer: &mut LogWriter, workspace: &mut Workspace) {
    const DRAINS_MAX: usize = 16;
    for _ in 0..DRAINS_MAX {
        if writer.drain(workspace).is_err() || !writer.has_more() {
            return;
        }
    }
}
