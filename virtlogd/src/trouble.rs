//! A log that cannot be written at present.
//!
//! Nothing is read from the guest at first: bytes stay in its pipe. Only when that would fill, and
//! the guest wait, they are moved into a staging pipe of the log's own, and when that is full too
//! they are dropped and counted. When writing works again, a line in the log says how many. The
//! guest notices nothing of all this.
//!
//! What the log is owed, in this order: the rest of a line about a loss, the bytes that were kept,
//! the line about what was lost behind them, and then whatever the guest's pipe holds. So nothing
//! more is kept once something behind it was lost.

use std::os::fd::BorrowedFd;
use std::path::Path;
use std::time::{Duration, Instant};

use common::sys::pipe;

use crate::loss::{self, Loss};
use crate::rotating_file::{Bytes, Error, RotatingFile};
use crate::staging::{Budget, GuestBytes, Scratch, Staging};

/// Bytes that are left in the pipe of a guest, a large one too: with what its staging pipe holds,
/// all that such a log costs.
const KEPT_IN_PIPE_BYTES_MAX: usize = 16_384;

/// Bytes read at a time when they can only be dropped.
const DROP_BYTES: usize = 65_536;

/// What is known of the trouble, and what the log is owed.
#[derive(Debug, Default)]
pub(crate) struct Trouble {
    reason: String,
    unfinished_line: Vec<u8>,
    kept: Option<Staging>,
    loss: Option<Loss>,
    /// Everything that was lost, told or not.
    lost_bytes: u64,
    guest_gone_since: Option<Instant>,
}

impl Trouble {
    /// Why the log could not be written the last time.
    pub(crate) fn reason(&self) -> &str {
        &self.reason
    }

    /// Bytes that were lost since the trouble began.
    pub(crate) fn lost_bytes(&self) -> u64 {
        self.lost_bytes
    }

    /// Bytes that are kept for the log.
    pub(crate) fn kept_bytes(&self) -> u64 {
        self.kept.as_ref().map_or(0, Staging::held)
    }

    /// Bytes that are not in the log and of which the log does not say so.
    pub(crate) fn unwritten_bytes(&self) -> u64 {
        self.loss.map_or(0, |loss| loss.bytes()) + self.kept_bytes()
    }

    /// How long the guest has been gone, from the first time that this is asked.
    pub(crate) fn guest_gone_for(&mut self) -> Duration {
        self.guest_gone_since.get_or_insert_with(Instant::now).elapsed()
    }

    /// Writing has failed for `reason`. Takes over what was staged, since others need the pipe
    /// that it is in.
    pub(crate) fn keep(&mut self, reason: String, staging: &mut Staging) {
        self.reason = reason;
        let held = staging.held();
        if held == 0 {
            return;
        }
        // Something is staged only after everything owed was written, so the spare is empty.
        let spare = self.kept.take().filter(|kept| kept.held() == 0);
        match spare.map_or_else(Staging::new, Ok) {
            Ok(fresh) => self.kept = Some(std::mem::replace(staging, fresh)),
            Err(error) => {
                tracing::error!(
                    target: "logging.log_handler", "No pipe to keep {held} bytes in: {error}"
                );
                staging.discard();
                self.lose(held);
            }
        }
    }

    /// Writes what the log is owed.
    pub(crate) fn settle(
        &mut self,
        file: &mut RotatingFile,
        guest: BorrowedFd<'_>,
        scratch: &mut Scratch,
    ) -> Result<(), Error> {
        self.finish_line(file)?;
        if let Some(staging) = &mut self.kept {
            let mut kept = GuestBytes { guest, staging, scratch, budget: Budget::default() };
            file.append(&mut kept, true)?;
            kept.check_stored(file)?;
        }
        self.tell_loss(file)
    }

    /// Empties the guest's pipe as far as needed if it is about to fill.
    pub(crate) fn make_room(&mut self, guest: BorrowedFd<'_>, path: &Path) {
        let waiting = pipe::readable_bytes(guest).unwrap_or(0);
        let limit = kept_in_pipe_bytes(guest);
        if waiting == 0 || waiting < limit {
            return;
        }
        let kept = self.keep_from(guest, waiting as u64);
        let left = waiting - usize::try_from(kept).unwrap_or(waiting).min(waiting);
        let dropped = drop_from(guest, left.saturating_sub(limit / 2));
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

    /// Moves up to `len` bytes into a pipe of the log's own, as far as that has room.
    fn keep_from(&mut self, guest: BorrowedFd<'_>, len: u64) -> u64 {
        let mut kept = 0;
        if self.loss.is_some() {
            return kept;
        }
        if self.kept.is_none() {
            self.kept = Staging::new().ok();
        }
        while let Some(staging) = &mut self.kept
            && kept < len
            && let Ok(count @ 1..) = staging.take_from(guest, len - kept)
        {
            kept += count;
        }
        kept
    }

    fn lose(&mut self, bytes: u64) {
        loss::count(bytes);
        self.lost_bytes = self.lost_bytes.saturating_add(bytes);
        match &mut self.loss {
            Some(loss) => loss.add(bytes),
            None => self.loss = Some(Loss::new(bytes)),
        }
    }

    /// Puts the line about what was lost into the log. One of which a part is there is finished
    /// later; one of which nothing is there is made anew then, with what was lost meanwhile.
    fn tell_loss(&mut self, file: &mut RotatingFile) -> Result<(), Error> {
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

/// From how many waiting bytes on a guest might soon have to wait. A pipe can be full with half its
/// bytes, because small writes do not share a page with every other one, and one of a single page
/// with a single byte.
fn kept_in_pipe_bytes(guest: BorrowedFd<'_>) -> usize {
    const PAGE_BYTES: usize = 4096;
    match pipe::capacity_bytes(guest).unwrap_or(0) {
        ..=PAGE_BYTES => 0,
        capacity => (capacity / 4).min(KEPT_IN_PIPE_BYTES_MAX),
    }
}

fn drop_from(guest: BorrowedFd<'_>, len: usize) -> u64 {
    let mut buffer = vec![0; len.min(DROP_BYTES)];
    let mut left = len;
    while let Some(piece) = buffer.get_mut(..left.min(DROP_BYTES))
        && let Ok(count @ 1..) = pipe::read(guest, piece)
    {
        left -= count.min(left);
    }
    (len - left) as u64
}
