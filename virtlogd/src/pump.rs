//! A guest's log: the end of its pipe, its file, and how the one gets into the other.
//!
//! A pump knows nothing of the loop: it is moved into a job and back. What the loop has to reach
//! meanwhile is in the [guest's intake](Guest).

use std::fs::File;
use std::os::fd::BorrowedFd;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use common::rpc::error::errno_text;
use nix::libc;

use crate::flow::{self, Pace};
use crate::intake::{Arrears, Debt, Guest, State};
use crate::keeping;
use crate::loss;
use crate::rotating_file::{Bytes, Error, FileId, Limits, RotatingFile};
use crate::staging::{Budget, GuestBytes, Scratch, Workspace};

/// Bytes that one log may move before others are looked at.
const TURN_BYTES_MAX: u64 = 262_144;

/// The same when others are known to wait.
const SHORT_TURN_BYTES_MAX: u64 = 65_536;

/// Pieces in which one log may move them: a guest that writes byte by byte while we read costs as
/// much per byte as others per page.
const TURN_MOVES_MAX: u32 = 32;

/// How long the last words of a guest that has gone are kept while they cannot be written.
const LAST_WORDS: Duration = Duration::from_secs(60);

/// One guest's log.
#[derive(Debug)]
pub(crate) struct Pump {
    guest: Arc<Guest>,
    file: RotatingFile,
    trouble: Option<Box<Trouble>>,
}

/// A log that cannot be written at present.
#[derive(Debug, Default)]
struct Trouble {
    reason: String,
    /// The file cannot even be opened.
    is_about_opening: bool,
    guest_gone_since: Option<Instant>,
}

/// Where a turn left a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Turn {
    /// Everything is stored.
    Quiet,
    /// Everything is stored, and the pipe is left alone for so long.
    Rest(Duration),
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
    /// Joins a guest and a file.
    pub(crate) fn new(guest: Arc<Guest>, file: RotatingFile) -> Self {
        Self { guest, file, trouble: None }
    }

    /// Goes on with a log that an earlier image of this process had, in this file if that was handed
    /// over. One that cannot be opened is tried again as one that cannot be written.
    pub(crate) fn adopt(
        guest: Arc<Guest>,
        path: &Arc<Path>,
        limits: Limits,
        file: Option<File>,
        rotation_steps_left: Option<u64>,
    ) -> Self {
        let resumed = file
            .map(|file| RotatingFile::resume(Arc::clone(path), limits, file, rotation_steps_left));
        let file = resumed.and_then(Result::ok);
        Self::new(
            guest,
            file.unwrap_or_else(|| {
                RotatingFile::unopened(Arc::clone(path), limits, rotation_steps_left)
            }),
        )
    }

    /// The open file, and the steps left of a rotation that failed half-way.
    pub(crate) fn file(&self) -> (Option<BorrowedFd<'_>>, Option<u64>) {
        self.file.state()
    }

    /// Why its file cannot be opened, if it cannot.
    pub(crate) fn not_to_be_opened(&self) -> Option<&str> {
        let trouble = self.trouble.as_ref().filter(|trouble| trouble.is_about_opening)?;
        Some(&trouble.reason)
    }

    /// Stores what waits and looks whether the path still leads to the file.
    pub(crate) fn settle(&mut self, workspace: &mut Workspace) {
        match self.file.refresh() {
            // What fails is noted where it happens.
            Ok(()) => drop(self.drain(workspace)),
            Err(error) => self.note_trouble(&error, workspace),
        }
    }

    /// Whose log it is.
    pub(crate) fn guest(&self) -> &Arc<Guest> {
        &self.guest
    }

    /// Which file is being written.
    pub(crate) fn file_id(&self) -> FileId {
        self.file.id()
    }

    /// Inode of the file and offset of the next byte in it.
    pub(crate) fn position(&self) -> (u64, u64) {
        self.file.position()
    }

    /// Moves what waits, up to the budget of a turn. Without `flush` a partial line near the end
    /// of a file may be held back. Without `retry` a log in trouble is not written.
    pub(crate) fn turn(
        &mut self,
        workspace: &mut Workspace,
        flush: bool,
        retry: bool,
        is_short: bool,
    ) -> Turn {
        if self.trouble.is_some() && !retry {
            self.watch();
            return self.wait_out();
        }
        let bytes = if is_short { SHORT_TURN_BYTES_MAX } else { TURN_BYTES_MAX };
        let budget = Budget { bytes, moves: TURN_MOVES_MAX };
        let (turn, moved) = match self.write(workspace, budget, flush) {
            Ok(stored) => stored,
            Err(_) => (self.wait_out(), 0),
        };
        match turn {
            Turn::Quiet => self.pace(moved, Turn::Quiet),
            Turn::Racing => self.pace(moved, Turn::Again),
            other => {
                self.guest.intake().flow.note(moved, Instant::now());
                self.watch();
                other
            }
        }
    }

    /// Stores what waits now, partial lines too, so that everything the guest has written up to
    /// this call is in the file. What it writes meanwhile is left for later turns.
    pub(crate) fn drain(&mut self, workspace: &mut Workspace) -> Result<(), Error> {
        let waiting = self.file.of_source(self.guest.intake().waiting())?;
        if waiting == 0 && self.trouble.is_none() && !self.guest.intake().owes() {
            return Ok(());
        }
        let budget = Budget { bytes: waiting as u64, moves: u32::MAX };
        self.write(workspace, budget, true).map(drop)
    }

    /// Whether the guest has written something that is not stored.
    pub(crate) fn has_more(&self) -> bool {
        matches!(self.guest.intake().state(), Ok(State::Owing | State::Waiting))
    }

    /// What a turn would have to say after something else was done to the log, if anything. What the
    /// guest has written since is reported by its pipe.
    pub(crate) fn next_turn(&self) -> Option<Turn> {
        match self.trouble {
            Some(_) => Some(Turn::Trouble),
            None => self.guest.intake().owes().then_some(Turn::Again),
        }
    }

    /// Adds a message behind everything that the guest has written so far.
    pub(crate) fn append(
        &mut self,
        message: &[u8],
        workspace: &mut Workspace,
    ) -> Result<(), Error> {
        self.drain(workspace)?;
        self.file.refresh()?;
        self.file.append(&mut Bytes(message), true)?;
        Ok(())
    }

    /// Whether nobody can write into the log any more.
    pub(crate) fn guest_has_gone(&self) -> bool {
        self.guest.intake().guest_has_gone()
    }

    /// Ends the log, whose guest has gone, and gives what could not be stored yet, for the next guest's
    /// log at the same path.
    pub(crate) fn end(self) -> Option<Box<Arrears>> {
        let trouble = self.trouble?;
        self.guest.intake().take_last_words(&trouble.reason, self.file.path())
    }

    /// Ends the log although something of it could not be stored; the daemon's log is told.
    pub(crate) fn give_up(self) {
        let Some(trouble) = self.trouble else { return };
        let unwritten_bytes = self.guest.intake().unwritten_bytes();
        loss::count(unwritten_bytes);
        tracing::error!(
            target: "logging.log_handler",
            "{} bytes of {} are lost for good, its log {} could not be written: {}",
            unwritten_bytes,
            self.guest.domain,
            self.file.path().display(),
            trouble.reason
        );
    }

    /// Decides how the guest is waited for. Without a reason for anything else it is as `otherwise`
    /// says.
    fn pace(&mut self, moved: u64, otherwise: Turn) -> Turn {
        let mut intake = self.guest.intake();
        match intake.flow.pace(moved, Instant::now()) {
            Pace::Rest(time) if intake.pipe.rest().is_ok() => return Turn::Rest(time),
            Pace::Resize(bytes) => intake.resize(bytes),
            Pace::Watch | Pace::Rest(_) => {}
        }
        if intake.pipe.watch().is_err() {
            return Turn::Rest(flow::REST);
        }
        if otherwise == Turn::Quiet && intake.flow.is_large() { Turn::Large } else { otherwise }
    }

    fn watch(&mut self) {
        // Fails for want of memory alone; the next turn tries again.
        drop(self.guest.intake().pipe.watch());
    }

    /// Writes what is owed and what waits; gives how many bytes of the guest that took. From a
    /// failure on the log is in trouble, until one of these calls succeeds.
    fn write(
        &mut self,
        workspace: &mut Workspace,
        budget: Budget,
        flush: bool,
    ) -> Result<(Turn, u64), Error> {
        self.guest.intake().in_hand = Some(workspace.staging.clone());
        let written = self.store(workspace, budget, flush);
        match &written {
            Ok(_) => self.leave_trouble(),
            Err(error) => self.note_trouble(error, workspace),
        }
        self.guest.intake().in_hand = None;
        written
    }

    fn store(
        &mut self,
        workspace: &mut Workspace,
        budget: Budget,
        flush: bool,
    ) -> Result<(Turn, u64), Error> {
        let Self { guest, file, .. } = self;
        let Workspace { staging, scratch } = workspace;
        let mut left = budget;
        let mut state = file.of_source(guest.intake().state())?;
        if matches!(state, State::Owing | State::Waiting) {
            file.refresh()?;
        }
        let turn = loop {
            match state {
                State::Owing | State::Waiting => {}
                State::Empty => break Turn::Quiet,
                State::AtEnd => break Turn::End,
            }
            let mut stored = 0;
            if state == State::Owing && staging.held() == 0 {
                settle(guest, file, scratch)?;
            } else {
                // What a short write left staged must not stay there: the pipe is not ours alone.
                let flush = flush || staging.held() > 0;
                let mut source = GuestBytes::new(Some(guest), staging, scratch, left);
                stored = file.append(&mut source, flush)?;
                left = source.budget;
                if stored == 0 {
                    source.check_stored(file)?;
                }
            }
            let was_owing = state == State::Owing;
            state = file.of_source(guest.intake().state())?;
            match (state, left) {
                (State::Waiting, Budget { bytes: 0, .. }) => break Turn::Again,
                (State::Waiting, Budget { moves: 0, .. }) => break Turn::Racing,
                (State::Waiting, _) if stored == 0 && !was_owing => break Turn::Held,
                _ => {}
            }
        };
        GuestBytes::new(None, staging, scratch, left).check_stored(file)?;
        Ok((turn, budget.bytes - left.bytes))
    }

    fn note_trouble(&mut self, error: &Error, workspace: &mut Workspace) {
        let reason = match error.errno() {
            Some(errno) => format!("{error}: {}", errno_text(errno)),
            None => error.to_string(),
        };
        if self.trouble.as_ref().is_none_or(|trouble| trouble.reason != reason) {
            tracing::error!(
                target: "logging.log_handler",
                "The log of {} cannot be written, output is kept as long as there is room: {reason}",
                self.guest.domain
            );
        }
        if matches!(error.errno(), Some(libc::EMFILE | libc::ENFILE)) {
            keeping::free_descriptors();
        }
        self.guest.intake().keep(&reason, &mut workspace.staging);
        let is_about_opening = matches!(error, Error::Open { .. } | Error::Inspect { .. });
        let trouble = self.trouble.get_or_insert_default();
        (trouble.reason, trouble.is_about_opening) = (reason, is_about_opening);
    }

    fn leave_trouble(&mut self) {
        let lost_bytes = self.guest.intake().forget_settled();
        if self.trouble.take().is_some() || lost_bytes.is_some_and(|bytes| bytes > 0) {
            tracing::info!(
                target: "logging.log_handler",
                "The log of {} can be written again, {} bytes were lost: {}",
                self.guest.domain, lost_bytes.unwrap_or(0), self.file.path().display()
            );
        }
    }

    /// Keeps the guest from waiting while its log cannot be written. The log ends when the guest
    /// has gone and its last words were kept for long enough.
    fn wait_out(&mut self) -> Turn {
        let Some(trouble) = &mut self.trouble else { return Turn::Quiet };
        let mut intake = self.guest.intake();
        let gone = intake.guest_has_gone();
        intake.relieve(&trouble.reason, self.file.path());
        let since = trouble.guest_gone_since;
        trouble.guest_gone_since = gone.then(|| since.unwrap_or_else(Instant::now));
        match trouble.guest_gone_since {
            Some(since) if since.elapsed() >= LAST_WORDS => Turn::End,
            _ => Turn::Trouble,
        }
    }
}

/// Writes all that the log is owed.
fn settle(guest: &Guest, file: &mut RotatingFile, scratch: &mut Scratch) -> Result<(), Error> {
    let (inode, size_bytes) = file.position();
    guest.intake().see_written(inode, size_bytes);
    // A value of its own: the lock is not held while anything is written.
    let next = || guest.intake().next_debt();
    while let Some(debt) = next() {
        match debt {
            Debt::Line(line) => write_line(guest, file, &line)?,
            Debt::Kept(staging) => {
                let mut kept = GuestBytes::new(None, &staging, scratch, Budget::default());
                let written = file.append(&mut kept, true).and_then(|_| kept.check_stored(file));
                guest.intake().first_is_back();
                written?;
            }
            Debt::Loss => {
                let at_line_start = file.is_at_line_start();
                let Some((loss, line)) = guest.intake().begin_line(at_line_start) else { continue };
                if let Err(error) = write_line(guest, file, &line) {
                    guest.intake().line_has_failed(loss, &line);
                    return Err(error);
                }
            }
        }
    }
    Ok(())
}

fn write_line(guest: &Guest, file: &mut RotatingFile, line: &[u8]) -> Result<(), Error> {
    let mut rest = Bytes(line);
    let result = file.append(&mut rest, true);
    guest.intake().line_is_written(rest.0);
    result.map(drop)
}
