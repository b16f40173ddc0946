//! Writer of a guest's log: the guest, the file, and the failure of writing.
//!
//! A writer knows nothing of the loop: it is moved into a job and back. The state that the loop has
//! to reach meanwhile is in the [guest's pipe](Guest).

// The models include this file by its path, and with it what is below.
#[path = "writer/messages.rs"]
mod messages;

use std::os::fd::BorrowedFd;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use common::handover::document::LogDirectory;
use common::sys::errno::errno_text;
use common::sys::file_id::FileId;
use common::sys::process;
use nix::libc;

use crate::guest::access::Guest;
use crate::guest::backlog::Backlog;
use crate::guest::loss;
use crate::guest::pipe::InputState;
use crate::guest::rate::{self, ReadPolicy};
use crate::guest::rate_cap::RateCap;
use crate::guest::reason::{Cause, Reason};
use crate::guest::staging::Workspace;
use crate::guest::tally::Tally;
use crate::logs::restored_file::RestoredFile;
use crate::logs::transfer::{Written, transfer};
use crate::logs::turn_budget::TurnBudget;
use crate::logs::write_outcome::WriteOutcome;
use crate::message::{log_about, reason_at};
use crate::rotating_file::{self, Bytes, Error, Limits, RotatingFile, SharedDirectory};

/// Time for which the backlog of a guest that has gone is tried to be written.
const FINAL_BACKLOG_PERIOD: Duration = Duration::from_secs(60);

/// Reasons why libvirt's daemon could not open a log that can be written.
const DETACHED: &str = "its directory is out of reach";
const NO_TEXT: &str = "its path is not UTF-8";

/// Writer of one guest's log.
#[derive(Debug)]
pub(crate) struct LogWriter {
    guest: Arc<Guest>,
    file: RotatingFile,
    failure: Option<Box<WriteFailure>>,
}

/// Failure to write a log, as long as it lasts.
#[derive(Debug, Default)]
struct WriteFailure {
    reason: Reason,
    /// The file cannot be opened.
    is_about_opening: bool,
    guest_gone_since: Option<Instant>,
}

impl LogWriter {
    /// Makes the writer of a guest's output into a file.
    pub(crate) fn new(guest: Arc<Guest>, file: RotatingFile) -> Self {
        let mut writer = Self { guest, file, failure: None };
        writer.note_file(&mut Tally::default());
        writer
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
        Self::new(guest, file.opened_in(directory))
    }

    /// Returns the open file, and the steps left of a rotation that has failed half-way.
    pub(crate) fn file(&self) -> (Option<BorrowedFd<'_>>, Option<u64>) {
        self.file.state()
    }

    /// Returns the directory in which the log was opened, once that is known.
    pub(crate) fn directory(&self) -> Option<LogDirectory> {
        self.file.directory().map(SharedDirectory::get)
    }

    /// Returns the reason if libvirt's daemon could not open the file by its path.
    pub(crate) fn not_to_be_opened(&self) -> Option<&str> {
        let failure = self.failure.as_ref().filter(|failure| failure.is_about_opening);
        match failure {
            _ if self.file.path().to_str().is_none() => Some(NO_TEXT),
            Some(failure) => Some(&failure.reason.text),
            None => self.file.is_detached().then_some(DETACHED),
        }
    }

    /// Returns the limits of the file.
    pub(crate) fn limits(&self) -> Limits {
        self.file.limits()
    }

    /// Stores what waits and looks whether the path still leads to the file, for libvirt's daemon. Logs
    /// what that will not go on with: nothing can be logged any more when the state is saved.
    pub(crate) fn flush_for_handover(&mut self, workspace: &mut Workspace) {
        match self.file.refresh() {
            Ok(()) => {
                // A failure is noted where it happens.
                self.drain(workspace).ok();
            }
            Err(error) => self.note_failure(&error, workspace),
        }
        self.note_file(&mut workspace.tally);
        self.log_what_ends();
    }

    /// Returns the guest.
    pub(crate) fn guest(&self) -> &Arc<Guest> {
        &self.guest
    }

    /// Returns the identity of the file.
    pub(crate) fn file_id(&self) -> FileId {
        self.file.id()
    }

    /// Returns the inode of the file, and the offset of the next byte in it.
    pub(crate) fn position(&self) -> (u64, u64) {
        self.file.position()
    }

    /// Writes what waits, up to the budget of a turn. Without `flush` a partial line near the end
    /// of a file may be held back. Without `retry` a failing log is not written.
    pub(crate) fn write_turn(
        &mut self,
        workspace: &mut Workspace,
        flush: bool,
        retry: bool,
        is_short: bool,
    ) -> WriteOutcome {
        if self.failure.is_some() && !retry {
            self.watch();
            return self.buffer_output();
        }
        let budget = TurnBudget::turn(is_short);
        let (outcome, moved) = match self.write(workspace, budget, flush) {
            Ok((outcome, written)) => (outcome, written.of_pipe),
            // From now on others touch the guest's pipe.
            Err(error) if error.is_left_behind() => return WriteOutcome::Again,
            Err(_) => (self.buffer_output(), 0),
        };
        match outcome {
            WriteOutcome::Quiet => self.apply_read_policy(moved, WriteOutcome::Quiet),
            WriteOutcome::Racing => self.apply_read_policy(moved, WriteOutcome::Again),
            other => {
                self.guest.pipe().rate.note(moved, Instant::now());
                self.watch();
                other
            }
        }
    }

    /// Stores a part of what waits now, or of the bytes `left` of that, partial lines too. Returns
    /// the number of bytes left for the next part; `None` when everything is in the file that the
    /// guest has written up to the first one.
    pub(crate) fn drain_part(
        &mut self,
        workspace: &mut Workspace,
        left: Option<u64>,
    ) -> Result<Option<u64>, Error> {
        let outstanding = match left {
            Some(left) => left,
            None => self.file.of_source(self.guest.outstanding())?,
        };
        if outstanding == 0 && self.failure.is_none() && !self.guest.pipe().has_backlog() {
            return Ok(None);
        }
        let (outcome, written) = self.write(workspace, TurnBudget::part(outstanding), true)?;
        let is_cut_off =
            matches!(outcome, WriteOutcome::Again | WriteOutcome::Racing) && written.total > 0;
        Ok(outstanding.checked_sub(written.total).filter(|&left| left > 0 && is_cut_off))
    }

    /// Stores what waits now, partial lines too, so that everything the guest has written up to
    /// this call is in the file. What it writes meanwhile is left for later turns.
    pub(crate) fn drain(&mut self, workspace: &mut Workspace) -> Result<(), Error> {
        let outstanding = self.file.of_source(self.guest.outstanding())?;
        if outstanding == 0 && self.failure.is_none() && !self.guest.pipe().has_backlog() {
            return Ok(());
        }
        self.write(workspace, TurnBudget::all(outstanding), true)?;
        self.tell_of_excess(workspace)
    }

    /// Returns whether the guest has written something that is not stored.
    pub(crate) fn has_more(&self) -> bool {
        matches!(self.guest.state(), Ok(InputState::Backlog | InputState::Waiting))
    }

    /// Returns the state of the log after anything but a turn, if the loop has to do something.
    /// Bytes that the guest has written since are reported by its pipe.
    pub(crate) fn next_outcome(&self) -> Option<WriteOutcome> {
        match self.failure {
            Some(_) => Some(WriteOutcome::Failed),
            None => self.guest.pipe().has_backlog().then_some(WriteOutcome::Again),
        }
    }

    /// Adds a message at the end of the log.
    pub(crate) fn append(&mut self, message: &[u8], tally: &mut Tally) -> Result<(), Error> {
        self.file.refresh()?;
        let appended = self.file.append(&mut Bytes(message), true);
        self.note_file(tally);
        appended.map(drop)
    }

    /// Returns whether the guest has gone.
    pub(crate) fn guest_has_gone(&self) -> bool {
        self.guest.has_gone()
    }

    /// Ends the log, whose guest has gone. Returns its backlog, for the next guest's log at the
    /// same path.
    pub(crate) fn end(self) -> Option<Box<Backlog>> {
        let failure = self.failure?;
        self.guest.take_final_backlog(&failure.reason, self.file.path())
    }

    /// Ends the log. Reports what of it could not be stored.
    pub(crate) fn abandon(self) {
        let mut pipe = self.guest.pipe();
        let untold = pipe.report.as_mut().and_then(|report| report.tell(Instant::now()));
        drop(pipe);
        let (guest, path) = (&self.guest.identity, self.file.path());
        if let Some(lost) = untold {
            log_about!(warn, guest, path, "Of the log {} of {guest} {lost} more", path.display());
        }
        let Some(failure) = &self.failure else { return };
        let (unwritten_bytes, reason) = (self.guest.unwritten_bytes(), &failure.reason);
        let counted_bytes = self.guest.pipe().untold_bytes();
        loss::count(Cause::Abandoned, unwritten_bytes.saturating_sub(counted_bytes));
        log_about!(
            error,
            guest,
            path,
            reason = reason,
            "{unwritten_bytes} bytes of {guest} are lost for good, its log could not be written: {}",
            reason_at(reason, path)
        );
    }

    /// Applies the policy of reading the guest's pipe. Returns `otherwise` if that has no other
    /// reason.
    fn apply_read_policy(&mut self, moved: u64, otherwise: WriteOutcome) -> WriteOutcome {
        let mut pipe = self.guest.pipe();
        match pipe.rate.policy(moved, Instant::now()) {
            ReadPolicy::Rest(time) if pipe.fd.rest().is_ok() => return WriteOutcome::Rest(time),
            ReadPolicy::Resize(bytes) => {
                drop(pipe);
                self.guest.resize(bytes);
                pipe = self.guest.pipe();
            }
            ReadPolicy::Watch | ReadPolicy::Rest(_) => {}
        }
        if pipe.fd.watch().is_err() {
            return WriteOutcome::Rest(rate::REST);
        }
        if otherwise == WriteOutcome::Quiet && pipe.rate.is_large() {
            WriteOutcome::Large
        } else {
            otherwise
        }
    }

    fn watch(&mut self) {
        // Fails for want of memory alone; the next turn tries again.
        self.guest.pipe().fd.watch().ok();
    }

    /// Writes the backlog and what waits, as far as the guest's cap allows. What is over it is dropped.
    fn write(
        &mut self,
        workspace: &mut Workspace,
        budget: TurnBudget,
        flush: bool,
    ) -> Result<(WriteOutcome, Written), Error> {
        let capped = self.guest.cap.is_some().then(|| Arc::clone(&self.guest));
        let Some((guest, cap)) = capped.as_ref().and_then(|it| Some((it, it.cap.as_ref()?))) else {
            return self.write_all(workspace, budget, flush);
        };
        match cap.available_bytes(Instant::now()) {
            Some(bytes) => {
                let written = self.write_all(workspace, budget.at_most(bytes), flush);
                cap.spend(written.as_ref().map_or(0, |(_, written)| written.total));
                written
            }
            None if guest.pipe().has_loss_at_most() => self.drop_excess(cap, workspace),
            None => {
                let staged_bytes = guest.pipe().staged_bytes();
                self.write_all(workspace, budget.at_most(staged_bytes.max(1)), flush)
            }
        }
    }

    /// Drops what waits. The log has a line about it when output is taken again, or the guest has
    /// gone.
    fn drop_excess(
        &mut self,
        cap: &RateCap,
        workspace: &mut Workspace,
    ) -> Result<(WriteOutcome, Written), Error> {
        let dropped = self.file.of_source(self.guest.drop_excess(cap, self.file.path()))?;
        if self.guest.has_gone() {
            return self.write_all(workspace, TurnBudget::part(0), true);
        }
        Ok((WriteOutcome::Quiet, Written { of_pipe: dropped, total: 0 }))
    }

    /// Drops what waits over the guest's cap, and tells of it in the log.
    fn tell_of_excess(&mut self, workspace: &mut Workspace) -> Result<(), Error> {
        let guest = Arc::clone(&self.guest);
        match &guest.cap {
            Some(cap) if cap.available_bytes(Instant::now()).is_none() => {
                self.drop_excess(cap, workspace)?;
                self.write_all(workspace, TurnBudget::part(0), true).map(drop)
            }
            _ => Ok(()),
        }
    }

    /// Writes the backlog and what waits. After a failure the log counts as failing, until one of
    /// these calls succeeds.
    fn write_all(
        &mut self,
        workspace: &mut Workspace,
        budget: TurnBudget,
        flush: bool,
    ) -> Result<(WriteOutcome, Written), Error> {
        self.guest.pipe().in_hand = Some(workspace.staging.clone());
        let written = transfer(&self.guest, &mut self.file, workspace, budget, flush);
        match &written {
            Ok(_) => self.note_success(),
            Err(error) if error.is_left_behind() => {
                self.guest.pipe().take_staged(&mut workspace.staging);
            }
            Err(error) => self.note_failure(error, workspace),
        }
        self.note_file(&mut workspace.tally);
        written
    }

    /// Notes that no bytes are in hand, the file's directory for the journal and the process after this
    /// one, and what has become of the file for who looks into the daemon.
    fn note_file(&mut self, tally: &mut Tally) {
        self.log_place();
        let growth = self.file.take_growth();
        tally.grown(growth);
        let mut pipe = self.guest.pipe();
        pipe.in_hand = None;
        pipe.note_directory(self.file.directory());
        pipe.activity.note(self.file.position().1, growth, process::boot_time_ms());
    }

    fn note_failure(&mut self, error: &Error, workspace: &mut Workspace) {
        workspace.tally.write_errors += 1;
        let reason = reason_of(error);
        if self.failure.as_ref().is_none_or(|failure| failure.reason != reason) {
            let (guest, path) = (&self.guest.identity, self.file.path());
            log_about!(
                error,
                guest,
                path,
                reason = reason,
                "The log of {guest} cannot be written, output is buffered as long as there is room: {reason}"
            );
        }
        if matches!(error.errno(), Some(libc::EMFILE | libc::ENFILE)) {
            let pool = self.guest.pipe().pool();
            pool.free_descriptors();
        }
        self.guest.pipe().note_failure(&reason, &mut workspace.staging);
        let is_about_opening =
            matches!(error, Error::Open { .. } | Error::Inspect { .. } | Error::Refused { .. });
        let failure = self.failure.get_or_insert_default();
        (failure.reason, failure.is_about_opening) = (reason, is_about_opening);
    }

    fn note_success(&mut self) {
        let was_failing = self.failure.take().is_some();
        let mut pipe = self.guest.pipe();
        let (lost, now) = (pipe.finish_backlog(), Instant::now());
        let is_left = pipe.backlog().is_some();
        let was_failing =
            was_failing || pipe.report.as_ref().is_some_and(|report| report.is_failure_over);
        if !was_failing && lost.is_none() {
            return;
        }
        let report = pipe.report.get_or_insert_default();
        // What is left of a backlog may have a loss in it.
        report.is_failure_over = is_left;
        if is_left {
            return;
        }
        if report.note_written(lost, was_failing, now) {
            let lost = report.tell(now);
            drop(pipe);
            self.log_end_of_loss(lost, was_failing);
        }
    }

    /// Buffers the guest's output while its log cannot be written. The log ends when the guest has
    /// gone and its backlog was tried for long enough.
    fn buffer_output(&mut self) -> WriteOutcome {
        let Some(failure) = &mut self.failure else { return WriteOutcome::Quiet };
        let gone = self.guest.has_gone();
        self.guest.drain_to_backlog(&failure.reason, self.file.path());
        let since = failure.guest_gone_since;
        failure.guest_gone_since = gone.then(|| since.unwrap_or_else(Instant::now));
        match failure.guest_gone_since {
            Some(since) if since.elapsed() >= FINAL_BACKLOG_PERIOD => WriteOutcome::End,
            _ => WriteOutcome::Failed,
        }
    }
}

fn reason_of(error: &Error) -> Reason {
    let cause = match error.errno() {
        Some(libc::ENOSPC | libc::EDQUOT) => Cause::Full,
        _ => Cause::Failing,
    };
    match error.errno() {
        Some(errno) => Reason::new(cause, format!("{error}: {}", errno_text(errno))),
        None => Reason::new(cause, error.to_string()),
    }
}
