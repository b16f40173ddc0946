//! Pipes that guests write into and of which nobody knows whose they are: they are emptied until
//! their guests have gone, so that nobody has to wait.

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, OwnedFd};

use common::event::Registered;
use common::server::Core;
use common::sys::pipe::{self, State};

use crate::handler::Outcome;

/// Bytes taken at a time.
const READ_BYTES: usize = 65_536;

/// Pipes, by the number that they are watched under.
#[derive(Debug, Default)]
pub(crate) struct Orphans(HashMap<u64, Registered<OwnedFd>>);

impl Orphans {
    /// Adds one.
    ///
    /// # Errors
    /// As `epoll_ctl(2)`. The fd is closed.
    pub(crate) fn add(
        &mut self,
        core: &Core<Outcome>,
        number: u64,
        pipe: OwnedFd,
    ) -> io::Result<()> {
        self.0.insert(number, core.watch(pipe, number)?);
        Ok(())
    }

    /// Whether nobody is there any more.
    pub(crate) fn are_gone(&self) -> bool {
        self.0.is_empty()
    }

    /// Their fds, for a successor to go on with.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Registered<OwnedFd>> {
        self.0.values()
    }

    /// Empties one that is ready, as far as one turn goes.
    pub(crate) fn ready(&mut self, core: &mut Core<Outcome>, number: u64) {
        let Some(pipe) = self.0.get(&number) else { return };
        match pipe::state(pipe.as_fd()) {
            Ok(State::Waiting) => {
                // Reading can only fail for want of anything to read.
                drop(pipe::read(pipe, &mut vec![0; READ_BYTES]));
                core.again(number);
            }
            Ok(State::Empty) => {}
            Ok(State::AtEnd) | Err(_) => {
                self.0.remove(&number);
            }
        }
    }
}
