//! Unclaimed pipes: guests write into them, but no log is known. They are emptied until their
//! guests have gone, so that no guest has to wait.

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use common::event::Registered;
use common::server::{Core, Progress};
use common::sys::pipe::{self, State};

use crate::logs::outcome::{JobResult, Outcome};

/// Bytes taken at a time.
const READ_BYTES: usize = 65_536;

/// Unclaimed pipes, by the number that they are watched under.
#[derive(Debug, Default)]
pub(crate) struct UnclaimedPipes(HashMap<u64, UnclaimedPipe>);

#[derive(Debug)]
struct UnclaimedPipe {
    pipe: Registered<Arc<OwnedFd>>,
    /// Account of the job that touches it.
    progress: Progress,
    is_busy: bool,
}

impl UnclaimedPipes {
    /// Adds a pipe.
    ///
    /// # Errors
    /// As `epoll_ctl(2)`. The fd is closed.
    pub(crate) fn add(
        &mut self,
        core: &Core<Outcome>,
        number: u64,
        pipe: OwnedFd,
    ) -> io::Result<()> {
        let pipe = core.watch(Arc::new(pipe), number)?;
        let unclaimed = UnclaimedPipe { pipe, progress: Progress::of_peer(number), is_busy: false };
        self.0.insert(number, unclaimed);
        Ok(())
    }

    /// Returns whether there is none.
    pub(crate) fn are_gone(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns their fds, for the process after this one.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Registered<Arc<OwnedFd>>> {
        self.0.values().map(|unclaimed| &unclaimed.pipe)
    }

    /// Describes the job that empties one.
    pub(crate) fn describe() -> String {
        "emptying a pipe that was handed over without a path".to_owned()
    }

    /// Empties one that is ready, as far as one turn goes.
    pub(crate) fn ready(&mut self, core: &mut Core<Outcome>, number: u64) {
        let Some(unclaimed) = self.0.get_mut(&number).filter(|unclaimed| !unclaimed.is_busy) else {
            return;
        };
        unclaimed.is_busy = true;
        let (pipe, progress) = (Arc::clone(&unclaimed.pipe), unclaimed.progress.clone());
        core.submit_at_peer(number, progress.clone(), move || {
            let is_at_end = progress.at_peer(|| Ok(empty(&pipe)));
            Outcome(JobResult::UnclaimedPipe { number, is_at_end: is_at_end.unwrap_or(false) })
        });
    }

    /// Takes the result of emptying one; closes it if it `is_at_end`.
    pub(crate) fn emptied(&mut self, core: &mut Core<Outcome>, number: u64, is_at_end: bool) {
        let Some(unclaimed) = self.0.get_mut(&number) else { return };
        unclaimed.is_busy = false;
        if !is_at_end {
            if matches!(pipe::state(&unclaimed.pipe), Ok(State::Waiting)) {
                core.again(number);
            }
            return;
        }
        let Some(UnclaimedPipe { pipe, progress, .. }) = self.0.remove(&number) else { return };
        core.submit_at_peer(number, progress.clone(), move || {
            let closed = progress.at_peer(|| {
                drop(pipe);
                Ok(())
            });
            // It is closed all the same.
            closed.ok();
            Outcome(JobResult::UnclaimedPipe { number, is_at_end: true })
        });
    }
}

/// Takes a piece out of the pipe. Returns whether it is at its end.
fn empty(pipe: impl AsFd) -> bool {
    match pipe::state(&pipe) {
        Ok(State::Waiting) => {
            // Reading can only fail for want of anything to read.
            pipe::read(&pipe, &mut vec![0; READ_BYTES]).ok();
            false
        }
        Ok(State::Empty) => false,
        Ok(State::AtEnd) | Err(_) => true,
    }
}
