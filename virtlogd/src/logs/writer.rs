//! A guest's log: the end of its pipe, its file, and how the one gets into the other.
//!
//! A pump knows nothing of the loop: it is moved into a job and back. What the loop has to reach
//! meanwhile is in the [guest's intake](Guest).

use std::os::fd::BorrowedFd;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use common::handover::document::LogDirectory;
use common::handover::marks::Target;
use common::rpc::error::errno_text;
use nix::libc;

use crate::guest::access::Guest;
use crate::guest::backlog::{Arrears, Debt};
use crate::guest::loss;
use crate::guest::pipe::State;
use crate::guest::rate::{self, Pace};
use crate::guest::staging::{Scratch, Workspace};
use crate::logs::budget::Budget;
use crate::logs::restored_file::RestoredFile;
use crate::logs::source::GuestBytes;
use crate::rotating_file::{self, Bytes, Error, FileId, Limits, RotatingFile};

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

/// Bytes that a turn has written.
#[derive(Debug, Clone, Copy)]
struct Written {
    /// Of those in the guest's pipe.
    of_pipe: u64,
    /// With those that were kept.
    total: u64,
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
        let pump = Self { guest, file, trouble: None };
        pump.note_directory();
        pump
    }

    /// Goes on with a log of the process before this one, in its file if that was handed over.
    /// Otherwise the first turn opens it, also if nothing waits. A file that cannot be opened is
    /// tried again as one that cannot be written.
    pub(crate) fn adopt(
        guest: Arc<Guest>,
        path: &Arc<Path>,
        limits: Limits,
        restored: RestoredFile,
    ) -> Self {
        let RestoredFile { file, directory, rotation_steps_left, after_crash } = restored;
        let left = match after_crash {
            true => rotating_file::steps_left(path, directory, limits),
            false => rotation_steps_left,
        };
        let resumed = file.map(|file| RotatingFile::resume(Arc::clone(path), limits, file, left));
        let file = resumed.and_then(Result::ok);
        let file = file.unwrap_or_else(|| RotatingFile::unopened(Arc::clone(path), limits, left));
        Self::new(guest, file.known_at(directory))
    }

    /// The open file, and the steps left of a rotation that failed half-way.
    pub(crate) fn file(&self) -> (Option<BorrowedFd<'_>>, Option<u64>) {
        self.file.state()
    }

    /// Where the log was opened, if that has been seen.
    pub(crate) fn directory(&self) -> Option<LogDirectory> {
        self.file.known()
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
        self.note_directory();
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
        let budget = Budget::turn(is_short);
        let (turn, moved) = match self.write(workspace, budget, flush) {
            Ok((turn, written)) => (turn, written.of_pipe),
            // From now on others touch the guest's pipe.
            Err(error) if error.is_left_behind() => return Turn::Again,
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

    /// Stores a part of what waits now, or what is `left` of that, partial lines too. Gives how much is
    /// left for the next part; `None` when everything is in the file that the guest has written up to
    /// the first one.
    pub(crate) fn drain_part(
        &mut self,
        workspace: &mut Workspace,
        left: Option<u64>,
    ) -> Result<Option<u64>, Error> {
        let outstanding = match left {
            Some(left) => left,
            None => self.file.of_source(self.guest.outstanding())?,
        };
        if outstanding == 0 && self.trouble.is_none() && !self.guest.intake().owes() {
            return Ok(None);
        }
        let (turn, written) = self.write(workspace, Budget::part(outstanding), true)?;
        let is_cut_off = matches!(turn, Turn::Again | Turn::Racing) && written.total > 0;
        Ok(outstanding.checked_sub(written.total).filter(|&left| left > 0 && is_cut_off))
    }

    /// Stores what waits now, partial lines too, so that everything the guest has written up to
    /// this call is in the file. What it writes meanwhile is left for later turns.
    pub(crate) fn drain(&mut self, workspace: &mut Workspace) -> Result<(), Error> {
        let outstanding = self.file.of_source(self.guest.outstanding())?;
        if outstanding == 0 && self.trouble.is_none() && !self.guest.intake().owes() {
            return Ok(());
        }
        self.write(workspace, Budget::all(outstanding), true).map(drop)
    }

    /// Whether the guest has written something that is not stored.
    pub(crate) fn has_more(&self) -> bool {
        matches!(self.guest.state(), Ok(State::Owing | State::Waiting))
    }

    /// What a turn would have to say after something else was done to the log, if anything. What the
    /// guest has written since is reported by its pipe.
    pub(crate) fn next_turn(&self) -> Option<Turn> {
        match self.trouble {
            Some(_) => Some(Turn::Trouble),
            None => self.guest.intake().owes().then_some(Turn::Again),
        }
    }

    /// Adds a message behind everything that was stored.
    pub(crate) fn append(&mut self, message: &[u8]) -> Result<(), Error> {
        self.file.refresh()?;
        self.file.append(&mut Bytes(message), true)?;
        Ok(())
    }

    /// Whether nobody can write into the log any more.
    pub(crate) fn guest_has_gone(&self) -> bool {
        self.guest.has_gone()
    }

    /// Ends the log, whose guest has gone, and gives what could not be stored yet, for the next guest's
    /// log at the same path.
    pub(crate) fn end(self) -> Option<Box<Arrears>> {
        let trouble = self.trouble?;
        self.guest.take_last_words(&trouble.reason, self.file.path())
    }

    /// Ends the log although something of it could not be stored; the daemon's log is told.
    pub(crate) fn give_up(self) {
        let report = self.guest.intake().report.take();
        let untold = report.and_then(|mut report| report.end(Instant::now()));
        if let Some(bytes) = untold {
            tracing::info!(
                target: "logging.log_handler",
                "{bytes} bytes more of the log of {} were lost: {}",
                self.guest.domain, self.file.path().display()
            );
        }
        let Some(trouble) = self.trouble else { return };
        let unwritten_bytes = self.guest.unwritten_bytes();
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
            Pace::Resize(bytes) => {
                drop(intake);
                self.guest.resize(bytes);
                intake = self.guest.intake();
            }
            Pace::Watch | Pace::Rest(_) => {}
        }
        if intake.pipe.watch().is_err() {
            return Turn::Rest(rate::REST);
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
    ) -> Result<(Turn, Written), Error> {
        self.guest.intake().in_hand = Some(workspace.staging.clone());
        let written = self.store(workspace, budget, flush);
        match &written {
            Ok(_) => self.leave_trouble(),
            Err(error) if error.is_left_behind() => {
                self.guest.intake().keep_staged(&mut workspace.staging);
            }
            Err(error) => self.note_trouble(error, workspace),
        }
        self.guest.intake().in_hand = None;
        self.note_directory();
        written
    }

    fn store(
        &mut self,
        workspace: &mut Workspace,
        budget: Budget,
        flush: bool,
    ) -> Result<(Turn, Written), Error> {
        let Self { guest, file, .. } = self;
        let Workspace { staging, scratch } = workspace;
        let (mut left, mut of_pipe) = (budget, 0);
        let mut state = file.of_source(guest.state())?;
        match state {
            State::Owing | State::Waiting => file.refresh()?,
            State::Empty if !file.is_in_place() => file.refresh()?,
            // It is made if that is possible; nothing will be written to it.
            State::AtEnd if !file.is_in_place() => drop(file.refresh()),
            State::Empty | State::AtEnd => {}
        }
        guest.progress.note();
        let turn = loop {
            match state {
                State::Empty if staging.held() == 0 => break Turn::Quiet,
                State::AtEnd if staging.held() == 0 => break Turn::End,
                State::Waiting if left.is_in_pieces() && staging.held() == 0 => break Turn::Racing,
                _ if left.is_over() && staging.held() == 0 => break Turn::Again,
                State::Owing if staging.held() == 0 => settle(guest, file, scratch, &mut left)?,
                // Of what had to be taken to be looked at, too.
                _ => {
                    // What a short write left staged must not stay there: the pipe is not ours alone.
                    let flush = flush || staging.held() > 0;
                    let mut source = GuestBytes::new(guest, staging, scratch, left);
                    let stored = file.append(&mut source, flush)?;
                    if stored == 0 && flush {
                        source.check_stored(file)?;
                    }
                    (left, of_pipe) = (source.budget, of_pipe + source.taken);
                    let is_held = stored == 0 && staging.held() == 0;
                    if is_held && state == State::Waiting && !left.is_over() {
                        break Turn::Held;
                    }
                }
            }
            state = file.of_source(guest.state())?;
        };
        GuestBytes::new(guest, staging, scratch, left).check_stored(file)?;
        Ok((turn, Written { of_pipe, total: left.spent(&budget) }))
    }

    /// What the journal and a successor are to know.
    fn note_directory(&self) {
        self.guest.intake().directory = self.file.known();
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
            self.guest.intake().pool().free_descriptors();
        }
        self.guest.intake().keep(&reason, &mut workspace.staging);
        let is_about_opening =
            matches!(error, Error::Open { .. } | Error::Inspect { .. } | Error::Refused { .. });
        let trouble = self.trouble.get_or_insert_default();
        (trouble.reason, trouble.is_about_opening) = (reason, is_about_opening);
    }

    fn leave_trouble(&mut self) {
        let was_failing = self.trouble.take().is_some();
        let mut intake = self.guest.intake();
        let lost_bytes = intake.forget_settled().unwrap_or(0);
        if !was_failing && lost_bytes == 0 {
            return;
        }
        let report = intake.report.get_or_insert_default();
        let told = report.settle(lost_bytes, was_failing, Instant::now());
        drop(intake);
        if let Some(bytes) = told {
            tracing::info!(
                target: "logging.log_handler",
                "The log of {} can be written again, {bytes} bytes were lost: {}",
                self.guest.domain, self.file.path().display()
            );
        }
    }

    /// Keeps the guest from waiting while its log cannot be written. The log ends when the guest
    /// has gone and its last words were kept for long enough.
    fn wait_out(&mut self) -> Turn {
        let Some(trouble) = &mut self.trouble else { return Turn::Quiet };
        let gone = self.guest.has_gone();
        self.guest.relieve(&trouble.reason, self.file.path());
        let since = trouble.guest_gone_since;
        trouble.guest_gone_since = gone.then(|| since.unwrap_or_else(Instant::now));
        match trouble.guest_gone_since {
            Some(since) if since.elapsed() >= LAST_WORDS => Turn::End,
            _ => Turn::Trouble,
        }
    }
}

/// Writes what the log is owed, as far as the budget goes.
fn settle(
    guest: &Guest,
    file: &mut RotatingFile,
    scratch: &mut Scratch,
    budget: &mut Budget,
) -> Result<(), Error> {
    let (inode, size_bytes) = file.position();
    guest.intake().see_written(inode, size_bytes);
    let doubtful = guest.intake().doubtful_line();
    if let Some((line, Target { inode, size_bytes })) = doubtful {
        let written = file.written_of(&line, inode, size_bytes);
        guest.intake().line_is_written(line.get(written..).unwrap_or_default());
    }
    // A value of its own: the lock is not held while anything is written.
    let next = || guest.intake().next_debt();
    while !budget.is_over()
        && let Some(debt) = next()
    {
        match debt {
            Debt::Line(line) => {
                guest.intake().note_line(target_of(file));
                write_line(guest, file, &line, budget)?;
            }
            Debt::Kept(staging) => {
                let mut kept = GuestBytes::kept(guest, &staging, scratch, *budget);
                let written = file.append(&mut kept, true).and_then(|_| kept.check_stored(file));
                *budget = kept.budget;
                guest.intake().first_is_back();
                written?;
            }
            Debt::Loss => {
                let at_line_start = file.is_at_line_start();
                let begun = guest.intake().begin_line(at_line_start, target_of(file));
                let Some((loss, line)) = begun else { continue };
                if let Err(error) = write_line(guest, file, &line, budget) {
                    guest.intake().line_has_failed(loss, &line);
                    return Err(error);
                }
            }
        }
    }
    Ok(())
}

fn target_of(file: &RotatingFile) -> Target {
    let (inode, size_bytes) = file.position();
    Target { inode, size_bytes }
}

fn write_line(
    guest: &Guest,
    file: &mut RotatingFile,
    line: &[u8],
    budget: &mut Budget,
) -> Result<(), Error> {
    budget.begin();
    let mut rest = Bytes(line);
    let result = file.append(&mut rest, true);
    guest.intake().line_is_written(rest.0);
    // Its bytes are the daemon's, not the guest's.
    budget.spend(0);
    guest.progress.note();
    result.map(drop)
}
