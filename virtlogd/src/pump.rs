//! A guest's log: the end of its pipe, its file, and what to do while the file cannot be written.
//!
//! A pump knows nothing of the loop: it is moved into a job and back.
//!
//! While writing fails nothing is read at first: bytes stay in the guest's pipe. Only when that
//! would fill, and the guest wait, they are moved into a staging pipe of the log's own, and when
//! that is full too they are dropped and counted. When writing works again, a line in the log says
//! how many. The guest notices nothing of all this.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant};

use common::event::Registered;
use common::rpc::error::errno_text;
use common::sys::pipe;

use crate::flow::{Flow, Pace};
use crate::loss::Loss;
use crate::protocol::Domain;
use crate::rotating_file::{Bytes, Error, RotatingFile};
use crate::staging::{GuestBytes, Staging, Workspace};

/// Bytes that one log may move before others are looked at.
const TURN_BYTES_MAX: u64 = 262_144;

/// How long the last words of a guest that has gone are kept while they cannot be written.
const LAST_WORDS: Duration = Duration::from_secs(60);

/// Bytes that are left in the pipe of a guest whose log cannot be written, a large one too: with
/// what its staging pipe holds, all that such a log costs.
const KEPT_IN_PIPE_BYTES_MAX: usize = 16_384;

/// Bytes read at a time when they can only be dropped.
const DROP_BYTES: usize = 65_536;

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
    /// It was long enough; there may be more.
    Again,
    /// A partial line waits for its end, or for a flush.
    Held,
    /// Writing fails; to be retried.
    Trouble,
    /// The guest has gone and everything is stored.
    End,
}

/// A log that cannot be written at present.
#[derive(Debug, Default)]
struct Trouble {
    reason: String,
    /// Bytes that were taken from the guest's pipe.
    staging: Option<Staging>,
    /// What the log has to be told yet.
    loss: Option<Loss>,
    /// Everything that was lost, told or not.
    lost_bytes: u64,
    /// The rest of a loss line of which a part is in the log.
    unfinished_line: Vec<u8>,
    guest_gone_since: Option<Instant>,
}

impl Pump {
    /// Joins a pipe and a file.
    pub(crate) fn new(domain: Domain, guest: Registered<OwnedFd>, file: RotatingFile) -> Self {
        let flow = Flow::new(pipe::capacity_bytes(&guest).unwrap_or(0));
        Self { domain, guest, file, flow, trouble: None }
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
        let (turn, moved) = match self.write(workspace, TURN_BYTES_MAX, flush) {
            Ok(stored) => stored,
            Err(_) => (self.wait_out(), 0),
        };
        match turn {
            Turn::Quiet => self.pace(moved),
            other => {
                self.watch();
                other
            }
        }
    }

    /// Stores what waits now, partial lines too, so that everything the guest has written up to
    /// this call is in the file. What it writes meanwhile is left for later turns.
    pub(crate) fn drain(&mut self, workspace: &mut Workspace) -> Result<(), Error> {
        let waiting = pipe::readable_bytes(&self.guest)
            .map_err(|source| Error::Source { path: self.file.path().into(), source })?;
        self.write(workspace, waiting as u64, true).map(drop)
    }

    /// Whether writing failed the last time, so that it has to be tried again later.
    pub(crate) fn is_in_trouble(&self) -> bool {
        self.trouble.is_some()
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

    /// Whether nobody can write into the log any more and nothing waits.
    pub(crate) fn guest_has_gone(&self) -> bool {
        pipe::is_at_end(&self.guest).unwrap_or(false)
    }

    /// Ends the log although something of it could not be stored; the daemon's log is told.
    pub(crate) fn give_up(mut self) {
        let Some(trouble) = self.trouble.take() else { return };
        let waiting = pipe::readable_bytes(&self.guest).unwrap_or(0) as u64;
        let staged = trouble.staging.as_ref().map_or(0, Staging::held);
        tracing::error!(
            target: "logging.log_handler",
            "{} bytes of {} are lost for good, its log {} could not be written: {}",
            waiting + staged + trouble.lost_bytes, self.domain, self.file.path().display(), trouble.reason
        );
    }

    /// Decides how the guest is waited for.
    fn pace(&mut self, moved: u64) -> Turn {
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
        if self.flow.is_large() { Turn::Large } else { Turn::Quiet }
    }

    fn watch(&mut self) -> bool {
        self.guest.watch().is_ok()
    }

    /// Writes what was kept and what waits; gives how many bytes of the guest that took. From a
    /// failure on the log is in trouble, until one of these calls succeeds.
    fn write(
        &mut self,
        workspace: &mut Workspace,
        budget: u64,
        flush: bool,
    ) -> Result<(Turn, u64), Error> {
        let written =
            self.write_kept(workspace).and_then(|()| self.store(workspace, budget, flush));
        match &written {
            Ok(_) => self.leave_trouble(),
            Err(error) => self.note_trouble(error, workspace),
        }
        written
    }

    fn store(
        &mut self,
        workspace: &mut Workspace,
        budget: u64,
        flush: bool,
    ) -> Result<(Turn, u64), Error> {
        self.file.refresh()?;
        let Self { guest, file, .. } = self;
        let mut source = GuestBytes { guest: guest.as_fd(), workspace, budget };
        let path = |file: &RotatingFile| file.path().to_owned();
        let turn = loop {
            let gone = pipe::is_at_end(&*guest).unwrap_or(false);
            let stored = file.append(&mut source, flush)?;
            if source.budget == 0 {
                break Turn::Again;
            }
            if gone {
                break Turn::End;
            }
            if stored == 0 {
                let waiting = pipe::readable_bytes(&*guest)
                    .map_err(|source| Error::Source { path: path(file), source })?;
                break if waiting == 0 { Turn::Quiet } else { Turn::Held };
            }
        };
        Ok((turn, budget - source.budget))
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
                self.domain
            );
        }
        let trouble = self.trouble.get_or_insert_default();
        trouble.reason = reason;
        trouble.keep_staged(workspace);
    }

    fn leave_trouble(&mut self) {
        if let Some(trouble) = self.trouble.take() {
            tracing::info!(
                target: "logging.log_handler",
                "The log of {} can be written again, {} bytes were lost: {}",
                self.domain, trouble.lost_bytes, self.file.path().display()
            );
        }
    }

    /// Writes what was kept, and says what was not, if the log is in trouble.
    fn write_kept(&mut self, workspace: &mut Workspace) -> Result<(), Error> {
        let Self { guest, file, trouble: Some(trouble), .. } = self else { return Ok(()) };
        file.refresh()?;
        trouble.finish_line(file)?;
        if let Some(kept) = &mut trouble.staging {
            std::mem::swap(kept, &mut workspace.staging);
            let mut source = GuestBytes { guest: guest.as_fd(), workspace, budget: 0 };
            let stored = file.append(&mut source, true);
            std::mem::swap(kept, &mut workspace.staging);
            stored?;
        }
        trouble.write_loss(file)
    }

    /// Keeps the guest from waiting while its log cannot be written.
    fn wait_out(&mut self) -> Turn {
        let Some(trouble) = &mut self.trouble else { return Turn::Quiet };
        trouble.make_room(self.guest.as_fd(), self.file.path());
        if !pipe::is_at_end(&self.guest).unwrap_or(false) {
            return Turn::Trouble;
        }
        let since = trouble.guest_gone_since.get_or_insert_with(Instant::now);
        if since.elapsed() < LAST_WORDS { Turn::Trouble } else { Turn::End }
    }
}

impl Trouble {
    /// Takes over what a failed turn had staged, since others need the pipe that it is in.
    fn keep_staged(&mut self, workspace: &mut Workspace) {
        let held = workspace.staging.held();
        if held == 0 {
            return;
        }
        let spare = self.staging.take().filter(|staging| staging.held() == 0);
        match spare.map_or_else(Staging::new, Ok) {
            Ok(fresh) => self.staging = Some(std::mem::replace(&mut workspace.staging, fresh)),
            Err(error) => {
                tracing::error!(
                    target: "logging.log_handler", "No pipe to keep {held} bytes in: {error}"
                );
                workspace.staging.discard();
                self.lose(held);
            }
        }
    }

    /// Empties the guest's pipe if it is about to fill.
    fn make_room(&mut self, guest: BorrowedFd<'_>, path: &Path) {
        if !is_filling(guest) {
            return;
        }
        if self.staging.is_none() {
            self.staging = Staging::new().ok();
        }
        while let Some(staging) = &mut self.staging
            && matches!(staging.take_from(guest, u64::MAX), Ok(1..))
        {}
        let mut buffer = vec![0; DROP_BYTES];
        let mut dropped = 0;
        while pipe::readable_bytes(guest).unwrap_or(0) > 0 {
            let Ok(count @ 1..) = pipe::read(guest, &mut buffer) else { break };
            dropped += count as u64;
        }
        if dropped > 0 {
            if self.loss.is_none() {
                tracing::error!(
                    target: "logging.log_handler",
                    "Output for {} is being lost: {}", path.display(), self.reason
                );
            }
            self.lose(dropped);
        }
    }

    fn lose(&mut self, bytes: u64) {
        self.lost_bytes = self.lost_bytes.saturating_add(bytes);
        match &mut self.loss {
            Some(loss) => loss.add(bytes),
            None => self.loss = Some(Loss::new(bytes)),
        }
    }

    /// Puts the line about what was lost into the log. One of which a part is there is finished
    /// later; one of which nothing is there is made anew then, with what was lost meanwhile.
    fn write_loss(&mut self, file: &mut RotatingFile) -> Result<(), Error> {
        let Some(loss) = self.loss else { return Ok(()) };
        self.unfinished_line = loss.line(&self.reason, file.is_at_line_start());
        let len = self.unfinished_line.len();
        let result = self.finish_line(file);
        if self.unfinished_line.len() == len {
            self.unfinished_line.clear();
        } else {
            self.loss = None;
        }
        result
    }

    fn finish_line(&mut self, file: &mut RotatingFile) -> Result<(), Error> {
        let mut rest = Bytes(&self.unfinished_line);
        let result = file.append(&mut rest, true);
        self.unfinished_line = rest.0.to_vec();
        result.map(drop)
    }
}

/// Whether a guest might soon have to wait. A pipe can be full with half its bytes, because small
/// writes do not share a page with every other one, and one of a single page with a single byte.
fn is_filling(guest: BorrowedFd<'_>) -> bool {
    const PAGE_BYTES: usize = 4096;
    let waiting = pipe::readable_bytes(guest).unwrap_or(0);
    let capacity = pipe::capacity_bytes(guest).unwrap_or(0);
    waiting > 0 && (capacity <= PAGE_BYTES || waiting >= (capacity / 4).min(KEPT_IN_PIPE_BYTES_MAX))
}
