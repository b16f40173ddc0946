//! What a daemon watches, and hands out as jobs.

use std::io;
use std::os::fd::AsFd;
use std::path::Path;
use std::time::Duration;

use super::core::{Core, Done};
use super::token::Token;
use crate::event::{Interest, Registered, TimerId};
use crate::jobs::haste::Haste;
use crate::jobs::job::InFlight;
use crate::jobs::path_work::{Errand, PathWork, Step};
use crate::jobs::progress::Progress;
use crate::jobs::storage::StorageId;

impl<O> Core<O> {
    /// Watches `fd` for data; [`Daemon::ready`](super::Daemon::ready) is told `source`, a number that the daemon never
    /// uses again for something else.
    ///
    /// # Errors
    /// As `epoll_ctl(2)`. The fd is closed.
    pub fn watch<F: AsFd>(&self, fd: F, source: u64) -> io::Result<Registered<F>> {
        self.reactor.register(fd, Token::Daemon(source), Interest::Read)
    }

    /// Calls [`Daemon::ready`](super::Daemon::ready) once more in the next turn: for work stopped at its budget.
    pub fn again(&mut self, source: u64) {
        self.reactor.again(Token::Daemon(source));
    }

    /// Calls [`Daemon::timer`](super::Daemon::timer) once, `after` from now.
    pub fn set_timer(&mut self, after: Duration, source: u64) -> TimerId {
        self.reactor.set_timer(after, Token::DaemonTimer(source))
    }

    /// Forgets a timer.
    pub fn cancel_timer(&mut self, timer: TimerId) {
        self.reactor.cancel_timer(timer);
    }

    /// Hands out a piece of work that touches files at `place`; [`Daemon::job_ended`](super::Daemon::job_ended) gets its
    /// outcome. `source` is a number of the daemon's own.
    pub fn submit(
        &mut self,
        place: StorageId,
        source: u64,
        work: impl FnOnce() -> O + Send + 'static,
    ) {
        self.jobs.submit(place, source, || Done::Daemons(work()));
    }

    /// [`Self::submit`] of work that [tells](Progress::note) how far it has got, so that a place that is
    /// slow is not taken for one that hangs.
    pub fn submit_with_progress(
        &mut self,
        place: StorageId,
        source: u64,
        progress: Progress,
        work: impl FnOnce() -> O + Send + 'static,
    ) {
        self.jobs.submit_with_progress(place, source, progress, || Done::Daemons(work()));
    }

    /// [`Self::submit`] of something for which no client waits, so that those for which one does need
    /// not wait for all of its kind.
    pub fn submit_unhurried(
        &mut self,
        place: StorageId,
        source: u64,
        work: impl FnOnce() -> O + Send + 'static,
    ) {
        self.jobs.submit_unhurried(place, source, || Done::Daemons(work()));
    }

    /// [`Self::submit`] of something that does nothing but touch what its peer can hold, as `progress`
    /// says. `source` is told to [`Daemon::job_stalled`](super::Daemon::job_stalled) if the peer does.
    pub fn submit_at_peer(
        &mut self,
        source: u64,
        progress: Progress,
        work: impl FnOnce() -> O + Send + 'static,
    ) {
        self.jobs.submit_at_peer(source, progress, || Done::Daemons(work()));
    }

    /// Whether a peer has held up a job, or may do so, as another one has a moment ago: what it can hold
    /// is to be touched by jobs [of its own](Self::submit_at_peer) alone.
    pub fn is_peer_suspect(&self, peer: u64) -> bool {
        self.jobs.is_peer_suspect(peer)
    }

    /// Tells jobs that have not begun whether an upgrade waits for them.
    pub fn haste(&self) -> Haste {
        self.haste.clone()
    }

    /// Whether jobs at a place take long.
    pub fn is_slow(&self, place: StorageId) -> bool {
        self.jobs.is_slow(place)
    }

    /// Whether a place does not even get on slowly with its jobs.
    pub fn hangs(&mut self, place: StorageId) -> bool {
        self.jobs.hangs(place)
    }

    /// Whether others wait for their turn, so that one should be short.
    pub fn is_crowded(&self) -> bool {
        self.reactor.has_again() || self.jobs.are_waiting()
    }

    /// Jobs that have not ended, those included that have not begun.
    pub fn jobs_in_flight(&self) -> impl Iterator<Item = InFlight> {
        self.jobs.in_flight()
    }
}

impl<O: 'static> Core<O> {
    /// [`Self::submit`] of work on a path, wherever that leads. Gives where it is done first;
    /// [`Daemon::job_moved_to`](super::Daemon::job_moved_to) tells of other places.
    pub fn submit_at_path(
        &mut self,
        path: &Path,
        source: u64,
        progress: Progress,
        work: impl PathWork<Outcome = O>,
    ) -> StorageId {
        self.send_on(Errand::new(path, source, progress, work))
    }

    pub(super) fn send_on(&mut self, errand: Errand<O>) -> StorageId {
        let table = self.mounts.table();
        let start = table.start_of(&errand.path);
        let (source, progress) = (errand.source, errand.progress.clone());
        let work = move || match errand.run(&table, start) {
            Step::Done(outcome) => Done::Daemons(outcome),
            Step::Elsewhere(errand) => Done::Elsewhere(errand),
        };
        self.jobs.submit_with_progress(start.place, source, progress, work);
        start.place
    }
}
