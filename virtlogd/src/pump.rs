//! A guest's log: the end of its pipe, its file, and how the one gets into the other.
//!
//! A pump knows nothing of the loop: it is moved into a job and back.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant};

use common::event::Registered;
use common::handover::Passing;
use common::handover::document::PrivateLog;
use common::rpc::error::errno_text;
use common::sys::pipe::{self, State};

use crate::flow::{Flow, Pace};
use crate::legacy::Legacy;
use crate::loss;
use crate::protocol::Domain;
use crate::rotating_file::{Bytes, Error, Limits, RotatingFile};
use crate::staging::{Budget, GuestBytes, Workspace};
use crate::trouble::Trouble;

/// Bytes that one log may move before others are looked at.
const TURN_BYTES_MAX: u64 = 262_144;

/// Pieces in which one log may move them: a guest that writes byte by byte while we read costs as
/// much per byte as others per page.
const TURN_MOVES_MAX: u32 = 32;

/// How long the last words of a guest that has gone are kept while they cannot be written.
const LAST_WORDS: Duration = Duration::from_secs(60);

/// One guest's log.
#[derive(Debug)]
pub(crate) struct Pump {
    domain: Domain,
    guest: Registered<OwnedFd>,
    file: RotatingFile,
    flow: Flow,
    trouble: Option<Box<Trouble>>,
}

/// Where a turn left a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Turn {
    /// Everything is stored.
    Quiet,
    /// Everything is stored, and the pipe is left alone for [`crate::flow::REST`].
    Rest,
    /// Everything is stored, and the pipe is larger than it will have to be.
    Large,
    /// It was long enough; there is more.
    Again,
    /// The guest writes small pieces as fast as they are taken.
    Racing,
    /// A partial line waits for its end, or for a flush.
    Held,
    /// Writing fails; to be retried.
    Trouble,
    /// The guest has gone and everything is stored.
    End,
}

impl Pump {
    /// Joins a pipe and a file.
    pub(crate) fn new(domain: Domain, guest: Registered<OwnedFd>, file: RotatingFile) -> Self {
        let flow = Flow::new(pipe::capacity_bytes(&guest).unwrap_or(0));
        Self { domain, guest, file, flow, trouble: None }
    }

    /// Goes on with what an earlier image of this process had. A file that cannot be opened is
    /// tried again as one that cannot be written.
    pub(crate) fn adopt(
        domain: Domain,
        guest: Registered<OwnedFd>,
        path: &Path,
        limits: Limits,
        legacy: Legacy,
    ) -> Self {
        let Legacy { file, rotation_steps_left, .. } = legacy;
        let resumed =
            file.map(|file| RotatingFile::resume(path, limits, file, rotation_steps_left));
        let file = resumed.and_then(Result::ok);
        Self::new(domain, guest, file.unwrap_or_else(|| RotatingFile::unopened(path, limits)))
    }

    /// What a successor needs to know beside the pipe.
    pub(crate) fn save<'a>(&'a self, passing: &mut Passing<'a>) -> PrivateLog {
        let (file, rotation_steps_left) = self.file.state();
        PrivateLog {
            file: file.map(|file| passing.fd(file)),
            rotation_steps_left,
            ..PrivateLog::default()
        }
    }

    /// The end of the guest's pipe.
    pub(crate) fn guest(&self) -> BorrowedFd<'_> {
        self.guest.as_fd()
    }

    /// Why it cannot be written, if it cannot.
    pub(crate) fn trouble(&self) -> Option<&str> {
        self.trouble.as_ref().map(|trouble| trouble.reason())
    }

    /// Stores what waits and looks whether the path still leads to the file.
    pub(crate) fn settle(&mut self, workspace: &mut Workspace) {
        let seen = self.file.refresh().inspect_err(|error| self.note_trouble(error, workspace));
        if seen.is_ok() {
            // What fails is noted where it happens.
            drop(self.drain(workspace));
        }
    }

    /// Whose log it is.
    pub(crate) fn domain(&self) -> &Domain {
        &self.domain
    }

    /// Inode of the file and offset of the next byte in it.
    pub(crate) fn position(&self) -> (u64, u64) {
        self.file.position()
    }

    /// Moves what waits, up to the budget of a turn. Without `flush` a partial line near the end
    /// of a file may be held back. Without `retry` a log in trouble is not written.
    pub(crate) fn turn(&mut self, workspace: &mut Workspace, flush: bool, retry: bool) -> Turn {
        if self.trouble.is_some() && !retry {
            self.watch();
            return self.wait_out();
        }
        let budget = Budget { bytes: TURN_BYTES_MAX, moves: TURN_MOVES_MAX };
        let (turn, moved) = match self.write(workspace, budget, flush) {
            Ok(stored) => stored,
            Err(_) => (self.wait_out(), 0),
        };
        match turn {
            Turn::Quiet => self.pace(moved, Turn::Quiet),
            Turn::Racing => self.pace(moved, Turn::Again),
            other => {
                self.watch();
                other
            }
        }
    }

    /// Stores what waits now, partial lines too, so that everything the guest has written up to
    /// this call is in the file. What it writes meanwhile is left for later turns.
    pub(crate) fn drain(&mut self, workspace: &mut Workspace) -> Result<(), Error> {
        let waiting = self.file.of_source(pipe::readable_bytes(&self.guest))?;
        let budget = Budget { bytes: waiting as u64, moves: u32::MAX };
        self.write(workspace, budget, true).map(drop)
    }

    /// Whether the guest has written something that is not stored.
    pub(crate) fn has_more(&self) -> bool {
        pipe::readable_bytes(&self.guest).is_ok_and(|waiting| waiting > 0)
    }

    /// What a turn would have to say after something else was done to the log, if anything.
    pub(crate) fn next_turn(&self) -> Option<Turn> {
        match self.trouble {
            Some(_) => Some(Turn::Trouble),
            None => self.has_more().then_some(Turn::Again),
        }
    }

    /// Adds a message behind everything that the guest has written so far.
    pub(crate) fn append(
        &mut self,
        message: &[u8],
        workspace: &mut Workspace,
    ) -> Result<(), Error> {
        self.drain(workspace)?;
        self.file.append(&mut Bytes(message), true)?;
        Ok(())
    }

    /// Whether nobody can write into the log any more.
    pub(crate) fn guest_has_gone(&self) -> bool {
        pipe::has_no_writer(&self.guest).unwrap_or(false)
    }

    /// Ends the log although something of it could not be stored; the daemon's log is told.
    pub(crate) fn give_up(mut self) {
        let Some(trouble) = self.trouble.take() else { return };
        let waiting = pipe::readable_bytes(&self.guest).unwrap_or(0) as u64;
        loss::count(waiting + trouble.kept_bytes());
        tracing::error!(
            target: "logging.log_handler",
            "{} bytes of {} are lost for good, its log {} could not be written: {}",
            waiting + trouble.unwritten_bytes(),
            self.domain,
            self.file.path().display(),
            trouble.reason()
        );
    }

    /// Decides how the guest is waited for. Without a reason for anything else it is as `otherwise`
    /// says.
    fn pace(&mut self, moved: u64, otherwise: Turn) -> Turn {
        match self.flow.pace(moved, Instant::now()) {
            Pace::Rest if self.guest.rest().is_ok() => return Turn::Rest,
            Pace::Resize(bytes) => {
                // The kernel has the last word on the size.
                drop(pipe::set_capacity_bytes(&self.guest, bytes));
                self.flow.resized(pipe::capacity_bytes(&self.guest).unwrap_or(0));
            }
            Pace::Watch | Pace::Rest => {}
        }
        if !self.watch() {
            return Turn::Rest;
        }
        if otherwise == Turn::Quiet && self.flow.is_large() { Turn::Large } else { otherwise }
    }

    fn watch(&mut self) -> bool {
        self.guest.watch().is_ok()
    }

    /// Writes what was kept and what waits; gives how many bytes of the guest that took. From a
    /// failure on the log is in trouble, until one of these calls succeeds.
    fn write(
        &mut self,
        workspace: &mut Workspace,
        budget: Budget,
        flush: bool,
    ) -> Result<(Turn, u64), Error> {
        let written =
            self.settle_trouble(workspace).and_then(|()| self.store(workspace, budget, flush));
        match &written {
            Ok(_) => self.leave_trouble(),
            Err(error) => self.note_trouble(error, workspace),
        }
        written
    }

    /// Writes what was kept, and says what was not, if the log is in trouble.
    fn settle_trouble(&mut self, workspace: &mut Workspace) -> Result<(), Error> {
        let Self { guest, file, trouble: Some(trouble), .. } = self else { return Ok(()) };
        file.refresh()?;
        trouble.settle(file, guest.as_fd(), &mut workspace.scratch)
    }

    fn store(
        &mut self,
        workspace: &mut Workspace,
        budget: Budget,
        flush: bool,
    ) -> Result<(Turn, u64), Error> {
        let Self { guest, file, .. } = self;
        match file.of_source(pipe::state(&*guest))? {
            State::Empty => return Ok((Turn::Quiet, 0)),
            State::AtEnd => return Ok((Turn::End, 0)),
            State::Waiting => file.refresh()?,
        }
        let Workspace { staging, scratch } = workspace;
        let mut source = GuestBytes { guest: guest.as_fd(), staging, scratch, budget };
        let turn = loop {
            // What a short write left staged must not stay there: the pipe is not ours alone.
            let flush = flush || source.staging.held() > 0;
            let stored = file.append(&mut source, flush)?;
            let state = file.of_source(pipe::state(&*guest))?;
            match (state, source.budget) {
                (State::Empty, _) => break Turn::Quiet,
                (State::AtEnd, _) => break Turn::End,
                (State::Waiting, Budget { bytes: 0, .. }) => break Turn::Again,
                (State::Waiting, Budget { moves: 0, .. }) => break Turn::Racing,
                (State::Waiting, _) if stored == 0 => break Turn::Held,
                (State::Waiting, _) => {}
            }
        };
        source.check_stored(file)?;
        Ok((turn, budget.bytes - source.budget.bytes))
    }

    fn note_trouble(&mut self, error: &Error, workspace: &mut Workspace) {
        let reason = match error.errno() {
            Some(errno) => format!("{error}: {}", errno_text(errno)),
            None => error.to_string(),
        };
        if self.trouble.as_ref().is_none_or(|trouble| trouble.reason() != reason) {
            tracing::error!(
                target: "logging.log_handler",
                "The log of {} cannot be written, output is kept as long as there is room: {reason}",
                self.domain
            );
        }
        let trouble = self.trouble.get_or_insert_default();
        trouble.keep(reason, &mut workspace.staging);
    }

    fn leave_trouble(&mut self) {
        if let Some(trouble) = self.trouble.take() {
            tracing::info!(
                target: "logging.log_handler",
                "The log of {} can be written again, {} bytes were lost: {}",
                self.domain, trouble.lost_bytes(), self.file.path().display()
            );
        }
    }

    /// Keeps the guest from waiting while its log cannot be written. The log ends when the guest
    /// has gone and its last words were kept for long enough.
    fn wait_out(&mut self) -> Turn {
        let gone = self.guest_has_gone();
        let Some(trouble) = &mut self.trouble else { return Turn::Quiet };
        trouble.make_room(self.guest.as_fd(), self.file.path());
        if gone && trouble.guest_gone_for() >= LAST_WORDS { Turn::End } else { Turn::Trouble }
    }
}
