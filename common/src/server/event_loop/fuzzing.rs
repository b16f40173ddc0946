//! The loop's work without its threads.

use std::collections::VecDeque;
use std::io;

use super::dispatch::{handle, run_pending};
use crate::handover::{FdSet, Successor};
use crate::server::core::Core;
use crate::server::daemon::Daemon;

impl<O: Send + 'static> Core<O> {
    /// Runs jobs and handles events on this thread, at most `rounds_max` times, until there are
    /// none.
    ///
    /// # Errors
    /// As `epoll_wait(2)`.
    pub fn advance<D: Daemon<Outcome = O>>(
        &mut self,
        daemon: &mut D,
        rounds_max: usize,
    ) -> io::Result<()> {
        let mut events = VecDeque::new();
        for _ in 0..rounds_max {
            run_pending(self, daemon);
            if let Some(job) = self.jobs.next_here() {
                let outcome = job.run();
                self.jobs.ended_here(outcome);
            } else if let Some(event) = events.pop_front() {
                handle(self, daemon, event);
            } else {
                self.reactor.look(&mut events)?;
                if events.is_empty() {
                    break;
                }
            }
        }
        run_pending(self, daemon);
        Ok(())
    }

    /// Returns the document for a successor of ours.
    ///
    /// # Errors
    /// As `memfd_create(2)`, and errors of the encoding.
    pub fn document_text<D: Daemon<Outcome = O>>(
        &self,
        daemon: &D,
        fd_set: &FdSet,
    ) -> io::Result<String> {
        let document = self.document(daemon, fd_set, Successor::Ours)?;
        Ok(serde_json::to_string(&document)?)
    }
}
